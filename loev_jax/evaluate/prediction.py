"""Prediction: is it known where a clip goes when it is stretched and shifted, before it is heard?

From a view of a clip and the change of its parameters, the vector of the changed view is predicted,
and looked for among all views of that clip. The share of predictions whose own view is among the
first, its mean reciprocal rank, and how far off the parameters of the view are that is found (PRE,
prediction retrieval error) are those of SIE (Garrido et al. 2023, arXiv 2302.10283, section 4).

The predictor is one for all models: ridge regression of the changed vector on the vector, the
change, and their products, fitted on the train split's pairs in both directions. A space in which
a change is always the same step, or a step that depends linearly on where one stands, is predicted
by it. It works in the principal axes of the space, at most `AXES` of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from loev_jax.evaluate import figures, sweep
from loev_jax.evaluate.changes import ORDERED, observed
from loev_jax.evaluate.evaluator import SPLITS, too_few
from loev_jax.evaluate.features import Parts, Standardiser, one_thread
from loev_jax.evaluate.invariance import too_short
from loev_jax.evaluate.linear import regress
from loev_jax.evaluate.spaces import Facts, Vectored

AXES = 64

DIRECTIONS = ("forth", "back")
"""From the clip as it is to a changed view, and from a changed view to the clip as it is."""


def _axes(rows: np.ndarray) -> np.ndarray:
    """The strongest principal axes of centred [rows, size], [size, at most AXES]."""
    with one_thread():
        _, _, axes = np.linalg.svd(rows, full_matrices=False)
    return axes[:AXES].T


def _inputs(where: np.ndarray, change: np.ndarray) -> np.ndarray:
    """[..., axes] and [..., changes] → what the predictor sees, [..., inputs]."""
    products = where[..., :, None] * change[..., None, :]
    return np.concatenate([where, change, products.reshape(*where.shape[:-1], -1)], axis=-1)


def placed(
    predicted: np.ndarray, views: np.ndarray, right: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Distances squared of predictions to all views of their clip, the right one first.

    Args:
        predicted: [clips, predictions, size].
        views: [clips, views, size].
        right: the view that each prediction is of, [predictions].

    Returns:
        Rank of the right view, from 1, a tie counting against it, and the view that is nearest,
        [clips, predictions] both.
    """
    squares = np.sum(np.square(predicted[:, :, None] - views[:, None]), axis=-1)
    own = np.take_along_axis(squares, np.broadcast_to(right, squares.shape[:2])[..., None], axis=2)
    return np.sum(squares <= own, axis=2), squares.argmin(axis=2)


class Prediction:
    """How well the vector of a changed view is predicted: an `Evaluator`."""

    name = "prediction"

    def left_out(self, facts: Mapping[str, Facts]) -> list[str]:
        """See `Evaluator`."""
        counts = {split: facts[split].pairs for split in SPLITS}
        return too_few(counts, "clips long enough to be stretched") or too_short(facts)

    def score(
        self,
        facts: Mapping[str, Facts],
        vectors: Mapping[str, Vectored],
        space: str,
        shuffle: np.random.Generator | None = None,
    ) -> dict[str, figures.Figure]:
        """See `Evaluator`. Shuffled, the predictor learns from changes of other clips.

        For both `DIRECTIONS`: `predicted_DIRECTION_mrr`, `_h1`, `_h5`, `_h10`, and
        `_time_stretch_pre` (octaves), `_pitch_shift_pre` (semitones), and that of every other
        quantity of `changes.ORDERED` in which the views differ.
        """
        swept = facts["test"].swept
        if swept is None or self.left_out(facts):
            return {}
        ordered = [name for name in swept.parameters if name in ORDERED]
        scale = Standardiser.fit(vectors["train"].clean[space])
        axes = _axes(scale(vectors["train"].clean[space]))
        largest = {name: float(np.abs(values).max())
                   for name, values in observed(facts["train"].differences).items()}  # fmt: skip

        def told(of: Mapping[str, np.ndarray]) -> np.ndarray:
            each = [values / max(largest[name], 1e-6) for name, values in observed(of).items()]
            return np.concatenate(each, axis=-1)

        def pairs(split: str) -> tuple[np.ndarray, np.ndarray]:
            clean, moved = (
                scale(getattr(vectors[split], side)[space]) @ axes for side in ("clean", "moved")
            )
            change = told(facts[split].differences)
            if shuffle is not None and split == "train":
                change = shuffle.permutation(change)
            both = np.concatenate([_inputs(clean, change), _inputs(moved, -change)])
            return both, np.concatenate([moved, clean])

        views = scale(vectors["test"].swept[space][:, : 1 + sweep.VIEWS]) @ axes
        change = told(swept.parameters)
        clips, number = change.shape[:2]
        # From the first view to each other one, and from each other one to the first.
        forth = _inputs(np.repeat(views[:, :1], number - 1, axis=1), change[:, 1:])
        back = _inputs(views[:, 1:], -change[:, 1:])
        asked = np.concatenate([forth, back], axis=1)
        (train_in, train_out), (tuning_in, tuning_out) = pairs("train"), pairs("validation")
        rows = asked.reshape(-1, asked.shape[-1])
        predicted = regress(
            Parts(train_in, tuning_in, rows), Parts(train_out, tuning_out, np.empty(0))
        ).reshape(clips, 2, number - 1, -1)
        scores: dict[str, figures.Figure] = {}
        others = np.arange(1, number)
        for at, right in enumerate((others, np.zeros_like(others))):
            place, nearest = placed(predicted[:, at], views, right)
            own = f"predicted_{DIRECTIONS[at]}"
            scores[f"{own}_mrr"] = figures.mean((1.0 / place).mean(axis=1), swept.pieces)
            for k in (1, 5, 10):
                scores[f"{own}_h{k}"] = figures.mean((place <= k).mean(axis=1), swept.pieces)
            for name in ordered:
                found = np.take_along_axis(swept.parameters[name], nearest, axis=1)
                error = np.abs(found - swept.parameters[name][:, right]).mean(axis=1)
                scores[f"{own}_{name}_pre"] = figures.mean(error, swept.pieces)
        return scores
