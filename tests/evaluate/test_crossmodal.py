import dataclasses

import mir_eval
import numpy as np
import pytest
import synthetic

from loev_jax.corpus.roll import Notes
from loev_jax.errors import UserError
from loev_jax.evaluate import crossmodal, figures, query
from loev_jax.evaluate.crossmodal import ByScore, ByWords
from loev_jax.evaluate.spaces import Vectored

CLIPS = {"train": 240, "validation": 40, "test": 60}


@pytest.fixture(scope="module")
def facts():
    return synthetic.facts(clips=CLIPS)


@pytest.fixture(scope="module")
def spaces(facts):
    return synthetic.vectors(facts)


def test_words_find_what_a_space_knows(facts, spaces):
    tempo, key, noise = (
        ByWords().score(facts, spaces, space) for space in ("tempo", "key", "noise")
    )
    for way in ("to_audio", "from_audio"):
        assert tempo[f"text_{way}_mrr"] > noise[f"text_{way}_mrr"] + 0.05
        assert key[f"text_{way}_mrr"] > noise[f"text_{way}_mrr"] + 0.05
        for one in (tempo, key, noise):
            assert one[f"text_{way}_r1"] <= one[f"text_{way}_r5"] <= one[f"text_{way}_r10"]
    assert tempo["text_tempo"] > noise["text_tempo"] + 0.2
    assert key["text_key"] > noise["text_key"] + 0.1
    assert key["text_tempo"] < tempo["text_tempo"] - 0.2


def test_shuffled_captions_teach_nothing(facts, spaces):
    chance = np.mean(1.0 / np.arange(1, CLIPS["test"] + 1))
    shuffled = ByWords().score(facts, spaces, "tempo", np.random.default_rng(0))
    assert shuffled["text_to_audio_mrr"] < 2 * chance
    assert shuffled["text_tempo"] < 0.4


def test_labels_of_the_test_split_choose_nothing(facts, spaces, monkeypatch):
    """With other labels there, captions are others, and the adapter is the same."""
    given = []
    monkeypatch.setattr(
        crossmodal.towers,
        "match",
        lambda audio, other: (
            given.append((audio, other)) or np.zeros((len(other.test), len(audio.test)))
        ),
    )
    rng = np.random.default_rng(0)
    labels = {name: rng.permutation(one) for name, one in facts["test"].labels.items()}
    other = facts | {"test": dataclasses.replace(facts["test"], labels=labels)}
    for known in (facts, other):
        ByWords().score(known, spaces, "tempo")
    (audio, one), (again, two) = given
    for split in ("train", "validation"):
        np.testing.assert_array_equal(getattr(one, split), getattr(two, split))
        np.testing.assert_array_equal(getattr(audio, split), getattr(again, split))
    assert not np.array_equal(one.test, two.test)


def test_ranks_are_those_of_the_diagonal():
    rng = np.random.default_rng(1)
    alike, pieces = rng.normal(size=(30, 30)) + 1.5 * np.eye(30), np.arange(30)
    found = crossmodal._both_ways(alike, pieces, "x")
    for way, rows in (("to", alike), ("from", alike.T)):
        order = [sorted(range(30), key=lambda one, row=row: -row[one]) for row in rows]
        place = [1 + line.index(at) for at, line in enumerate(order)]
        assert found[f"x_{way}_audio_mrr"] == pytest.approx(np.mean([1 / one for one in place]))
        shares = [np.mean([one <= k for one in place]) for k in (1, 5, 10)]
        assert [found[f"x_{way}_audio_r{k}"] for k in (1, 5, 10)] == pytest.approx(shares)
        assert 0 < shares[0] < shares[1] < shares[2] < 1


def test_targeted_searches_equal_a_brute_force_reference(facts, spaces, monkeypatch):
    """Whatever the adapter finds: here anything."""
    count, rng = CLIPS["test"], np.random.default_rng(4)
    alike = rng.normal(size=(count + crossmodal.ASKED + 24, count))
    texts = []
    counted = crossmodal.Vocabulary.count

    def count_(self, asked):
        texts.append(list(asked))
        return counted(self, asked)

    monkeypatch.setattr(crossmodal.Vocabulary, "count", count_)
    monkeypatch.setattr(crossmodal.towers, "match", lambda *_: alike)
    found = ByWords().score(facts, spaces, "tempo")
    asked = texts[-1][count:]
    tempi = asked[: crossmodal.ASKED]
    assert all(text.endswith(" bpm") for text in tempi)
    labels = facts["test"].labels
    names = ["C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B"]
    written = [f"{tonic} {mode}" for mode in ("major", "minor") for tonic in names]
    hits, scores = [], []
    quantiles = np.quantile(labels["tempo"], (np.arange(24) + 0.5) / 24)
    for row, (text, exact) in enumerate(zip(tempi, quantiles, strict=True)):
        assert text == f"{exact:.0f} bpm"
        order = sorted(range(count), key=lambda clip: -alike[count + row, clip])[:10]
        near = [abs(labels["tempo"][clip] - exact) <= 0.08 * exact for clip in order]
        hits.append(np.mean(near))
    for row, text in enumerate(asked[crossmodal.ASKED :]):
        assert text == f"in {written[row].replace('#', ' sharp')}"
        line = alike[count + crossmodal.ASKED + row]
        order = sorted(range(count), key=lambda clip: -line[clip])[:10]
        keys = [written[labels["key"][clip]] for clip in order]
        scores.append(np.mean([mir_eval.key.weighted_score(written[row], key) for key in keys]))
    assert len(scores) == 24
    assert found["text_tempo"] == pytest.approx(np.mean(hits))
    assert found["text_key"] == pytest.approx(np.mean(scores))
    # Twelve clips of one piece weigh as they do in what is looked in.
    pieces = np.arange(count) // 12
    few = facts | {"test": dataclasses.replace(facts["test"], pieces=pieces)}
    for name, asked_for in (("text_tempo", alike[count : count + 24]), ("text_key", alike[-24:])):
        low, high = ByWords().score(few, spaces, "tempo")[name].interval
        shared = [
            [
                mir_eval.key.weighted_score(written[row], written[labels["key"][clip]])
                if name == "text_key"
                else abs(labels["tempo"][clip] - quantiles[row]) <= 0.08 * quantiles[row]
                for clip in range(count)
            ]
            for row in range(24)
        ]
        drawn = figures.first(np.array(shared, float), asked_for, 10, pieces)
        assert (low, high) == pytest.approx(drawn.interval)
    # And no search by what no clip has.
    for name in ("tempo", "key"):
        bare = synthetic.facts(clips=CLIPS, labels=(name,))
        only = ByWords().score(bare, spaces, "tempo")
        assert f"text_{name}" in only
        assert len({"text_tempo", "text_key"} & set(only)) == 1


def test_scores_find_what_a_space_knows(facts):
    """Rolls and a space hold the same five numbers, each in its own way; noise holds nothing."""
    rng = np.random.default_rng(2)
    ours, theirs = rng.normal(size=(5, 24)), rng.normal(size=(5, 40))
    known, vectors = {}, {}
    for split, one in facts.items():
        hidden = rng.normal(size=(len(one.ids), 5))
        known[split] = dataclasses.replace(one, rolls=np.tanh(hidden @ theirs))
        tracks = {"same": np.tanh(hidden @ ours), "noise": rng.normal(size=(len(one.ids), 24))}
        vectors[split] = Vectored(tracks, {}, {})
    assert ByScore().left_out(known) == []
    same, noise = (ByScore().score(known, vectors, space) for space in ("same", "noise"))
    shuffled = ByScore().score(known, vectors, "same", np.random.default_rng(0))
    for way in ("to_audio", "from_audio"):
        assert same[f"score_{way}_mrr"] > 0.4
        assert noise[f"score_{way}_mrr"] < 0.2
        assert shuffled[f"score_{way}_mrr"] < 0.25


def test_rolls_are_those_of_the_clips_own_tempo_and_key():
    labels = {"tempo": np.array([80.0, 160.0]), "key": np.array([2, 4])}
    pieces = np.array(["ryansMammoth/RakesOfWestmeathJig"] * 2)
    one = dataclasses.replace(synthetic.facts()["test"], pieces=pieces, labels=labels)
    slow, fast = crossmodal.rolls(one)
    np.testing.assert_allclose(np.roll(slow[128:140], 2), fast[128:140], atol=0.05)
    assert np.abs(slow[140:188] - fast[140:188]).max() > 0.1
    assert crossmodal.rolls(synthetic.facts()["test"]) is None


def test_words_and_scores_that_nothing_was_learned_of(facts):
    bare, known = synthetic.facts(labels=("instrument",))["train"], facts["train"]
    pairs = query.Words("piano tune, please").pairs(known, facts["validation"])
    assert pairs.train.shape[:2] == (crossmodal.VARIANTS, CLIPS["train"])
    assert len(pairs.test) == 1
    with pytest.raises(UserError, match="--text=polka: no word of it is known; captions are made"):
        query.Words("polka").check(known, known)
    with pytest.raises(UserError, match="--text: the run's data set has no clip with a tempo or"):
        query.Words("piano").check(known, bare)
    notes = Notes(np.zeros(1), np.ones(1), np.array([60]), 1.0)
    with pytest.raises(UserError, match="--score: only a run on the built-in corpus knows scores"):
        query.Score(notes).check(known, known)


def test_without_labels_or_scores_it_is_left_out():
    bare = synthetic.facts(labels=("instrument",))
    assert "clips with a tempo or a key" in ByWords().left_out(bare)[0]
    assert "there are no scores" in ByScore().left_out(bare)[0]
    vectors = {split: Vectored({}, {}, {}) for split in bare}
    assert ByWords().score(bare, vectors, "x") == ByScore().score(bare, vectors, "x") == {}
