"""What a transform is: a law for its parameters, and what it does to audio."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp

from loev_jax.augment.parameters import Parameters, Range

SAMPLE_RATE = 16_000


class Transform:
    """A transform of audio: frozen settings; every value drawn is passed in and out.

    Subclasses are frozen dataclasses that set NAME and PARAMETERS, and have a `probability` of
    being applied at all.
    """

    NAME: ClassVar[str]
    PARAMETERS: ClassVar[tuple[str, ...]]
    probability: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.probability <= 1.0:
            raise ValueError(f"probability={self.probability} must lie in 0..1")

    @property
    def augmentations(self) -> Mapping[str, tuple[str, ...]]:
        """Its name and those of its parameters; of a composition, all that it is made of."""
        return {self.NAME: self.PARAMETERS}

    def values(self, key: jax.Array) -> Parameters:
        """Draws the parameters that it is applied with, each []."""
        raise NotImplementedError

    def draw(self, key: jax.Array) -> Parameters:
        """Draws whether it is applied, and with what.

        Args:
            key: a JAX random key [].

        Returns:
            Every name of PARAMETERS, each []; all 0 if it is not applied.
        """
        apply_key, value_key = jax.random.split(key)
        applied = jax.random.bernoulli(apply_key, self.probability)
        values = self.values(value_key)
        return {name: jnp.where(applied, values[name], 0) for name in self.PARAMETERS}

    def source_samples(self, samples: int, sample_rate: int = SAMPLE_RATE) -> int:
        """Samples of source that a view of `samples` needs, so that none of it is padded."""
        return samples + self.history(sample_rate)

    def history(self, sample_rate: int = SAMPLE_RATE) -> int:
        """Samples of the source before the view's first one."""
        del sample_rate
        return 0

    def on_audio(
        self, audio: jax.Array, parameters: Parameters, samples: int, sample_rate: int
    ) -> jax.Array:
        """Applies it.

        Args:
            audio: [batch, source_samples(samples, sample_rate)] f32 or longer.
            parameters: its own, each [batch].
            samples: length of the result (static).
            sample_rate: in Hz (static).

        Returns:
            [batch, samples] f32.

        Raises:
            ValueError: a shape is wrong or, outside jit, a value is not finite or out of range.
        """
        raise NotImplementedError


class SpectralTransform(Transform):
    """A transform that is also defined by what it does to a power spectrum."""


class MelTransform(Transform):
    """A transform of log-mels, not of audio."""

    def on_audio(
        self, audio: jax.Array, parameters: Parameters, samples: int, sample_rate: int
    ) -> jax.Array:
        """Raises ValueError: there is nothing that it does to audio."""
        raise ValueError(f"{self.NAME} works on log-mels: put it in a log_mel_chain")

    def on_mels(self, mels: jax.Array, parameters: Parameters) -> jax.Array:
        """Applies it: log-mels [batch, frames, bands] f32 → the same shape."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Scalar(Range, Transform):
    """A transform of one parameter, which bears its name; `low` to `high` in its unit.

    Attributes:
        probability: of applying it at all.
    """

    probability: float = 1.0

    def __post_init__(self) -> None:
        Range.__post_init__(self)
        Transform.__post_init__(self)

    def values(self, key: jax.Array) -> Parameters:
        """Draws its parameter."""
        return {self.NAME: self.value(key)}


@dataclasses.dataclass(frozen=True)
class Switch(Transform):
    """A transform that is done or not; the parameter that bears its name is 1 or 0.

    Attributes:
        probability: of applying it.
    """

    probability: float = 0.5

    def values(self, key: jax.Array) -> Parameters:
        """Always 1 when applied."""
        del key
        return {self.NAME: jnp.ones((), jnp.float32)}


def seed(key: jax.Array) -> jax.Array:
    """A seed for what a transform draws when it is applied: int32 [], 1 or more."""
    return jax.random.randint(key, (), 1, 2**31 - 1, jnp.int32)


def paired(batch: jax.Array) -> jax.Array:
    """Another example for each: rows 0 and 1 swap, 2 and 3, and so on.

    A pair is the same on any number of devices that hold an even number of rows each.

    Args:
        batch: [batch, ...], an even number of rows.

    Raises:
        ValueError: the number of rows is odd.
    """
    rows = batch.shape[0]
    if rows % 2:
        raise ValueError(
            f"mixing pairs neighbouring examples: {rows} a device are odd; take an even number"
        )
    return batch.reshape(rows // 2, 2, *batch.shape[1:])[:, ::-1].reshape(batch.shape)
