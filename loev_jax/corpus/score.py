"""A piece of the corpus as notes in beats.

The *notated beat* is the unit of every onset, duration and tempo here: the dotted quarter in 6/8,
9/8 and 12/8, the half note in cut time and 3/2, and the quarter note in 2/4, 3/4 and 4/4. Other
metres, of which the collections hold few, are left out.
"""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np

# Metre -> (quarter notes in a beat, beats in a bar).
METRES = {
    "2/4": (1.0, 2),
    "3/4": (1.0, 3),
    "4/4": (1.0, 4),
    "2/2": (2.0, 2),
    "3/2": (2.0, 3),
    "6/8": (1.5, 2),
    "9/8": (1.5, 3),
    "12/8": (1.5, 4),
}

# Pitch classes of the note names.
STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


class RejectedError(Exception):
    """This piece is not for the corpus. The message is the reason, the same for all its kind."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a piece is found.

    Attributes:
      piece: its id, unique in the corpus: collection, file and the place in the file.
      collection: one of `loev_jax.corpus.scores.COLLECTIONS`.
      path: the file.
      text: the tune in ABC; empty for a chorale, which is alone in its file.
    """

    piece: str
    collection: str
    path: pathlib.Path
    text: str = dataclasses.field(default="", repr=False)


@dataclasses.dataclass(frozen=True)
class Score:
    """A piece as notes, in notated beats, sorted by onset.

    Attributes:
      piece: the id of the piece.
      collection: one of `loev_jax.corpus.scores.COLLECTIONS`.
      family: a name that versions of the same music share: the title of a tune, the first phrase
        of a chorale's melody. A family is never divided between splits.
      onset: [N] beats from the beginning of the piece, from 0.
      duration: [N] beats, > 0.
      pitch: [N] MIDI note numbers.
      voice: [N] 0 for a tune; 0-3 for a chorale's soprano, alto, tenor and bass.
      key: the notated key, 0-11 C to B major, 12-23 C to B minor.
      metre: one of `METRES`.
      pickup: beats before the first downbeat, in [0, beats in a bar).
    """

    piece: str
    collection: str
    family: str
    onset: np.ndarray
    duration: np.ndarray
    pitch: np.ndarray
    voice: np.ndarray
    key: int
    metre: str
    pickup: float

    @property
    def beats_per_bar(self) -> int:
        """Notated beats in a bar."""
        return METRES[self.metre][1]

    def steps_to(self, key: int) -> int:
        """Semitones from the notated key to another one (0-23) of its mode, -5 to 6."""
        return (key - self.key + 5) % 12 - 5

    @property
    def period(self) -> float:
        """Beats after which the piece starts again: its length, filled up to whole bars."""
        end = float((self.onset + self.duration).max())
        return float(np.ceil(end / self.beats_per_bar - 1e-3)) * self.beats_per_bar
