"""What an evaluator is, and what it sees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from loev_jax.evaluate.figures import Figure
from loev_jax.evaluate.spaces import Facts, Vectored

SPLITS: tuple[str, str, str] = ("train", "validation", "test")
"""Train fits, validation picks the regularisation, test is scored once."""

LEAST = 5
"""Clips that every split must have for a task; fewer would give a figure that means nothing."""


class Evaluator(Protocol):
    """One task of the eval job, a small object without state."""

    @property
    def name(self) -> str:
        """As the user names it."""

    def left_out(self, facts: Mapping[str, Facts]) -> list[str]:
        """What cannot be measured on this data, one reason a line."""

    def score(
        self,
        facts: Mapping[str, Facts],
        vectors: Mapping[str, Vectored],
        space: str,
        shuffle: np.random.Generator | None = None,
    ) -> Mapping[str, Figure]:
        """Scores one space.

        Args:
            facts: by split.
            vectors: by split.
            space: to score.
            shuffle: if given, training labels are shuffled by it: what is scored then is what the
                protocol itself gives away.

        Returns:
            Numbers by metric, without those of `left_out`.
        """


def too_few(counts: Mapping[str, int], what: str) -> list[str]:
    """One line if any split has fewer than `LEAST` of what a task needs."""
    for split, count in counts.items():
        if count < LEAST:
            return [f"split {split!r} has {count} {what}, a task needs {LEAST}"]
    return []
