"""Transforms of audio alone: what a microphone, a room, a wire or a coder does to it."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from loev_jax.augment import effects, noise, reverb
from loev_jax.augment.parameters import Parameters, Range
from loev_jax.augment.transform import (
    SAMPLE_RATE,
    Scalar,
    Switch,
    Transform,
    paired,
    seed,
)


@dataclasses.dataclass(frozen=True)
class Polarity(Switch):
    """Turns the sign of the waveform. Parameter `polarity`: 1 is inverted."""

    NAME: ClassVar[str] = "polarity"
    PARAMETERS: ClassVar[tuple[str, ...]] = ("polarity",)

    def on_audio(
        self, audio: jax.Array, parameters: Parameters, samples: int, sample_rate: int
    ) -> jax.Array:
        """See `loev_jax.augment.effects.polarity`."""
        return effects.polarity(audio[:, :samples], parameters["polarity"])


@dataclasses.dataclass(frozen=True)
class Reverse(Switch):
    """Plays audio backwards. Parameter `reverse`: 1 is backwards."""

    NAME: ClassVar[str] = "reverse"
    PARAMETERS: ClassVar[tuple[str, ...]] = ("reverse",)

    def on_audio(
        self, audio: jax.Array, parameters: Parameters, samples: int, sample_rate: int
    ) -> jax.Array:
        """See `loev_jax.augment.effects.reverse`."""
        return effects.reverse(audio[:, :samples], parameters["reverse"])


@dataclasses.dataclass(frozen=True)
class Clipping(Scalar):
    """Clipping distortion; how far below its peak a waveform is cut, in dB."""

    NAME: ClassVar[str] = "clipping"
    PARAMETERS: ClassVar[tuple[str, ...]] = ("clipping",)
    low: float = 3.0
    high: float = 20.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low < 0:
            raise ValueError(f"low={self.low} dB must be 0 or more")

    def on_audio(
        self, audio: jax.Array, parameters: Parameters, samples: int, sample_rate: int
    ) -> jax.Array:
        """See `loev_jax.augment.effects.clip`."""
        return effects.clip(audio[:, :samples], parameters["clipping"])


@dataclasses.dataclass(frozen=True)
class BitCrush(Scalar):
    """Quantises a waveform; in bits over full scale."""

    NAME: ClassVar[str] = "bit_crush"
    PARAMETERS: ClassVar[tuple[str, ...]] = ("bit_crush",)
    low: float = 5.0
    high: float = 12.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low < 1:
            raise ValueError(f"low={self.low} bits must be 1 or more")

    def on_audio(
        self, audio: jax.Array, parameters: Parameters, samples: int, sample_rate: int
    ) -> jax.Array:
        """See `loev_jax.augment.effects.bit_crush`."""
        return effects.bit_crush(audio[:, :samples], parameters["bit_crush"])


@dataclasses.dataclass(frozen=True)
class Noise(Transform):
    """Coloured noise. The defaults are the published ranges.

    Parameters: `noise` (1 if applied), `noise_snr` (dB), `noise_decay` (power falls as
    f^-decay: 0 white, 1 pink, 2 brown), `noise_seed`.

    Attributes:
        probability: of adding any.
        snr: signal-to-noise ratio of the view, in dB.
        decay: of the noise's spectrum.
    """

    NAME: ClassVar[str] = "noise"
    PARAMETERS: ClassVar[tuple[str, ...]] = ("noise", "noise_snr", "noise_decay", "noise_seed")
    probability: float = 1.0
    snr: Range = Range(3.0, 30.0)
    decay: Range = Range(-2.0, 2.0)

    def values(self, key: jax.Array) -> Parameters:
        """Ratio, colour and a seed."""
        snr_key, decay_key, seed_key = jax.random.split(key, 3)
        return {
            "noise": jnp.ones((), jnp.float32),
            "noise_snr": self.snr.value(snr_key),
            "noise_decay": self.decay.value(decay_key),
            "noise_seed": seed(seed_key),
        }

    def on_audio(
        self, audio: jax.Array, parameters: Parameters, samples: int, sample_rate: int
    ) -> jax.Array:
        """See `loev_jax.augment.noise.add_noise`."""
        applied, snr_db, decay, seeds = (parameters[name] for name in self.PARAMETERS)
        seeds = seeds.astype(jnp.int32)
        return noise.add_noise(audio[:, :samples], applied, snr_db, decay, seeds, sample_rate)


@dataclasses.dataclass(frozen=True)
class Delay(Transform):
    """Echoes at equal distances, each weaker than the one before.

    Parameters: `delay` (gain of the first echo), `delay_time` (s), `delay_feedback` (ratio of the
    gain of one echo to that of the one before).

    Attributes:
        probability: of any echo.
        level: of the first echo.
        time: from one echo to the next, in seconds.
        feedback: in 0..1.
        echoes: their number.
    """

    NAME: ClassVar[str] = "delay"
    PARAMETERS: ClassVar[tuple[str, ...]] = ("delay", "delay_time", "delay_feedback")
    probability: float = 1.0
    level: Range = Range(0.1, 0.6)
    time: Range = Range(0.05, 0.4)
    feedback: Range = Range(0.0, 0.6)
    echoes: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.echoes < 1:
            raise ValueError(f"echoes={self.echoes} must be 1 or more")
        if min(self.time.low, self.level.low, self.feedback.low) < 0 or self.feedback.high > 1:
            raise ValueError(
                f"time.low={self.time.low}, level.low={self.level.low} must be 0 or more and "
                f"feedback={self.feedback.low}..{self.feedback.high} in 0..1"
            )

    def values(self, key: jax.Array) -> Parameters:
        """Level, time, feedback."""
        level_key, time_key, feedback_key = jax.random.split(key, 3)
        return {
            "delay": self.level.value(level_key),
            "delay_time": self.time.value(time_key),
            "delay_feedback": self.feedback.value(feedback_key),
        }

    def history(self, sample_rate: int = SAMPLE_RATE) -> int:
        """What the last echo of the view's first sample repeats."""
        return effects.delay_history(self.time.high, self.echoes, sample_rate)

    def on_audio(
        self, audio: jax.Array, parameters: Parameters, samples: int, sample_rate: int
    ) -> jax.Array:
        """See `loev_jax.augment.effects.delay`."""
        return effects.delay(
            audio,
            parameters["delay_time"],
            parameters["delay"],
            parameters["delay_feedback"],
            samples,
            max_seconds=self.time.high,
            echoes=self.echoes,
            sample_rate=sample_rate,
        )


@dataclasses.dataclass(frozen=True)
class Reverb(Transform):
    """A synthetic room: exponentially decaying noise, drawn anew for each view.

    Parameters: `reverb` (share of the wet sound), `reverb_decay` (RT60 in s), `reverb_seed`.

    Attributes:
        probability: of any reverberation.
        wet: share of the reverberated sound, 0..1.
        decay: time in which the room's energy falls by 60 dB, in seconds.
        seconds: length of the impulse response; what is longer is cut.
    """

    NAME: ClassVar[str] = "reverb"
    PARAMETERS: ClassVar[tuple[str, ...]] = ("reverb", "reverb_decay", "reverb_seed")
    probability: float = 1.0
    wet: Range = Range(0.05, 0.5)
    decay: Range = Range(0.2, 1.5, distribution="log_uniform")
    seconds: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seconds <= 0 or self.decay.low <= 0:
            raise ValueError(
                f"seconds={self.seconds} and decay.low={self.decay.low} must be above 0"
            )
        if not 0 <= self.wet.low <= self.wet.high <= 1:
            raise ValueError(f"wet={self.wet.low}..{self.wet.high} must lie in 0..1")

    def values(self, key: jax.Array) -> Parameters:
        """Wet share, decay and a seed."""
        wet_key, decay_key, seed_key = jax.random.split(key, 3)
        return {
            "reverb": self.wet.value(wet_key),
            "reverb_decay": self.decay.value(decay_key),
            "reverb_seed": seed(seed_key),
        }

    def _taps(self, sample_rate: int) -> int:
        return max(1, round(self.seconds * sample_rate))

    def history(self, sample_rate: int = SAMPLE_RATE) -> int:
        """The impulse response, but for its first sample."""
        return self._taps(sample_rate) - 1

    def on_audio(
        self, audio: jax.Array, parameters: Parameters, samples: int, sample_rate: int
    ) -> jax.Array:
        """See `loev_jax.augment.reverb`."""
        response = reverb.impulse_response(
            parameters["reverb_seed"].astype(jnp.int32),
            parameters["reverb_decay"],
            self._taps(sample_rate),
            sample_rate,
        )
        source = audio[:, : self.source_samples(samples, sample_rate)]
        return reverb.reverb(source, response, parameters["reverb"], samples)


@dataclasses.dataclass(frozen=True, eq=False)
class Convolution(Transform):
    """Reverberation by impulse responses that were measured, one of them drawn for each view.

    Parameters: `convolution` (share of the wet sound), `convolution_response` (its number, from 1).

    Attributes:
        responses: [responses, taps] f32 at the chain's sample rate.
        wet: share of the convolved sound, 0..1.
        probability: of any.
    """

    NAME: ClassVar[str] = "convolution"
    PARAMETERS: ClassVar[tuple[str, ...]] = ("convolution", "convolution_response")
    responses: np.ndarray
    wet: Range = Range(0.05, 0.5)
    probability: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if np.ndim(self.responses) != 2 or not np.all(np.isfinite(self.responses)):
            raise ValueError(
                f"responses must be finite, [responses, taps]; shape {np.shape(self.responses)}"
            )

    def values(self, key: jax.Array) -> Parameters:
        """Wet share and the number of a response."""
        wet_key, number_key = jax.random.split(key)
        number = jax.random.randint(number_key, (), 1, len(self.responses) + 1, jnp.int32)
        return {"convolution": self.wet.value(wet_key), "convolution_response": number}

    def history(self, sample_rate: int = SAMPLE_RATE) -> int:
        """The impulse responses, but for their first sample."""
        del sample_rate
        return self.responses.shape[1] - 1

    def on_audio(
        self, audio: jax.Array, parameters: Parameters, samples: int, sample_rate: int
    ) -> jax.Array:
        """See `loev_jax.augment.reverb.reverb`."""
        number = jnp.maximum(parameters["convolution_response"].astype(jnp.int32) - 1, 0)
        response = jnp.asarray(self.responses, jnp.float32)[number]
        source = audio[:, : self.source_samples(samples, sample_rate)]
        return reverb.reverb(source, response, parameters["convolution"], samples)


@dataclasses.dataclass(frozen=True)
class Mix(Scalar):
    """Mixes the waveform with another example's; the other's weight, 0..1.

    The other is the neighbour: rows 0 and 1 of the batch share, 2 and 3, and so on.
    """

    NAME: ClassVar[str] = "mix"
    PARAMETERS: ClassVar[tuple[str, ...]] = ("mix",)
    low: float = 0.0
    high: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_weight(self)

    def on_audio(
        self, audio: jax.Array, parameters: Parameters, samples: int, sample_rate: int
    ) -> jax.Array:
        """See `loev_jax.augment.effects.mix`."""
        own = audio[:, :samples]
        return effects.mix(own, paired(own), parameters["mix"])


def check_weight(law: Range) -> None:
    """Raises ValueError unless it is within 0..1."""
    if not 0 <= law.low <= law.high <= 1:
        raise ValueError(f"low={law.low}, high={law.high}: a weight must lie in 0..1")
