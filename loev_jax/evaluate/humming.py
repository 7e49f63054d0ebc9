"""Query by humming: a hummed melody, in a key and at a tempo of its own, looks for its piece.

The pieces of the test split are hummed by `loev_jax.corpus.humming`; a set of other pieces has no
scores to hum from, and is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from loev_jax.corpus import humming, scores
from loev_jax.data import records
from loev_jax.evaluate import crossmodal, figures
from loev_jax.evaluate.evaluator import too_few
from loev_jax.evaluate.retrieval import cosines
from loev_jax.evaluate.spaces import Facts, Vectored

HUMS = "hums"
"""What the hums are called among the splits."""

SECONDS = 12.0


class Hums:
    """A hum of each piece of some clips, as a split: what the embedder needs of one."""

    name = HUMS
    path = "the built-in corpus"
    label_names: Sequence[str] = ()

    def __init__(self, pieces: np.ndarray, tempi: np.ndarray, keys: np.ndarray, seed: int) -> None:
        """Of the pieces of clips at these tempi and in these keys (0-23), [clips] each."""
        self._clips: dict[str, list[tuple[float, int]]] = {}
        for piece, tempo, key in zip(pieces, tempi, keys, strict=True):
            self._clips.setdefault(str(piece), []).append((float(tempo), int(key)))
        self._pieces = sorted(self._clips)
        self._seed = seed

    def __len__(self) -> int:
        return len(self._pieces)

    def __getitem__(self, number: int) -> dict[str, Any]:
        piece = self._pieces[number]
        score = scores.load(piece)
        clips = [humming.Played(tempo, score.steps_to(key)) for tempo, key in self._clips[piece]]
        hum = humming.draw(score, clips, self._seed, number)
        audio = humming.render(score, hum, SECONDS)
        return {records.AUDIO: audio, records.ID: f"hum of {piece}", records.PIECE: piece}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[number] for number in range(len(self)))


def of(facts: Facts, seed: int) -> Hums | None:
    """Hums of the pieces of some clips; None where they are not of the built-in corpus."""
    if not crossmodal.scored(facts.pieces, facts.labels):
        return None
    return Hums(facts.pieces, facts.labels["tempo"], facts.labels["key"], seed)


class Humming:
    """Where a hum finds its piece among the test clips: an `Evaluator`."""

    name = "humming"

    def left_out(self, facts: Mapping[str, Facts]) -> list[str]:
        """See `Evaluator`."""
        if HUMS not in facts:
            return ["the pieces are not those of the built-in corpus: there is no score to hum"]
        return too_few({HUMS: len(facts[HUMS].ids)}, "hums")

    def score(
        self,
        facts: Mapping[str, Facts],
        vectors: Mapping[str, Vectored],
        space: str,
        shuffle: np.random.Generator | None = None,
    ) -> dict[str, figures.Figure]:
        """See `Evaluator`: `humming_mrr` and `humming_h10`, of the first clip of the piece.

        Shuffled, hums change places.
        """
        if self.left_out(facts):
            return {}
        queries, gallery = vectors[HUMS].tracks[space], vectors["test"].tracks[space]
        if shuffle is not None:
            queries = shuffle.permutation(queries)
        pieces = facts[HUMS].pieces
        place = first_ranks(cosines(queries, gallery), pieces, facts["test"].pieces)
        return {
            "humming_mrr": figures.mean(1.0 / place, pieces),
            "humming_h10": figures.mean(place <= 10, pieces),
        }


def first_ranks(similarity: np.ndarray, wanted: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Rank of the first clip of the wanted piece, from 1; a tie counts against it.

    Args:
        similarity: [queries, clips].
        wanted: piece of each query, [queries], which is among the clips.
        there: piece of each clip, [clips].
    """
    right = wanted[:, None] == there[None, :]
    best = np.where(right, similarity, -np.inf).max(axis=1, keepdims=True)
    return 1 + np.sum((similarity >= best) & ~right, axis=1)
