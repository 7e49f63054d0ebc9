"""Invariance: how alike a clip and the same clip with one thing changed are to a space."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from loev_jax.evaluate import figures, sweep
from loev_jax.evaluate.evaluator import LEAST
from loev_jax.evaluate.spaces import Facts, Vectored


class Invariance:
    """Mean cosine of a clip with each single change of it, and with other clips: an `Evaluator`.

    `invariance_AUGMENTATION` of a space that keeps nothing of it is 1. Spaces differ in how alike
    everything is to them, so `invariance_other` gives the mean cosine with clips of other pieces.
    """

    name = "invariance"

    def left_out(self, facts: Mapping[str, Facts]) -> list[str]:
        """See `Evaluator`."""
        return too_short(facts)

    def score(
        self,
        facts: Mapping[str, Facts],
        vectors: Mapping[str, Vectored],
        space: str,
        shuffle: np.random.Generator | None = None,
    ) -> dict[str, figures.Figure]:
        """See `Evaluator`. Shuffled, each clip is compared with a change of any other."""
        swept = facts["test"].swept
        if swept is None or too_short(facts):
            return {}
        views = vectors["test"].swept[space].astype(np.float64)
        unit = views / np.maximum(np.linalg.norm(views, axis=-1, keepdims=True), 1e-12)
        clean, others = unit[:, 0], unit[:, 1 + sweep.VIEWS :]
        if shuffle is not None:
            others = shuffle.permutation(others)
        cosines = np.einsum("cd,cvd->vc", clean, others)
        scores = {
            f"{self.name}_{name}": figures.mean(cosines[at][changed], swept.pieces[changed])
            for at, name in enumerate(swept.alone)
            if (changed := swept.changed[:, at]).any()
        }
        other = swept.pieces[:, None] != swept.pieces[None, :]
        if other.any(axis=1).all():
            mean = np.sum((clean @ clean.T) * other, axis=1) / other.sum(axis=1)
            scores[f"{self.name}_other"] = figures.mean(mean, swept.pieces)
        return scores


def too_short(facts: Mapping[str, Facts]) -> list[str]:
    """Why nothing can be said of swept views, if so."""
    swept = facts["test"].swept
    count = 0 if swept is None else len(swept.pieces)
    if count < LEAST:
        return [f"split 'test' has {count} clips long enough to be swept, a task needs {LEAST}"]
    return []
