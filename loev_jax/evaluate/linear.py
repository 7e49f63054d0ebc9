"""Linear probes with the strength of regularisation picked on the validation split."""

from __future__ import annotations

import dataclasses

import numpy as np
from threadpoolctl import threadpool_limits

RIDGE_GRID = tuple(10.0 ** np.arange(-1.0, 6.5, 0.5))
LOGISTIC_GRID = (1e-4, 1e-3, 1e-2, 1e-1)
LIMIT = 6.0


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
        """[rows, features] → float64 of the same shape."""
        return np.clip((features - self.mean[None]) / self.deviation[None], -LIMIT, LIMIT)


def ridge_path(
    features: np.ndarray, targets: np.ndarray, grid: tuple[float, ...] = RIDGE_GRID
) -> np.ndarray:
    """Ridge regression without intercept for a whole grid, from one eigendecomposition.

    The weights are (XᵀX + alpha I)⁻¹XᵀY.

    Args:
        features: X, [rows, features], centred if an intercept is wanted.
        targets: Y, [rows, targets], likewise.
        grid: the values of alpha, positive.

    Returns:
        [grid, features, targets].
    """
    values, vectors = np.linalg.eigh(features.T @ features)
    rotated = vectors.T @ (features.T @ targets)
    shrunk = [rotated / (np.maximum(values, 0.0) + alpha)[:, None] for alpha in grid]
    return np.stack([vectors @ one for one in shrunk])


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


def _one_thread() -> threadpool_limits:
    """Keeps BLAS on one thread.

    Matrices as small as a probe's gain nothing from more, and where other processes share the cores
    (training, under `--watch`) BLAS threads wait for each other: 20 times slower on two cores.
    """
    return threadpool_limits(1, user_api="blas")


def regress(features: Parts, targets: Parts, *, intercept: bool = True) -> np.ndarray:
    """Ridge regression: fitted on train, alpha picked per target by validation error, tested once.

    Args:
        features: [rows, features] of each split.
        targets: [rows, targets] of each split; those of test are never read.
        intercept: whether to fit one; without it, features are scaled but not centred.

    Returns:
        Predictions for the test rows, [rows, targets].
    """
    with _one_thread():
        return _regress(features, targets, intercept)


def _regress(features: Parts, targets: Parts, intercept: bool) -> np.ndarray:
    scale = Standardiser.fit(features.train)
    if not intercept:
        power = np.sqrt(np.mean(np.square(features.train, dtype=np.float64), axis=0))
        scale = Standardiser(np.zeros_like(power), np.where(power > 0, power, 1.0))
    offset = targets.train.mean(axis=0) if intercept else np.zeros(targets.train.shape[1])
    weights = ridge_path(scale(features.train), targets.train - offset[None])
    tried = scale(features.validation)[None] @ weights + offset[None, None]
    error = np.sum(np.square(tried - targets.validation[None]), axis=1)
    # Of equals the strongest: a target that nothing predicts should be predicted by its mean.
    best = len(weights) - 1 - np.argmin(error[::-1], axis=0)
    chosen = weights[best, :, np.arange(weights.shape[2])].T
    return scale(features.test) @ chosen + offset[None]


def classify(features: Parts, targets: Parts) -> np.ndarray:
    """Multinomial logistic regression: fitted on train, C picked by validation accuracy.

    Each fit starts from the one before, so that a path over the grid costs little more than its
    last point.

    Args:
        features: [rows, features] of each split.
        targets: [rows] labels of each split; those of test are never read.

    Returns:
        Predicted labels of the test rows, [rows].
    """
    if len(np.unique(targets.train)) == 1:  # scikit-learn refuses a single class
        return np.repeat(targets.train[:1], len(features.test))
    with _one_thread():
        return _classify(features, targets)


def _classify(features: Parts, targets: Parts) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression

    scale = Standardiser.fit(features.train)
    train, validation, test = map(scale, (features.train, features.validation, features.test))
    probe = LogisticRegression(tol=1e-3, max_iter=2000, warm_start=True)
    best, predicted = -1.0, np.empty(0)
    for strength in LOGISTIC_GRID:
        probe.set_params(C=strength).fit(train, targets.train)
        score = float(np.mean(probe.predict(validation) == targets.validation))
        if score > best:
            best, predicted = score, probe.predict(test)
    return predicted
