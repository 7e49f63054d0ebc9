"""One run beside another on the same test clips: their best spaces, and by how much they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

from loev_jax import table
from loev_jax.comparison.cells import between
from loev_jax.comparison.report import COMPARED
from loev_jax.errors import UserError
from loev_jax.evaluate import figures, resamples, results
from loev_jax.evaluate.resamples import Kept

Spaces = Mapping[str, Mapping[str, Kept]]
"""What an evaluation left, by space and metric."""


def evaluated(workdir: Path, data: Path | None, split: str) -> Spaces:
    """The last result of a run.

    Args:
        workdir: of the run.
        data: the data set that it was evaluated on; None for its own.
        split: that figures are of, one of `splits.SCORED`.

    Raises:
        UserError: there is none, or it is of before resamples were kept.
    """
    directory = results.directory(workdir, data, split)
    steps = sorted(int(path.stem) for path in directory.glob("*.json") if path.stem.isdigit())
    if not steps:
        raise UserError(f"{directory}: holds no result; evaluate the run by launch/eval.py first")
    path = directory / resamples.FILE.format(step=steps[-1])
    if not (kept := resamples.read(path)):
        raise UserError(
            f"{path}: holds no resamples; remove {steps[-1]}.json beside it and evaluate anew"
        )
    return kept


def compare(ours: Spaces, theirs: Spaces, metrics: Sequence[str] | None = None) -> str:
    """A table of figures, each of the best space of either run, and their differences.

    The intervals of differences are of a paired bootstrap, and do not know that spaces were chosen
    by these very figures.

    Args:
        ours: of a run.
        theirs: of the one it is compared with.
        metrics: in this order; None for those of `COMPARED` that both have, or all without any.

    Raises:
        UserError: a metric is not there, or the two are not of the same clips.
    """
    both = {*chain(*ours.values())} & {*chain(*theirs.values())}
    for name in metrics or ():
        if name not in both:
            known = ", ".join(sorted(both)) or "none"
            raise UserError(f"--metrics={name}: not in both results; choose from {known}")
    rows, alike = [], False
    for name in metrics or [one for one in COMPARED if one in both] or sorted(both):
        (mine, kept), (other, beside) = (_best(spaces, name) for spaces in (ours, theirs))
        cell = "-"
        if kept.draw == beside.draw:
            alike = True
            ends = figures.ends(kept.resampled - beside.resampled)
            cell = between(kept.value - beside.value, *ends, sign="+")
        rows.append([name, f"{other}: {_figure(beside)}", f"{mine}: {_figure(kept)}", cell])
    if not alike:
        raise UserError("the two results are not of the same clips and metrics: nothing to compare")
    return table.markdown(["metric", "baseline", "run", "difference, 95 %"], rows)


def _best(spaces: Spaces, metric: str) -> tuple[str, Kept]:
    there = {space: one[metric] for space, one in spaces.items() if metric in one}
    best = max(there, key=lambda space: there[space].value)
    return best, there[best]


def _figure(one: Kept) -> str:
    return between(one.value, *figures.ends(one.resampled))
