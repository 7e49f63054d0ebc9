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


def tag(features: Parts, targets: Parts) -> np.ndarray:
    """A logistic regression for each tag, its penalty picked by the log loss on validation.

    Args:
        features: [rows, features] of each split.
        targets: [rows, tags] bool of each split; those of test are never read.

    Returns:
        Logits of the test rows, [rows, tags].
    """
    turned = rotate(standardise(features))
    tags = targets.train.shape[1]
    if not len(turned.power):
        return np.tile(targets.train.mean(axis=0), (len(features.test), 1))
    weights, bias = logistic(turned, targets.train, tags, LOGISTIC_GRID, independent=True)
    with one_thread():
        tried = turned.rows.validation[None] @ weights + bias[:, None]
        signs = np.where(targets.validation, -1.0, 1.0)[None]
        best = np.argmin(np.mean(np.logaddexp(0.0, signs * tried), axis=1), axis=0)
        each = np.arange(tags)
        return turned.rows.test @ weights[best, :, each].T + bias[best, each][None]


def logistic(
    rotated: Rotated,
    truth: np.ndarray,
    classes: int,
    grid: tuple[float, ...],
    tolerance: float = TOLERANCE,
    *,
    independent: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Logistic regression for a whole grid, in one compiled program.

    Minimises the summed cross-entropy plus `penalty / 2` times the squared weights; the bias is
    free.

    Args:
        rotated: centred features.
        truth: the class of each row of the train split, [rows] int from 0; if `independent`,
            whether it is of each, [rows, classes] bool.
        classes: how many there are.
        grid: the penalties, positive.
        tolerance: ends where no component of the gradient of the mean loss is larger.
        independent: whether a row may be of any number of classes, instead of one.

    Returns:
        Weights along the axes [grid, axes, classes] and biases [grid, classes].
    """
    places = -(-classes // _CLASSES) * _CLASSES
    absent = np.where(np.arange(places) < classes, 0.0, -np.inf).astype(np.float32)
    rows = truth if independent else np.eye(classes)[truth]
    found = _logistic(
        rotated.rows.train.astype(np.float32),
        rotated.power.astype(np.float32),
        np.pad(rows.astype(np.float32), ((0, 0), (0, places - classes))),
        absent,
        np.array(grid, np.float32),
        tolerance,
        independent,
    )
    weights = np.asarray(found, np.float64).transpose(1, 0, 2)[:, :, :classes]
    return weights[:, :-1], weights[:, -1]


@functools.partial(jax.jit, static_argnums=6)
def _logistic(
    train: jax.Array,
    power: jax.Array,
    truth: jax.Array,
    absent: jax.Array,
    grid: jax.Array,
    tolerance: jax.Array,
    independent: bool,
) -> jax.Array:
    """Weights and, last, biases: [axes + 1, grid, classes].

    Gradient descent under the fixed quadratic bound of the loss (Böhning 1992, "Multinomial
    logistic regression algorithm"): its Hessian is at most XᵀX / 2 for every class, which along
    the principal axes is diagonal, so that a step is a division. (It is XᵀX / 4 at most for
    independent classes, for which the bound holds all the more.) It is accelerated by Nesterov's
    momentum, restarted where that climbs (O'Donoghue and Candès 2015, §3.2).
    """
    rows = len(train)
    inputs = jnp.concatenate([train, jnp.ones((rows, 1))], axis=1)
    curvature = jnp.concatenate([power, jnp.full(1, rows, power.dtype)]) / 2
    penalty = jnp.concatenate([jnp.tile(grid, (len(power), 1)), jnp.zeros((1, len(grid)))])
    bound = (curvature[:, None] + penalty)[:, :, None]
    product = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
    chance = jax.nn.sigmoid if independent else jax.nn.softmax

    def slope(weights: jax.Array) -> jax.Array:
        share = chance(product("na,agc->ngc", inputs, weights) + absent[None, None])
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
