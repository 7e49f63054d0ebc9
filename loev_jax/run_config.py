"""What a run's directory keeps of its config and its data, so that nothing goes on with others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from loev_jax import atomic, config
from loev_jax.data.records import Split
from loev_jax.errors import UserError
from loev_jax.losses.objective import Loss

FILE = "config.json"
DATA_FILE = "data.json"

# Fields of a run that may change when it is resumed: they change nothing that it computes, but for
# the rounding of sums.
FREE = ("data.threads", "data.prefetch", "training.log_every", "training.inspect_every",
        "training.checkpoint_every", "training.keep_checkpoints", "training.micro_batches",
        "training.fsdp", "loss.block_rows", "optimizer.most_skipped")  # fmt: skip


def load(workdir: Path) -> config.Recipe:
    """The recipe of a training directory.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    return config.read(load_sections(workdir))


def load_sections(workdir: Path) -> dict[str, Any]:
    """What `save` wrote. Raises UserError as `load` does."""
    return _read(Path(workdir) / FILE)


def check(settings: ConfigDict, workdir: Path) -> None:
    """Checks that a directory is new or holds a run of this config.

    Where its data lies may differ, if the directory keeps what tells the data by (`check_data`).

    Raises:
        UserError: it holds a run of another one, and the first field that differs.
    """
    workdir = Path(workdir)
    if not (workdir / FILE).exists():
        # A run that was killed before it wrote its config leaves no more than its lock.
        if workdir.exists() and any(path.name != ".lock" for path in workdir.iterdir()):
            raise UserError(f"{workdir}: is not empty and holds no run; choose another --workdir")
        return
    free = (*FREE, "data.path") if (workdir / DATA_FILE).exists() else FREE
    kept, given = (
        _with_heads(one) for one in (load_sections(workdir), json.loads(settings.to_json()))
    )
    differing = [
        f"{name} is {there!r} there and {here!r} here"
        for name, there, here in _differences(kept, given)
        if name not in free
    ]
    if differing:
        more = f" and {len(differing) - 1} more fields differ" if differing[1:] else ""
        raise UserError(
            f"{workdir}: holds a run of another configuration (config.{differing[0]}{more}); "
            "choose another --workdir"
        )


def check_data(clips: Split, workdir: Path) -> None:
    """Checks that a directory is new or holds a run that is trained on these clips.

    Raises:
        UserError: it holds a run of other clips.
    """
    path = Path(workdir) / DATA_FILE
    # Runs from before it was kept are told by the path of their data alone.
    if path.exists() and _read(path) != clips.identity():
        raise UserError(
            f"config.data.path: {clips.path} does not hold the clips that the run in {workdir} is "
            "trained on; give the data set that does, or choose another --workdir"
        )


def save(settings: ConfigDict, workdir: Path) -> None:
    """Writes `config.json` of a run, whole or not at all.

    Raises:
        UserError: it cannot be written there.
    """
    _write(json.loads(settings.to_json()), Path(workdir) / FILE)


def save_data(clips: Split, workdir: Path) -> None:
    """Writes once what tells the clips of a run (`check_data`). Raises UserError as `save` does."""
    path = Path(workdir) / DATA_FILE
    if not path.exists():
        _write(clips.identity(), path)


def _write(content: dict[str, Any], path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic.replacing(path) as partial:
            partial.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    except OSError as error:
        raise UserError(
            f"--workdir={path.parent}: {path.name} cannot be written ({error.strerror}); make room "
            "for it, or choose another directory"
        ) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the --workdir of a training run") from None
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}); restore it or start anew") from None


def _with_heads(sections: dict[str, Any]) -> dict[str, Any]:
    """A config that names its heads, and no others, where single ones are set: older ones may not.

    What it says of heads that are not there, `config.read` has refused or found to say nothing.
    """
    loss = sections.get("loss", {})
    fields = config.of_heads(sections.get("heads", {}), loss.get("temperature", Loss.temperature))
    named = {
        field: {head: loss.get(field, {}).get(head, unsaid) for head in those}
        for field, (those, unsaid) in fields.items()
    }
    return sections | {"loss": loss | named}


def _differences(there: Any, here: Any, name: str = "") -> list[tuple[str, Any, Any]]:
    """Every (dotted name, value there, value here) at which two configs differ."""
    if isinstance(there, dict) and isinstance(here, dict):
        return [
            difference
            for key in sorted(there.keys() | here.keys())
            for difference in _differences(
                there.get(key), here.get(key), f"{name}.{key}" if name else key
            )
        ]
    return [] if there == here else [(name, there, here)]
