"""Tempo as classes, so that a doubt between a tempo and its double does not end half-way.

Classes as in Schreiber and Müller 2018, "A single-step approach to musical tempo estimation using a
convolutional neural network", §2.2, but evenly spaced in octaves.
"""

from __future__ import annotations

import dataclasses

import numpy as np

PER_OCTAVE = 16
"""Bins 4.4 % apart, about the tolerance of Acc1."""

_NEAR = 2  # bins on either side of the peak that share in the estimate


@dataclasses.dataclass(frozen=True)
class Bins:
    """Tempi from the slowest to the fastest of a train split.

    Attributes:
        lowest: middle of the first bin, log2 BPM.
        count: of bins.
    """

    lowest: float
    count: int

    @classmethod
    def over(cls, octaves: np.ndarray) -> Bins:
        """Covers tempi in log2 BPM, [rows]."""
        low, high = float(octaves.min()), float(octaves.max())
        return cls(low, round((high - low) * PER_OCTAVE) + 1)

    def number(self, octaves: np.ndarray) -> np.ndarray:
        """The bin of each tempo in log2 BPM, [rows] → [rows] int; -1 beyond all bins."""
        place = np.rint((octaves - self.lowest) * PER_OCTAVE).astype(int)
        return np.where((place >= 0) & (place < self.count), place, -1)

    def octaves(self, logits: np.ndarray) -> np.ndarray:
        """Estimates in log2 BPM: the mean over the bins about the likeliest, weighted.

        Args:
            logits: [..., bins].

        Returns:
            [...].
        """
        bins = np.arange(self.count)
        peak = np.argmax(logits, axis=-1)[..., None]
        weight = np.exp(logits - np.max(logits, axis=-1, keepdims=True))
        weight = np.where(np.abs(bins - peak) <= _NEAR, weight, 0.0)
        return self.lowest + (weight @ bins) / weight.sum(axis=-1) / PER_OCTAVE
