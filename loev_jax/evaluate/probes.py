"""Probes on frozen features: what can be read from a space, clip by clip.

The protocol is the field's: features are the mean over a track, standardised by the train split;
the validation split picks the strength of regularisation, and the test split is used once.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal

import numpy as np

from loev_jax.evaluate import confusions, figures, labels, linear, mlp, tempo_bins
from loev_jax.evaluate.evaluator import SPLITS, too_few
from loev_jax.evaluate.features import Parts, numbered
from loev_jax.evaluate.metrics import key_scores, tempo_hits
from loev_jax.evaluate.spaces import Facts, Vectored

Figures = dict[str, figures.Figure]
"""By metric."""

METRICS = ("r2", "acc1", "acc2", "weighted", "accuracy", "auc", "map")
"""What the metrics of probes are called, behind the task's name."""

TOLERANCE = 0.04
"""Of Acc1 and Acc2, relative."""


@dataclasses.dataclass(frozen=True)
class Probe:
    """A probe of one label: an `Evaluator`.

    Attributes:
        name: of the task.
        column: the label.
        kind: of the label: "tempo" (regression of log2 BPM: R²; classification of tempi by bins:
            Acc1, Acc2), "key" (classification, 24 classes: weighted score, accuracy), "class"
            (classification: accuracy), "number" (regression: R²) or "tags" (a logistic output for
            each tag of the train split: ROC-AUC and mean average precision, macro averages); None
            to tell it from the train split's labels.
        reader: "linear" (ridge or logistic regression) or "mlp" (one hidden layer; figures are
            means over its seeds).
    """

    name: str
    column: str
    kind: labels.Kind | None
    reader: Literal["linear", "mlp"] = "linear"

    def _kind(self, facts: Mapping[str, Facts]) -> labels.Kind:
        return self.kind or labels.kind(facts["train"].labels[self.column])

    def _targets(self, facts: Facts, kind: labels.Kind) -> np.ndarray:
        parse: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
            "tempo": labels.tempi,
            "key": labels.keys,
            "class": labels.classes,
            "number": labels.numbers,
            "tags": labels.classes,
        }
        return parse[kind](facts.labels[self.column])

    def left_out(self, facts: Mapping[str, Facts]) -> list[str]:
        """See `Evaluator`."""
        if any(self.column not in facts[split].labels for split in SPLITS):
            return [f"the data set has no label {self.column!r}"]
        kind = self._kind(facts)
        counts = {s: int(labels.present(self._targets(facts[s], kind)).sum()) for s in SPLITS}
        return too_few(counts, f"clips with a {self.column}")

    def score(
        self,
        facts: Mapping[str, Facts],
        vectors: Mapping[str, Vectored],
        space: str,
        shuffle: np.random.Generator | None = None,
    ) -> dict[str, figures.Figure]:
        """See `Evaluator`."""
        if self.left_out(facts):
            return {}
        targets, features, kind = {}, {}, self._kind(facts)
        for split in SPLITS:
            values = self._targets(facts[split], kind)
            there = labels.present(values)
            targets[split] = values[there]
            features[split] = vectors[split].tracks[space][there]
            pieces = facts[split].pieces[there]  # at last those of the test split
        if shuffle is not None:
            targets["train"] = shuffle.permutation(targets["train"])
        measures: Mapping[str, Callable[[Parts, Parts, np.ndarray], Figures]] = {
            "tempo": self._tempo,
            "key": self._key,
            "class": self._class,
            "number": self._number,
            "tags": self._tags,
        }
        found = measures[kind](Parts(**features), Parts(**targets), pieces)
        return {f"{self.name}_{metric}": value for metric, value in found.items()}

    def _tempo(self, features: Parts, bpm: Parts, pieces: np.ndarray) -> Figures:
        octaves = Parts(*(np.log2(each) for each in (bpm.train, bpm.validation, bpm.test)))
        bins = tempo_bins.Bins.over(octaves.train)
        numbers = Parts(bins.number(octaves.train), bins.number(octaves.validation), np.empty(0))
        estimate = 2.0 ** bins.octaves(self._read(features, numbers, bins.count))
        hits = functools.partial(tempo_hits, bpm.test[None], estimate, TOLERANCE)
        seen = confusions.of_numbers(octaves.test, np.log2(estimate), lambda at: f"{2**at:.0f}")
        return {
            "r2": figures.explained(octaves.test, self._regress(features, octaves), pieces),
            "acc1": figures.mean(hits(), pieces).with_confusion(seen),
            "acc2": figures.mean(hits(octaves=True), pieces),
        }

    def _key(self, features: Parts, keys: Parts, pieces: np.ndarray) -> Figures:
        truth, read = keys.test.astype(int), self._classify(features, keys).astype(int)
        weighted = figures.mean(key_scores()[truth[None], read], pieces)
        return {
            "weighted": weighted.with_confusion(confusions.of_keys(truth, read)),
            "accuracy": figures.mean(truth[None] == read, pieces),
        }

    def _class(self, features: Parts, classes: Parts, pieces: np.ndarray) -> Figures:
        read = self._classify(features, classes)
        seen = confusions.of_classes(classes.test, read)
        right = figures.mean(read == classes.test[None], pieces)
        return {"accuracy": right.with_confusion(seen)}

    def _number(self, features: Parts, numbers: Parts, pieces: np.ndarray) -> Figures:
        read = self._regress(features, numbers)
        seen = confusions.of_numbers(numbers.test, read)
        return {"r2": figures.explained(numbers.test, read, pieces).with_confusion(seen)}

    def _tags(self, features: Parts, written: Parts, pieces: np.ndarray) -> Figures:
        tags = labels.tags(written.train)
        columns = (written.train, written.validation, written.test)
        truth = Parts(*(labels.tagged(each, tags) for each in columns))
        auc, precision = figures.ranking(truth.test, self._tag(features, truth), pieces)
        return {"auc": auc, "map": precision}

    def _tag(self, features: Parts, tags: Parts) -> np.ndarray:
        """Logits [readings, rows, tags]."""
        if self.reader == "mlp":
            return mlp.tag(features, tags)
        return linear.tag(features, tags)[None]

    def _regress(self, features: Parts, numbers: Parts) -> np.ndarray:
        """[readings, rows], of numbers [rows]."""
        columns = (numbers.train, numbers.validation, numbers.test)
        targets = Parts(*(each[:, None] for each in columns))
        if self.reader == "mlp":
            return mlp.regress(features, targets)[:, :, 0]
        return linear.regress(features, targets)[None, :, 0]

    def _read(self, features: Parts, numbers: Parts, classes: int) -> np.ndarray:
        """Logits [readings, rows, classes]."""
        if self.reader == "mlp":
            return mlp.read(features, numbers, classes)
        return linear.read(features, numbers, classes)[None]

    def _classify(self, features: Parts, classes: Parts) -> np.ndarray:
        """[readings, rows]."""
        names, numbers = numbered(classes)
        return names[np.argmax(self._read(features, numbers, len(names)), axis=-1)]


PROBES = (
    Probe("tempo", "tempo", "tempo"),
    Probe("key", "key", "key"),
    Probe("metre", "metre", "class"),
    Probe("instrument", "instrument", "class"),
    Probe("collection", "collection", "class"),
)
"""Another label is another entry; those of a user's own are made by `own`."""


def own(
    columns: Sequence[str],
    taken: Collection[str] = (),
    kinds: Mapping[str, labels.Kind] | None = None,
) -> tuple[Probe, ...]:
    """Probes of those labels of a data set that `PROBES` does not know.

    They are named after their labels. One whose name another task or metric has, such as a label
    `retrieval`, is called `retrieval_label`.

    Args:
        columns: the labels.
        taken: names that are in use.
        kinds: of some labels; that of the others is told from their values.
    """
    known = {one.column for one in PROBES}
    names = {*taken, *(form for name in known for form in _forms(name))}
    probes = []
    for column in columns:
        if column in known:
            continue
        name = column
        while names & _forms(name) or name in set(columns) - {column}:
            name += "_label"
        names |= _forms(name)
        probes.append(Probe(name, column, (kinds or {}).get(column)))
    return tuple(probes)


def with_mlp(probes: Sequence[Probe]) -> tuple[Probe, ...]:
    """The same with a hidden layer, dearer: named `<name>_mlp`."""
    return tuple(dataclasses.replace(one, name=_mlp(one.name), reader="mlp") for one in probes)


def _mlp(name: str) -> str:
    return f"{name}_mlp"


def curve(name: str) -> str:
    """What the learning curve of a probe is called."""
    return f"{name}_curve"


def _forms(name: str) -> set[str]:
    """The names of all tasks that are made of a probe of this name."""
    return {name, _mlp(name), curve(name)}
