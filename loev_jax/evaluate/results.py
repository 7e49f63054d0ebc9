"""Result files: `DIR/eval/<step>.json`, read strictly and written whole or not at all."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loev_jax import atomic
from loev_jax.errors import UserError

CHECKPOINT, RANDOM_INIT, SHUFFLED = "spaces", "random_init", "shuffled_labels"
"""Sections of a result that hold numbers, by space and metric."""

DIGEST = "digest"
"""The checksum of the clips; older results have none."""

PIECES = "pieces"
"""In the counts of a split: of how many pieces there are so many clips; older results have none."""

SHOWN = "shown"
"""Names of the pictures that were made of a result."""

HEADS = "heads"
"""The section that says which augmentations each head keeps."""

INTERVALS = {
    CHECKPOINT: "intervals",
    RANDOM_INIT: "random_init_intervals",
    SHUFFLED: "shuffled_labels_intervals",
}
"""The section with both ends of the confidence intervals of each, by space and metric."""


CONFUSIONS = "confusions"
"""The section with what is behind figures of the checkpoint, by space and metric: `names` of
classes or bins, and `counts` of test clips, truths by readings."""

_NUMBER = r"(?:-?\d[\d.eE+-]*|null)"
_NUMBERS = re.compile(rf"\[\s+{_NUMBER}(?:,\s+{_NUMBER})*\s+\]")
"""A list of numbers, over several lines."""


def directory(workdir: Path, data: Path | None, split: str = "test") -> Path:
    """Where the results of a run go: those on another data set than its own by that one's name.

    Figures of others of `splits.SCORED` than the test split lie in directories of their own within.
    """
    found = workdir / (f"eval_{data.resolve().name}" if data else "eval")
    return found if split == "test" else found / split


def blank(
    step: int,
    data: str,
    digest: str,
    settings: Mapping[str, Any],
    heads: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """A result without a number.

    Args:
        step: of the checkpoint.
        data: path of the data set.
        digest: of its clips, as `splits.digest` makes it.
        settings: of the job.
        heads: the augmentations that each variant head keeps.

    Returns:
        `heads`, `tasks` (done), `left_out` (reasons by task), `failed` (errors by task or picture),
        `shown` (pictures that were made), `counts` (by split), `seconds` (by task), and sections of
        numbers and their intervals for the checkpoint and each baseline, and of `CONFUSIONS`.
    """
    head: dict[str, Any] = {"step": step, "data": data, DIGEST: digest}
    head |= {"settings": dict(settings), "counts": {}}
    head[HEADS] = {name: list(kept) for name, kept in heads.items()}
    sections: dict[str, Any] = {}
    for numbers, intervals in INTERVALS.items():
        sections |= {numbers: {}, intervals: {}}
    sections[CONFUSIONS] = {}
    done: dict[str, Any] = {"tasks": [], "left_out": {}, "failed": {}, SHOWN: []}
    return head | done | sections | {"seconds": {}}


def read(path: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The result in a file, or None if there is no such file.

    Raises:
        UserError: it cannot be read, or was made with other settings.
    """
    try:
        result = json.loads(path.read_text())
        # Older results have no mix, baselines without being asked, and figures of the test split.
        older: dict[str, Any] = {"mix": [], "baselines": True, "split": "test"}
        older |= {"kinds": [], "changes": []}
        made_with = {name: (older | result["settings"])[name] for name in settings}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a result ({error!r}): remove it") from error
    for name, mine in settings.items():
        if made_with[name] != mine:
            raise UserError(
                f"{path} was made with --{name}={_flag(made_with[name])}, not {_flag(mine)}: "
                f"remove it, or evaluate with the same --{name}"
            )
    return result


def check_data(path: Path, result: Mapping[str, Any], data: str, digest: str) -> None:
    """Tells whether a result is of these clips.

    Args:
        path: of the result.
        result: to check.
        data: path of the data set.
        digest: of its clips.

    Raises:
        UserError: it is of others.
    """
    theirs, same_place = result["data"], os.path.realpath(result["data"]) == os.path.realpath(data)
    if result.get(DIGEST, digest if same_place else None) == digest:
        return
    if same_place:
        raise UserError(
            f"{path} was made of {theirs} when its clips or labels were others: remove it to "
            "evaluate anew"
        )
    raise UserError(
        f"{path} was made of the data set {theirs}, not of {data}: remove it, or name the "
        "directory of one of them otherwise"
    )


def _flag(value: Any) -> str:
    """A setting as one would give it."""
    if isinstance(value, list):
        return ",".join(value) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value or "all")


def write(path: Path, result: Mapping[str, Any]) -> None:
    """Writes a result; JSON has no NaN, so that becomes null."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: plain(one) for name, one in value.items()}
        if isinstance(value, list):
            return [plain(one) for one in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    text = json.dumps(plain(result), indent=2, ensure_ascii=False)
    text = _NUMBERS.sub(lambda found: "[" + " ".join(found[0][1:-1].split()) + "]", text)
    with atomic.replacing(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")
