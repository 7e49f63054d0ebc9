"""Augmentation of log-mels: mixup, and masks over time and frequency.

Log-mels are [batch, frames, bands] f32 of `loev_jax.frontend`, log10(1 + scale·power), in which
silence is 0. Every function is jit- and vmap-safe; a parameter of 0 gives the input back. Values
that are out of range or not finite raise outside jit; inside they make their own example NaN.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from loev_jax.augment.resample import within


def mixup(mels: jax.Array, other: jax.Array, weight: jax.Array) -> jax.Array:
    """(1 - weight)·mels + weight·other, of log-mels as they are (mixup, arXiv 1710.09412).

    Args:
        mels: [batch, frames, bands] f32.
        other: [batch, frames, bands] f32, for each example what is mixed in.
        weight: [batch] of the other, in 0..1; 0 is `mels`, 1 is `other`.

    Returns:
        [batch, frames, bands] f32.

    Raises:
        ValueError: a shape is wrong or, outside jit, a value is not finite or out of range.
    """
    _check(mels, weight=weight)
    if jnp.shape(other) != jnp.shape(mels):
        raise ValueError(
            f"other must have the shape of mels, {jnp.shape(mels)}; its shape is {jnp.shape(other)}"
        )
    within(jnp.isfinite(other), "other holds values that are not finite (NaN or infinity)")
    valid = within((weight >= 0) & (weight <= 1), "weight must lie in 0..1 for each example")
    share = weight[:, None, None]
    return jnp.where(valid[:, None, None], (1.0 - share) * mels + share * other, jnp.nan)


def time_mask(mels: jax.Array, start: jax.Array, width: jax.Array) -> jax.Array:
    """Silences a run of frames (SpecAugment, arXiv 1904.08779).

    The mask has width·frames frames, rounded, and begins at start·(frames - that many), rounded:
    every mask lies wholly within the view. Gradients by `start` and `width` are 0.

    Args:
        mels: [batch, frames, bands] f32.
        start: [batch] place of the mask in the room it has, in 0..1: 0 the first, 1 the last.
        width: [batch] as a fraction of the frames, in 0..1; 0 is no mask.

    Returns:
        [batch, frames, bands] f32.

    Raises:
        ValueError: a shape is wrong or, outside jit, a value is not finite or out of range.
    """
    return _mask(mels, start, width, axis=1)


def frequency_mask(mels: jax.Array, start: jax.Array, width: jax.Array) -> jax.Array:
    """Silences a run of mel bands; `start` and `width` [batch] are as in `time_mask`."""
    return _mask(mels, start, width, axis=2)


def _mask(mels: jax.Array, start: jax.Array, width: jax.Array, axis: int) -> jax.Array:
    """`time_mask` along any axis."""
    _check(mels, start=start, width=width)
    valid = jnp.ones_like(start, bool)
    for name, value in (("start", start), ("width", width)):
        valid &= within((value >= 0) & (value <= 1), f"{name} must lie in 0..1 for each example")
    length = mels.shape[axis]
    count = jnp.round(width * length)
    first = jnp.round(start * (length - count))
    at = jax.lax.broadcasted_iota(jnp.float32, mels.shape, axis)
    first, count = first[:, None, None], count[:, None, None]
    masked = jnp.where((at >= first) & (at < first + count), 0.0, mels)
    return jnp.where(valid[:, None, None], masked, jnp.nan)


def _check(mels: jax.Array, **parameters: jax.Array) -> None:
    """Raises ValueError on wrong shapes and, outside jit, on values that are not finite."""
    if jnp.ndim(mels) != 3:
        raise ValueError(f"mels must be [batch, frames, bands]; their shape is {jnp.shape(mels)}")
    for name, value in parameters.items():
        if jnp.shape(value) != (mels.shape[0],):
            raise ValueError(
                f"{name} must be [batch] = ({mels.shape[0]},); its shape is {jnp.shape(value)}"
            )
    for name, value in {"mels": mels, **parameters}.items():
        within(jnp.isfinite(value), f"{name} holds values that are not finite (NaN or infinity)")
