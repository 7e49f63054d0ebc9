"""Other libraries that stretch and shift audio, called as their own documentation calls them.

They come with the extra `benchmark` (librosa is there anyway) and are imported when they are used.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
from collections.abc import Callable, Mapping

import numpy as np

from loev_jax.errors import UserError

EXTRA = "benchmark"


def installed(module: str) -> bool:
    """Whether Python finds that module."""
    return importlib.util.find_spec(module) is not None


def require(package: str, module: str) -> None:
    """Does nothing if `module` can be imported.

    Args:
        package: the name that pip knows, for the message.
        module: the name that Python knows.

    Raises:
        UserError: it cannot; the message says which extra to install.
    """
    if not installed(module):
        raise UserError(
            f"{package} is not installed: pip install 'loev_jax[{EXTRA}]', or run `make bench`"
        )


@dataclasses.dataclass(frozen=True)
class Peer:
    """A library that stretches and shifts audio.

    Attributes:
        package: the name that pip knows.
        module: the name that Python knows.
        algorithm: what works inside, for tables.
        function: as `stretch_and_shift`.
    """

    package: str
    module: str
    algorithm: str
    function: Callable[[np.ndarray, float, float, int], np.ndarray] = dataclasses.field(repr=False)

    def available(self) -> bool:
        """Whether it is installed."""
        return installed(self.module)

    def stretch_and_shift(
        self, audio: np.ndarray, rate: float, semitones: float, sample_rate: int
    ) -> np.ndarray:
        """Plays audio `rate` times faster and `semitones` higher.

        Args:
            audio: [samples] f32, full scale 1.
            rate: above 1 is faster.
            semitones: above 0 is higher.
            sample_rate: in Hz.

        Returns:
            About [samples / rate] f32: what the source has at time t lies at t / rate.

        Raises:
            UserError: the package is not installed.
        """
        require(self.package, self.module)
        moved = self.function(np.asarray(audio, np.float32), rate, semitones, sample_rate)
        return np.asarray(moved, np.float32)


def _librosa(
    audio: np.ndarray, rate: float, semitones: float, sample_rate: int, n_fft: int = 2048
) -> np.ndarray:
    import librosa

    stretched = librosa.effects.time_stretch(audio, rate=rate, n_fft=n_fft)
    return librosa.effects.pitch_shift(stretched, sr=sample_rate, n_steps=semitones, n_fft=n_fft)


def _pedalboard(
    audio: np.ndarray,
    rate: float,
    semitones: float,
    sample_rate: int,
    preserve_formants: bool = False,
) -> np.ndarray:
    import pedalboard

    return pedalboard.time_stretch(
        audio[None],
        sample_rate,
        stretch_factor=rate,
        pitch_shift_in_semitones=semitones,
        preserve_formants=preserve_formants,
    )[0]


def _python_stretch(
    audio: np.ndarray, rate: float, semitones: float, sample_rate: int
) -> np.ndarray:
    import python_stretch

    stretch = python_stretch.Signalsmith.Stretch()
    stretch.preset(1, sample_rate)
    stretch.timeFactor = rate
    stretch.setTransposeSemitones(semitones)
    return stretch.process(audio[None])[0]


PEERS: Mapping[str, Peer] = {
    "librosa": Peer("librosa", "librosa", "phase vocoder, then soxr", _librosa),
    "pedalboard": Peer("pedalboard", "pedalboard", "Rubber Band", _pedalboard),
    "python-stretch": Peer(
        "python-stretch", "python_stretch", "Signalsmith Stretch", _python_stretch
    ),
}
"""By the name that tables and plots give them.

All shift the whole spectrum, formants too, as the transposition of an instrument does: of the three
only pedalboard offers to keep them. All else is at its default.
"""

VARIANTS: Mapping[str, Peer] = {
    "librosa, n_fft=1024": dataclasses.replace(
        PEERS["librosa"], function=functools.partial(_librosa, n_fft=1024)
    ),
    "pedalboard, formants kept": dataclasses.replace(
        PEERS["pedalboard"], function=functools.partial(_pedalboard, preserve_formants=True)
    ),
}
"""Other settings of the same: frames of 64 ms at 16 kHz, and pedalboard's own default."""
