"""Transforms that exist in both domains: stretch, shift, gain, filters, equaliser.

In the waveform domain they work on audio; in the analysis domain `loev_jax.augment.analysis` reads
the same parameters and shapes the spectrum.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from loev_jax.augment import waveform
from loev_jax.augment.parameters import Parameters, Range
from loev_jax.augment.transform import (
    SAMPLE_RATE,
    Scalar,
    SpectralTransform,
    Transform,
)

PEAKS = 3  # of the equaliser


class _Move(Scalar, SpectralTransform):
    """Half of a `StretchShift`, which does its work."""

    @property
    def _alone(self) -> StretchShift:
        raise NotImplementedError

    def source_samples(self, samples: int, sample_rate: int = SAMPLE_RATE) -> int:
        """Samples of source at the limit of its range."""
        return self._alone.source_samples(samples, sample_rate)

    def on_audio(
        self, audio: jax.Array, parameters: Parameters, samples: int, sample_rate: int
    ) -> jax.Array:
        """See `loev_jax.augment.waveform.stretch_and_shift`."""
        return self._alone.on_audio(audio, parameters, samples, sample_rate)


@dataclasses.dataclass(frozen=True)
class TimeStretch(_Move):
    """Plays audio faster or slower at its own pitch; log2 of the rate, above 0 is faster.

    The default is the published range, rates 0.7 to 1.3.
    """

    NAME: ClassVar[str] = "time_stretch"
    PARAMETERS: ClassVar[tuple[str, ...]] = ("time_stretch",)
    low: float = -0.5146
    high: float = 0.3785

    @property
    def _alone(self) -> StretchShift:
        return StretchShift(self, None)

    @property
    def fastest(self) -> float:
        """The greatest log2 rate, at least 0: the source must be this much longer."""
        return max(0.0, self.high)


@dataclasses.dataclass(frozen=True)
class PitchShift(_Move):
    """Raises or lowers audio at its own tempo; in semitones. The default is the published range."""

    NAME: ClassVar[str] = "pitch_shift"
    PARAMETERS: ClassVar[tuple[str, ...]] = ("pitch_shift",)
    low: float = -4.0
    high: float = 4.0

    @property
    def _alone(self) -> StretchShift:
        return StretchShift(None, self)

    @property
    def widest(self) -> float:
        """The greatest shift, up or down, in semitones."""
        return max(abs(self.low), abs(self.high))


@dataclasses.dataclass(frozen=True)
class StretchShift(SpectralTransform):
    """Time stretch and pitch shift with one pass of the vocoder; either may be None.

    Attributes:
        time_stretch: law of the stretch.
        pitch_shift: law of the shift; the two are drawn on their own.
    """

    NAME: ClassVar[str] = "stretch_shift"
    time_stretch: TimeStretch | None = TimeStretch()
    pitch_shift: PitchShift | None = PitchShift()

    def __post_init__(self) -> None:
        if not self._parts:
            raise ValueError("time_stretch=None, pitch_shift=None: give one of them")

    @property
    def _parts(self) -> tuple[TimeStretch | PitchShift, ...]:
        return tuple(part for part in (self.time_stretch, self.pitch_shift) if part is not None)

    @property
    def augmentations(self) -> Mapping[str, tuple[str, ...]]:
        """`time_stretch` and `pitch_shift`: two augmentations, done at once."""
        return {part.NAME: part.PARAMETERS for part in self._parts}

    @property
    def limits(self) -> dict[str, float]:
        """The greatest log2 rate and shift, as the functions of the waveform domain take them."""
        return {
            "max_log2_rate": self.time_stretch.fastest if self.time_stretch else 0.0,
            "max_semitones": self.pitch_shift.widest if self.pitch_shift else 0.0,
        }

    def draw(self, key: jax.Array) -> Parameters:
        """Draws each part with its own probability."""
        drawn: Parameters = {}
        for number, part in enumerate(self._parts):
            drawn |= part.draw(jax.random.fold_in(key, number))
        return drawn

    def source_samples(self, samples: int, sample_rate: int = SAMPLE_RATE) -> int:
        """Samples of source at the limits."""
        return waveform.source_samples(samples, sample_rate=sample_rate, **self.limits)

    def on_audio(
        self, audio: jax.Array, parameters: Parameters, samples: int, sample_rate: int
    ) -> jax.Array:
        """See `loev_jax.augment.waveform.stretch_and_shift`."""
        none = jnp.zeros(audio.shape[0], jnp.float32)
        return waveform.stretch_and_shift(
            audio,
            parameters["time_stretch"] if self.time_stretch else none,
            parameters["pitch_shift"] if self.pitch_shift else none,
            samples,
            sample_rate=sample_rate,
            **self.limits,
        )


@dataclasses.dataclass(frozen=True)
class Gain(Scalar, SpectralTransform):
    """Loudness, in dB. The default is the published range."""

    NAME: ClassVar[str] = "gain"
    PARAMETERS: ClassVar[tuple[str, ...]] = ("gain",)
    low: float = -15.0
    high: float = 5.0

    def on_audio(
        self, audio: jax.Array, parameters: Parameters, samples: int, sample_rate: int
    ) -> jax.Array:
        """Multiplies by 10^(gain/20)."""
        return waveform.gain(audio[:, :samples], parameters["gain"])


@dataclasses.dataclass(frozen=True)
class Filter(SpectralTransform):
    """A filter drawn among kinds of equal probability (ranges of the paper's code).

    Parameters: `filter_kind` (0 none, 1 low-, 2 high-, 3 band-pass, 4 band-stop),
    `filter_frequency` (log2 of the cut-off or centre in Hz), `filter_bandwidth` (of band filters,
    as a fraction of the centre).

    Attributes:
        probability: of filtering at all.
        low_pass: range of the cut-off in Hz, drawn evenly in octaves.
        high_pass: likewise.
        band: range of the centre of band-pass and band-stop in Hz, drawn evenly in octaves.
        bandwidth: range of the bandwidth as a fraction of the centre, below 2.
        kinds: kinds to draw from, by number.
    """

    NAME: ClassVar[str] = "filter"
    PARAMETERS: ClassVar[tuple[str, ...]] = ("filter_kind", "filter_frequency", "filter_bandwidth")
    probability: float = 0.8
    low_pass: tuple[float, float] = (75.0, 7500.0)
    high_pass: tuple[float, float] = (200.0, 2400.0)
    band: tuple[float, float] = (200.0, 4000.0)
    bandwidth: tuple[float, float] = (0.5, 1.99)
    kinds: tuple[int, ...] = (1, 2, 3, 4)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("low_pass", "high_pass", "band"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name}={(low, high)} must be positive and ascend")
        if not 0 < self.bandwidth[0] <= self.bandwidth[1] < 2:
            raise ValueError(f"bandwidth={self.bandwidth} must ascend within 0..2")
        if not self.kinds or not set(self.kinds) <= {1, 2, 3, 4}:
            raise ValueError(f"kinds={self.kinds} must be drawn from 1, 2, 3 and 4")

    def values(self, key: jax.Array) -> Parameters:
        """One filter: kind, log2 frequency, bandwidth."""
        kind_key, frequency_key, bandwidth_key = jax.random.split(key, 3)
        drawn = jax.random.randint(kind_key, (), 0, len(self.kinds))
        kind = jnp.asarray(self.kinds, jnp.float32)[drawn]
        ranges = np.log2([self.low_pass, self.high_pass, self.band, self.band]).astype(np.float32)
        low, high = jnp.asarray(ranges)[kind.astype(jnp.int32) - 1]
        frequency = low + (high - low) * jax.random.uniform(frequency_key, ())
        bandwidth = jax.random.uniform(bandwidth_key, (), jnp.float32, *self.bandwidth)
        return {
            "filter_kind": kind,
            "filter_frequency": frequency,
            "filter_bandwidth": bandwidth * (kind >= 3),
        }

    def on_audio(
        self, audio: jax.Array, parameters: Parameters, samples: int, sample_rate: int
    ) -> jax.Array:
        """See `loev_jax.augment.waveform.filter`."""
        kind, frequency, bandwidth = (parameters[name] for name in self.PARAMETERS)
        return waveform.filter(audio[:, :samples], kind, frequency, bandwidth, sample_rate)


@dataclasses.dataclass(frozen=True)
class Equalizer(SpectralTransform):
    """A parametric equaliser of three peaks, each drawn alike.

    Parameters, for k in 1..3: `equalizer_gain_k` (dB), `equalizer_frequency_k` (log2 of the centre
    in Hz), `equalizer_bandwidth_k` (octaves).

    Attributes:
        probability: of equalising at all.
        gain: of a peak, in dB.
        frequency: of its centre, in Hz.
        bandwidth: in octaves between the points of half its gain in dB.
    """

    NAME: ClassVar[str] = "equalizer"
    PARAMETERS: ClassVar[tuple[str, ...]] = tuple(
        f"equalizer_{part}_{peak + 1}"
        for part in ("gain", "frequency", "bandwidth")
        for peak in range(PEAKS)
    )
    probability: float = 1.0
    gain: Range = Range(-12.0, 12.0)
    frequency: Range = Range(60.0, 6000.0, distribution="log_uniform")
    bandwidth: Range = Range(0.5, 3.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frequency.low <= 0 or self.bandwidth.low <= 0:
            raise ValueError(
                f"frequency.low={self.frequency.low} and bandwidth.low={self.bandwidth.low} must "
                "be above 0"
            )

    def values(self, key: jax.Array) -> Parameters:
        """Three peaks."""
        drawn = []
        for number, law in enumerate((self.gain, self.frequency, self.bandwidth)):
            keys = jax.random.split(jax.random.fold_in(key, number), PEAKS)
            values = [law.value(one) for one in keys]
            drawn += [jnp.log2(value) for value in values] if law is self.frequency else values
        return dict(zip(self.PARAMETERS, drawn, strict=True))

    def on_audio(
        self, audio: jax.Array, parameters: Parameters, samples: int, sample_rate: int
    ) -> jax.Array:
        """See `loev_jax.augment.waveform.equalize`."""
        gains, frequencies, bandwidths = peaks(parameters)
        return waveform.equalize(audio[:, :samples], gains, frequencies, bandwidths, sample_rate)


def peaks(parameters: Parameters) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The equaliser's gains (dB), log2 frequencies and bandwidths (octaves), each [..., 3]."""
    columns = [parameters[name] for name in Equalizer.PARAMETERS]
    gains, frequencies, bandwidths = (
        jnp.stack(columns[part * PEAKS : (part + 1) * PEAKS], axis=-1) for part in range(3)
    )
    return gains, frequencies, bandwidths


def stretch_and_shift_of(
    transforms: tuple[Transform, ...],
) -> tuple[TimeStretch | None, PitchShift | None]:
    """The time stretch and the pitch shift among some transforms, in one or on their own."""
    stretch = shift = None
    for transform in transforms:
        if isinstance(transform, TimeStretch):
            stretch = transform
        elif isinstance(transform, PitchShift):
            shift = transform
        elif isinstance(transform, StretchShift):
            stretch = transform.time_stretch or stretch
            shift = transform.pitch_shift or shift
    return stretch, shift


def fastest_rate(stretch: TimeStretch | None) -> float:
    """Greatest rate, at least 1."""
    return math.exp2(stretch.fastest) if stretch else 1.0
