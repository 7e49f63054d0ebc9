"""Weight-standardised convolutions over time and frequency, in a form for each platform."""

from __future__ import annotations

import itertools
import math

import jax
import jax.export
import jax.numpy as jnp
from flax import nnx

EPSILON = 1e-4
"""Least sum of squares of a standardised kernel before it is scaled (Brock et al. 2021)."""


@jax.custom_vjp
def standardized(kernel: jax.Array, gain: jax.Array) -> jax.Array:
    """Scaled weight standardisation (Brock et al. 2021, arXiv 2101.08692, section 4).

    Its gradient is written by hand: derived, that of large kernels takes a CPU up to three times as
    long, and the encoder a quarter longer to compile.

    Args:
        kernel: [time, frequency, inputs, outputs] f32.
        gain: [outputs] f32.

    Returns:
        The kernel with mean 0 and variance gain² / fan-in for each output.
    """
    return _standardized(kernel, gain)[0]


_EACH_OUTPUT = (0, 1, 2)

_Factors = tuple[jax.Array, jax.Array]
_Kept = tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]


def _standardized(kernel: jax.Array, gain: jax.Array) -> tuple[jax.Array, _Kept]:
    mean = jnp.mean(kernel, _EACH_OUTPUT, keepdims=True)
    energy = jnp.sum(jnp.square(kernel - mean), _EACH_OUTPUT, keepdims=True)
    inverse = jax.lax.rsqrt(jnp.maximum(energy, EPSILON))
    scaled = (kernel - mean) * (inverse * gain[None, None, None, :])
    return scaled, (kernel, gain, mean, inverse, energy > EPSILON)


def _standardized_gradient(kept: _Kept, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    kernel, gain, mean, inverse, moves = kept
    along = jnp.sum(gradient * (kernel - mean), _EACH_OUTPUT, keepdims=True) * inverse
    level = jnp.mean(gradient, _EACH_OUTPUT, keepdims=True)
    # What would change mean or length of a kernel is lost; below EPSILON length is not divided out.
    length = jnp.where(moves, along * inverse, 0.0)
    turned = gradient - level - (kernel - mean) * length
    return turned * (inverse * gain[None, None, None, :]), along.reshape(gain.shape)


standardized.defvjp(_standardized, _standardized_gradient)


def convolved(
    x: jax.Array, kernel: jax.Array, strides: tuple[int, int] = (1, 1), groups: int = 1
) -> jax.Array:
    """Convolves over time and frequency with zeros around ("SAME").

    A convolution of one point is a product. Others are products with patches on a CPU, where the
    gradient of a grouped convolution takes 15 times as long, and convolutions on an accelerator.
    There are no forward-mode derivatives.

    Args:
        x: [batch, frames, bands, inputs].
        kernel: [time, frequency, inputs / groups, outputs].
        strides: in frames and bands.
        groups: of channels that are convolved apart.

    Returns:
        [batch, frames / stride, bands / stride, outputs], sizes rounded up.
    """

    def elsewhere(x: jax.Array, kernel: jax.Array) -> jax.Array:
        if kernel.shape[:2] == (1, 1) and strides == (1, 1) and groups == 1:
            return jnp.einsum("btfi,io->btfo", x, kernel[0, 0])
        return by_convolution(x, kernel, strides, groups)

    return jax.lax.platform_dependent(
        x,
        kernel,
        cpu=lambda x, kernel: by_products(x, kernel, strides, groups),
        default=elsewhere,
    )


def by_convolution(
    x: jax.Array, kernel: jax.Array, strides: tuple[int, int], groups: int
) -> jax.Array:
    """`convolved` as XLA's own grouped convolution."""
    padding = "SAME"
    if any(map(jax.export.is_symbolic_dim, x.shape)):
        # In an export the number of outputs must be the same sum as by products.
        x, padding = _padded(x, 1, kernel.shape[:2], strides), "VALID"
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def by_products(
    x: jax.Array, kernel: jax.Array, strides: tuple[int, int], groups: int
) -> jax.Array:
    """`convolved` as a product of patches and kernel, batched over groups.

    Groups come first before patches are made: XLA would turn the patches, which are many times
    larger.
    """
    inputs, outputs = kernel.shape[2], kernel.shape[3] // groups
    apart = jnp.moveaxis(x.reshape(*x.shape[:3], groups, inputs), 3, 0)
    taps = _taps(apart, kernel.shape[:2], strides)
    patches = jnp.concatenate(taps, axis=-1)
    weights = jnp.moveaxis(kernel.reshape(len(taps) * inputs, groups, outputs), 1, 0)
    y = _product(patches.reshape(groups, -1, len(taps) * inputs), weights)
    return jnp.moveaxis(y.reshape(*patches.shape[:4], outputs), 0, 3).reshape(
        *patches.shape[1:4], groups * outputs
    )


@jax.custom_vjp
def _product(rows: jax.Array, weights: jax.Array) -> jax.Array:
    """[groups, rows, inputs] times [groups, inputs, outputs].

    Its gradient is written by hand: left to itself, XLA computes what is multiplied by the rows
    while it turns it over, number by number; that took a quarter of the
    encoder's two passes.
    """
    return jnp.einsum("gri,gio->gro", rows, weights)


def _product_forward(rows: jax.Array, weights: jax.Array) -> tuple[jax.Array, _Factors]:
    return _product(rows, weights), (rows, weights)


def _product_gradient(kept: _Factors, gradient: jax.Array) -> _Factors:
    rows, weights = kept
    gradient = jax.lax.optimization_barrier(gradient)
    return (
        jnp.einsum("gro,gio->gri", gradient, weights),
        jnp.einsum("gri,gro->gio", rows, gradient),
    )


_product.defvjp(_product_forward, _product_gradient)


def _taps(x: jax.Array, sizes: tuple[int, ...], strides: tuple[int, int]) -> list[jax.Array]:
    """What each point of a kernel of `sizes` sees of x [groups, batch, frames, bands, inputs]."""
    padded = _padded(x, 2, sizes, strides)
    spans = [length - size + 1 for length, size in zip(padded.shape[2:4], sizes, strict=True)]
    return [
        padded[:, :, t : t + spans[0] : strides[0], f : f + spans[1] : strides[1]]
        for t, f in itertools.product(*map(range, sizes))
    ]


def _padded(x: jax.Array, axis: int, sizes: tuple[int, ...], strides: tuple[int, int]) -> jax.Array:
    """Puts the zeros around two axes of x, from `axis` on, that "SAME" means.

    What no kernel reaches is cut off: no sum needs to know whether anything is, which an export,
    where the length is a symbol, cannot tell.
    """
    around = [(0, 0, 0)] * x.ndim
    for at, (size, stride) in enumerate(zip(sizes, strides, strict=True), start=axis):
        total = (x.shape[at] - 1) // stride * stride + size - x.shape[at]
        before = jax.core.max_dim(total, 0) // 2
        around[at] = before, total - before, 0
    return jax.lax.pad(x, jnp.zeros((), x.dtype), around)


class StandardizedConv(nnx.Module):
    """A convolution whose kernel is standardised in f32 at every use, with a gain and a bias."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        sizes: tuple[int, int] = (1, 1),
        strides: tuple[int, int] = (1, 1),
        groups: int = 1,
        *,
        dtype: str,
        rngs: nnx.Rngs,
    ) -> None:
        """Draws the kernel; `sizes` and `strides` are in frames and bands."""
        self.strides = strides
        self.groups = groups
        self.dtype = dtype
        shape = (*sizes, inputs // groups, outputs)
        deviation = 1 / math.sqrt(math.prod(shape[:-1]))
        self.kernel = nnx.Param(deviation * jax.random.normal(rngs.params(), shape))
        self.gain = nnx.Param(jnp.ones(outputs))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, frames, bands, inputs] → [batch, frames / stride, bands / stride, outputs]."""
        kernel = standardized(self.kernel[...], self.gain[...])
        dtype = jnp.dtype(self.dtype)
        y = convolved(x.astype(dtype), kernel.astype(dtype), self.strides, self.groups)
        return y + self.bias[...].astype(dtype).reshape(1, 1, 1, -1)
