"""Two small networks that bring a frozen audio space and something else into one.

Each side is standardised, turned to its strongest principal axes and passed through one hidden
layer to a unit vector; both are trained on pairs by a symmetric contrast, as in CLIP (Radford et
al. 2021, arXiv 2103.00020, §2.3). The audio space itself does not move.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from loev_jax.evaluate.features import Parts, rotate, standardise

Weights = dict[str, dict[str, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Settings:
    """How the towers are made.

    Attributes:
        axes: at most so many principal axes of each side are kept.
        hidden: units of the hidden layer.
        size: of the common space.
        learning_rate: of AdamW.
        weight_decays: of AdamW, on weights and not on biases; one is picked by validation.
        dropout: share of the inputs that are silenced in training.
        temperature: of the contrast.
        batch: pairs of a step, at most those of the train split.
        epochs: over the train split.
    """

    axes: int = 128
    hidden: int = 256
    size: int = 128
    learning_rate: float = 2e-3
    weight_decays: tuple[float, ...] = (0.01, 0.3, 3.0)
    dropout: float = 0.2
    temperature: float = 0.1
    batch: int = 256
    epochs: int = 60


SETTINGS = Settings()


def match(audio: Parts, other: Parts, settings: Settings = SETTINGS) -> np.ndarray:
    """Trains both towers, and compares the test rows.

    Args:
        audio: vectors of clips, [rows, features] of each split.
        other: what belongs to them, in the same order: [variants, rows, features] of train, of
            which each epoch takes the next variant, and [rows, features] of validation. Those of
            test may be any number.
        settings: how they are made.

    Returns:
        Cosines, [test rows of other, test rows of audio].
    """
    variants, rows, size = other.train.shape
    ours = _axes(audio, settings.axes)
    flat = Parts(other.train.reshape(variants * rows, size), other.validation, other.test)
    theirs = _axes(flat, settings.axes)
    found = _match(
        *(part.astype(np.float32) for part in (ours.train, ours.validation, ours.test)),
        theirs.train.reshape(variants, rows, -1).astype(np.float32),
        theirs.validation.astype(np.float32),
        theirs.test.astype(np.float32),
        settings,
    )
    return np.asarray(found, np.float64)


def _axes(features: Parts, most: int) -> Parts:
    """The strongest principal axes, all of them scaled alike: the strongest one has deviation 1."""
    rotated = rotate(standardise(features))
    scale = np.sqrt(rotated.power[-1] / len(features.train)) if len(rotated.power) else 1.0
    rows = rotated.rows
    return Parts(*(part[:, -most:] / scale for part in (rows.train, rows.validation, rows.test)))


@functools.partial(jax.jit, static_argnums=6)
def _match(
    train: jax.Array,
    validation: jax.Array,
    test: jax.Array,
    other_train: jax.Array,
    other_validation: jax.Array,
    other_test: jax.Array,
    settings: Settings,
) -> jax.Array:
    rows = len(train)
    batch = min(settings.batch, rows)
    batches = rows // batch
    steps = settings.epochs * batches

    def member(decay: jax.Array) -> tuple[jax.Array, Weights]:
        """The best validation score with one weight decay, and the weights then."""
        optimiser = optax.adamw(
            optax.cosine_decay_schedule(settings.learning_rate, steps),
            weight_decay=decay,
            mask=lambda w: {t: {n: not n.endswith("bias") for n in w[t]} for t in w},
        )

        def learn(carry: tuple, given: tuple) -> tuple[tuple, None]:
            weights, state = carry
            chosen, variant, key = given
            slope = jax.grad(_loss)(
                weights, train[chosen], other_train[variant, chosen], key, settings
            )
            updates, state = optimiser.update(slope, state, weights)
            return (optax.apply_updates(weights, updates), state), None

        def epoch(carry: tuple, number: jax.Array) -> tuple[tuple, None]:
            training, best, kept = carry
            key = jax.random.fold_in(jax.random.key(1), number)
            order = jax.random.permutation(key, rows)[: batches * batch]
            given = (
                order.reshape(batches, batch),
                jnp.full(batches, number % len(other_train)),
                jax.random.split(jax.random.fold_in(key, 1), batches),
            )
            training, _ = jax.lax.scan(learn, training, given)
            score = _score(training[0], validation, other_validation)
            better = score > best  # which a NaN is not
            kept = jax.tree.map(lambda a, b: jnp.where(better, a, b), training[0], kept)
            return (training, jnp.where(better, score, best), kept), None

        weights = {
            "audio": _begin(jax.random.key(2), train.shape[-1], settings),
            "other": _begin(jax.random.key(3), other_train.shape[-1], settings),
        }
        start = ((weights, optimiser.init(weights)), jnp.array(-jnp.inf), weights)
        (_, best, kept), _ = jax.lax.scan(epoch, start, jnp.arange(settings.epochs))
        return best, kept

    scores, weights = jax.vmap(member)(jnp.array(settings.weight_decays))
    best = jax.tree.map(lambda w: w[jnp.argmax(scores)], weights)
    return _product(_tower(best["other"], other_test), _tower(best["audio"], test).T)


_product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


def _begin(key: jax.Array, inputs: int, settings: Settings) -> dict[str, jax.Array]:
    first, second = jax.random.split(key)
    shape = (inputs, settings.hidden)
    return {
        "first": jax.random.normal(first, shape) * jnp.sqrt(2 / max(inputs, 1)),
        "first_bias": jnp.zeros(settings.hidden),
        "second": jax.random.normal(second, (settings.hidden, settings.size))
        / jnp.sqrt(settings.hidden),
        "second_bias": jnp.zeros(settings.size),
    }


def _tower(weights: dict[str, jax.Array], inputs: jax.Array) -> jax.Array:
    """[rows, axes] → [rows, size] of unit length."""
    hidden = jax.nn.relu(_product(inputs, weights["first"]) + weights["first_bias"][None])
    out = _product(hidden, weights["second"]) + weights["second_bias"][None]
    return out * jax.lax.rsqrt(jnp.sum(jnp.square(out), axis=-1, keepdims=True) + 1e-12)


def _loss(
    weights: Weights, audio: jax.Array, other: jax.Array, key: jax.Array, settings: Settings
) -> jax.Array:
    def thin(inputs: jax.Array, key: jax.Array) -> jax.Array:
        kept = jax.random.bernoulli(key, 1 - settings.dropout, inputs.shape)
        return jnp.where(kept, inputs / (1 - settings.dropout), 0.0)

    one, two = jax.random.split(key)
    logits = _product(
        _tower(weights["other"], thin(other, two)), _tower(weights["audio"], thin(audio, one)).T
    )
    logits /= settings.temperature
    own = jnp.arange(len(logits))
    ways = (logits, logits.T)
    contrast = optax.softmax_cross_entropy_with_integer_labels
    return jnp.mean(jnp.stack([jnp.mean(contrast(way, own)) for way in ways]))


def _score(weights: Weights, audio: jax.Array, other: jax.Array) -> jax.Array:
    """Mean reciprocal rank of the own one, in both directions."""
    alike = _product(_tower(weights["other"], other), _tower(weights["audio"], audio).T)
    own = jnp.diagonal(alike)
    # Not `>=`: a tower that has diverged would come first everywhere.
    ranks = [jnp.sum(~(way < own[:, None]), axis=1) for way in (alike, alike.T)]
    return jnp.mean(1.0 / jnp.stack(ranks).astype(jnp.float32))
