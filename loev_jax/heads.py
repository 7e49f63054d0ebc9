"""Projection heads, and what the equivariance losses read them with."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

INVARIANT = "invariant"


@dataclasses.dataclass(frozen=True)
class Projection:
    """Settings of every projection head, an MLP.

    The published heads have no norm before them and no bias, and end in a ReLU, so that their
    cosines are never negative; here a norm, biases and a plain linear output are the default.

    Attributes:
        hidden: size of each hidden layer; with none, the head is linear.
        outputs: size of the projection.
        norm: whether features pass a LayerNorm first.
        bias: whether the layers, and the norm, have one.
        final_activation: after the last layer.
    """

    hidden: tuple[int, ...] = (512,)
    outputs: int = 128
    norm: bool = True
    bias: bool = True
    final_activation: Literal["none", "relu"] = "none"

    def __post_init__(self) -> None:
        if min(*self.hidden, self.outputs, 1) < 1:
            raise ValueError(f"hidden={self.hidden}, outputs={self.outputs} must be 1 or more")


class Mlp(nnx.Module):
    """Linear layers with ReLUs between them: [..., inputs] → [..., outputs] f32."""

    def __init__(
        self,
        inputs: int,
        hidden: Sequence[int],
        outputs: int,
        *,
        bias: bool = True,
        rngs: nnx.Rngs,
    ) -> None:
        sizes = itertools.pairwise((inputs, *hidden))
        self.hidden = nnx.List([nnx.Linear(*pair, use_bias=bias, rngs=rngs) for pair in sizes])
        self.output = nnx.Linear((inputs, *hidden)[-1], outputs, use_bias=bias, rngs=rngs)

    def __call__(self, x: jax.Array, /) -> jax.Array:
        """Applies the layers."""
        for layer in self.hidden:
            x = nnx.relu(layer(x))
        return self.output(x)


class ProjectionHead(Mlp):
    """[batch, features] → [batch, outputs] f32; not normalised."""

    def __init__(self, spec: Projection, features: int, *, rngs: nnx.Rngs) -> None:
        self.spec = spec
        self.norm = nnx.LayerNorm(features, use_bias=spec.bias, rngs=rngs) if spec.norm else None
        super().__init__(features, spec.hidden, spec.outputs, bias=spec.bias, rngs=rngs)

    def __call__(self, features: jax.Array, /) -> jax.Array:
        """Projects pooled features."""
        projected = super().__call__(features if self.norm is None else self.norm(features))
        return nnx.relu(projected) if self.spec.final_activation == "relu" else projected


class Readout(nnx.Module):
    """A linear readout u of a space, without bias: differences of u are what is trained."""

    def __init__(self, features: int, parameters: int, *, rngs: nnx.Rngs) -> None:
        self.norm = nnx.LayerNorm(features, use_scale=False, use_bias=False, rngs=rngs)
        self.linear = nnx.Linear(features, parameters, use_bias=False, rngs=rngs)

    def __call__(self, space: jax.Array) -> jax.Array:
        """[batch, features] → [batch, parameters] f32."""
        return self.linear(self.norm(space.astype(jnp.float32)))


class Predictor(Mlp):
    """An MLP over pairs of views: [..., inputs] → [..., outputs] f32."""

    def __call__(self, *parts: jax.Array) -> jax.Array:
        """Reads its arguments, [..., some] each, side by side."""
        return super().__call__(jnp.concatenate(parts, axis=-1))
