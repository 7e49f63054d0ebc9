"""Retrieval by cosine within the test split: what a space calls similar.

Neighbours never come from the query's own piece, so that finding the recording does not count as
hearing its tempo.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from loev_jax.evaluate import figures, labels, sweep
from loev_jax.evaluate.changes import ORDERED
from loev_jax.evaluate.evaluator import too_few
from loev_jax.evaluate.invariance import too_short
from loev_jax.evaluate.metrics import KEYS, key_scores, tempo_hits
from loev_jax.evaluate.spaces import Facts, Vectored

TOLERANCE = 0.08
"""Within which a neighbour's tempo counts as the query's, relative to the query's."""

TEMPO_TOLERANCE = 0.04
"""The same for Acc1 and Acc2."""


ROWS = 1024
"""Queries that are compared with a whole gallery at once: what bounds the memory of many."""


def _unit(rows: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    return rows / np.maximum(length, 1e-12)


def cosines(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """[queries, size] x [gallery, size] → [queries, gallery]; a zero vector is like nothing."""
    return _unit(queries) @ _unit(gallery).T


def _blocks(queries: np.ndarray, gallery: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """`cosines` of up to `ROWS` queries at a time: their numbers, [rows], and [rows, gallery]."""
    there = _unit(gallery).T
    for first in range(0, len(queries), ROWS):
        rows = np.arange(first, min(first + ROWS, len(queries)))
        yield rows, _unit(queries[rows]) @ there


def nearest(
    queries: np.ndarray, gallery: np.ndarray, pieces: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest clip of another piece.

    Args:
        queries: [n, size].
        gallery: [n, size], of the same clips.
        pieces: of the clips, [n].

    Returns:
        Queries that have a clip of another piece, and what each finds, [queries] both.
    """
    numbers = np.unique(pieces, return_inverse=True)[1]
    asked, found = [np.zeros(0, int)], [np.zeros(0, int)]
    for rows, alike in _blocks(queries, gallery):
        alike[numbers[rows, None] == numbers[None, :]] = -np.inf
        there = np.isfinite(alike.max(axis=1))
        asked.append(rows[there])
        found.append(alike[there].argmax(axis=1))
    return np.concatenate(asked), np.concatenate(found)


def own_ranks(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """`metrics.ranks` of `cosines`: where each query finds its own clip, [n, size] both → [n]."""
    return np.concatenate(
        [
            np.sum(alike >= np.take_along_axis(alike, rows[:, None], axis=1), axis=1)
            for rows, alike in _blocks(queries, gallery)
        ]
    )


def _same_tempo(query: np.ndarray, found: np.ndarray) -> np.ndarray:
    return tempo_hits(query, found, TOLERANCE)


def _related_key(query: np.ndarray, found: np.ndarray) -> np.ndarray:
    return key_scores()[query.astype(int), found.astype(int)]


@dataclasses.dataclass(frozen=True)
class Attribute:
    """What a neighbour may share with the query.

    Attributes:
        column: the label.
        parse: labels as numbers, NaN for none.
        agreement: how well a neighbour's value (second) agrees with the query's (first), 0..1.
    """

    column: str
    parse: Callable[[np.ndarray], np.ndarray]
    agreement: Callable[[np.ndarray, np.ndarray], np.ndarray]


ATTRIBUTES = {
    "neighbour_tempo": Attribute("tempo", labels.tempi, _same_tempo),
    "neighbour_key": Attribute("key", labels.keys, _related_key),
}
"""By metric."""


SIDES = ("clean", "moved")
"""A query, and what it is looked for among: clips as they are, or each stretched and shifted."""


def after(test: Facts, name: str, side: str) -> np.ndarray:
    """The tempo or the key of the clips that have a pair, moved with them by what was applied.

    A shift is rounded to whole semitones: there are no keys between.
    """
    attribute = ATTRIBUTES[name]
    values = attribute.parse(test.labels[attribute.column])[test.paired]
    if side == "clean":
        return values
    if name == "neighbour_tempo":
        return values * np.exp2(test.differences["time_stretch"])
    mode = np.where(values >= KEYS // 2, KEYS // 2, 0)
    tonic = values - mode + np.round(test.differences["pitch_shift"])
    return mode + np.mod(tonic, KEYS // 2)


def _sides(
    test: Facts, spaces: Mapping[str, np.ndarray], name: str
) -> Iterator[tuple[str, str, np.ndarray, np.ndarray, np.ndarray]]:
    """For each pair of sides: the values of the queries and of what they find, and their pieces."""
    pieces = test.pieces[test.paired]
    for query in SIDES:
        for gallery in SIDES:
            wanted, there = after(test, name, query), after(test, name, gallery)
            known = labels.present(wanted)
            of = pieces[known]
            asked, found = nearest(spaces[query][known], spaces[gallery][known], of)
            if len(asked):  # labels may all be of clips that are too short for a pair
                yield query, gallery, wanted[known][asked], there[known][found], of[asked]


def copy_ranks(views: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Where each copy of a clip finds the copies that are nearest to it in a parameter.

    Args:
        views: copies of the clips, [clips, copies, size].
        values: the parameter of each, [clips, copies].

    Returns:
        Rank by cosine, among the other copies of the clip, of the first of those nearest in value,
        from 1, [clips, copies]; a tie counts against it.
    """
    ranks = []
    for rows, value in zip(views, values, strict=True):
        alike = cosines(rows, rows)
        away = np.abs(value[:, None] - value[None, :])
        for matrix, itself in ((alike, -np.inf), (away, np.inf)):
            np.fill_diagonal(matrix, itself)
        nearest = away <= away.min(axis=1, keepdims=True)
        best = np.where(nearest, alike, -np.inf).max(axis=1, keepdims=True)
        ranks.append(1 + np.sum((alike >= best) & ~nearest, axis=1))
    return np.array(ranks)


class Retrieval:
    """The neighbour's tempo and key, and the same clip stretched and shifted: an `Evaluator`.

    `copies_PARAMETER_mrr` needs no label: each of the stretched and shifted copies of a clip looks
    for the one that is nearest to it in tempo, or in key, or in what else they differ in, among the
    others of that clip.

    `neighbour_tempo` and `neighbour_key` are of whole clips. `neighbour_tempo_QUERY_GALLERY_acc1`,
    `_acc2` and `neighbour_key_QUERY_GALLERY` are of one segment of each, the query's and the
    gallery's as they are ("clean") or stretched and shifted ("moved"), their labels with them.
    """

    name = "retrieval"

    def left_out(self, facts: Mapping[str, Facts]) -> list[str]:
        """See `Evaluator`."""
        return [f"{part}: {reason}" for part, reason in self._lacking(facts["test"]).items()]

    def _lacking(self, test: Facts) -> dict[str, str]:
        """Why a part cannot be measured, by part."""
        reasons = {}
        for part, attribute in ATTRIBUTES.items():
            if attribute.column not in test.labels:
                reasons[part] = f"the data set has no label {attribute.column!r}"
                continue
            there = labels.present(attribute.parse(test.labels[attribute.column]))
            what = f"clips with a {attribute.column}"
            if few := too_few({"test": int(there.sum())}, what):
                reasons[part] = few[0]
            elif len(np.unique(test.pieces[there])) == 1:
                reasons[part] = "all clips of the test split are of one piece"
        if few := too_few({"test": test.pairs}, "clips long enough to be stretched"):
            reasons["same_clip"] = few[0]
        if few := too_short({"test": test}):
            reasons["copies"] = few[0]
        return reasons

    def score(
        self,
        facts: Mapping[str, Facts],
        vectors: Mapping[str, Vectored],
        space: str,
        shuffle: np.random.Generator | None = None,
    ) -> dict[str, figures.Figure]:
        """See `Evaluator`. Shuffled, the vectors change places: a neighbour is any other clip."""
        test, spaces = facts["test"], vectors["test"]
        tracks, clean, moved = spaces.tracks[space], spaces.clean[space], spaces.moved[space]
        if shuffle is not None:
            tracks, clean, moved = (shuffle.permutation(rows) for rows in (tracks, clean, moved))
        lacking = self._lacking(test)
        scores: dict[str, figures.Figure] = {}
        for part, attribute in ATTRIBUTES.items():
            if part in lacking:
                continue
            values = attribute.parse(test.labels[attribute.column])
            there = labels.present(values)
            queries, found = nearest(tracks[there], tracks[there], test.pieces[there])
            shared = attribute.agreement(values[there][queries], values[there][found])
            scores[part] = figures.mean(shared, test.pieces[there][queries])
            if "same_clip" not in lacking:
                scores |= self._of_sides(test, {"clean": clean, "moved": moved}, part)
        if "same_clip" not in lacking:
            place = own_ranks(clean, moved)
            pieces = test.pieces[test.paired]
            scores |= {f"same_clip_r{k}": figures.mean(place <= k, pieces) for k in (1, 5, 10)}
            scores["same_clip_mrr"] = figures.mean(1.0 / place, pieces)
        if test.swept is not None and "copies" not in lacking:
            views = spaces.swept[space][:, : 1 + sweep.VIEWS]
            if shuffle is not None:
                views = shuffle.permutation(views, axis=1)
            for name, values in test.swept.parameters.items():
                if name not in ORDERED:
                    continue
                found = (1.0 / copy_ranks(views, values)).mean(axis=1)
                scores[f"copies_{name}_mrr"] = figures.mean(found, test.swept.pieces)
        return scores

    def _of_sides(
        self, test: Facts, spaces: Mapping[str, np.ndarray], part: str
    ) -> dict[str, figures.Figure]:
        """A neighbour's tempo or key, of one segment of each clip, from either side to either."""
        scores: dict[str, figures.Figure] = {}
        for query, gallery, wanted, found, pieces in _sides(test, spaces, part):
            name = f"{part}_{query}_{gallery}"
            if part == "neighbour_key":
                scores[name] = figures.mean(_related_key(wanted, found), pieces)
                continue
            for metric, octaves in (("acc1", False), ("acc2", True)):
                hits = tempo_hits(wanted, found, TEMPO_TOLERANCE, octaves)
                scores[f"{name}_{metric}"] = figures.mean(hits, pieces)
        return scores
