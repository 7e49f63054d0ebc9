"""The translation equivariance loss: a linear readout that moves as the parameter does."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax


def translation(readout: jax.Array, parameter: jax.Array) -> jax.Array:
    """Mean Huber loss of u(j) - u(i) against θ(j) - θ(i) over all pairs of views of a clip.

    It gives a direction of tempo and a direction of pitch that mean the same for every clip,
    without labels (method, section 5; SST and PESTO learn tempo and pitch so).

    Args:
        readout: u, [clips, views].
        parameter: θ scaled to unit range, [clips, views].

    Returns:
        [clips] f32.
    """
    first, second = jnp.triu_indices(readout.shape[1], k=1)
    moved = readout[:, second] - readout[:, first]
    truth = parameter[:, second] - parameter[:, first]
    return jnp.mean(optax.losses.huber_loss(moved, truth), axis=1)
