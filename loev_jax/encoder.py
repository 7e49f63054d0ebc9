"""Encoders: log-mels [batch, frames, bands] become features [batch, features]."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

GROUPS = 8
"""Of channels that are normalised together in the `cnn`; in the `resnet`, its own setting."""


@dataclasses.dataclass(frozen=True)
class Cnn:
    """Settings of the `cnn` encoder; the default has about 1 M parameters.

    Attributes:
        name: of the encoder.
        channels: output channels of each layer.
        kernels: length in frames of each layer's kernel.
        strides: of each layer, in frames.
        dilations: of each layer's kernel, in frames.
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
        """Size of the pooled representation: mean, deviation, and modulation where pooled."""
        return 2 * self.channels[-1] + self.rhythm_channels * self.rhythm_bands


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


class CnnEncoder(nnx.Module):
    """1-D convolutions over time with mel bands as channels, pooled over time.

    One-dimensional convolutions are plain large matmuls: fast on two CPU cores and on a TPU alike.
    Layers with as many input as output channels are residual. The mean and the deviation of each
    channel forget when things happen; the modulation of some projected channels keeps the rhythm.
    """

    def __init__(self, spec: Cnn, bands: int, frame_rate: float, *, rngs: nnx.Rngs) -> None:
        """Makes an encoder of log-mels with `bands` bands and `frame_rate` frames a second."""
        self.spec = spec
        rate = frame_rate / spec.stride
        if spec.rhythm_channels and spec.rhythm_range[1] >= rate / 2:
            raise ValueError(
                f"rhythm_range={spec.rhythm_range} reaches half the rate of frames, {rate / 2} Hz"
            )
        cycles = np.geomspace(*spec.rhythm_range, spec.rhythm_bands) / rate
        self.cycles = tuple(float(one) for one in cycles)
        dtype = jnp.dtype(spec.compute_dtype)
        convolutions, norms, inputs = [], [], bands
        layers = zip(spec.channels, spec.kernels, spec.strides, spec.dilations, strict=True)
        for outputs, kernel, stride, dilation in layers:
            convolutions.append(
                nnx.Conv(
                    inputs,
                    outputs,
                    kernel_size=(kernel,),
                    strides=(stride,),
                    kernel_dilation=(dilation,),
                    kernel_init=nnx.initializers.he_normal(),
                    dtype=dtype,
                    rngs=rngs,
                )
            )
            norms.append(nnx.GroupNorm(outputs, num_groups=GROUPS, dtype=jnp.float32, rngs=rngs))
            inputs = outputs
        self.convolutions = nnx.List(convolutions)
        self.norms = nnx.List(norms)
        if spec.rhythm_channels:
            self.rhythm = nnx.Linear(inputs, spec.rhythm_channels, use_bias=False, rngs=rngs)

    def frames(self, log_mel: jax.Array) -> jax.Array:
        """Per-frame features, [batch, frames, bands] → [batch, frames', channels]."""
        x = (log_mel - self.spec.input_mean) / self.spec.input_deviation
        layers = zip(self.convolutions, self.norms, self.spec.strides, strict=True)
        for convolution, norm, stride in layers:
            y = nnx.relu(norm(convolution(x)))
            if x.shape[-1] == y.shape[-1]:
                skip = nnx.avg_pool(x, (stride,), (stride,), padding="SAME") if stride > 1 else x
                y = y + skip
            x = y
        return x

    def __call__(self, log_mel: jax.Array) -> jax.Array:
        """Features of whole views, [batch, frames, bands] → [batch, features] f32."""
        x = self.frames(log_mel).astype(jnp.float32)
        mean = jnp.mean(x, axis=1)
        # The small constant keeps the gradient finite where a channel is constant.
        deviation = jnp.sqrt(jnp.var(x, axis=1) + 1e-5)
        pooled = [mean, deviation]
        if self.spec.rhythm_channels:
            rhythm = modulation(self.rhythm(x), np.asarray(self.cycles))
            pooled.append(rhythm.reshape(x.shape[0], rhythm.shape[1] * rhythm.shape[2]))
        return jnp.concatenate(pooled, axis=-1)


@dataclasses.dataclass(frozen=True)
class Resnet:
    """Settings of the `resnet` encoder: ResNet (He et al. 2016, arXiv 1512.03385) on a log-mel.

    Convolutions over time and frequency with one input channel; GroupNorm (Wu & He 2018, arXiv
    1803.08494) in place of batch statistics, so that a view does not depend on the batch and no
    step communicates for it; the mean over time and frequency as the representation.

    Attributes:
        name: of the encoder.
        depth: 18 and 34 are made of pairs of 3 x 3 convolutions, 50 of bottlenecks with the stride
            in the 3 x 3 convolution ("v1.5").
        groups: of channels that are normalised together.
        input_mean: subtracted from the log-mel.
        input_deviation: divides it then.
        compute_dtype: of activations; parameters, statistics of norms and pooling stay f32.
    """

    name: Literal["resnet"] = "resnet"
    depth: Literal[18, 34, 50] = 50
    groups: int = 32
    input_mean: float = 2.5
    input_deviation: float = 1.5
    compute_dtype: Literal["float32", "bfloat16"] = "bfloat16"

    def __post_init__(self) -> None:
        if self.depth not in STAGES:
            raise ValueError(f"depth={self.depth} must be one of {', '.join(map(str, STAGES))}")
        if self.groups < 1 or WIDTH % self.groups:
            raise ValueError(f"groups={self.groups} must divide {WIDTH}")
        if not self.input_deviation > 0:
            raise ValueError(f"input_deviation={self.input_deviation} must be positive")

    @property
    def expansion(self) -> int:
        """Output channels of a block for each of its inner channels."""
        return 4 if self.depth >= 50 else 1

    @property
    def stride(self) -> int:
        """Frames of the log-mel for each frame of features."""
        return 4 * 2 ** (len(STAGES[self.depth]) - 1)

    @property
    def features(self) -> int:
        """Size of the pooled representation."""
        return WIDTH * 2 ** (len(STAGES[self.depth]) - 1) * self.expansion


WIDTH = 64
"""Channels of a ResNet's stem and inner channels of its first stage; every stage doubles them."""

STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
"""Blocks of each stage by depth (He et al. 2016, table 1)."""


class ConvNorm(nnx.Module):
    """A 2-D convolution without bias and its GroupNorm: [batch, frames, bands, channels]."""

    def __init__(
        self, spec: Resnet, inputs: int, outputs: int, kernel: int, stride: int, *, rngs: nnx.Rngs
    ) -> None:
        dtype = jnp.dtype(spec.compute_dtype)
        self.convolution = nnx.Conv(
            inputs,
            outputs,
            kernel_size=(kernel, kernel),
            strides=(stride, stride),
            padding=[(kernel // 2, kernel // 2)] * 2,
            use_bias=False,
            kernel_init=nnx.initializers.he_normal(),
            dtype=dtype,
            rngs=rngs,
        )
        self.norm = nnx.GroupNorm(outputs, num_groups=spec.groups, dtype=jnp.float32, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, frames, bands, inputs] → [batch, frames / stride, bands / stride, outputs]."""
        y = self.convolution(x)
        return self.norm(y).astype(y.dtype)


class Residual(nnx.Module):
    """A block: two 3 x 3 convolutions, or 1 x 1, 3 x 3, 1 x 1, beside a skip connection."""

    def __init__(
        self, spec: Resnet, inputs: int, inner: int, stride: int, *, rngs: nnx.Rngs
    ) -> None:
        outputs = inner * spec.expansion
        if spec.expansion > 1:
            layers = [(inputs, inner, 1, 1), (inner, inner, 3, stride), (inner, outputs, 1, 1)]
        else:
            layers = [(inputs, inner, 3, stride), (inner, outputs, 3, 1)]
        self.layers = nnx.List([ConvNorm(spec, *layer, rngs=rngs) for layer in layers])
        reshaped = stride > 1 or inputs != outputs
        self.skip = ConvNorm(spec, inputs, outputs, 1, stride, rngs=rngs) if reshaped else None

    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, frames, bands, inputs] → [batch, frames / stride, bands / stride, outputs]."""
        y = x
        for layer in self.layers[:-1]:
            y = nnx.relu(layer(y))
        return nnx.relu(self.layers[-1](y) + (x if self.skip is None else self.skip(x)))


class ResnetEncoder(nnx.Module):
    """ResNet over log-mels, pooled over time and frequency."""

    def __init__(self, spec: Resnet, bands: int, frame_rate: float, *, rngs: nnx.Rngs) -> None:
        """Makes an encoder of log-mels; any number of bands and any frame rate will do."""
        del bands, frame_rate
        self.spec = spec
        self.stem = ConvNorm(spec, 1, WIDTH, 7, 2, rngs=rngs)
        blocks, inputs = [], WIDTH
        for stage, number in enumerate(STAGES[spec.depth]):
            inner = WIDTH * 2**stage
            for block in range(number):
                stride = 2 if stage and not block else 1
                blocks.append(Residual(spec, inputs, inner, stride, rngs=rngs))
                inputs = inner * spec.expansion
        self.blocks = nnx.List(blocks)

    def frames(self, log_mel: jax.Array) -> jax.Array:
        """Per-frame features, [batch, frames, bands] → [batch, frames', bands', channels]."""
        x = (log_mel - self.spec.input_mean) / self.spec.input_deviation
        x = nnx.relu(self.stem(x[..., None]))
        x = nnx.max_pool(x, (3, 3), (2, 2), padding=[(1, 1), (1, 1)])
        for block in self.blocks:
            x = block(x)
        return x

    def __call__(self, log_mel: jax.Array) -> jax.Array:
        """Features of whole views, [batch, frames, bands] → [batch, features] f32."""
        return jnp.mean(self.frames(log_mel), axis=(1, 2), dtype=jnp.float32)


def create(
    spec: Cnn | Resnet, bands: int, frame_rate: float, *, rngs: nnx.Rngs
) -> CnnEncoder | ResnetEncoder:
    """The encoder that the settings describe, of log-mels with `bands` bands.

    Args:
        spec: settings of any encoder.
        bands: of the log-mels.
        frame_rate: of the log-mels, frames a second.
        rngs: what its parameters are drawn from.
    """
    if isinstance(spec, Resnet):
        return ResnetEncoder(spec, bands, frame_rate, rngs=rngs)
    return CnnEncoder(spec, bands, frame_rate, rngs=rngs)
