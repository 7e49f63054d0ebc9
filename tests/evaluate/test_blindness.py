"""Labels of the test split are looked at to score what was predicted, and to choose nothing."""

import dataclasses

import numpy as np
import pytest
import synthetic

from loev_jax.evaluate import equivariance, prediction, sweep, tasks, towers, unions
from loev_jax.evaluate.probes import Probe
from loev_jax.evaluate.tempo_bins import Bins

CLIPS = {"train": 60, "validation": 20, "test": 24}
SPACE = "tempo"
FITTED = (
    *("tempo", "key", "metre", "instrument", "collection", "energy", "mood", "style"),
    *("tempo_mlp", "mood_mlp", "style_mlp", "tempo_curve", "mood_curve", "style_curve"),
    *("equivariance", "prediction", "score", "text"),
)


@pytest.fixture(scope="module")
def world():
    """Facts and vectors with all that an evaluator asks for."""
    known, rng = synthetic.facts(clips=CLIPS), np.random.default_rng(0)
    vectors = synthetic.vectors(known)
    for split, one in known.items():
        mine = {
            "energy": rng.normal(size=len(one.ids)),
            "mood": rng.choice(["a", "b"], CLIPS[split]),
            "style": rng.choice(["a", "b", "a|b"], CLIPS[split]),
        }
        rolls = rng.normal(size=(len(one.ids), 8))
        known[split] = dataclasses.replace(one, labels=one.labels | mine, rolls=rolls)
    count, views = CLIPS["test"], 1 + sweep.VIEWS
    parameters = {name: rng.normal(size=(count, views)) for name in ("time_stretch", "pitch_shift")}
    swept = sweep.Sweep(known["test"].pieces, parameters, (), np.ones((count, 0), bool))
    known["test"] = dataclasses.replace(known["test"], swept=swept)
    where = {SPACE: rng.normal(size=(count, views, synthetic.SIZE))}
    vectors["test"] = dataclasses.replace(vectors["test"], swept=where)
    return known, vectors


@pytest.fixture
def predicted(monkeypatch):
    """All that is predicted of the test split, and all that the adapters learn from."""
    made = []

    def spy(owner, name, kept=lambda found, *_: [found]):
        original = getattr(owner, name)

        def spied(*args, **kwargs):
            found = original(*args, **kwargs)
            made.extend(map(np.array, kept(found, *args)))
            return found

        monkeypatch.setattr(owner, name, spied)

    spy(Probe, "_regress")
    spy(Probe, "_classify")
    spy(Probe, "_tag")
    spy(Bins, "octaves")
    spy(equivariance, "regress")
    spy(prediction, "regress")
    spy(
        towers,
        "match",
        # Captions of the test split are what is asked for; other labels ask for other things.
        lambda _, audio, other: [
            *(audio.train, audio.validation, audio.test, other.train, other.validation)
        ],
    )
    return made


def other_labels(test):
    """The facts of a test split with labels of other clips, and some that no clip has."""
    rng = np.random.default_rng(1)
    labels = {name: rng.permutation(values) for name, values in test.labels.items()}
    labels["tempo"] = labels["tempo"] * 2.3
    labels["energy"] = labels["energy"] * 100
    for name in ("metre", "instrument", "collection", "mood", "style"):
        labels[name] = np.where(np.arange(CLIPS["test"]) % 3 == 0, "none", labels[name])
    differences = {name: 5 * rng.permutation(value) for name, value in test.differences.items()}
    return dataclasses.replace(test, labels=labels, differences=differences)


@pytest.mark.parametrize("name", FITTED)
def test_with_other_labels_of_the_test_split_the_same_is_predicted(world, predicted, name):
    known, vectors = world
    (evaluator,) = tasks.choose([name], ("energy", "mood", "style")).values()
    figures = [evaluator.score(known, vectors, SPACE)]
    before = list(predicted)
    assert before
    predicted.clear()
    other = known | {"test": other_labels(known["test"])}
    figures.append(evaluator.score(other, vectors, SPACE))
    assert len(predicted) == len(before)
    for one, two in zip(before, predicted, strict=True):
        np.testing.assert_array_equal(one, two)
    if name not in ("score", "prediction"):  # whose truth is no label
        assert figures[0] != figures[1]


def test_no_evaluator_is_left_out_here():
    """Those that fit nothing are retrieval, invariance and humming.

    Other MLPs and learning curves are as these.
    """
    usual, rest = tasks.evaluators(("energy", "mood", "style"))
    more = {name for name in rest if name.endswith(("_mlp", "_curve"))}
    assert set(usual | rest) - more - {"retrieval", "invariance", "humming"} == {
        name for name in FITTED if not name.endswith(("_mlp", "_curve"))
    }


def test_a_mix_is_of_the_train_split_and_each_row_its_own():
    rng = np.random.default_rng(0)
    sizes = {"encoder": 9, "tempo": 4, "pitch": 3}
    train, test = (
        {name: rng.normal(size=(rows, size)) for name, size in sizes.items()} for rows in (30, 8)
    )
    mixes = [unions.Mix.parse("all=2+tempo")]
    every = unions.with_unions(train, test, ["tempo", "pitch"], mixes)
    alone = {name: rows[3:4] for name, rows in test.items()}
    for name, rows in unions.with_unions(train, alone, ["tempo", "pitch"], mixes).items():
        np.testing.assert_allclose(rows[0], every[name][3], atol=1e-6)
