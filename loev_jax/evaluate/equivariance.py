"""Equivariance: can the change of a parameter be read from the change of the embedding?

From a pair of views of one clip, (z_a, z_b), ridge regression predicts θ_b - θ_a. It is fitted on
pairs in both directions, clean → transformed and transformed → clean, and told which of them a pair
has: where a parameter is drawn from a range that is not about 0, its mean can be told from that
alone, and is to count for nothing. By symmetry the best weights for the concatenation [z_a, z_b]
are then (-w, w), and the direction decides the sign of an intercept: it is the regression of the
forward pairs on the difference z_b - z_a, and predicts a pair and its reverse equally well. One R²
therefore stands for both.

A category, such as the kind of a filter, is as many indicators, and an equaliser a curve of some
points (`changes.observed`), of which R² is taken together.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from loev_jax.augment.differences import CLASSES
from loev_jax.evaluate import changes, confusions, figures
from loev_jax.evaluate.evaluator import SPLITS, too_few
from loev_jax.evaluate.features import Parts
from loev_jax.evaluate.linear import regress
from loev_jax.evaluate.spaces import Facts, Vectored


class Equivariance:
    """R² of each parameter in which two views of a clip differ: an `Evaluator`.

    They are stretch and shift, what else the model's heads keep, and what is asked for
    (`changes.quantities`).
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
        by_name = {split: changes.observed(facts[split].differences) for split in SPLITS}
        targets = {split: np.concatenate([*one.values()], axis=1) for split, one in by_name.items()}
        if shuffle is not None:
            targets["train"] = shuffle.permutation(targets["train"])
        predicted = regress(Parts(**moved), Parts(**targets))
        pieces = facts["test"].pieces[facts["test"].paired]
        found = {}
        start = 0
        for name, truth in by_name["test"].items():
            read = predicted[:, start : start + truth.shape[1]]
            start += truth.shape[1]
            figure = figures.explained(truth, read[None], pieces)
            found[f"{name}_r2"] = figure.with_confusion(_seen(name, truth, read))
        return found


def _seen(name: str, truth: np.ndarray, read: np.ndarray) -> confusions.Confusion | None:
    """What was read as what: numbers, or the likeliest of categories; None of a curve."""
    if name not in CLASSES:
        one = truth.shape[1] == 1
        return confusions.of_numbers(truth[:, 0], read[None, :, 0]) if one else None
    if truth.shape[1] == 1:  # of a switch: on or off
        return confusions.of_classes(truth[:, 0].astype(int), (read.T > 0.5).astype(int))
    return confusions.of_classes(1 + truth.argmax(axis=1), 1 + read.argmax(axis=1)[None])
