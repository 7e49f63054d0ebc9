"""Probes over their whole grid, beside a grid search in scikit-learn, on the same features.

24 classes, read from 2 000 x 512 features that hold them weakly among directions of uneven power,
as those of an encoder do; three fifths train, a fifth picks the grid point, a fifth is tested.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from loev_jax.benchmark.timing import Timed, measure
from loev_jax.data import processes
from loev_jax.evaluate import linear, mlp
from loev_jax.evaluate.features import Parts, one_thread, standardise

ROWS, SIZE, CLASSES = 2000, 512, 24
REPETITIONS = 5
OURS, PEER = "loev_jax", "scikit-learn"
ALONE, EACH = f"{PEER}, one thread", f"{PEER}, a process per core"

Probe = Callable[[], np.ndarray]
"""Fits, picks and predicts the test rows, [..., rows]."""


def run(out: Path, quick: bool) -> dict[str, Any]:
    """Times the probes.

    Args:
        out: not used, there is no plot.
        quick: few rows, once.

    Returns:
        By probe (`linear`, `mlp`) and method: `seconds` (ours compiled already), `times_ours` and
        `accuracy` on the test rows; the number of fits, and our seconds with compiling.
    """
    del out
    rows, size, repetitions = (200, 16, 1) if quick else (ROWS, SIZE, REPETITIONS)
    grid = mlp.Grid(hidden=8, seeds=1, epochs=2) if quick else mlp.GRID
    features, classes = drawn(rows, size)
    fits = {
        "linear": len(linear.LOGISTIC_GRID),
        "mlp": len(grid.learning_rates) * len(grid.weight_decays) * grid.seeds,
    }
    cores = processes.available_cpus()

    def peers(search: Callable[[int | None], np.ndarray]) -> dict[str, Probe]:
        def alone() -> np.ndarray:
            with one_thread():
                return search(None)

        return {PEER: lambda: search(None), ALONE: alone, EACH: lambda: search(cores)}

    loose = functools.partial(_linear, features, classes, cores, tol=linear.TOLERANCE)
    probes: dict[str, dict[str, Probe]] = {
        "linear": {OURS: lambda: linear.classify(features, classes)}
        | peers(functools.partial(_linear, features, classes))
        | {f"{EACH}, our tolerance": loose},
        "mlp": {OURS: lambda: mlp.classify(features, classes, grid)}
        | peers(functools.partial(_mlp, features, classes, grid)),
    }
    result: dict[str, Any] = {"rows": rows, "size": size, "classes": CLASSES}
    for name, methods in probes.items():
        began = time.perf_counter()
        methods[OURS]()
        first = time.perf_counter() - began
        read: dict[str, np.ndarray] = {}
        timed = {(method, rows): _timed(read, method, one) for method, one in methods.items()}
        slow = (PEER, ALONE, EACH) if name == "mlp" else ()
        took = measure(f"probes, {name}", timed, repetitions, once=slow)
        seconds = {method: one[str(rows)] / 1000 for method, one in took.items()}
        result[name] = {
            method: {
                "seconds": one,
                "times_ours": one / seconds[OURS],
                "accuracy": float(np.mean(read[method] == classes.test)),
            }
            for method, one in seconds.items()
        }
        result |= {f"{name}_fits": fits[name], f"{name}_seconds_with_compiling": first}
    return result


def _timed(read: dict[str, np.ndarray], method: str, probe: Probe) -> Timed:
    def work() -> None:
        read[method] = probe()

    return 1, work


def drawn(rows: int, size: int) -> tuple[Parts, Parts]:
    """Features [rows, size] and classes [rows] of each split."""
    random = np.random.default_rng(0)
    classes = random.integers(0, CLASSES, rows)
    power = np.geomspace(1, 0.1, size)
    features = random.normal(size=(rows, size)) * power[None]
    # As strong in every direction, so that it shows best where little else is.
    features += 0.08 * random.normal(size=(CLASSES, size))[classes]
    mixed = (features @ np.linalg.qr(random.normal(size=(size, size)))[0]).astype(np.float32)
    cuts = [3 * rows // 5, 4 * rows // 5]
    return Parts(*np.split(mixed, cuts)), Parts(*np.split(classes, cuts))


def _search(
    estimator: Any, grid: dict[str, Any], features: Parts, classes: Parts, workers: int | None
) -> dict[str, Any]:
    """What scikit-learn's search over a grid finds, fitted on train and scored on validation."""
    from sklearn.model_selection import GridSearchCV, PredefinedSplit

    rows = np.concatenate([features.train, features.validation])
    fold = np.repeat([-1, 0], [len(features.train), len(features.validation)])
    search = GridSearchCV(
        estimator,
        grid,
        cv=PredefinedSplit(fold),
        refit=False,
        n_jobs=workers,
    )
    search.fit(rows, np.concatenate([classes.train, classes.validation]))
    return search.best_params_


def _linear(features: Parts, classes: Parts, workers: int | None, **settings: float) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression

    rows = standardise(features)
    tried = {"C": [1 / penalty for penalty in linear.LOGISTIC_GRID]}
    probe = LogisticRegression(max_iter=2000, **settings)
    probe.set_params(**_search(probe, tried, rows, classes, workers))
    return probe.fit(rows.train, classes.train).predict(rows.test)


def _mlp(features: Parts, classes: Parts, grid: mlp.Grid, workers: int | None) -> np.ndarray:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    rows = standardise(features)
    probe = MLPClassifier((grid.hidden,))
    tried = {
        "learning_rate_init": grid.learning_rates,
        "alpha": grid.weight_decays,
        "random_state": range(grid.seeds),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # some may not, within its own limit
        probe.set_params(**_search(probe, tried, rows, classes, workers))
        return probe.fit(rows.train, classes.train).predict(rows.test)
