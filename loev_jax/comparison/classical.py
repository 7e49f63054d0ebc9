"""Estimators that learn nothing, on the clips on which the probes are tested.

librosa's tempo (the autocorrelation of onset strength) and the Krumhansl-Schmuckler key of a mean
chroma: what a learned representation should beat where these are what it was made to keep.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from loev_jax.augment.views import FULL_SCALE
from loev_jax.corpus.key_finding import find_key
from loev_jax.data import records
from loev_jax.data.audio import SAMPLE_RATE
from loev_jax.data.progress import Progress
from loev_jax.evaluate import figures, labels
from loev_jax.evaluate.metrics import key_scores, tempo_hits
from loev_jax.evaluate.probes import TOLERANCE

HOP = 256
"""Samples between onset strengths, 16 ms. The estimate is a whole number of them: of 512, librosa's
for 22 050 Hz, some tempi above 160 have none within `TOLERANCE`."""


def tempo(audio: np.ndarray) -> float:
    """Librosa's tempo of a clip, float [samples], in BPM."""
    import librosa

    return float(librosa.feature.tempo(y=audio, sr=SAMPLE_RATE, hop_length=HOP)[0])


def key(audio: np.ndarray) -> int:
    """The key (0-23) whose profile is nearest to the mean chroma of a clip, float [samples]."""
    import librosa

    chroma = librosa.feature.chroma_cqt(y=audio, sr=SAMPLE_RATE, bins_per_octave=36)
    return find_key(chroma.mean(axis=1))


def measure(split: records.Split, heard: np.ndarray) -> dict[str, figures.Figure]:
    """Scores the estimators on clips of a split whose tempo or key is known.

    Args:
        split: has them.
        heard: their numbers.

    Returns:
        `tempo_acc1`, `tempo_acc2` and `key_weighted`, as the probes define them, where the data
        set has the label.
    """
    found: dict[str, list[tuple[float, float, str]]] = {"tempo": [], "key": []}
    parse = {"tempo": labels.tempi, "key": labels.keys}
    estimators: dict[str, Callable[[np.ndarray], float]] = {"tempo": tempo, "key": key}
    known = {name: parse[name](split.labels(name)) for name in found if name in split.label_names}
    progress = Progress("librosa and Krumhansl", len(heard), "clips")
    for done, number in enumerate(heard, start=1):
        record = split[int(number)]
        audio = record[records.AUDIO].astype(np.float32) / FULL_SCALE
        for name, truths in known.items():
            if np.isfinite(truths[number]):
                estimate = estimators[name](audio)
                found[name].append((truths[number], estimate, record[records.PIECE]))
        progress.update(done)
    progress.close()
    scores = {}
    if found["tempo"]:
        truth, estimates, pieces = map(np.array, zip(*found["tempo"], strict=True))
        for metric, octaves in (("tempo_acc1", False), ("tempo_acc2", True)):
            hits = tempo_hits(truth, estimates, TOLERANCE, octaves)
            scores[metric] = figures.mean(hits, pieces)
    if found["key"]:
        truth, estimates, pieces = map(np.array, zip(*found["key"], strict=True))
        related = key_scores()[truth.astype(int), estimates]
        scores["key_weighted"] = figures.mean(related, pieces)
    return scores
