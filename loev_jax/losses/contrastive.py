"""The contrastive loss of one head over the global batch (NT-Xent with several positives).

A large batch is worked through in blocks of rows, each against every column, so that no more than
one block of the similarity matrix exists at a time, forward or backward.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

Form = Literal["log_softmax", "published"]

# What the published code adds to the ratio before it takes the logarithm.
_PUBLISHED_EPSILON = 1e-6


class RowLosses(NamedTuple):
    """Losses of some rows.

    Attributes:
        loss: [n] mean over the positives of each row; 0 where there is none.
        counted: [n] bool, whether the row has a positive.
    """

    loss: jax.Array
    counted: jax.Array


class Pairs(NamedTuple):
    """What some rows are to some columns.

    Attributes:
        positive: [n, N] bool; must be False where `itself` is True.
        itself: [n, N] bool, True where the column is the row.
    """

    positive: jax.Array
    itself: jax.Array


Marks = Any
"""What tells pairs apart: any tree of arrays that have an entry for each row, [n, ...]."""

Pairing = Callable[[Marks, Marks], Pairs]
"""Marks of n rows and of N columns → their `Pairs`; closes over no traced value."""


def row_losses(
    rows: jax.Array,
    columns: jax.Array,
    positive: jax.Array,
    itself: jax.Array,
    temperature: float | jax.Array,
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
    similarity = _products(rows, columns.T) / temperature
    return _contrasted(similarity, Pairs(positive, itself), form)[0]


def row_losses_in_blocks(
    rows: jax.Array,
    columns: jax.Array,
    row_marks: Marks,
    column_marks: Marks,
    pairing: Pairing,
    temperature: float | jax.Array,
    form: Form = "log_softmax",
    block_rows: int = 512,
) -> RowLosses:
    """`row_losses` of any number of rows in the memory of a block of them.

    Forward keeps the logarithm of each row's sum and nothing of size [n, N]; backward computes each
    block anew. Blocks are of whole rows, so that no sum of exponentials is put together from parts,
    and the published form, which is not linear in a positive's similarity, takes one pass.

    Args:
        rows: [n, d] unit vectors.
        columns: [N, d] unit vectors of the whole global batch, the rows' own among them.
        row_marks: of the rows, each leaf [n, ...].
        column_marks: of the columns, each leaf [N, ...].
        pairing: says which pairs are positives, from the marks of some rows and all columns.
        temperature: T > 0; its gradient is exact too where it is traced.
        form: as in `row_losses`.
        block_rows: the most rows worked on at once; as many or fewer are one block, and are then
            what `row_losses` computes.

    Raises:
        ValueError: `block_rows` is less than 1.
    """
    if block_rows < 1:
        raise ValueError(f"block_rows={block_rows} must be 1 or more")
    number = rows.shape[0]
    if number <= block_rows:
        positive, itself = pairing(row_marks, column_marks)
        return row_losses(rows, columns, positive, itself, temperature, form)
    blocks = math.ceil(number / block_rows)
    size = math.ceil(number / blocks)

    def in_blocks(leaf: jax.Array) -> jax.Array:
        # The rows that fill the last block contrast with real columns and are cut off again.
        fill = [(0, blocks * size - number), *[(0, 0)] * (leaf.ndim - 1)]
        return jnp.pad(leaf, fill).reshape(blocks, size, *leaf.shape[1:])

    # Scaled rows carry the temperature, so that its gradient needs no rule of its own.
    split = jax.tree.map(in_blocks, (rows / temperature, row_marks))
    losses = _blocked(pairing, form, *split, columns, column_marks)
    return RowLosses(*(value.reshape(-1)[:number] for value in losses))


def divisor(
    counted: jax.Array, rows: int, reduction: Literal["rows_with_positives", "all_rows"]
) -> jax.Array:
    """What the sum of row losses is divided by, f32 [], at least 1.

    Args:
        counted: how many rows have a positive, [].
        rows: how many there are.
        reduction: "all_rows" (published) lets rows without positives count as 0.
    """
    if reduction == "all_rows":
        return jnp.asarray(rows, jnp.float32)
    return jnp.maximum(counted, 1).astype(jnp.float32)


def _products(left: jax.Array, right: jax.Array) -> jax.Array:
    """A matrix product in full precision on every platform."""
    return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)


def _contrasted(similarity: jax.Array, pairs: Pairs, form: Form) -> tuple[RowLosses, jax.Array]:
    """Losses of rows, and [n] the logarithm of each row's Σ_{j≠i} exp(s_ij)."""
    others = jnp.where(pairs.itself, -jnp.inf, similarity)
    log_sum = jax.nn.logsumexp(others, axis=1)
    log_ratio = similarity - log_sum[:, None]
    if form == "published":
        # log(exp(r) + ε), finite for any r: a row's ratio to itself may overflow.
        log_ratio = jnp.logaddexp(log_ratio, math.log(_PUBLISHED_EPSILON))
    count = jnp.sum(pairs.positive, axis=1)
    total = jnp.sum(jnp.where(pairs.positive, log_ratio, 0.0), axis=1)
    return RowLosses(-total / jnp.maximum(count, 1), count > 0), log_sum


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _blocked(
    pairing: Pairing,
    form: Form,
    rows: jax.Array,
    row_marks: Marks,
    columns: jax.Array,
    column_marks: Marks,
) -> RowLosses:
    """Losses [blocks, size] of rows [blocks, size, d] that are divided by T already."""
    return _blocked_forward(pairing, form, rows, row_marks, columns, column_marks)[0]


def _blocked_forward(
    pairing: Pairing,
    form: Form,
    rows: jax.Array,
    row_marks: Marks,
    columns: jax.Array,
    column_marks: Marks,
) -> tuple[RowLosses, Any]:
    def block(of: tuple[jax.Array, Marks]) -> tuple[RowLosses, jax.Array]:
        some, marks = of
        return _contrasted(_products(some, columns.T), pairing(marks, column_marks), form)

    losses, log_sum = jax.lax.map(block, (rows, row_marks))
    return losses, (rows, row_marks, columns, column_marks, log_sum)


def _blocked_backward(
    pairing: Pairing, form: Form, kept: Any, cotangent: RowLosses
) -> tuple[jax.Array, None, jax.Array, None]:
    rows, row_marks, columns, column_marks, log_sum = kept

    def block(total: jax.Array, of: Any) -> tuple[jax.Array, jax.Array]:
        some, marks, log_sum, weight = of
        gradient = _similarity_gradient(
            _products(some, columns.T), pairing(marks, column_marks), log_sum, weight, form
        )
        return total + _products(gradient.T, some), _products(gradient, columns)

    to_columns, to_rows = jax.lax.scan(
        block, jnp.zeros_like(columns), (rows, row_marks, log_sum, cotangent.loss)
    )
    return to_rows, None, to_columns, None


def _similarity_gradient(
    similarity: jax.Array, pairs: Pairs, log_sum: jax.Array, weight: jax.Array, form: Form
) -> jax.Array:
    """Gradient [n, N] of Σ_i weight_i·loss_i in the similarities.

    With r_ip = s_ip - log_sum_i, P(i) the positives, q_ip = d log(exp(r_ip) + ε) / d r_ip (1 where
    ε is 0) and a_ip = weight_i·q_ip / |P(i)|, it is -a_ij on positives, and everywhere but on the
    row itself (Σ_p a_ip)·exp(r_ij).
    """
    log_ratio = similarity - log_sum[:, None]
    count = jnp.maximum(jnp.sum(pairs.positive, axis=1, keepdims=True), 1)
    pull = jnp.where(pairs.positive, weight[:, None] / count, 0.0)
    if form == "published":
        pull *= jax.nn.sigmoid(log_ratio - math.log(_PUBLISHED_EPSILON))
    push = jnp.where(pairs.itself, 0.0, jnp.exp(jnp.where(pairs.itself, 0.0, log_ratio)))
    return jnp.sum(pull, axis=1, keepdims=True) * push - pull


_blocked.defvjp(_blocked_forward, _blocked_backward)
