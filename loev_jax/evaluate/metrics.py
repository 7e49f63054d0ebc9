"""Scores of predictions against labels, as defined by mir_eval and by the retrieval literature."""

from __future__ import annotations

import functools

import numpy as np

KEYS = 24
"""Keys are numbered 0-11 for C to B major and 12-23 for C to B minor."""

_TONICS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_OCTAVES = (1.0, 2.0, 0.5, 3.0, 1.0 / 3.0)


def tempo_hits(
    truth: np.ndarray, estimate: np.ndarray, tolerance: float, octaves: bool = False
) -> np.ndarray:
    """Whether a tempo is right: `|estimate - m truth| <= tolerance * m truth`, as in mir_eval.

    Args:
        truth: [...] reference tempi in BPM, positive.
        estimate: [...] estimated tempi in BPM.
        tolerance: relative to the multiple that is compared with, 0.04 by convention.
        octaves: whether twice, half, three times and a third of the tempo count too (Acc2).

    Returns:
        [...] bool.
    """
    multiples = _OCTAVES if octaves else _OCTAVES[:1]
    hits = [np.abs(estimate - m * truth) <= tolerance * m * truth for m in multiples]
    return np.any(hits, axis=0)


@functools.cache
def key_scores() -> np.ndarray:
    """mir_eval's weighted score of every pair of keys, [reference, estimate] (24 x 24)."""
    import mir_eval.key

    names = [f"{tonic} {mode}" for mode in ("major", "minor") for tonic in _TONICS]
    score = mir_eval.key.weighted_score
    return np.array([[score(truth, estimate) for estimate in names] for truth in names])


def ranks(similarity: np.ndarray) -> np.ndarray:
    """Rank of the right answer, candidate i for query i, from 1.

    A tie counts against it, so that a collapsed space ranks last rather than first.

    Args:
        similarity: [n, n] of queries x candidates.

    Returns:
        [n] int.
    """
    own = np.diagonal(similarity)[:, None]
    return np.sum(similarity >= own, axis=1)
