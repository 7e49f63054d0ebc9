"""Spaces made of several: their vectors side by side, weighed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from loev_jax.errors import UserError
from loev_jax.evaluate.features import Standardiser
from loev_jax.evaluate.spaces import Vectors

HEADS = "heads"
"""The space that concatenates all projections, where there are several: that of LooC++."""

ALL = "all"
"""The space that concatenates all of the model's, each standardised and of unit length."""


@dataclasses.dataclass(frozen=True)
class Mix:
    """A space in which likeness is a weighted sum of the cosines of several.

    To look for music of the same key at about this tempo, say, one weighs the heads that keep them.

    Attributes:
        weights: of each space by name, positive.
    """

    weights: tuple[tuple[str, float], ...]

    @classmethod
    def parse(cls, text: str) -> Mix:
        """Reads "pitch=2+tempo=1"; a weight may be left out, and is 1 then.

        Raises:
            UserError: it is not written so.
        """
        weights = []
        for part in text.split("+"):
            name, _, weight = part.strip().partition("=")
            try:
                value = float(weight or 1.0)
            except ValueError:
                value = 0.0
            if not name or not 0 < value < float("inf"):
                raise UserError(f"--mix={text}: write spaces and weights so: pitch=2+tempo=1")
            weights.append((name, value))
        return cls(tuple(weights))

    def __str__(self) -> str:
        return "+".join(f"{name}={weight:g}" for name, weight in self.weights)

    def of(self, spaces: Vectors) -> np.ndarray:
        """Unit vectors side by side, each times the root of its weight, [..., sizes].

        Their cosine is the weighted mean of the cosines.
        """
        parts = []
        for name, weight in self.weights:
            length = np.linalg.norm(spaces[name], axis=-1, keepdims=True)
            parts.append(spaces[name] / np.maximum(length, 1e-12) * np.sqrt(weight))
        return np.concatenate(parts, axis=-1).astype(np.float32)


def with_unions(
    train: Vectors, spaces: Vectors, heads: Sequence[str], mixes: Sequence[Mix] = ()
) -> Vectors:
    """Adds the spaces `HEADS` and `ALL`, and mixes of any of them, to `spaces`.

    `HEADS` is the representation of LooC++ (Xiao et al. 2021, arXiv 2008.05659): the projections
    side by side. They are of unit length already, so each weighs the same in a cosine. The spaces
    of `ALL` have sizes and scales of their own: each is standardised by `train` and scaled to unit
    length first.

    Args:
        train: tracks of the train split, by space.
        spaces: rows to add the spaces to, [..., size] by space; to none, none are added.
        heads: the spaces that are projections; with only one there is no `HEADS`.
        mixes: to add, each called as it is written.

    Returns:
        `spaces`, `HEADS`, `ALL` and the mixes.
    """

    def unit(name: str) -> np.ndarray:
        rows = Standardiser.fit(train[name])(spaces[name])
        length = np.linalg.norm(rows, axis=-1, keepdims=True)
        return (rows / np.maximum(length, 1e-12)).astype(np.float32)

    if not spaces:
        return {}
    several = (
        {HEADS: np.concatenate([spaces[head] for head in heads], axis=-1)} if heads[1:] else {}
    )
    every = spaces | several | {ALL: np.concatenate([unit(name) for name in train], axis=-1)}
    return every | {str(mix): mix.of(every) for mix in mixes}
