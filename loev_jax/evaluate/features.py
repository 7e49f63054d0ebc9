"""Frozen features as a probe takes them: split, standardised, and turned to their main axes."""

from __future__ import annotations

import dataclasses

import numpy as np
from threadpoolctl import threadpool_limits

LIMIT = 6.0

_NEGLIGIBLE = 1e-10  # of the largest power: what is left of a direction is rounding


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a probe is made from: one array for each split, [rows, ...].

    Attributes:
        train: rows to fit.
        validation: rows to pick the regularisation by.
        test: rows to predict, once.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def numbered(targets: Parts) -> tuple[np.ndarray, Parts]:
    """Labels as numbers.

    Args:
        targets: [rows] labels of each split; those of test are never read.

    Returns:
        The classes of the train split, and the place of each label among them, [rows] of train and
        validation, -1 where there is none; nothing for test.
    """
    classes, train = np.unique(targets.train, return_inverse=True)
    place = np.minimum(np.searchsorted(classes, targets.validation), len(classes) - 1)
    validation = np.where(classes[place] == targets.validation, place, -1)
    return classes, Parts(train, validation, np.empty(0, int))


@dataclasses.dataclass(frozen=True)
class Standardiser:
    """Shifts and scales features to zero mean and unit deviation over the rows it was fitted on.

    Values are clipped at `LIMIT` deviations: a channel that is silent but for a few clips would
    otherwise let one test clip of hundreds of deviations decide an R².

    Attributes:
        mean: [features].
        deviation: [features], 1 where a feature is constant.
    """

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def fit(cls, features: np.ndarray) -> Standardiser:
        """Measures [rows, features]."""
        deviation = features.std(axis=0, dtype=np.float64)
        mean = features.mean(axis=0, dtype=np.float64)
        constant = deviation <= 1e-6 * (np.abs(mean) + 1e-6)
        return cls(mean, np.where(constant, 1.0, deviation))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """[..., features] → float64 of the same shape."""
        return np.clip((features - self.mean) / self.deviation, -LIMIT, LIMIT)


def standardise(features: Parts, *, centre: bool = True) -> Parts:
    """Every split standardised by the train split.

    Args:
        features: [rows, features] of each split.
        centre: without it, features are scaled by their root mean square and not shifted.

    Returns:
        float64 of the same shapes. Centred, the columns of the train split have mean zero also
        where values were clipped.
    """
    if centre:
        scale = Standardiser.fit(features.train)
        offset = scale(features.train).mean(axis=0)
    else:
        power = np.sqrt(np.mean(np.square(features.train, dtype=np.float64), axis=0))
        scale = Standardiser(np.zeros_like(power), np.where(power > 0, power, 1.0))
        offset = np.zeros_like(power)
    parts = (features.train, features.validation, features.test)
    return Parts(*(scale(part) - offset[None] for part in parts))


@dataclasses.dataclass(frozen=True)
class Rotated:
    """Features along the principal axes of their train split.

    A linear model that is penalised by the length of its weights is the same in any rotation, and
    has no weight along a direction in which the train split does not extend. Here its normal
    matrix is diagonal, and a space of thousands of features has no more columns than training
    clips.

    Attributes:
        rows: [rows, axes] of each split, float64.
        power: [axes] sum of squares of each column of the train split, positive.
    """

    rows: Parts
    power: np.ndarray


def rotate(features: Parts) -> Rotated:
    """Turns features, from one eigendecomposition of the smaller of XᵀX and XXᵀ.

    Args:
        features: [rows, features] of each split, such as from `standardise`.

    Returns:
        At most min(rows, features) axes, strongest last.
    """
    train = features.train
    with one_thread():
        wide = train.shape[1] > train.shape[0]
        power, vectors = np.linalg.eigh(train @ train.T if wide else train.T @ train)
        kept = power > _NEGLIGIBLE * max(power[-1], np.finfo(np.float64).tiny)
        power, vectors = power[kept], vectors[:, kept]
        axes = train.T @ (vectors / np.sqrt(power)[None]) if wide else vectors
        parts = (train, features.validation, features.test)
        return Rotated(Parts(*(part @ axes for part in parts)), power)


def one_thread() -> threadpool_limits:
    """Keeps BLAS on one thread.

    Matrices as small as a probe's gain little from more, and where other processes share the cores
    (training, under `--watch`) BLAS threads wait for each other: 20 times slower on two cores.
    """
    return threadpool_limits(1, user_api="blas")
