"""Transforms of log-mels: mixing and masking."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import jax

from loev_jax.augment import masking
from loev_jax.augment.degradation import check_weight
from loev_jax.augment.parameters import Parameters, Range
from loev_jax.augment.transform import MelTransform, Scalar, paired


@dataclasses.dataclass(frozen=True)
class Mixup(Scalar, MelTransform):
    """Mixes the log-mel with another example's; the other's weight, 0..1.

    The default is the published law: one's own weight is Beta(5, 2), so the other's is Beta(2, 5).
    The other is the neighbour: rows 0 and 1 of the batch share, 2 and 3, and so on.
    """

    NAME: ClassVar[str] = "mixup"
    PARAMETERS: ClassVar[tuple[str, ...]] = ("mixup",)
    low: float = 0.0
    high: float = 1.0
    distribution: Literal["uniform", "log_uniform", "beta"] = "beta"
    alpha: float = 2.0
    beta: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_weight(self)

    def on_mels(self, mels: jax.Array, parameters: Parameters) -> jax.Array:
        """See `loev_jax.augment.masking.mixup`."""
        return masking.mixup(mels, paired(mels), parameters["mixup"])


@dataclasses.dataclass(frozen=True)
class _Mask(MelTransform):
    """A mask of one axis.

    Attributes:
        probability: of masking at all.
        width: of the mask, as a fraction of the axis.
        start: where it lies, in the room that it has: 0 is the first possible place, 1 the last.
    """

    probability: float = 1.0
    width: Range = Range(0.0, 0.2)
    start: Range = Range(0.0, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("width", "start"):
            law = getattr(self, name)
            if not 0 <= law.low <= law.high <= 1:
                raise ValueError(f"{name}={law.low}..{law.high} must lie in 0..1")

    def values(self, key: jax.Array) -> Parameters:
        """Width and place."""
        width_key, start_key = jax.random.split(key)
        width, start = self.PARAMETERS
        return {width: self.width.value(width_key), start: self.start.value(start_key)}


@dataclasses.dataclass(frozen=True)
class TimeMask(_Mask):
    """Silences some frames. Parameters `time_mask` (width), `time_mask_start` (place), 0..1."""

    NAME: ClassVar[str] = "time_mask"
    PARAMETERS: ClassVar[tuple[str, ...]] = ("time_mask", "time_mask_start")

    def on_mels(self, mels: jax.Array, parameters: Parameters) -> jax.Array:
        """See `loev_jax.augment.masking.time_mask`."""
        return masking.time_mask(mels, parameters["time_mask_start"], parameters["time_mask"])


@dataclasses.dataclass(frozen=True)
class FrequencyMask(_Mask):
    """Silences some bands. Parameters `frequency_mask` and `frequency_mask_start`, 0..1."""

    NAME: ClassVar[str] = "frequency_mask"
    PARAMETERS: ClassVar[tuple[str, ...]] = ("frequency_mask", "frequency_mask_start")

    def on_mels(self, mels: jax.Array, parameters: Parameters) -> jax.Array:
        """See `loev_jax.augment.masking.frequency_mask`."""
        return masking.frequency_mask(
            mels, parameters["frequency_mask_start"], parameters["frequency_mask"]
        )
