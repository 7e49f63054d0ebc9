"""The `resnet` encoder: ResNet-18, 34 and 50 with GroupNorm."""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from loev_jax.encoders.convolution import conv_general_dilated


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
            conv_general_dilated=conv_general_dilated,
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


def _stage(spec: Resnet, stage: int, rngs: nnx.Rngs) -> nnx.List[Residual]:
    """The blocks of one stage; all but the first stage halve time and frequency."""
    inner = WIDTH * 2**stage
    inputs = inner // 2 * spec.expansion if stage else WIDTH
    blocks = []
    for block in range(STAGES[spec.depth][stage]):
        stride = 2 if stage and not block else 1
        blocks.append(Residual(spec, inputs, inner, stride, rngs=rngs))
        inputs = inner * spec.expansion
    return nnx.List(blocks)


class ResnetStem(nnx.Module):
    """The first convolution and all stages but the last."""

    def __init__(self, spec: Resnet, *, rngs: nnx.Rngs) -> None:
        self.spec = spec
        self.convolution = ConvNorm(spec, 1, WIDTH, 7, 2, rngs=rngs)
        stages = range(len(STAGES[spec.depth]) - 1)
        self.stages = nnx.List([_stage(spec, stage, rngs) for stage in stages])

    def __call__(self, log_mel: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        """[batch, frames, bands] → [batch, frames', bands', channels]; nothing is random."""
        del keys
        x = (log_mel - self.spec.input_mean) / self.spec.input_deviation
        x = nnx.relu(self.convolution(x[..., None]))
        x = nnx.max_pool(x, (3, 3), (2, 2), padding=[(1, 1), (1, 1)])
        for stage in self.stages:
            for block in stage:
                x = block(x)
        return x


class ResnetBranch(nnx.Module):
    """The last stage, pooled over time and frequency."""

    def __init__(self, spec: Resnet, *, rngs: nnx.Rngs) -> None:
        self.blocks = _stage(spec, len(STAGES[spec.depth]) - 1, rngs)

    def _maps(self, x: jax.Array) -> jax.Array:
        for block in self.blocks:
            x = block(x)
        return x

    def frames(self, x: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        """What the stem gives → [batch, frames', features] f32; nothing is random."""
        del keys
        return jnp.mean(self._maps(x), axis=2, dtype=jnp.float32)

    def __call__(self, x: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        """What the stem gives → [batch, features] f32."""
        del keys
        return jnp.mean(self._maps(x), axis=(1, 2), dtype=jnp.float32)
