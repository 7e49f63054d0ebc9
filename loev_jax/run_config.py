"""The config that a run's directory keeps, so that nothing goes on with another one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from loev_jax import atomic, config
from loev_jax.errors import UserError
from loev_jax.losses.objective import Loss

FILE = "config.json"

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
    path = Path(workdir) / FILE
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the --workdir of a training run") from None
    except ValueError as error:
        raise UserError(f"{path}: not a config ({error}); restore it or start anew") from None


def check(settings: ConfigDict, workdir: Path) -> None:
    """Checks that a directory is new or holds a run of this config.

    Raises:
        UserError: it holds a run of another one, and the first field that differs.
    """
    workdir = Path(workdir)
    if not (workdir / FILE).exists():
        # A run that was killed before it wrote its config leaves no more than its lock.
        if workdir.exists() and any(path.name != ".lock" for path in workdir.iterdir()):
            raise UserError(f"{workdir}: is not empty and holds no run; choose another --workdir")
        return
    kept, given = (
        _with_heads(one) for one in (load_sections(workdir), json.loads(settings.to_json()))
    )
    differing = [
        f"{name} is {there!r} there and {here!r} here"
        for name, there, here in _differences(kept, given)
        if name not in FREE
    ]
    if differing:
        more = f" and {len(differing) - 1} more fields differ" if differing[1:] else ""
        raise UserError(
            f"{workdir}: holds a run of another configuration (config.{differing[0]}{more}); "
            "choose another --workdir"
        )


def save(settings: ConfigDict, workdir: Path) -> None:
    """Writes `config.json` of a run, whole or not at all.

    Raises:
        UserError: it cannot be written there.
    """
    workdir = Path(workdir)
    text = json.dumps(json.loads(settings.to_json()), indent=2, sort_keys=True) + "\n"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        with atomic.replacing(workdir / FILE) as partial:
            partial.write_text(text)
    except OSError as error:
        raise UserError(
            f"--workdir={workdir}: {FILE} cannot be written ({error.strerror}); make room for it, "
            "or choose another directory"
        ) from error


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
