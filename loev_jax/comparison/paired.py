"""By how much recipes differ from a baseline on the same test clips.

Two runs err on the same clips more often than not, so that the interval of their difference is
shorter than those of both figures would let one think. It is a paired bootstrap: every evaluation
draws the same resamples (`loev_jax.evaluate.resamples`).
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from loev_jax.comparison import runs
from loev_jax.comparison.runs import Results
from loev_jax.evaluate import figures, resamples
from loev_jax.evaluate.resamples import Kept
from loev_jax.evaluate.results import CHECKPOINT

BASELINE = "simclr"
"""What the others are compared with."""

_Run = dict[str, dict[str, Kept]]
"""Of one run, by space and metric."""

_SAME = 1e-4
"""Figures of a comparison are rounded to four decimals."""


def differences(
    found: Results, workdirs: Path, metrics: Collection[str]
) -> dict[str, dict[str, Any]]:
    """How every recipe's spaces differ from the baseline's best space for each metric.

    What is known of a seed whose runs left nothing here is kept: a comparison that was moved may
    have left them behind.

    Args:
        found: the runs.
        workdirs: has their directories.
        metrics: that are compared.

    Returns:
        By recipe and seed, by space and metric the difference and both ends of its interval, which
        does not know that the baseline's space was chosen, for each seed and metric anew.
    """
    result = {name: dict(known) for name, known in found.differences.items()}
    for name in found.plan.steps:
        if name == BASELINE:
            continue
        for seed in range(found.plan.seeds):
            ours = _left(found, name, seed, workdirs, metrics)
            theirs = _left(found, BASELINE, seed, workdirs, metrics)
            if ours and theirs:
                result.setdefault(name, {})[str(seed)] = _from_best(ours, theirs, metrics)
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
    ours: _Run, theirs: _Run, metrics: Collection[str]
) -> dict[str, dict[str, list[float]]]:
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
