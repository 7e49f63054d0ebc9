"""What probes report of whatever was read, beside mir_eval and scikit-learn."""

import dataclasses

import mir_eval
import numpy as np
import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, average_precision_score, r2_score, roc_auc_score
from sklearn.preprocessing import MultiLabelBinarizer

from loev_jax.evaluate import labels, linear, mlp
from loev_jax.evaluate.probes import PROBES, Probe, with_mlp
from loev_jax.evaluate.tempo_bins import Bins

FACTS = synthetic.facts(clips={"train": 60, "validation": 10, "test": 40})
VECTORS = synthetic.vectors(FACTS)
READINGS = {"linear": 1, "mlp": 3}
TONICS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
NAMES = [f"{tonic} {mode}" for mode in ("major", "minor") for tonic in TONICS]
SPELT = [
    f"{tonic} {mode}"
    for tonic, semitone in mir_eval.key.KEY_TO_SEMITONE.items()
    if semitone is not None
    for mode in ("major", "minor")
]
SEEDS = st.integers(0, 2**32)


def readers(kind):
    """The probes of a kind of label, by both readers."""
    mine = (Probe("mine", "mine", kind),) if kind in ("number", "tags") else PROBES
    probes = [one for one in (*mine, *with_mlp(mine)) if one.kind == kind]
    return pytest.mark.parametrize("probe", probes, ids=lambda probe: probe.name)


def labelled(column, **values):
    """The facts with another label of some splits."""
    changed = {
        split: dataclasses.replace(FACTS[split], labels=FACTS[split].labels | {column: one})
        for split, one in values.items()
    }
    return FACTS | changed


def score(probe, known, **answers):
    """What a probe reports where each reader answers so, the linear one by the first reading."""
    with pytest.MonkeyPatch.context() as patch:
        for what, readings in answers.items():
            patch.setattr(linear, what, lambda *_, readings=readings: readings[0])
            patch.setattr(mlp, what, lambda *_, readings=readings: readings)
        return probe.score(known, VECTORS, "noise")


def averaged(metric, truth, answers, probe):
    """A metric of one reading at a time, as other libraries have it."""
    return pytest.approx(np.mean([metric(truth, one) for one in answers[: READINGS[probe.reader]]]))


@readers("class")
@given(seed=SEEDS)
def test_classes(probe, seed):
    rng = np.random.default_rng(seed)
    truth = rng.choice(["ab", "c", "", "d e"], 40)
    there = truth != ""
    known = labelled(probe.column, train=rng.choice(["ab", "c", "d e"], 60), test=truth)
    names = np.unique(known["train"].labels[probe.column])
    logits = rng.normal(size=(3, there.sum(), len(names)))
    expected = averaged(accuracy_score, truth[there], names[logits.argmax(axis=-1)], probe)
    assert score(probe, known, read=logits) == {f"{probe.name}_accuracy": expected}


def same(one, other):
    """Whether two names are of one key."""
    return mir_eval.key.weighted_score(one, other) == 1


@readers("key")
@given(seed=SEEDS)
def test_keys(probe, seed):
    """Written in any of the ways that mir_eval reads; what it does not know is left out."""
    rng = np.random.default_rng(seed)
    train, truth = rng.choice(SPELT, 60), rng.choice(SPELT, 40)
    there = rng.random(40) < 0.8
    written = np.where(there, truth, rng.choice(["", "X", "D other", "H major", "24"], 40))
    known = labelled(probe.column, train=train, test=written)
    names = np.array([one for one in NAMES if any(same(one, other) for other in train)])
    logits = rng.normal(size=(3, there.sum(), len(names)))

    def weighted(truth, read):
        return np.mean(list(map(mir_eval.key.weighted_score, truth, read)))

    def accuracy(truth, read):
        return np.mean(list(map(same, truth, read)))

    read = names[logits.argmax(axis=-1)]
    assert score(probe, known, read=logits) == {
        f"{probe.name}_{metric.__name__}": averaged(metric, truth[there], read, probe)
        for metric in (weighted, accuracy)
    }


@readers("tempo")
@given(seed=SEEDS)
def test_tempi(probe, seed):
    rng = np.random.default_rng(seed)
    truth, there = rng.uniform(40, 250, 40), rng.random(40) < 0.8
    written = np.where(there, truth.astype(str), rng.choice(["", "fast", "-120", "0", "inf"], 40))
    truth = truth[there]
    multiples = rng.choice([1, 2, 1 / 2, 3, 1 / 3, 4, 3 / 2], (3, there.sum()))
    estimates = truth * multiples * rng.uniform(0.93, 1.07, (3, there.sum()))
    numbers = np.log2(truth) + rng.normal(size=(3, there.sum()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bins, "octaves", lambda self, logits: np.log2(logits[..., 0]))
        found = score(
            probe,
            labelled(probe.column, test=written),
            read=estimates[..., None],
            regress=numbers[..., None],
        )

    def right(truth, estimate):
        pair = (np.full(2, truth), 0.5, np.full(2, estimate))
        return mir_eval.tempo.detection(*pair, tol=0.04)[2]

    def acc1(truth, read):
        return np.mean(list(map(right, truth, read)))

    def acc2(truth, read):
        return np.mean([
            any(right(multiple * bpm, one) for multiple in (1, 2, 1 / 2, 3, 1 / 3))
            for bpm, one in zip(truth, read, strict=True)
        ])  # fmt: skip

    assert found == {
        f"{probe.name}_r2": averaged(r2_score, np.log2(truth), numbers, probe),
        f"{probe.name}_acc1": averaged(acc1, truth, estimates, probe),
        f"{probe.name}_acc2": averaged(acc2, truth, estimates, probe),
    }


@readers("number")
@given(seed=SEEDS)
def test_numbers(probe, seed):
    rng = np.random.default_rng(seed)
    truth, there = rng.normal(size=40), rng.random(40) < 0.8
    known = labelled(
        probe.column,
        train=rng.normal(size=60),
        validation=rng.normal(size=10),
        test=np.where(there, truth, rng.choice([np.nan, np.inf], 40)),
    )
    numbers = truth[there] + rng.normal(size=(3, there.sum()))
    expected = averaged(r2_score, truth[there], numbers, probe)
    assert score(probe, known, regress=numbers[..., None]) == {f"{probe.name}_r2": expected}


@readers("tags")
@given(seed=SEEDS)
def test_tags(probe, seed):
    """One that the train split has not is none, and one that all of the test split have."""
    rng = np.random.default_rng(seed)
    tags = np.array(["all", "b", "c d", "e", "rare"])

    def drawn(clips, chance):
        return [{"all", *tags[rng.random(5) < chance]} for _ in range(clips)]

    train, test = drawn(60, 0.3), drawn(40, 0.4)
    test = [one | {"unheard"} if rng.random() < 0.5 else one for one in test]
    there = rng.random(40) < 0.8
    known = labelled(
        probe.column,
        train=np.array([" | ".join(one) for one in train]),
        validation=np.array(["b"] * 10),
        test=np.array([
            "|".join(one) if here else "" for one, here in zip(test, there, strict=True)
        ]),
    )  # fmt: skip
    heard = sorted(set().union(*train))
    truth = MultiLabelBinarizer(classes=[*heard, "unheard"]).fit_transform(test)[there, :-1]
    logits = rng.normal(size=(3, *truth.shape))
    varied = truth.any(axis=0) & ~truth.all(axis=0)
    assert not varied[heard.index("all")]
    assert score(probe, known, tag=logits) == {
        f"{probe.name}_{name}": averaged(metric, truth[:, varied], logits[..., varied], probe)
        for name, metric in (("auc", roc_auc_score), ("map", average_precision_score))
    }


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.arange(50.0), "class"),
        (np.arange(51.0), "number"),
        (np.arange(50), "class"),
        (np.arange(51), "number"),
        (np.array([1.0, 2.0, np.nan]), "class"),
        (np.array([1.0, 2.5]), "number"),
        (np.array(["a", "b"]), "class"),
        (np.array(["a", "a|b"]), "tags"),
    ],
)
def test_kinds(values, kind):
    assert labels.kind(values) == kind
