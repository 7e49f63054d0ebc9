"""Encoders: log-mels [batch, frames, bands] become features [batch, features]."""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx


@dataclasses.dataclass(frozen=True)
class Cnn:
    """Settings of the `cnn` encoder; the default has about 1 M parameters.

    Attributes:
        name: of the encoder.
        channels: output channels of each layer.
        kernels: length in frames of each layer's kernel.
        strides: of each layer, in frames.
        compute_dtype: of activations; parameters, norms and pooling stay f32.
    """

    name: Literal["cnn"] = "cnn"
    channels: tuple[int, ...] = (256, 256, 256, 256, 256)
    kernels: tuple[int, ...] = (5, 3, 3, 3, 3)
    strides: tuple[int, ...] = (2, 1, 2, 1, 2)
    compute_dtype: Literal["float32", "bfloat16"] = "bfloat16"

    def __post_init__(self) -> None:
        if not len(self.channels) == len(self.kernels) == len(self.strides) > 0:
            raise ValueError(
                f"channels={self.channels}, kernels={self.kernels}, strides={self.strides} "
                "must have one entry per layer"
            )

    @property
    def features(self) -> int:
        """Size of the pooled representation: a mean and a deviation per channel."""
        return 2 * self.channels[-1]


class CnnEncoder(nnx.Module):
    """1-D convolutions over time with mel bands as channels, pooled by mean and deviation.

    One-dimensional convolutions are plain large matmuls: fast on two CPU cores and on a TPU alike.
    Layers whose input and output agree in shape are residual.
    """

    def __init__(self, spec: Cnn, bands: int, *, rngs: nnx.Rngs) -> None:
        self.spec = spec
        dtype = jnp.dtype(spec.compute_dtype)
        convolutions, norms, inputs = [], [], bands
        for outputs, kernel, stride in zip(spec.channels, spec.kernels, spec.strides, strict=True):
            convolutions.append(
                nnx.Conv(
                    inputs,
                    outputs,
                    kernel_size=(kernel,),
                    strides=(stride,),
                    kernel_init=nnx.initializers.he_normal(),
                    dtype=dtype,
                    rngs=rngs,
                )
            )
            norms.append(nnx.LayerNorm(outputs, dtype=jnp.float32, rngs=rngs))
            inputs = outputs
        self.convolutions = nnx.List(convolutions)
        self.norms = nnx.List(norms)

    def frames(self, log_mel: jax.Array) -> jax.Array:
        """Per-frame features, [batch, frames, bands] → [batch, frames', channels]."""
        x = log_mel
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            y = nnx.relu(norm(convolution(x)))
            x = x + y if x.shape == y.shape else y
        return x

    def __call__(self, log_mel: jax.Array) -> jax.Array:
        """Features of whole views, [batch, frames, bands] → [batch, features] f32."""
        x = self.frames(log_mel).astype(jnp.float32)
        mean = jnp.mean(x, axis=1)
        # The small constant keeps the gradient finite where a channel is constant.
        deviation = jnp.sqrt(jnp.var(x, axis=1) + 1e-5)
        return jnp.concatenate([mean, deviation], axis=-1)
