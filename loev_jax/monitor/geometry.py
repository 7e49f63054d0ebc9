"""How vectors lie: whether positives are near, all the rest spread, and no dimension idle.

Alignment and uniformity are those of Wang & Isola 2020 (arXiv 2005.10242, section 4), the effective
rank that of RankMe (Garrido et al. 2023, arXiv 2210.02885, section 3).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from loev_jax.model import normalise


def alignment(vectors: jax.Array, positives: jax.Array) -> jax.Array:
    """Mean squared distance of positives: 0 where the views of a clip are one, 2 at random.

    Args:
        vectors: [rows, d], of unit length.
        positives: [rows, rows] bool.

    Returns:
        f32 [] in 0..4; 0 where there are no positives.
    """
    number = jnp.sum(positives, dtype=jnp.float32)
    return jnp.sum(_distances(vectors) * positives) / jnp.maximum(number, 1.0)


def uniformity(vectors: jax.Array) -> jax.Array:
    """Logarithm of the mean of exp(-2·distance²) over all pairs: 0 is collapse, -4 a full sphere.

    Args:
        vectors: [rows, d], of unit length; two rows or more.
    """
    rows = vectors.shape[0]
    kernel = jnp.exp(-2.0 * _distances(vectors)) * (1.0 - jnp.eye(rows))
    return jnp.log(jnp.sum(kernel) / (rows * (rows - 1)))


def effective_rank(vectors: jax.Array) -> jax.Array:
    """Exponential of the entropy of the singular values: how many dimensions are in use.

    Args:
        vectors: [rows, d], as they are: RankMe does not centre them.

    Returns:
        f32 [] in 1..min(rows, d); 1 where all are multiples of one.
    """
    values = jnp.linalg.svd(vectors, compute_uv=False)
    shares = values / jnp.maximum(jnp.sum(values), jnp.finfo(jnp.float32).tiny)
    return jnp.exp(-jnp.sum(jax.scipy.special.xlogy(shares, shares)))


def similarities(vectors: jax.Array) -> jax.Array:
    """Cosines of all pairs of [rows, d] vectors of any length, f32 [rows, rows]."""
    unit = normalise(vectors)
    return jnp.matmul(unit, unit.T, precision=jax.lax.Precision.HIGHEST)


def _distances(vectors: jax.Array) -> jax.Array:
    """Squared distances of all pairs of unit vectors, [rows, rows]."""
    return jnp.maximum(2.0 - 2.0 * similarities(vectors), 0.0)
