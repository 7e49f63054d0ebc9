"""The model: an encoder, a projection head per kept augmentation, readouts for translation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from loev_jax import encoder as encoders
from loev_jax.encoder import Cnn, Resnet
from loev_jax.heads import INVARIANT, Projection, ProjectionHead, Readout

ENCODER = "encoder"


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """What a model is made of.

    Attributes:
        bands: mel bands of its input.
        frame_rate: of its input, frames a second.
        heads: for each variant head by name, the augmentations it keeps.
        readouts: for each variant head that is read out linearly, the parameters read.
        encoder: settings of the encoder.
        projection: settings of every projection head.
        readout_space: what the readouts see, "encoder" or "head".
    """

    bands: int
    frame_rate: float
    heads: Mapping[str, tuple[str, ...]]
    readouts: Mapping[str, tuple[str, ...]]
    encoder: Cnn | Resnet = Cnn()
    projection: Projection = Projection()
    readout_space: str = "head"

    @property
    def spaces(self) -> tuple[str, ...]:
        """Names of the spaces, the encoder's first, then the invariant head's."""
        return (ENCODER, INVARIANT, *self.heads)


class Outputs(NamedTuple):
    """What the model computes of a batch.

    Attributes:
        features: [batch, features] f32, the representation.
        projections: by head, [batch, outputs] f32, not normalised.
        readouts: by head, [batch, parameters] f32.
    """

    features: jax.Array
    projections: dict[str, jax.Array]
    readouts: dict[str, jax.Array]


class Model(nnx.Module):
    """Log-mels [batch, frames, bands] → `Outputs`."""

    def __init__(self, spec: ModelSpec, *, rngs: nnx.Rngs) -> None:
        self.spec = spec
        self.encoder = encoders.create(spec.encoder, spec.bands, spec.frame_rate, rngs=rngs)
        features = spec.encoder.features
        self.heads = nnx.Dict(
            {
                name: ProjectionHead(spec.projection, features, rngs=rngs)
                for name in (INVARIANT, *spec.heads)
            }
        )
        read = features if spec.readout_space == ENCODER else spec.projection.outputs
        self.readouts = nnx.Dict(
            {name: Readout(read, len(names), rngs=rngs) for name, names in spec.readouts.items()}
        )

    def __call__(self, log_mel: jax.Array) -> Outputs:
        """Encodes, projects and reads out."""
        features = self.encoder(log_mel)
        projections = {name: head(features) for name, head in self.heads.items()}
        readouts = {
            name: readout(features if self.spec.readout_space == ENCODER else projections[name])
            for name, readout in self.readouts.items()
        }
        return Outputs(features, projections, readouts)

    def spaces(self, log_mel: jax.Array) -> dict[str, jax.Array]:
        """Every space by name: "encoder", "invariant" and each variant head, [batch, size] f32.

        Projections are normalised to unit length, as the contrastive loss sees them.
        """
        outputs = self(log_mel)
        unit = {name: normalise(z) for name, z in outputs.projections.items()}
        return {ENCODER: outputs.features} | unit


def normalise(vectors: jax.Array, epsilon: float = 1e-8) -> jax.Array:
    """Unit vectors along the last axis; a zero vector stays zero, with a finite gradient."""
    square = jnp.sum(jnp.square(vectors), axis=-1, keepdims=True)
    return vectors * jax.lax.rsqrt(jnp.maximum(square, epsilon**2))


def create(spec: ModelSpec, seed: int) -> Model:
    """A model with freshly drawn parameters."""
    return Model(spec, rngs=nnx.Rngs(seed))
