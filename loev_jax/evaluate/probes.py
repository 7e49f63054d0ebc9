"""Probes on frozen features: what can be read from a space, clip by clip.

The protocol is the field's: features are the mean over a track, standardised by the train split;
the validation split picks the strength of regularisation, and the test split is used once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from loev_jax.evaluate import labels, linear, mlp
from loev_jax.evaluate.evaluator import SPLITS, too_few
from loev_jax.evaluate.features import Parts
from loev_jax.evaluate.metrics import key_scores, r2, tempo_hits
from loev_jax.evaluate.spaces import Facts, Vectored

TOLERANCE = 0.04
"""Of Acc1 and Acc2, relative."""


@dataclasses.dataclass(frozen=True)
class Probe:
    """A probe of one label: an `Evaluator`.

    Attributes:
        name: of the task.
        column: the label.
        kind: "tempo" (regression of log2 BPM: R², Acc1, Acc2), "key" (classification, 24 classes:
            weighted score, accuracy) or "class" (classification: accuracy).
        reader: "linear" (ridge or logistic regression) or "mlp" (one hidden layer; figures are
            means over seeds).
    """

    name: str
    column: str
    kind: Literal["tempo", "key", "class"]
    reader: Literal["linear", "mlp"] = "linear"

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
        found = self._measure(Parts(**features), Parts(**targets))
        return {f"{self.name}_{metric}": value for metric, value in found.items()}

    def _measure(self, features: Parts, targets: Parts) -> dict[str, float]:
        """Means over the seeds of the reader, by metric."""
        if self.kind == "tempo":
            parts = (targets.train, targets.validation, targets.test)
            octaves = Parts(*(np.log2(each)[:, None] for each in parts))
            read = [one[:, 0] for one in self._regress(features, octaves)]
            each = [_tempo(targets.test, one) for one in read]
        else:
            score = _key if self.kind == "key" else _class
            each = [score(targets.test, one) for one in self._classify(features, targets)]
        return {metric: float(np.mean([one[metric] for one in each])) for metric in each[0]}

    def _regress(self, features: Parts, targets: Parts) -> np.ndarray:
        """[seeds, rows, targets]."""
        if self.reader == "mlp":
            return mlp.regress(features, targets)
        return linear.regress(features, targets)[None]

    def _classify(self, features: Parts, targets: Parts) -> np.ndarray:
        """[seeds, rows]."""
        if self.reader == "mlp":
            return mlp.classify(features, targets)
        return linear.classify(features, targets)[None]


def _tempo(bpm: np.ndarray, octaves: np.ndarray) -> dict[str, float]:
    """Of true tempi and of estimates as log2 BPM."""
    estimate = 2.0**octaves
    return {
        "r2": r2(np.log2(bpm), octaves),
        "acc1": float(np.mean(tempo_hits(bpm, estimate, TOLERANCE))),
        "acc2": float(np.mean(tempo_hits(bpm, estimate, TOLERANCE, octaves=True))),
    }


def _key(keys: np.ndarray, estimate: np.ndarray) -> dict[str, float]:
    truth, guess = keys.astype(int), estimate.astype(int)
    return {
        "weighted": float(np.mean(key_scores()[truth, guess])),
        "accuracy": float(np.mean(truth == guess)),
    }


def _class(classes: np.ndarray, estimate: np.ndarray) -> dict[str, float]:
    return {"accuracy": float(np.mean(classes == estimate))}


PROBES = (
    Probe("tempo", "tempo", "tempo"),
    Probe("key", "key", "key"),
    Probe("metre", "metre", "class"),
    Probe("instrument", "instrument", "class"),
    Probe("collection", "collection", "class"),
)
"""Another label is another entry."""

MLP_PROBES = tuple(dataclasses.replace(one, name=f"{one.name}_mlp", reader="mlp") for one in PROBES)
"""The same with a hidden layer: dearer, so made only where they are asked for."""
