"""The augmentations of a recipe, as a config names them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Literal

import jax
import jax.numpy as jnp

from loev_jax.augment.composition import Shuffled
from loev_jax.augment.degradation import (
    BitCrush,
    Clipping,
    Delay,
    Mix,
    Noise,
    Polarity,
    Reverb,
    Reverse,
)
from loev_jax.augment.mel import FrequencyMask, Mixup, TimeMask
from loev_jax.augment.parameters import Parameters
from loev_jax.augment.spectral import (
    Equalizer,
    Filter,
    Gain,
    PitchShift,
    TimeStretch,
    fastest_rate,
)
from loev_jax.augment.transform import Scalar, Transform


@dataclasses.dataclass(frozen=True)
class Augmentations:
    """The augmentations of a recipe; one that is None is never applied.

    They are applied in the order of `transforms`: what spoils a recording, then stretch, shift,
    filters and gain, then what changes its log-mel.

    Attributes:
        time_stretch: log2 of the rate, in octaves of tempo.
        pitch_shift: in semitones.
        gain: in dB.
        filter: low-, high-, band-pass or band-stop.
        equalizer: three peaks.
        reverse: plays backwards.
        mix: with another clip's waveform.
        polarity: turns the sign.
        clipping: in dB below the peak.
        bit_crush: in bits.
        delay: echoes.
        reverb: a synthetic room.
        noise: coloured.
        mixup: with another clip's log-mel.
        time_mask: silences frames.
        frequency_mask: silences bands.
        order: of what spoils a recording (`reverse` to `noise`): "given", or "shuffled" for each
            view.
        one_of: groups of augmentations of which a view has one at most.
        shared: augmentations that all views of a clip have alike.
    """

    time_stretch: TimeStretch | None = None
    pitch_shift: PitchShift | None = None
    gain: Gain | None = None
    filter: Filter | None = None
    equalizer: Equalizer | None = None
    reverse: Reverse | None = None
    mix: Mix | None = None
    polarity: Polarity | None = None
    clipping: Clipping | None = None
    bit_crush: BitCrush | None = None
    delay: Delay | None = None
    reverb: Reverb | None = None
    noise: Noise | None = None
    mixup: Mixup | None = None
    time_mask: TimeMask | None = None
    frequency_mask: FrequencyMask | None = None
    order: Literal["given", "shuffled"] = "given"
    one_of: tuple[tuple[str, ...], ...] = ()
    shared: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (*self.shared, *(name for group in self.one_of for name in group)):
            if name not in NAMES or getattr(self, name) is None:
                raise ValueError(f"{name!r} in one_of or shared is never applied: set it")
        for group in self.one_of:
            if len(set(group)) < 2:
                raise ValueError(f"one_of={group}: a group has two augmentations or more")
        _ = self.transforms

    @property
    def augmentations(self) -> Mapping[str, tuple[str, ...]]:
        """Those that may be applied, each with the names of its parameters."""
        return {name: PARAMETERS_OF[name] for name in NAMES if getattr(self, name) is not None}

    @property
    def transforms(self) -> tuple[Transform, ...]:
        """Those that may be applied, in the order in which they are."""
        spoiling = self._present(_SPOILING)
        if self.order == "shuffled" and len(spoiling) > 1:
            spoiling = (Shuffled(spoiling),)
        return (*spoiling, *self._present(_SPECTRAL), *self._present(_MEL))

    def _present(self, names: tuple[str, ...]) -> tuple[Transform, ...]:
        found = (getattr(self, name) for name in names)
        return tuple(transform for transform in found if transform is not None)

    @property
    def mixes(self) -> bool:
        """Whether clips are mixed in pairs, so that each device must hold an even number."""
        return self.mix is not None or self.mixup is not None

    @property
    def fastest(self) -> float:
        """The greatest rate of time stretch, at least 1."""
        return fastest_rate(self.time_stretch)

    def scale(self, parameter: str) -> float:
        """Half the range of a scalar parameter: divides it into unit range.

        Raises:
            ValueError: the parameter is not drawn from a range of positive width.
        """
        drawn = getattr(self, parameter, None)
        if not isinstance(drawn, Scalar) or drawn.half_width == 0:
            raise ValueError(f"{parameter} is not drawn from a range, so it has no scale")
        return drawn.half_width

    def draw(self, key: jax.Array) -> Parameters:
        """Draws the parameters of one view, each []; see `augmentations` for their names."""
        result: Parameters = {}
        for number, name in enumerate(NAMES):
            transform = getattr(self, name)
            if transform is not None:
                result |= transform.draw(jax.random.fold_in(key, number))
        for number, group in enumerate(self.one_of, start=len(NAMES)):
            choice = jax.random.randint(jax.random.fold_in(key, number), (), 0, len(group))
            for member, name in enumerate(group):
                for parameter in PARAMETERS_OF[name]:
                    result[parameter] = jnp.where(choice == member, result[parameter], 0)
        for transform in self.transforms:
            if isinstance(transform, Shuffled):
                order_key = jax.random.fold_in(key, len(NAMES) + len(self.one_of))
                orders = math.factorial(len(transform.transforms))
                result[Shuffled.ORDER] = jax.random.randint(order_key, (), 0, orders, jnp.int32)
        return result


_SPOILING = ("reverse", "mix", "polarity", "clipping", "bit_crush", "delay", "reverb", "noise")
_SPECTRAL = ("time_stretch", "pitch_shift", "filter", "equalizer", "gain")
_MEL = ("mixup", "time_mask", "frequency_mask")

TRANSFORMS: Mapping[str, type[Transform]] = {
    cls.NAME: cls
    for cls in (
        TimeStretch, PitchShift, Gain, Filter, Equalizer, Reverse, Mix, Polarity, Clipping,
        BitCrush, Delay, Reverb, Noise, Mixup, TimeMask, FrequencyMask,
    )
}  # fmt: skip
"""Every augmentation that a config can name. Their order numbers their random draws."""

NAMES = tuple(TRANSFORMS)
PARAMETERS_OF: Mapping[str, tuple[str, ...]] = {
    name: cls.PARAMETERS for name, cls in TRANSFORMS.items()
}
PARAMETER_NAMES = tuple(name for names in PARAMETERS_OF.values() for name in names)
SCALARS = tuple(name for name, cls in TRANSFORMS.items() if issubclass(cls, Scalar))
"""Augmentations of one parameter, drawn from a range."""
