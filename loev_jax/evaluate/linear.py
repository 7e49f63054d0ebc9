"""Linear probes: every strength of regularisation at once, one picked on the validation split.

Both are convex: what a path of learning rates would look for is their one optimum, found here in
closed form or to a tolerance, so that the grid is of the penalty alone.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from loev_jax.evaluate.features import Parts, Rotated, numbered, one_thread, rotate, standardise

RIDGE_GRID = tuple(10.0 ** np.arange(-1.0, 6.5, 0.5))
LOGISTIC_GRID = tuple(10.0 ** np.arange(4.0, -0.5, -0.5))
"""Penalties, strongest first: of equals the first is taken."""

TOLERANCE = 1e-3
"""Of the gradient of the mean loss. Weak penalties matter where classes can be parted without an
error; stopping there is a regularisation of its own, and closer to the optimum no probe is better
on validation."""

_ITERATIONS = 2000
_CLASSES = 8  # classes are filled up to a multiple of this, so that tasks share a program

_State = tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]


def ridge(rotated: Rotated, targets: np.ndarray, grid: tuple[float, ...]) -> np.ndarray:
    """Ridge regression without intercept for a whole grid: (XᵀX + alpha I)⁻¹XᵀY.

    Args:
        rotated: X.
        targets: Y of the train split, [rows, targets], centred if an intercept is wanted.
        grid: the values of alpha, positive.

    Returns:
        Weights along the axes of X, [grid, axes, targets].
    """
    projected = rotated.rows.train.T @ targets
    return projected[None] / (rotated.power[None] + np.array(grid)[:, None])[:, :, None]


def regress(features: Parts, targets: Parts, *, intercept: bool = True) -> np.ndarray:
    """Ridge regression: fitted on train, alpha picked per target by validation error, tested once.

    Args:
        features: [rows, features] of each split.
        targets: [rows, targets] of each split; those of test are never read.
        intercept: whether to fit one; without it, features are scaled but not centred.

    Returns:
        Predictions for the test rows, [rows, targets].
    """
    turned = rotate(standardise(features, centre=intercept))
    offset = targets.train.mean(axis=0) if intercept else np.zeros(targets.train.shape[1])
    with one_thread():
        weights = ridge(turned, targets.train - offset[None], RIDGE_GRID)
        tried = turned.rows.validation[None] @ weights + offset[None, None]
        error = np.sum(np.square(tried - targets.validation[None]), axis=1)
        # Of equals the strongest: a target that nothing predicts should be predicted by its mean.
        best = len(weights) - 1 - np.argmin(error[::-1], axis=0)
        chosen = weights[best, :, np.arange(weights.shape[2])].T
        return turned.rows.test @ chosen + offset[None]


def classify(features: Parts, targets: Parts) -> np.ndarray:
    """Multinomial logistic regression: fitted on train, penalty picked by validation accuracy.

    Args:
        features: [rows, features] of each split.
        targets: [rows] labels of each split; those of test are never read.

    Returns:
        Predicted labels of the test rows, [rows].
    """
    classes, numbers = numbered(targets)
    return classes[np.argmax(read(features, numbers, len(classes)), axis=-1)]


def read(features: Parts, numbers: Parts, classes: int) -> np.ndarray:
    """As `classify`, of classes by number.

    Args:
        features: [rows, features] of each split.
        numbers: [rows] int below `classes` of train and validation; -1 is never right.
        classes: how many there are.

    Returns:
        Logits of the test rows, [rows, classes].
    """
    turned = rotate(standardise(features))
    if classes == 1 or not len(turned.power):
        share = np.bincount(numbers.train, minlength=classes).astype(float)
        return np.tile(share, (len(features.test), 1))
    weights, bias = logistic(turned, numbers.train, classes, LOGISTIC_GRID)
    with one_thread():
        tried = turned.rows.validation[None] @ weights + bias[:, None]
        right = np.argmax(tried, axis=-1) == numbers.validation[None]
        best = np.argmax(np.mean(right, axis=1))
        return turned.rows.test @ weights[best] + bias[best][None]


def logistic(
    rotated: Rotated,
    numbers: np.ndarray,
    classes: int,
    grid: tuple[float, ...],
    tolerance: float = TOLERANCE,
) -> tuple[np.ndarray, np.ndarray]:
    """Multinomial logistic regression for a whole grid, in one compiled program.

    Minimises the summed cross-entropy plus `penalty / 2` times the squared weights; the bias is
    free.

    Args:
        rotated: centred features.
        numbers: the class of each row of the train split, [rows] int from 0.
        classes: how many there are.
        grid: the penalties, positive.
        tolerance: ends where no component of the gradient of the mean loss is larger.

    Returns:
        Weights along the axes [grid, axes, classes] and biases [grid, classes].
    """
    places = -(-classes // _CLASSES) * _CLASSES
    absent = np.where(np.arange(places) < classes, 0.0, -np.inf).astype(np.float32)
    found = _logistic(
        rotated.rows.train.astype(np.float32),
        rotated.power.astype(np.float32),
        np.eye(places, dtype=np.float32)[numbers],
        absent,
        np.array(grid, np.float32),
        tolerance,
    )
    weights = np.asarray(found, np.float64).transpose(1, 0, 2)[:, :, :classes]
    return weights[:, :-1], weights[:, -1]


@jax.jit
def _logistic(
    train: jax.Array,
    power: jax.Array,
    truth: jax.Array,
    absent: jax.Array,
    grid: jax.Array,
    tolerance: jax.Array,
) -> jax.Array:
    """Weights and, last, biases: [axes + 1, grid, classes].

    Gradient descent under the fixed quadratic bound of the loss (Böhning 1992, "Multinomial
    logistic regression algorithm"): its Hessian is at most XᵀX / 2 for every class, which along
    the principal axes is diagonal, so that a step is a division. It is accelerated by Nesterov's
    momentum, restarted where that climbs (O'Donoghue and Candès 2015, §3.2).
    """
    rows = len(train)
    inputs = jnp.concatenate([train, jnp.ones((rows, 1))], axis=1)
    curvature = jnp.concatenate([power, jnp.full(1, rows, power.dtype)]) / 2
    penalty = jnp.concatenate([jnp.tile(grid, (len(power), 1)), jnp.zeros((1, len(grid)))])
    bound = (curvature[:, None] + penalty)[:, :, None]
    product = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)

    def slope(weights: jax.Array) -> jax.Array:
        share = jax.nn.softmax(
            product("na,agc->ngc", inputs, weights) + absent[None, None], axis=-1
        )
        return (
            product("na,ngc->agc", inputs, share - truth[:, None]) + penalty[:, :, None] * weights
        )

    def go_on(state: _State) -> jax.Array:
        _, _, _, done, steepest = state
        return (done < _ITERATIONS) & (steepest > tolerance * rows)

    def descend(state: _State) -> _State:
        weights, before, age, done, _ = state
        ahead = weights + (age / (age + 3))[None, :, None] * (weights - before)
        gradient = slope(ahead)
        after = ahead - gradient / bound
        climbs = jnp.sum(gradient * (after - weights), axis=(0, 2)) > 0
        steepest = jnp.max(jnp.abs(gradient))
        return after, weights, jnp.where(climbs, 0.0, age + 1), done + 1, steepest

    start = jnp.zeros((len(bound), len(grid), truth.shape[1]))
    begin = (start, start, jnp.zeros(len(grid)), jnp.zeros((), jnp.int32), jnp.array(jnp.inf))
    return jax.lax.while_loop(go_on, descend, begin)[0]
