"""The contrastive loss of one head over the global batch (NT-Xent with several positives)."""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

Form = Literal["log_softmax", "published"]


class RowLosses(NamedTuple):
    """Losses of some rows.

    Attributes:
        loss: [n] mean over the positives of each row; 0 where there is none.
        counted: [n] bool, whether the row has a positive.
    """

    loss: jax.Array
    counted: jax.Array


def row_losses(
    rows: jax.Array,
    columns: jax.Array,
    positive: jax.Array,
    itself: jax.Array,
    temperature: float,
    form: Form = "log_softmax",
) -> RowLosses:
    """Contrasts rows against every column (NT-Xent, Chen et al. 2020; method, section 4).

    With s_ij = z_i·z_j / T, the loss of row i is the mean over its positives p of
    -log(exp(s_ip) / Σ_{j≠i} exp(s_ij)): one matmul and a log-softmax.

    Args:
        rows: [n, d] unit vectors.
        columns: [N, d] unit vectors of the whole global batch, the rows' own among them.
        positive: [n, N] bool; must be False where `itself` is True.
        itself: [n, N] bool, True where the column is the row.
        temperature: T > 0.
        form: "published" adds 1e-6 to the ratio before the logarithm, as the published code does.

    Returns:
        The loss of each row; gradients are exact in both arguments.
    """
    similarity = jnp.matmul(rows, columns.T, precision=jax.lax.Precision.HIGHEST) / temperature
    others = jnp.where(itself, -jnp.inf, similarity)
    log_ratio = similarity - jax.nn.logsumexp(others, axis=1, keepdims=True)
    if form == "published":
        log_ratio = jnp.log(jnp.exp(log_ratio) + 1e-6)
    count = jnp.sum(positive, axis=1)
    total = jnp.sum(jnp.where(positive, log_ratio, 0.0), axis=1)
    return RowLosses(-total / jnp.maximum(count, 1), count > 0)


def divisor(counted: jax.Array, reduction: Literal["rows_with_positives", "all_rows"]) -> jax.Array:
    """What the sum of row losses is divided by, from [N] flags of all rows; at least 1.

    "all_rows" (published) lets rows without positives count as 0.
    """
    if reduction == "all_rows":
        return jnp.asarray(counted.size, jnp.float32)
    return jnp.maximum(jnp.sum(counted), 1).astype(jnp.float32)
