"""A small classifier that tells whether a view was changed, and by how much.

It hears texture and nothing else: statistics over time of local differences of the log-mel, band by
band. Readers of them are fitted by ridge regression, and a logistic regression decides from what
they read. A small convolutional network on the log-mels themselves told fewer views right
(`docs/shortcuts.md`), and a test that is to say "there is nothing to find" had better look sharply.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from loev_jax.evaluate import features, linear

FOLDS = 4
"""Of the pieces: each is the test of one fold, the validation of another, trained on in two."""
FEWEST_PIECES = 2 * FOLDS
# Differences over (frames, bands) that are measured: smear and attacks, resolution, texture.
_LAGS = ((0, 0), (1, 0), (2, 0), (4, 0), (0, 1), (0, 2), (1, 1))
_POOLED = 3  # neighbouring bands whose statistics are averaged
_FLOOR = 1e-4  # of log10 power: what fluctuates less is constant
_BATCH = 64  # views


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Untouched views and changed views of the same music at the same tempo and in the same key.

    Attributes:
        untouched: [pairs, statistics] of the untouched views (see `statistics`).
        changed: of the changed ones, likewise.
        amount: [pairs] by how much each was changed: 0 would be "not at all".
        piece: [pairs] the number of the piece of each; no piece is trained on and tested.
    """

    untouched: np.ndarray
    changed: np.ndarray
    amount: np.ndarray
    piece: np.ndarray


@dataclasses.dataclass(frozen=True)
class Score:
    """What the classifier reached on pieces that it had not heard.

    Attributes:
        accuracy: share of the views, half of them changed, that it told right; .5 is chance.
        error: half of the 95 % interval of `accuracy`: 1.96 standard errors of the mean over
            pieces, whose views are not independent, or the binomial one if that is greater.
        r2: of the amount, on the changed views alone; a constant reaches 0.
    """

    accuracy: float
    error: float
    r2: float


def statistics(mels: np.ndarray) -> np.ndarray:
    """Texture of log-mels: [views, frames, bands] → [views, statistics] f32.

    Each view loses its mean first, so that loudness is no cue. Of each difference in `_LAGS`, over
    time and for every three bands: log of the mean size, skewness, log of the kurtosis plus one;
    and the spectrum.
    """
    parts = []
    for first in range(0, len(mels), _BATCH):
        part = mels[first : first + _BATCH]
        padded = np.pad(part, ((0, _BATCH - len(part)), (0, 0), (0, 0)))
        parts.append(np.asarray(_statistics(padded))[: len(part)])
    return np.concatenate(parts)


@jax.jit
def _statistics(mels: jax.Array) -> jax.Array:
    centred = mels - jnp.mean(mels, axis=(1, 2), keepdims=True)
    parts = [_pool(jnp.mean(centred, axis=1))]
    frames, bands = mels.shape[1:]
    for later, higher in _LAGS:
        difference = centred[:, later:, higher:]
        if later or higher:
            difference = difference - centred[:, : frames - later, : bands - higher]
        difference = difference - jnp.mean(difference, axis=1, keepdims=True)
        square = jnp.square(difference)
        variance = jnp.mean(square, axis=1) + _FLOOR**2
        parts += [
            _pool(jnp.log(jnp.mean(jnp.abs(difference), axis=1) + _FLOOR)),
            _pool(jnp.mean(square * difference, axis=1) / variance**1.5),
            _pool(jnp.log1p(jnp.mean(jnp.square(square), axis=1) / jnp.square(variance))),
        ]
    return jnp.concatenate(parts, axis=1)


def _pool(values: jax.Array) -> jax.Array:
    """Means of neighbouring bands, [batch, bands] → [batch, bands // _POOLED]."""
    groups = values.shape[1] // _POOLED
    pooled = values[:, : groups * _POOLED].reshape(values.shape[0], groups, _POOLED)
    return jnp.mean(pooled, axis=2)


def detect(pairs: Pairs) -> Score:
    """Trains the classifier on some pieces and tests it on others, until all were tested.

    Raises:
        ValueError: there are too few pieces.
    """
    pieces = np.unique(pairs.piece)
    if len(pieces) < FEWEST_PIECES:
        raise ValueError(f"{len(pieces)} pieces: give {FEWEST_PIECES} or more")
    place = np.searchsorted(pieces, pairs.piece)
    scale = float(np.sqrt(np.mean(np.square(pairs.amount))))
    right = np.zeros((2, len(place)), bool)
    read = np.zeros(len(place))
    for fold in range(FOLDS):
        turned = (place - fold * len(pieces) // FOLDS) % len(pieces)
        test = turned < len(pieces) // FOLDS + 1
        validation = ~test & (turned < 2 * len(pieces) // FOLDS + 1)
        decided, amount = _fold(pairs, scale, ~test & ~validation, validation, test)
        right[:, test] = decided == np.array([[False], [True]])
        read[test] = amount
    by_piece = np.array([right[:, place == one].mean() for one in range(len(pieces))])
    accuracy = float(right.mean())
    binomial = np.sqrt(accuracy * (1 - accuracy) / right.size)
    error = 1.96 * max(np.std(by_piece, ddof=1) / np.sqrt(len(pieces)), binomial)
    r2 = 1 - np.mean(np.square(read - pairs.amount)) / np.var(pairs.amount)
    return Score(accuracy, float(error), float(r2))


def _fold(
    pairs: Pairs, scale: float, train: np.ndarray, validation: np.ndarray, test: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Decisions [2, test pairs] (untouched, changed), and the amounts read [test pairs].

    Three linear readers: whether the view was changed, by how much, and by how much in either
    direction. Whether it was changed shows in the *size* of an amount, which no linear reader sees;
    the logistic regression, fitted on the validation pieces, does.
    """
    from sklearn.linear_model import LogisticRegression

    def rows(chosen: np.ndarray) -> np.ndarray:
        return np.concatenate([pairs.untouched[chosen], pairs.changed[chosen]])

    def targets(chosen: np.ndarray) -> np.ndarray:
        amount = pairs.amount[chosen] / scale
        amount = np.concatenate([np.zeros_like(amount), amount])
        changed = np.repeat([-1.0, 1.0], len(amount) // 2)
        return np.stack([amount, np.abs(amount), changed], axis=1)

    both = np.concatenate([rows(validation), rows(test)])
    answers = targets(validation)
    read = linear.regress(
        features.Parts(rows(train), rows(validation), both),
        features.Parts(targets(train), answers, np.empty((len(both), 0))),
    )
    size = np.abs(read[:, :1])
    evidence = np.concatenate([read, size, np.square(size)], axis=1)
    judge = LogisticRegression().fit(evidence[: len(answers)], answers[:, 2] > 0)
    decided = judge.predict(evidence[len(answers) :]).reshape(2, -1)
    return decided, read[len(answers) :, 0].reshape(2, -1)[1] * scale
