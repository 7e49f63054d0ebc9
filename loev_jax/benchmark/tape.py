"""A tape that is sped up: the pitch shift in which nothing is estimated.

Music played slower by q = 2^(n / 12), then resampled by q, is at its tempo again and n semitones
higher. What this leaves of a difference from the same music played in the other key is formants
that moved, another sample of the instrument, and attacks and vibrato that sped up by q: no trace of
a vocoder. A method that does as well is as good as methods that shift a spectrum as a whole get,
but for the last of these.
"""

from __future__ import annotations

import numpy as np

NAME = "the tape, sped up"


def ratio(semitones: float) -> float:
    """How many times faster a tape runs that sounds so much higher."""
    return 2.0 ** (semitones / 12)


def sped_up(audio: np.ndarray, semitones: float, sample_rate: int) -> np.ndarray:
    """Resamples audio so that it sounds higher, and is faster alike.

    Args:
        audio: [samples].
        semitones: a real number; it sounds lower and is slower where negative.
        sample_rate: Hz.

    Returns:
        [samples / 2^(semitones / 12)].
    """
    import soxr

    return soxr.resample(audio, sample_rate * ratio(semitones), sample_rate)
