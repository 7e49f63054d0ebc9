"""Results of a comparison that nobody ran."""

import os
from pathlib import Path

import numpy as np

from loev_jax.comparison.plan import Plan
from loev_jax.comparison.report import BOUNDED
from loev_jax.comparison.runs import Results, key
from loev_jax.evaluate import resamples
from loev_jax.evaluate.figures import Figure

MILLISECONDS = {"simclr": 400.0, "loev_tempo_pitch": 500.0, "loevpp_tempo_pitch": 1000.0}
STEPS = {"simclr": 125, "loev_tempo_pitch": 100, "loevpp_tempo_pitch": 50}
PLAN = Plan("data", "c0ffee", False, 3, 100, STEPS, MILLISECONDS)


CLASSICAL = {"tempo_acc1": 0.7, "tempo_acc2": 0.9, "key_weighted": 0.8}
CLASSICAL_INTERVALS = {name: [one - 0.05, one + 0.04] for name, one in CLASSICAL.items()}


def who_times(root, names, quick) -> dict[str, int]:
    """Stands for the clock, in whatever process it is asked."""
    return dict.fromkeys(names, os.getpid())


def run(seed: int = 0) -> dict:
    """What one run leaves; every metric of the encoder is (1 + seed) / 10."""
    metrics = dict.fromkeys(BOUNDED, (1 + seed) / 10)
    pitch = {"time_stretch_r2": 0.1, "pitch_shift_r2": 0.9 - 0.1 * seed}
    return {
        "seconds": {"training": 50, "evaluation": 10},
        "steps": 100,
        "spaces": {
            "encoder": metrics,
            "tempo": {**metrics, "tempo_acc1": None},
            "pitch": {**metrics, **pitch},
        },
        "intervals": {"encoder": {"key_weighted": [0.1 * seed, 0.5], "tempo_acc1": [0.2, 0.3]}},
        "random_init": {space: dict.fromkeys(BOUNDED, 0.05) for space in ("encoder", "tempo")},
        "heads": {"tempo": ["time_stretch"], "pitch": ["pitch_shift"]},
    }


def leave(directory: Path, done: dict) -> None:
    """Leaves the resamples of a run's figures, which are all alike."""
    figures = {
        space: {name: Figure(v, np.full(1000, v), 7) for name, v in one.items() if v is not None}
        for space, one in done["spaces"].items()
    }
    resamples.add(directory / resamples.FILE.format(step=done["steps"]), figures)


def results(*done: tuple[str, int]) -> Results:
    """Results of some (recipe, seed), all of the plan by default."""
    found = {key(*one): run(one[1]) for one in done or PLAN.runs()}
    return Results(PLAN, found, CLASSICAL, CLASSICAL_INTERVALS, candidates=40)
