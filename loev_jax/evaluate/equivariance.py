"""Equivariance: can the change of a parameter be read from the change of the embedding?

From a pair of views of one clip, (z_a, z_b), ridge regression predicts θ_b - θ_a. It is fitted on
pairs in both directions, clean → transformed and transformed → clean, so that knowing *which* view
was transformed is of no use. By symmetry the best weights for the concatenation [z_a, z_b] are then
(-w, w) without an intercept: the regression sees the difference z_b - z_a alone, and a pair and
its reverse are predicted equally well. R² is over both as well: where a parameter is drawn from a
range that is not about 0, a space that tells nothing would else be below 0.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from loev_jax.evaluate import confusions, figures
from loev_jax.evaluate.evaluator import SPLITS, too_few
from loev_jax.evaluate.features import Parts
from loev_jax.evaluate.linear import regress
from loev_jax.evaluate.spaces import Facts, Vectored


class Equivariance:
    """R² of each parameter in which two views of a clip differ: an `Evaluator`.

    They are stretch and shift, and what else the model's heads keep (`clips.differing`).
    """

    name = "equivariance"

    def left_out(self, facts: Mapping[str, Facts]) -> list[str]:
        """See `Evaluator`."""
        counts = {split: facts[split].pairs for split in SPLITS}
        return too_few(counts, "clips long enough to be stretched")

    def score(
        self,
        facts: Mapping[str, Facts],
        vectors: Mapping[str, Vectored],
        space: str,
        shuffle: np.random.Generator | None = None,
    ) -> dict[str, figures.Figure]:
        """See `Evaluator`: `time_stretch_r2`, `pitch_shift_r2`, ... on the test split's pairs."""
        if self.left_out(facts):
            return {}
        moved = {
            split: vectors[split].moved[space] - vectors[split].clean[space] for split in SPLITS
        }
        names = tuple(facts["test"].differences)
        targets = {
            split: np.stack([facts[split].differences[name] for name in names], axis=1)
            for split in SPLITS
        }
        if shuffle is not None:
            targets["train"] = shuffle.permutation(targets["train"])
        predicted = regress(Parts(**moved), Parts(**targets), intercept=False)
        pieces = facts["test"].pieces[facts["test"].paired]
        found = {}
        for column, name in enumerate(names):
            truth, read = targets["test"][:, column], predicted[:, column]
            figure = figures.explained(_both_ways(truth), _both_ways(read), np.tile(pieces, 2))
            found[f"{name}_r2"] = figure.with_confusion(confusions.of_numbers(truth, read[None]))
        return found


def _both_ways(changes: np.ndarray) -> np.ndarray:
    """Those of pairs, [pairs], and of their reverses, [2 pairs]."""
    return np.concatenate([changes, -changes])
