"""The equivariance losses: not only that two views differ, but by how much (method, section 5).

All take pairs of views of one clip. `translation` is linear and needs no more than a readout;
`parameter` (AugSelf, Lee et al. 2021, arXiv 2111.09613) reads the difference off a pair of vectors;
`embedding` (EquiMod, Devillers & Lefort 2022, arXiv 2211.01244; SIE, Garrido et al. 2023, arXiv
2302.10283) moves one vector by the difference and must land on the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from loev_jax.augment import differences
from loev_jax.augment.differences import Coordinate
from loev_jax.augment.parameters import Parameters


def translation(readout: jax.Array, parameter: jax.Array, period: float = 0.0) -> jax.Array:
    """Mean loss of u(j) - u(i) against θ(j) - θ(i) over all pairs of views of a clip.

    It gives a direction of tempo and a direction of pitch that mean the same for every clip,
    without labels (SST and PESTO learn tempo and pitch so). Huber, or with a period 1 - cos of the
    angle between: then what is read is where on the circle a view lies, in turns.

    Args:
        readout: u, [clips, views].
        parameter: θ scaled to unit range, [clips, views].
        period: of θ at this scale if it is circular; 0 if not.

    Returns:
        [clips] f32.
    """
    first, second = np.triu_indices(readout.shape[1], k=1)
    moved = readout[:, second] - readout[:, first]
    truth = parameter[:, second] - parameter[:, first]
    if period:
        return jnp.mean(1 - jnp.cos(2 * jnp.pi * (moved - truth / period)), axis=1)
    return jnp.mean(optax.losses.huber_loss(moved, truth), axis=1)


def translations(
    coordinates: Sequence[Coordinate], readouts: jax.Array, parameters: Parameters
) -> jax.Array:
    """Mean of `translation` over some parameters.

    Args:
        coordinates: what each readout follows; linear or circular.
        readouts: [clips, views, coordinates].
        parameters: applied, each [clips, views].

    Returns:
        [clips] f32.
    """
    losses = []
    for at, one in enumerate(coordinates):
        scaled = parameters[one.name] / one.scale
        losses.append(translation(readouts[..., at], scaled, float(one.form == "circular")))
    return jnp.mean(jnp.stack(losses), axis=0)


def parameter(
    coordinates: Sequence[Coordinate], predicted: jax.Array, parameters: Parameters
) -> jax.Array:
    """Mean distance of what was read off pairs from how their parameters differ.

    Args:
        coordinates: of the parameters.
        predicted: [clips, pairs, size(coordinates)], for `differences.pairs(views)`.
        parameters: applied, each [clips, views].

    Returns:
        [clips] f32.
    """
    first, second = differences.pairs(parameters[coordinates[0].name].shape[1])
    before, after = (differences.take(parameters, at) for at in (first, second))
    return jnp.mean(distance(coordinates, predicted, before, after), axis=1)


def distance(
    coordinates: Sequence[Coordinate], predicted: jax.Array, first: Parameters, second: Parameters
) -> jax.Array:
    """How far predictions are from the differences of pairs.

    Huber for a linear coordinate, 1 - cosine for a circular one, the mean cross-entropy of both
    categories for a categorical one; the mean over what counts.

    Args:
        coordinates: what is predicted.
        predicted: [..., size(coordinates)], of categories the logits.
        first: parameters of the pairs' first views, each [...].
        second: of their second.

    Returns:
        [...] f32; 0 where nothing counts.
    """
    truth = differences.encode(coordinates, first, second)
    total = jnp.zeros(truth.shape[:-1], jnp.float32)
    number = jnp.zeros(truth.shape[:-1], jnp.float32)
    at = 0
    for one in coordinates:
        here = slice(at, at + one.encoded)
        wanted, given = truth[..., here], predicted[..., here]
        at += one.encoded
        if one.form == "linear":
            loss = optax.losses.huber_loss(given, wanted)[..., 0]
        elif one.form == "circular":
            length = jnp.sqrt(jnp.sum(jnp.square(given), axis=-1) + 1e-12)
            loss = 1 - jnp.sum(given * wanted, axis=-1) / length
        else:
            pair = (*given.shape[:-1], 2, int(one.scale))
            logits, labels = given.reshape(pair), wanted.reshape(pair)
            loss = jnp.mean(optax.losses.softmax_cross_entropy(logits, labels), axis=-1)
        counted = differences.counts(one, first, second)
        total += jnp.where(counted, loss, 0.0)
        number += counted
    return total / jnp.maximum(number, 1.0)


def embedding(predicted: jax.Array, space: jax.Array) -> jax.Array:
    """Mean of 1 - cosine of where each pair's first view is moved to, and its second view.

    For unit vectors this is half their squared distance, so cosine and MSE are one. The contrastive
    form needs the whole global batch: `objective.anticipate`.

    Args:
        predicted: [clips, pairs, d], for `differences.pairs(views)`.
        space: [clips, views, d], what is predicted.

    Returns:
        [clips] f32.
    """
    _, second = differences.pairs(space.shape[1])
    return jnp.mean(1 - _cosine(predicted, space[:, second]), axis=1)


def spread(moved: jax.Array) -> jax.Array:
    """How much predictions depend on the difference they are given: the alarm of collapse.

    A predictor that ignores the difference is at ease in an invariant space. One vector is moved by
    several differences, and the variance of where it lands is taken: 0 if always in one place, near
    1 if all over the sphere.

    Args:
        moved: [vectors, differences, d].

    Returns:
        f32 [].
    """
    unit = moved / jnp.sqrt(jnp.sum(jnp.square(moved), axis=-1, keepdims=True) + 1e-12)
    return 1 - jnp.mean(jnp.sum(jnp.square(jnp.mean(unit, axis=1)), axis=-1))


def _cosine(one: jax.Array, other: jax.Array) -> jax.Array:
    product = jnp.sum(one * other, axis=-1)
    squares = jnp.sum(jnp.square(one), axis=-1) * jnp.sum(jnp.square(other), axis=-1)
    return product * jax.lax.rsqrt(jnp.maximum(squares, 1e-12))
