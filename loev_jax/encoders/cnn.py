"""The `cnn` encoder: 1-D convolutions over time, pooled at every level, and their modulation."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from loev_jax.encoders.convolution import conv_general_dilated

GROUPS = 8
"""Of channels that are normalised together."""


@dataclasses.dataclass(frozen=True)
class Cnn:
    """Settings of the `cnn` encoder; the default has about 1 M parameters.

    Attributes:
        name: of the encoder.
        channels: output channels of each layer.
        kernels: length in frames of each layer's kernel.
        strides: of each layer, in frames.
        dilations: of each layer's kernel, in frames.
        branch_layers: how many of the last layers LOEV++ has once per head.
        pool_shared: whether the mean and deviation of the layers before those are pooled too; the
            heads' contrasts wear timbre down from layer to layer.
        input_mean: subtracted from the log-mel.
        input_deviation: divides it then.
        rhythm_channels: channels whose modulation in time is pooled; 0 pools none.
        rhythm_bands: modulation frequencies, even in octaves.
        rhythm_range: the least and the greatest of them, in Hz.
        compute_dtype: of activations; parameters, norms and pooling stay f32.
    """

    name: Literal["cnn"] = "cnn"
    channels: tuple[int, ...] = (256, 256, 256, 256, 256)
    kernels: tuple[int, ...] = (5, 3, 3, 3, 3)
    strides: tuple[int, ...] = (2, 1, 1, 1, 1)
    dilations: tuple[int, ...] = (1, 1, 2, 1, 2)
    branch_layers: int = 2
    pool_shared: bool = True
    input_mean: float = 2.5
    input_deviation: float = 1.5
    rhythm_channels: int = 32
    rhythm_bands: int = 24
    rhythm_range: tuple[float, float] = (0.5, 8.0)
    compute_dtype: Literal["float32", "bfloat16"] = "bfloat16"

    def __post_init__(self) -> None:
        layers = (self.channels, self.kernels, self.strides, self.dilations)
        if not len({len(one) for one in layers}) == 1 or not self.channels:
            raise ValueError(
                f"channels={self.channels}, kernels={self.kernels}, strides={self.strides}, "
                f"dilations={self.dilations} must have one entry per layer"
            )
        if not 0 <= self.branch_layers <= len(self.channels):
            raise ValueError(
                f"branch_layers={self.branch_layers} must be 0 to {len(self.channels)}, the layers"
            )
        if any(one < 1 for layer in layers for one in layer):
            raise ValueError("channels, kernels, strides and dilations must be 1 or more")
        if any(channels % GROUPS for channels in self.channels):
            raise ValueError(f"channels={self.channels} must be multiples of {GROUPS}")
        if not self.input_deviation > 0:
            raise ValueError(f"input_deviation={self.input_deviation} must be positive")
        if not 0 < self.rhythm_range[0] < self.rhythm_range[1]:
            raise ValueError(f"rhythm_range={self.rhythm_range} must be positive and ascend")

    @property
    def stride(self) -> int:
        """Frames of the log-mel for each frame of features."""
        return math.prod(self.strides)

    @property
    def features(self) -> int:
        """Size of the pooled representation: means, deviations, and modulation where pooled."""
        shared = self.channels[: len(self.channels) - self.branch_layers]
        pooled = (*(shared if self.pool_shared else ()), self.channels[-1])
        return 2 * sum(pooled) + self.rhythm_channels * self.rhythm_bands


def modulation(frames: jax.Array, frequencies: np.ndarray) -> jax.Array:
    """Amplitude of each channel's modulation at some frequencies.

    A Hann-tapered Fourier transform over time, at frequencies even in octaves: a faster tempo moves
    the pattern along the frequencies and keeps its shape.

    Args:
        frames: [batch, frames, channels] f32.
        frequencies: [bands] in cycles a frame, below one half.

    Returns:
        [batch, bands, channels] f32; a sinusoid of amplitude 1 gives 1 at its frequency.
    """
    length = frames.shape[1]
    time = jnp.arange(length, dtype=jnp.float32) + 0.5
    taper = 1.0 - jnp.cos(2 * jnp.pi * time / length)
    angle = 2 * jnp.pi * jnp.asarray(frequencies, jnp.float32)[:, None] * time[None, :]
    waves = jnp.stack([jnp.cos(angle), jnp.sin(angle)]) * (2 * taper / length)[None, None, :]
    centred = frames - jnp.mean(frames, axis=1, keepdims=True)
    parts = jnp.einsum("pkt,btc->pbkc", waves, centred, precision=jax.lax.Precision.HIGHEST)
    # The small constant keeps the gradient finite where nothing is modulated.
    return jnp.sqrt(jnp.sum(jnp.square(parts), axis=0) + 1e-6)


def moments(frames: jax.Array) -> jax.Array:
    """Mean and deviation of each channel over time: [batch, frames, n] → [batch, 2 n] f32."""
    x = frames.astype(jnp.float32)
    # The small constant keeps the gradient finite where a channel is constant.
    return jnp.concatenate([jnp.mean(x, axis=1), jnp.sqrt(jnp.var(x, axis=1) + 1e-5)], axis=-1)


class Shared(NamedTuple):
    """What the branches are given.

    Attributes:
        frames: of the last shared layer, [batch, frames', channels].
        moments: of each of them that is pooled, [batch, 2 channels] f32, the first layer first.
    """

    frames: jax.Array
    moments: tuple[jax.Array, ...]


class ConvNorm(nnx.Module):
    """A 1-D convolution, its GroupNorm and a ReLU; residual where the channels allow it."""

    def __init__(self, spec: Cnn, layer: int, inputs: int, *, rngs: nnx.Rngs) -> None:
        self.stride = spec.strides[layer]
        outputs = spec.channels[layer]
        self.convolution = nnx.Conv(
            inputs,
            outputs,
            kernel_size=(spec.kernels[layer],),
            strides=(self.stride,),
            kernel_dilation=(spec.dilations[layer],),
            kernel_init=nnx.initializers.he_normal(),
            dtype=jnp.dtype(spec.compute_dtype),
            conv_general_dilated=conv_general_dilated,
            rngs=rngs,
        )
        self.norm = nnx.GroupNorm(outputs, num_groups=GROUPS, dtype=jnp.float32, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, frames, inputs] → [batch, frames / stride, outputs]."""
        y = nnx.relu(self.norm(self.convolution(x)))
        if x.shape[-1] != y.shape[-1]:
            return y
        if self.stride > 1:
            x = nnx.avg_pool(x, (self.stride,), (self.stride,), padding="SAME")
        return y + x


def _layers(spec: Cnn, which: range, bands: int, rngs: nnx.Rngs) -> nnx.List[ConvNorm]:
    inputs = (bands, *spec.channels)
    return nnx.List([ConvNorm(spec, layer, inputs[layer], rngs=rngs) for layer in which])


class CnnStem(nnx.Module):
    """The layers that all latent spaces share.

    One-dimensional convolutions with mel bands as channels are plain large matmuls: fast on two CPU
    cores and on a TPU alike.
    """

    def __init__(self, spec: Cnn, bands: int, *, rngs: nnx.Rngs) -> None:
        self.spec = spec
        self.layers = _layers(spec, range(len(spec.channels) - spec.branch_layers), bands, rngs)

    def __call__(self, log_mel: jax.Array, keys: jax.Array | None = None) -> Shared:
        """[batch, frames, bands] → what the branches are given; nothing is random."""
        del keys
        x = (log_mel - self.spec.input_mean) / self.spec.input_deviation
        pooled: list[jax.Array] = []
        for layer in self.layers:
            x = layer(x)
            if self.spec.pool_shared:
                pooled.append(moments(x))
        return Shared(x, tuple(pooled))


class CnnBranch(nnx.Module):
    """The last layers, and what is pooled of all.

    The mean and the deviation of each channel forget when things happen; the modulation of some
    projected channels keeps the rhythm. Those of shared layers lie beside those of the last (Lee
    and Nam 2017, arXiv 1703.01793): what no head asks for is still there.
    """

    def __init__(self, spec: Cnn, bands: int, frame_rate: float, *, rngs: nnx.Rngs) -> None:
        self.spec = spec
        rate = frame_rate / spec.stride
        if spec.rhythm_channels and spec.rhythm_range[1] >= rate / 2:
            raise ValueError(
                f"rhythm_range={spec.rhythm_range} reaches half the rate of frames, {rate / 2} Hz"
            )
        cycles = np.geomspace(*spec.rhythm_range, spec.rhythm_bands) / rate
        self.cycles = tuple(float(one) for one in cycles)
        depth = len(spec.channels)
        self.layers = _layers(spec, range(depth - spec.branch_layers, depth), bands, rngs)
        if spec.rhythm_channels:
            channels = spec.channels[-1]
            self.rhythm = nnx.Linear(channels, spec.rhythm_channels, use_bias=False, rngs=rngs)

    def frames(self, shared: Shared, keys: jax.Array | None = None) -> jax.Array:
        """What the stem gives → [batch, frames', channels]; nothing is random."""
        del keys
        x = shared.frames
        for layer in self.layers:
            x = layer(x)
        return x

    def __call__(self, shared: Shared, keys: jax.Array | None = None) -> jax.Array:
        """What the stem gives → [batch, features] f32."""
        x = self.frames(shared, keys).astype(jnp.float32)
        pooled = [*shared.moments, moments(x)]
        if self.spec.rhythm_channels:
            rhythm = modulation(self.rhythm(x), np.asarray(self.cycles))
            pooled.append(rhythm.reshape(x.shape[0], rhythm.shape[1] * rhythm.shape[2]))
        return jnp.concatenate(pooled, axis=-1)
