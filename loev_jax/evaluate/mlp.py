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

Kind = Literal["classes", "numbers", "tags"]
Weights = dict[str, jax.Array]
"""Of all members, [inputs, members, units]; a bias has one input."""


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
    epochs: int = 20


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


def tag(features: Parts, targets: Parts, grid: Grid = GRID) -> np.ndarray:
    """A logistic output for each tag, the grid point picked by the log loss on validation.

    Args:
        features: [rows, features] of each split.
        targets: [rows, tags] bool of each split; those of test are never read.
        grid: what is tried.

    Returns:
        Logits of the test rows, [seeds, rows, tags].
    """
    return _fit(features, targets.train, targets.validation, "tags", grid)


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
    rates, decays = (
        jnp.repeat(one.ravel(), grid.seeds)[None, :, None]
        for one in jnp.meshgrid(jnp.array(grid.learning_rates), jnp.array(grid.weight_decays))
    )
    members = rates.size
    points = members // grid.seeds
    batch = min(grid.batch, len(train))
    batches = len(train) // batch
    mixed = jax.vmap(jax.random.permutation, in_axes=(0, None))(
        jax.random.split(jax.random.key(1), grid.epochs), len(train)
    )
    orders = mixed[:, : batches * batch].reshape(grid.epochs, batches, batch)
    optimiser = optax.scale_by_adam()
    schedule = optax.cosine_decay_schedule(1.0, grid.epochs * batches)

    def drawn(key: jax.Array, inputs: int, units: int) -> jax.Array:
        """Normal [inputs, members, units], other ones for each seed."""
        keys = jax.random.split(key, grid.seeds)
        one = jax.vmap(lambda key: jax.random.normal(key, (inputs, units)), out_axes=1)(keys)
        return jnp.tile(one, (1, points, 1))

    first, second = jax.random.split(jax.random.key(0))
    width, targets = train.shape[1], train_targets.shape[1]
    weights = {
        "first": drawn(first, width, grid.hidden) * jnp.sqrt(2 / size),
        "first_bias": jnp.zeros((1, members, grid.hidden)),
        "second": drawn(second, grid.hidden, targets) / jnp.sqrt(grid.hidden),
        "second_bias": jnp.zeros((1, members, targets)),
    }

    def all_losses(weights: Weights, rows: jax.Array) -> jax.Array:
        """Their sum: no member's gradient depends on another."""
        return jnp.sum(_losses(weights, train[rows], train_targets[rows], kind))

    def learn(carry: tuple, given: tuple[jax.Array, jax.Array]) -> tuple[tuple, None]:
        weights, state = carry
        rows, pace = given
        updates, state = optimiser.update(jax.grad(all_losses)(weights, rows), state)
        moved = {
            name: one
            - pace * rates * (updates[name] + (0 if name.endswith("bias") else decays * one))
            for name, one in weights.items()
        }
        return (moved, state), None

    def epoch(carry: tuple, given: tuple[jax.Array, jax.Array]) -> tuple[tuple, None]:
        training, best, kept = carry
        training, _ = jax.lax.scan(learn, training, given)
        scores = _scores(training[0], validation, validation_targets, kind)
        better = scores > best  # which a NaN is not
        kept = jax.tree.map(lambda a, b: jnp.where(better[None, :, None], a, b), training[0], kept)
        return (training, jnp.where(better, scores, best), kept), None

    begin = ((weights, optimiser.init(weights)), jnp.full(members, -jnp.inf), weights)
    paces = schedule(jnp.arange(grid.epochs * batches)).reshape(grid.epochs, batches)
    (_, best, kept), _ = jax.lax.scan(epoch, begin, (orders, paces))
    point = jnp.argmax(jnp.mean(best.reshape(points, grid.seeds), axis=1))
    picked = jax.tree.map(
        lambda one: jax.lax.dynamic_slice_in_dim(one, point * grid.seeds, grid.seeds, axis=-2), kept
    )
    return jnp.moveaxis(_outputs(picked, test), 1, 0)


_product = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


def _outputs(weights: Weights, inputs: jax.Array) -> jax.Array:
    """[rows, members, targets]. The first layer is one product: all members have the same rows."""
    width, members, hidden = weights["first"].shape
    flat = _product("ni,iu->nu", inputs, weights["first"].reshape(width, members * hidden))
    units = jax.nn.relu(flat.reshape(-1, members, hidden) + weights["first_bias"])
    return _product("nmh,hmo->nmo", units, weights["second"]) + weights["second_bias"]


def _losses(weights: Weights, inputs: jax.Array, targets: jax.Array, kind: Kind) -> jax.Array:
    """Of each member, [members]."""
    outputs, targets = _outputs(weights, inputs), targets[:, None]
    if kind == "numbers":
        return jnp.mean(jnp.square(outputs - targets), axis=(0, 2))
    if kind == "tags":
        return jnp.mean(optax.sigmoid_binary_cross_entropy(outputs, targets), axis=(0, 2))
    return jnp.mean(optax.softmax_cross_entropy(outputs, targets), axis=0)


def _scores(weights: Weights, inputs: jax.Array, targets: jax.Array, kind: Kind) -> jax.Array:
    """Larger is better: accuracy, or minus the mean squared error or log loss, [members]."""
    if kind != "classes":
        return -_losses(weights, inputs, targets, kind)
    right = jnp.argmax(_outputs(weights, inputs), axis=-1) == jnp.argmax(targets, axis=-1)[:, None]
    known = jnp.any(targets > 0, axis=-1)  # a class that training lacks is never right
    return jnp.mean(right & known[:, None], axis=0)
