"""By how much recipes differ from a baseline on the same test clips.

Two runs err on the same clips more often than not, so that the interval of their difference is
shorter than those of both figures would let one think. It is a paired bootstrap: every evaluation
draws the same resamples (`loev_jax.evaluate.resamples`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loev_jax.comparison import runs
from loev_jax.comparison.runs import Results
from loev_jax.evaluate import figures, resamples
from loev_jax.evaluate.resamples import Kept
from loev_jax.evaluate.results import CHECKPOINT

BASELINE = "simclr"
"""What the others are compared with."""

SEEDS, SPACES = "seeds", "spaces"

_Run = dict[str, dict[str, Kept]]
"""Of one run, by space and metric."""

_SAME = 1e-4
"""Figures of a comparison are rounded to four decimals."""


def differences(
    found: Results, workdirs: Path, metrics: Collection[str]
) -> dict[str, dict[str, Any]]:
    """How every recipe's spaces differ from the baseline's best space for each metric.

    Means over the seeds of which both runs left their resamples. What is known of more seeds
    already is kept: a comparison that was moved may have left its runs behind.

    Args:
        found: the runs.
        workdirs: has their directories.
        metrics: that are compared.

    Returns:
        By recipe, `SEEDS` and `SPACES`: by space and metric the difference and both ends of its
        interval, which does not know that the baseline's space was chosen.
    """
    result = dict(found.differences)
    for name in found.plan.steps:
        if name == BASELINE:
            continue
        pairs = [
            (ours, theirs)
            for seed in range(found.plan.seeds)
            if (ours := _left(found, name, seed, workdirs, metrics))
            and (theirs := _left(found, BASELINE, seed, workdirs, metrics))
        ]
        if len(pairs) >= max(1, result.get(name, {}).get(SEEDS, 0)):
            result[name] = {SEEDS: len(pairs), SPACES: _from_best(pairs, metrics)}
    return result


def _left(
    found: Results, name: str, seed: int, workdirs: Path, metrics: Collection[str]
) -> _Run | None:
    """What a finished run left of these metrics; None without all of it.

    A figure that is not the run's own is of another run of that name.
    """
    run = found.runs.get(runs.key(name, seed))
    if run is None:
        return None
    directory = runs.evaluated(found.plan, name, seed, workdirs)
    kept = resamples.read(directory / resamples.FILE.format(step=run["steps"]))
    result: _Run = {}
    for space, values in run[CHECKPOINT].items():
        for metric in metrics:
            value = values.get(metric)
            if value is None:
                continue
            one = kept.get(space, {}).get(metric)
            if one is None or abs(one.value - value) > _SAME:
                return None
            result.setdefault(space, {})[metric] = one
    return result or None


def _from_best(
    pairs: Sequence[tuple[_Run, _Run]], metrics: Collection[str]
) -> dict[str, dict[str, list[float]]]:
    ours, theirs = (_mean([pair[side] for pair in pairs]) for side in (0, 1))
    result: dict[str, dict[str, list[float]]] = {}
    for metric in metrics:
        there = [one[metric] for one in theirs.values() if metric in one]
        if not there:
            continue
        best = max(there, key=lambda one: one.value)
        for space, kept in ours.items():
            if metric in kept and kept[metric].draw == best.draw:
                ends = figures.ends(kept[metric].resampled - best.resampled)
                cell = [kept[metric].value - best.value, *ends]
                result.setdefault(space, {})[metric] = [round(number, 4) for number in cell]
    return result


def _mean(several: Sequence[_Run]) -> _Run:
    """Of some runs, of what all of them have of the same resamples."""
    result: _Run = {}
    for space, metrics in several[0].items():
        for metric, first in metrics.items():
            there = [run.get(space, {}).get(metric) for run in several]
            same = [one for one in there if one is not None and one.draw == first.draw]
            if len(same) == len(several):
                value = float(np.mean([one.value for one in same]))
                resampled = np.mean([one.resampled for one in same], axis=0)
                result.setdefault(space, {})[metric] = Kept(value, first.draw, resampled)
    return result
