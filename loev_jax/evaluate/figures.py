"""Figures with the interval that the choice of test clips leaves them."""

from __future__ import annotations

import functools
from collections.abc import Hashable

import numpy as np

RESAMPLES = 1000
CONFIDENCE = 0.95


class Figure(float):
    """A number and its bootstrap confidence interval (Efron 1979), by percentiles.

    Attributes:
        interval: its ends, low and high; NaN where the number is.
    """

    interval: tuple[float, float]

    def __new__(cls, value: float, interval: tuple[float, float]) -> Figure:
        """A float with `interval`."""
        figure = super().__new__(cls, value)
        figure.interval = interval
        return figure


def mean(scores: np.ndarray, groups: np.ndarray) -> Figure:
    """Mean score.

    Args:
        scores: of each clip, [clips]; several readings of it, [readings, clips], are averaged.
        groups: what is drawn again and again, [clips]: clips of one piece stand or fall together.
    """
    each = np.atleast_2d(np.asarray(scores, np.float64)).mean(axis=0)
    weights = _weights(groups)
    return Figure(each.mean(), _ends(weights @ each / weights.sum(axis=1)))


def explained(truth: np.ndarray, predicted: np.ndarray, groups: np.ndarray) -> Figure:
    """R², the coefficient of determination: 1 - residual / total sum of squares.

    Args:
        truth: [clips].
        predicted: [clips], or [readings, clips], whose R² are averaged.
        groups: see `mean`.

    Returns:
        At most 1; 0 for the best constant; NaN where the truth does not vary.
    """
    readings = np.atleast_2d(predicted)
    once = np.ones((1, len(truth)))
    value = float(_r2(once, truth, readings)[0])
    return Figure(value, _ends(_r2(_weights(groups), truth, readings)))


def _r2(weights: np.ndarray, truth: np.ndarray, readings: np.ndarray) -> np.ndarray:
    """Of each row of weights [resamples, clips], averaged over readings: [resamples]."""
    centred = truth - truth.mean()
    count = weights.sum(axis=1)
    total = weights @ np.square(centred) - np.square(weights @ centred) / count
    residual = weights @ np.square(truth[None] - readings).mean(axis=0)
    varies = total > 1e-12 * max(float(np.square(truth).sum()), np.finfo(np.float64).tiny)
    return np.where(varies, 1.0 - residual / np.where(varies, total, 1.0), np.nan)


def _weights(groups: np.ndarray) -> np.ndarray:
    """How often each clip is in each resample, [resamples, clips]: as many groups as there are."""
    return _resampled(tuple(groups.tolist()))


@functools.lru_cache(maxsize=2)  # an evaluation asks for the same few a thousand times
def _resampled(groups: tuple[Hashable, ...]) -> np.ndarray:
    names, place = np.unique(np.array(groups), return_inverse=True)
    chance = np.full(len(names), 1.0 / len(names))
    drawn = np.random.default_rng(0).multinomial(len(names), chance, size=RESAMPLES)
    weights = drawn[:, place].astype(np.float64)
    weights.setflags(write=False)
    return weights


def _ends(values: np.ndarray) -> tuple[float, float]:
    if np.isnan(values).all():
        return float("nan"), float("nan")
    tail = (1.0 - CONFIDENCE) / 2
    low, high = np.nanquantile(values, [tail, 1.0 - tail])
    return float(low), float(high)
