"""MLP probes: a grid of learning rates and weight decays, and several seeds, in one program.

One hidden layer, as in the field's probing protocol (MARBLE: Yuan et al. 2023, arXiv 2306.10548,
§3). All members of the grid are trained side by side, on the same batches. Each is remembered
where it did best on the validation split, and the grid point that does best there, averaged over
seeds, is tested.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from loev_jax.evaluate.features import Parts, numbered, rotate, standardise

Kind = Literal["classes", "numbers"]
Weights = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Grid:
    """What is tried.

    Attributes:
        learning_rates: of AdamW.
        weight_decays: of AdamW, on weights and not on biases.
        seeds: how many initialisations of each.
        hidden: units of the hidden layer.
        batch: rows of a step, at most those of the train split.
        epochs: over the train split, each in another order, without the rows that are left over.
    """

    learning_rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    weight_decays: tuple[float, ...] = (1e-2, 10.0)
    seeds: int = 3
    hidden: int = 256
    batch: int = 128
    epochs: int = 40


GRID = Grid()


def regress(features: Parts, targets: Parts, grid: Grid = GRID) -> np.ndarray:
    """Least squares, the grid point picked by the error on validation.

    Args:
        features: [rows, features] of each split.
        targets: [rows, targets] of each split; those of test are never read.
        grid: what is tried.

    Returns:
        Predictions for the test rows, [seeds, rows, targets].
    """
    offset, scale = targets.train.mean(axis=0), targets.train.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    known = [(part - offset[None]) / scale[None] for part in (targets.train, targets.validation)]
    return _fit(features, known[0], known[1], "numbers", grid) * scale[None, None] + offset


def classify(features: Parts, targets: Parts, grid: Grid = GRID) -> np.ndarray:
    """Cross-entropy, the grid point picked by accuracy on validation.

    Args:
        features: [rows, features] of each split.
        targets: [rows] labels of each split; those of test are never read.
        grid: what is tried.

    Returns:
        Predicted labels of the test rows, [seeds, rows].
    """
    classes, numbers = numbered(targets)
    return classes[np.argmax(read(features, numbers, len(classes), grid), axis=-1)]


def read(features: Parts, numbers: Parts, classes: int, grid: Grid = GRID) -> np.ndarray:
    """As `classify`, of classes by number.

    Args:
        features: [rows, features] of each split.
        numbers: [rows] int below `classes` of train and validation; -1 is never right.
        classes: how many there are.
        grid: what is tried.

    Returns:
        Logits of the test rows, [seeds, rows, classes].
    """
    each = np.arange(classes)[None]
    train, validation = (part[:, None] == each for part in (numbers.train, numbers.validation))
    return _fit(features, train, validation, "classes", grid)


def _fit(
    features: Parts, train: np.ndarray, validation: np.ndarray, kind: Kind, grid: Grid
) -> np.ndarray:
    """Outputs for the test rows, [seeds, rows, targets]."""
    rows = standardise(features)
    size = rows.train.shape[1]
    if size > len(rows.train):  # what lies outside the training clips' span cannot be learnt
        rows = rotate(rows).rows
    inputs = [part.astype(np.float32) for part in (rows.train, rows.validation, rows.test)]
    outputs = _train(
        *inputs, train.astype(np.float32), validation.astype(np.float32), size, kind, grid
    )
    return np.asarray(outputs, np.float64)


@functools.partial(jax.jit, static_argnums=(5, 6, 7))
def _train(
    train: jax.Array,
    validation: jax.Array,
    test: jax.Array,
    train_targets: jax.Array,
    validation_targets: jax.Array,
    size: int,
    kind: Kind,
    grid: Grid,
) -> jax.Array:
    """Trains all members, picks one per seed, returns its outputs for the test rows."""
    rates, decays = jnp.meshgrid(jnp.array(grid.learning_rates), jnp.array(grid.weight_decays))

    def begin(key: jax.Array) -> Weights:
        first, second = jax.random.split(key)
        shape = (train.shape[1], grid.hidden)
        return {
            "first": jax.random.normal(first, shape) * jnp.sqrt(2 / size),
            "first_bias": jnp.zeros(grid.hidden),
            "second": jax.random.normal(second, (grid.hidden, train_targets.shape[1]))
            / jnp.sqrt(grid.hidden),
            "second_bias": jnp.zeros(train_targets.shape[1]),
        }

    batch = min(grid.batch, len(train))
    batches = len(train) // batch
    mixed = jax.vmap(jax.random.permutation, in_axes=(0, None))(
        jax.random.split(jax.random.key(1), grid.epochs), len(train)
    )
    orders = mixed[:, : batches * batch].reshape(grid.epochs, batches, batch)

    def member(rate: jax.Array, decay: jax.Array, key: jax.Array) -> tuple[jax.Array, Weights]:
        """The best validation score of one member, and its weights then."""
        optimiser = optax.adamw(
            optax.cosine_decay_schedule(1.0, grid.epochs * batches),
            weight_decay=decay,
            mask=lambda weights: {name: not name.endswith("bias") for name in weights},
        )

        def learn(carry: tuple, rows: jax.Array) -> tuple[tuple, None]:
            weights, state = carry
            slope = jax.grad(_loss)(weights, train[rows], train_targets[rows], kind)
            updates, state = optimiser.update(slope, state, weights)
            moved = jax.tree.map(lambda w, u: w + rate * u, weights, updates)
            return (moved, state), None

        def epoch(carry: tuple, order: jax.Array) -> tuple[tuple, None]:
            training, best, kept = carry
            training, _ = jax.lax.scan(learn, training, order)
            score = _score(training[0], validation, validation_targets, kind)
            better = score > best  # which a NaN is not
            kept = jax.tree.map(lambda a, b: jnp.where(better, a, b), training[0], kept)
            return (training, jnp.where(better, score, best), kept), None

        weights = begin(key)
        start = ((weights, optimiser.init(weights)), jnp.array(-jnp.inf), weights)
        (_, best, kept), _ = jax.lax.scan(epoch, start, orders)
        return best, kept

    keys = jax.random.split(jax.random.key(0), grid.seeds)
    over_seeds = jax.vmap(member, in_axes=(None, None, 0))
    scores, weights = jax.vmap(over_seeds, in_axes=(0, 0, None))(
        rates.ravel(), decays.ravel(), keys
    )
    point = jnp.argmax(jnp.mean(scores, axis=1))
    return jax.vmap(_outputs, in_axes=(0, None))(jax.tree.map(lambda w: w[point], weights), test)


def _outputs(weights: Weights, inputs: jax.Array) -> jax.Array:
    product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    hidden = jax.nn.relu(product(inputs, weights["first"]) + weights["first_bias"][None])
    return product(hidden, weights["second"]) + weights["second_bias"][None]


def _loss(weights: Weights, inputs: jax.Array, targets: jax.Array, kind: Kind) -> jax.Array:
    outputs = _outputs(weights, inputs)
    if kind == "numbers":
        return jnp.mean(jnp.square(outputs - targets))
    return jnp.mean(optax.softmax_cross_entropy(outputs, targets))


def _score(weights: Weights, inputs: jax.Array, targets: jax.Array, kind: Kind) -> jax.Array:
    """Larger is better: accuracy, or minus the mean squared error."""
    if kind == "numbers":
        return -_loss(weights, inputs, targets, kind)
    right = jnp.argmax(_outputs(weights, inputs), axis=-1) == jnp.argmax(targets, axis=-1)
    known = jnp.any(targets > 0, axis=-1)  # a class that training lacks is never right
    return jnp.mean(right & known)
