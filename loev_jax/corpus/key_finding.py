"""The Krumhansl-Schmuckler key-finding algorithm, and how the corpus numbers keys.

A key is an integer: 0-11 are C to B major, 12-23 are C to B minor.

Source: C. L. Krumhansl, *Cognitive Foundations of Musical Pitch* (1990), chapter 4; the profiles
are the probe-tone ratings of Krumhansl and Kessler (1982).
"""

from __future__ import annotations

import numpy as np

_MAJOR_PROFILE = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
_MINOR_PROFILE = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)

# Flats for the keys that are usually written with them; mir_eval.key knows all of these names.
_TONICS = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")


def _standardised_profiles() -> np.ndarray:
    """Returns the 24 rotated profiles [24, 12], each with zero mean and unit norm."""
    rotated = [np.roll(_MAJOR_PROFILE, tonic) for tonic in range(12)]
    rotated += [np.roll(_MINOR_PROFILE, tonic) for tonic in range(12)]
    profiles = np.asarray(rotated, np.float64)
    profiles -= profiles.mean(axis=1, keepdims=True)
    return profiles / np.linalg.norm(profiles, axis=1, keepdims=True)


_PROFILES = _standardised_profiles()


def find_key(pitch_classes: np.ndarray) -> int:
    """Returns the key whose profile correlates best with a pitch-class distribution.

    Args:
      pitch_classes: [12] the weight of each pitch class, C to B: seconds or beats sounded, or the
        mean of a chroma. Any unit.

    Returns:
      The key, 0-23. A constant distribution, which has no key, gives 0.
    """
    centred = pitch_classes - pitch_classes.mean()
    # The profiles have unit norm and the norm of the distribution is the same for every key, so
    # the largest product is the largest Pearson correlation.
    return int(np.argmax(_PROFILES @ centred))


def transpose_key(key: int, semitones: int) -> int:
    """Returns `key` (0-23) moved by `semitones`, in the same mode."""
    return key // 12 * 12 + (key % 12 + semitones) % 12


def key_name(key: int) -> str:
    """Returns the name of `key` (0-23) as `mir_eval.key` reads it, such as "F# minor"."""
    return f"{_TONICS[key % 12]} {'major' if key < 12 else 'minor'}"
