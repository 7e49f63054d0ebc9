"""Linear probes on frozen features: what can be read from a space, clip by clip.

The protocol is the field's: features are the mean over a track, standardised by the train split;
the validation split picks the strength of regularisation, and the test split is used once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from loev_jax.evaluate import labels
from loev_jax.evaluate.evaluator import SPLITS, too_few
from loev_jax.evaluate.linear import Parts, classify, regress
from loev_jax.evaluate.metrics import key_scores, r2, tempo_hits
from loev_jax.evaluate.spaces import Facts, Vectored

TOLERANCE = 0.04
"""Of Acc1 and Acc2, relative."""


@dataclasses.dataclass(frozen=True)
class Probe:
    """A linear probe of one label: an `Evaluator`.

    Attributes:
        name: of the task.
        column: the label.
        kind: "tempo" (ridge regression of log2 BPM: R², Acc1, Acc2), "key" (logistic regression,
            24 classes: weighted score, accuracy) or "class" (logistic regression: accuracy).
    """

    name: str
    column: str
    kind: Literal["tempo", "key", "class"]

    def _targets(self, facts: Facts) -> np.ndarray:
        parse: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
            "tempo": labels.tempi,
            "key": labels.keys,
            "class": labels.classes,
        }
        return parse[self.kind](facts.labels[self.column])

    def left_out(self, facts: Mapping[str, Facts]) -> list[str]:
        """See `Evaluator`."""
        if any(self.column not in facts[split].labels for split in SPLITS):
            return [f"the data set has no label {self.column!r}"]
        counts = {s: int(labels.present(self._targets(facts[s])).sum()) for s in SPLITS}
        return too_few(counts, f"clips with a {self.column}")

    def score(
        self,
        facts: Mapping[str, Facts],
        vectors: Mapping[str, Vectored],
        space: str,
        shuffle: np.random.Generator | None = None,
    ) -> dict[str, float]:
        """See `Evaluator`."""
        if self.left_out(facts):
            return {}
        targets, features = {}, {}
        for split in SPLITS:
            values = self._targets(facts[split])
            there = labels.present(values)
            targets[split] = values[there]
            features[split] = vectors[split].tracks[space][there]
        if shuffle is not None:
            targets["train"] = shuffle.permutation(targets["train"])
        score = _tempo if self.kind == "tempo" else _key if self.kind == "key" else _class
        found = score(Parts(**features), Parts(**targets))
        return {f"{self.name}_{metric}": value for metric, value in found.items()}


def _tempo(features: Parts, bpm: Parts) -> dict[str, float]:
    octaves = Parts(*(np.log2(each)[:, None] for each in (bpm.train, bpm.validation, bpm.test)))
    predicted = regress(features, octaves)
    estimate = 2.0 ** predicted[:, 0]
    return {
        "r2": r2(octaves.test[:, 0], predicted[:, 0]),
        "acc1": float(np.mean(tempo_hits(bpm.test, estimate, TOLERANCE))),
        "acc2": float(np.mean(tempo_hits(bpm.test, estimate, TOLERANCE, octaves=True))),
    }


def _key(features: Parts, keys: Parts) -> dict[str, float]:
    predicted = classify(features, keys)
    truth, guess = keys.test.astype(int), predicted.astype(int)
    return {
        "weighted": float(np.mean(key_scores()[truth, guess])),
        "accuracy": float(np.mean(truth == guess)),
    }


def _class(features: Parts, classes: Parts) -> dict[str, float]:
    return {"accuracy": float(np.mean(classify(features, classes) == classes.test))}


PROBES = (
    Probe("tempo", "tempo", "tempo"),
    Probe("key", "key", "key"),
    Probe("metre", "metre", "class"),
    Probe("instrument", "instrument", "class"),
    Probe("collection", "collection", "class"),
)
"""Another label is another entry."""
