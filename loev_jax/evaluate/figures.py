"""Figures with the interval that the choice of test clips leaves them, and what is behind them."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Hashable

import numpy as np

from loev_jax.evaluate.confusions import Confusion

RESAMPLES = 1000
CONFIDENCE = 0.95


class Figure(float):
    """A number and its bootstrap confidence interval (Efron 1979), by percentiles.

    Attributes:
        resampled: the same of each resample of the test clips, [resamples]; NaN where it has none.
        draw: tells which resamples those are: of the same groups the same.
        interval: the ends of what most of them lie within, low and high; NaN where the number is.
        confusion: how often what was read as what, for a picture; None where there is none.
    """

    resampled: np.ndarray
    draw: int
    interval: tuple[float, float]
    confusion: Confusion | None = None

    def __new__(cls, value: float, resampled: np.ndarray, draw: int) -> Figure:
        """A float with `resampled`, their `draw`, and its `interval`."""
        figure = super().__new__(cls, value)
        figure.resampled = resampled
        figure.draw = draw
        figure.interval = ends(resampled)
        return figure

    def with_confusion(self, confusion: Confusion | None) -> Figure:
        """The same, of these readings."""
        figure = Figure(self, self.resampled, self.draw)
        figure.confusion = confusion
        return figure


def mean(scores: np.ndarray, groups: np.ndarray) -> Figure:
    """Mean score.

    Args:
        scores: of each clip, [clips]; several readings of it, [readings, clips], are averaged.
        groups: what is drawn again and again, [clips]: clips of one piece stand or fall together.
    """
    each = np.atleast_2d(np.asarray(scores, np.float64)).mean(axis=0)
    weights = _weights(groups)
    return Figure(each.mean(), weights @ each / weights.sum(axis=1), draw(groups))


def first(scores: np.ndarray, alike: np.ndarray, most: int, groups: np.ndarray) -> Figure:
    """Mean score of the first clips that each query finds.

    Drawn again and again is what they look in: a clip that is drawn twice is found twice.

    Args:
        scores: of each clip as an answer, [queries, clips].
        alike: what clips are ordered by, highest first, [queries, clips].
        most: how many clips are looked at, fewer where there are fewer.
        groups: see `mean`.
    """
    order = np.argsort(-alike, axis=1, kind="stable")

    def average(weights: np.ndarray) -> np.ndarray:
        """[resamples]."""
        total = np.zeros(len(weights))
        for row, line in zip(scores, order, strict=True):
            often = weights[:, line]
            taken = np.clip(most - (np.cumsum(often, axis=1) - often), 0.0, often)
            total += taken @ row[line] / taken.sum(axis=1)
        return total / len(scores)

    (value,) = average(np.ones((1, scores.shape[1])))
    return Figure(float(value), average(_weights(groups)), draw(groups))


def explained(truth: np.ndarray, predicted: np.ndarray, groups: np.ndarray) -> Figure:
    """R², the coefficient of determination: 1 - residual / total sum of squares.

    Args:
        truth: [clips], or [clips, columns], whose sums of squares are added up.
        predicted: as `truth`, or [readings, *its shape], whose R² are averaged.
        groups: see `mean`.

    Returns:
        At most 1; 0 for the best constant; NaN where the truth does not vary.
    """
    readings = predicted[None] if predicted.ndim == truth.ndim else predicted
    truth = truth.reshape(len(truth), -1)
    readings = readings.reshape(len(readings), *truth.shape)
    once = np.ones((1, len(truth)))
    value = float(_r2(once, truth, readings)[0])
    return Figure(value, _r2(_weights(groups), truth, readings), draw(groups))


def ranking(truth: np.ndarray, scores: np.ndarray, groups: np.ndarray) -> tuple[Figure, Figure]:
    """How well scores bring the clips that have a tag before those that have not.

    The area under the ROC curve (by which equal scores count half) and average precision (by which
    they are one threshold), as in scikit-learn, both macro averages over the tags that some of the
    clips have and some have not.

    Args:
        truth: [clips, tags] bool.
        scores: [readings, clips, tags], whose figures are averaged.
        groups: see `mean`.

    Returns:
        Both figures; NaN where there is no such tag.
    """
    tags = np.flatnonzero(truth.any(axis=0) & ~truth.all(axis=0))
    if not len(tags):
        none = Figure(float("nan"), np.full(RESAMPLES, np.nan), draw(groups))
        return none, none

    def average(weights: np.ndarray) -> np.ndarray:
        """[resamples, both]; a resample may lack a tag, or all."""
        each = np.array(
            [_ranked(weights, truth[:, tag], one[:, tag]) for one in scores for tag in tags]
        )
        known = np.isfinite(each).sum(axis=0)
        return np.where(known, np.nansum(each, axis=0) / np.maximum(known, 1), np.nan)

    (values,), resampled = average(np.ones((1, len(truth)))), average(_weights(groups))
    auc, precision = (
        Figure(float(value), resampled[:, at], draw(groups)) for at, value in enumerate(values)
    )
    return auc, precision


def _ranked(weights: np.ndarray, truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Area under the ROC curve and average precision of one tag, [resamples, 2].

    Args:
        weights: of each clip, [resamples, clips].
        truth: [clips] bool.
        scores: [clips].
    """
    order = np.argsort(-scores, kind="stable")
    ties = np.flatnonzero(np.diff(scores[order], prepend=np.inf))  # where each score begins
    right = np.add.reduceat(weights[:, order] * truth[order], ties, axis=1)
    wrong = np.add.reduceat(weights[:, order] * ~truth[order], ties, axis=1)
    hits, misses = np.cumsum(right, axis=1), np.cumsum(wrong, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        area = np.sum(wrong * (hits - right / 2), axis=1) / (hits[:, -1] * misses[:, -1])
        precision = np.where(right > 0, hits / (hits + misses), 0.0)
        return np.stack([area, np.sum(right * precision, axis=1) / hits[:, -1]], axis=1)


def _r2(weights: np.ndarray, truth: np.ndarray, readings: np.ndarray) -> np.ndarray:
    """Of each row of weights [resamples, clips], averaged over readings: [resamples].

    The truth is [clips, columns], the readings are [readings, clips, columns].
    """
    centred = truth - truth.mean(axis=0)
    count = weights.sum(axis=1)
    total = weights @ np.square(centred).sum(axis=1)
    total -= np.square(weights @ centred).sum(axis=1) / count
    residual = weights @ np.square(truth[None] - readings).mean(axis=0).sum(axis=1)
    varies = total > 1e-12 * max(float(np.square(truth).sum()), np.finfo(np.float64).tiny)
    return np.where(varies, 1.0 - residual / np.where(varies, total, 1.0), np.nan)


def draw(groups: np.ndarray) -> int:
    """CRC-32 of what is drawn again and again, in its order: see `Figure.draw`."""
    return zlib.crc32(repr(groups.tolist()).encode())


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


def ends(values: np.ndarray) -> tuple[float, float]:
    """Of resampled values [resamples] the interval that holds `CONFIDENCE` of them, low and high.

    What is NaN is passed over; the ends of nothing are NaN.
    """
    if np.isnan(values).all():
        return float("nan"), float("nan")
    tail = (1.0 - CONFIDENCE) / 2
    low, high = np.nanquantile(values, [tail, 1.0 - tail])
    return float(low), float(high)
