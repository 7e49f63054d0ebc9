"""By how much recipes differ from a baseline on the same test clips.

Two runs err on the same clips more often than not, so that the interval of their difference is
shorter than those of both figures would let one think. It is a paired bootstrap: every evaluation
draws the same resamples (`loev_jax.evaluate.resamples`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from loev_jax.comparison import runs
from loev_jax.comparison.runs import Results
from loev_jax.evaluate import figures, resamples
from loev_jax.evaluate.resamples import Resamples
from loev_jax.evaluate.results import CHECKPOINT

BASELINE = "simclr"
"""What the others are compared with."""

SEEDS, SPACES = "seeds", "spaces"

Point = Mapping[str, Mapping[str, float | None]]
"""A run's figures by space and metric."""


def measure(found: Results, workdirs: Path, metrics: Collection[str]) -> dict[str, dict[str, Any]]:
    """The differences of every recipe's spaces from the baseline's best space for each metric.

    Means over the seeds of which both runs left resamples. What is known of more seeds already is
    kept: a comparison that was moved may have left its runs behind.

    Args:
        found: the runs.
        workdirs: has their directories.
        metrics: that are compared.

    Returns:
        By recipe, `SEEDS` and `SPACES`: by space and metric the difference and both ends of its
        interval.
    """
    result = dict(found.differences)
    for name in found.plan.steps:
        if name == BASELINE:
            continue
        pairs = [
            pair
            for seed in range(found.plan.seeds)
            if all(pair := [_left(found, one, seed, workdirs) for one in (name, BASELINE)])
        ]
        if len(pairs) >= max(1, result.get(name, {}).get(SEEDS, 0)):
            ours, theirs = zip(*pairs, strict=True)
            result[name] = {SEEDS: len(pairs), SPACES: _from_best(ours, theirs, metrics)}
    return result


Run = tuple[Point, Resamples]


def _left(found: Results, name: str, seed: int, workdirs: Path) -> Run | None:
    """A finished run's figures and their resamples, if both are there."""
    run = found.runs.get(runs.key(name, seed))
    if run is None:
        return None
    directory = runs.evaluated(found.plan, name, seed, workdirs)
    drawn = resamples.read(directory / resamples.FILE.format(step=run["steps"]))
    return (run[CHECKPOINT], drawn) if drawn else None


def _from_best(
    ours: Collection[Run], theirs: Collection[Run], metrics: Collection[str]
) -> dict[str, dict[str, list[float]]]:
    mine, base = _pooled(ours, metrics), _pooled(theirs, metrics)
    result: dict[str, dict[str, list[float]]] = {}
    for metric in metrics:
        there = [one[metric] for one in base.values() if metric in one]
        if not there:
            continue
        best, drawn = max(there, key=lambda one: one[0])
        for space, by_metric in mine.items():
            if metric in by_metric:
                value, resampled = by_metric[metric]
                cell = [value - best, *figures.ends(resampled - drawn)]
                result.setdefault(space, {})[metric] = [round(number, 4) for number in cell]
    return result


def _pooled(
    several: Collection[Run], metrics: Collection[str]
) -> dict[str, dict[str, tuple[float, np.ndarray]]]:
    """Means over runs, by space and metric, of what all of them have."""
    first, _ = next(iter(several))
    result: dict[str, dict[str, tuple[float, np.ndarray]]] = {}
    for space in first:
        for metric in metrics:
            values = [point.get(space, {}).get(metric) for point, _ in several]
            drawn = [one.get(space, {}).get(metric) for _, one in several]
            known = [value for value in values if value is not None]
            kept = [one for one in drawn if one is not None]
            if len(known) == len(kept) == len(several):
                pooled = (float(np.mean(known)), np.mean(kept, axis=0))
                result.setdefault(space, {})[metric] = pooled
    return result
