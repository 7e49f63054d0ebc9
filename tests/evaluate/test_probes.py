import dataclasses

import numpy as np
import pytest
import synthetic

from loev_jax.errors import UserError
from loev_jax.evaluate import labels, tasks
from loev_jax.evaluate.probes import PROBES, Probe, own, with_mlp

TEMPO, KEY, METRE, *_ = PROBES


def test_tempo_is_read_where_it_is_a_direction_and_nowhere_else(known, vectors):
    there = TEMPO.score(known, vectors, "tempo")
    assert there["tempo_r2"] > 0.99
    assert there["tempo_acc1"] > 0.7  # of 24 bins, from 300 clips
    assert TEMPO.score(known, vectors, "noise")["tempo_acc1"] < 0.2
    assert there["tempo_acc2"] >= there["tempo_acc1"]
    assert TEMPO.score(known, vectors, "noise")["tempo_r2"] < 0.1
    assert TEMPO.score(known, vectors, "key")["tempo_r2"] < 0.1


def test_key_is_read_where_it_is_and_nowhere_else(known, vectors):
    assert KEY.score(known, vectors, "key") == {"key_weighted": 1.0, "key_accuracy": 1.0}
    elsewhere = KEY.score(known, vectors, "tempo")
    assert elsewhere["key_weighted"] < 0.25
    assert elsewhere["key_accuracy"] < 0.2


def test_shuffled_labels_teach_nothing(known, vectors):
    rng = np.random.default_rng(0)
    assert TEMPO.score(known, vectors, "tempo", rng)["tempo_r2"] < 0.1
    assert KEY.score(known, vectors, "key", rng)["key_weighted"] < 0.3


def test_classes_are_probed_by_any_column(known, vectors):
    score = METRE.score(known, vectors, "noise")
    assert list(score) == ["metre_accuracy"]
    assert score["metre_accuracy"] < 0.6
    with_class = {
        split: dataclasses.replace(one, labels={"fast": (one.labels["tempo"] > 105).astype(float)})
        for split, one in known.items()
    }
    assert Probe("fast", "fast", "class").score(with_class, vectors, "tempo")["fast_accuracy"] > 0.9


def test_clips_without_a_label_are_left_out(known, vectors):
    partly = dict(known)
    tempo = known["test"].labels["tempo"].copy()
    tempo[::2] = np.nan
    partly["test"] = dataclasses.replace(known["test"], labels={"tempo": tempo})
    assert TEMPO.left_out(partly) == []
    assert TEMPO.score(partly, vectors, "tempo")["tempo_r2"] > 0.99


def test_a_task_without_labels_is_left_out_with_a_reason(vectors):
    bare = synthetic.facts(labels=("metre",))
    assert TEMPO.left_out(bare) == ["the data set has no label 'tempo'"]
    assert TEMPO.score(bare, vectors, "tempo") == {}
    small = synthetic.facts(clips={"train": 30, "validation": 2, "test": 30})
    assert KEY.left_out(small) == ["split 'validation' has 2 clips with a key, a task needs 5"]


def test_labels_as_users_write_them():
    written = np.array(["C major", "eb minor", "X", "", "D other", "13", "24", "Q major"])
    expected = [0, 15, np.nan, np.nan, np.nan, 13, np.nan, np.nan]
    np.testing.assert_array_equal(labels.keys(written), expected)
    np.testing.assert_array_equal(
        labels.tempi(np.array(["120", "fast", "", "-3", "inf"])), [120.0] + [np.nan] * 4
    )
    found = labels.classes(np.array([1.0, np.nan, 2.5]))
    assert found.tolist() == ["1", "", "2.5"]
    long = np.array([1234567.0, 1234568.0, 0.1, 16777216.0, -3.0], np.float32)
    assert labels.classes(long).tolist() == ["1234567", "1234568", "0.1", "16777216", "-3"]
    assert labels.present(found).tolist() == [True, False, True]


def labelled(known, **columns):
    """The facts with more labels, each a function of the clips' labels."""
    return {
        split: dataclasses.replace(
            one, labels=one.labels | {name: make(one.labels) for name, make in columns.items()}
        )
        for split, one in known.items()
    }


def test_a_users_labels_are_probed_by_what_they_hold(known, vectors):
    mine = labelled(
        known,
        energy=lambda has: np.log2(has["tempo"]),
        decade=lambda has: 10.0 * np.round(has["tempo"] / 10),
        mood=lambda has: np.where(has["tempo"] > 105, "fast", "slow"),
    )
    probes = own(tuple(mine["train"].labels))
    assert [probe.name for probe in probes] == ["energy", "decade", "mood"]
    found = {}
    for probe in probes:
        assert probe.left_out(mine) == []
        found |= probe.score(mine, vectors, "tempo")
    assert list(found) == ["energy_r2", "decade_accuracy", "mood_accuracy"]
    assert found["energy_r2"] > 0.99
    assert found["decade_accuracy"] > 0.3
    assert found["mood_accuracy"] > 0.9


def test_several_tags_of_a_clip_are_read_one_by_one(known, vectors):
    def tags(has):
        fast, sharp = has["tempo"] > 105, np.arange(len(has["tempo"])) % 3 == 0
        text = np.where(fast, "fast", "slow").astype("U20")
        return np.where(sharp, np.char.add(text, " | random"), text)

    mine = labelled(known, style=tags)
    (probe,) = own(("style",))
    assert probe.left_out(mine) == []
    found = probe.score(mine, vectors, "tempo")
    assert list(found) == ["style_auc", "style_map"]
    # Two of three tags can be read, and the third, which a third of the clips have, by chance.
    assert abs(found["style_auc"] - (1 + 1 + 0.5) / 3) < 0.08
    assert abs(found["style_map"] - (1 + 1 + 1 / 3) / 3) < 0.1
    (mlp,) = with_mlp((probe,))
    assert abs(mlp.score(mine, vectors, "tempo")["style_mlp_auc"] - (1 + 1 + 0.5) / 3) < 0.08
    lost = probe.score(mine, vectors, "tempo", np.random.default_rng(0))
    assert lost["style_auc"] < 0.7
    assert labels.tags(np.array(["b|a", "", "c | a|"])) == ["a", "b", "c"]


def test_the_kind_of_a_label_can_be_told(known, vectors):
    """128 pitches are an amount by their number, and names where the user says so."""
    mine = labelled(known, pitch=lambda has: np.arange(len(has["tempo"])) % 60 + 0.0)
    (told,) = own(("pitch",))
    assert list(told.score(mine, vectors, "noise")) == ["pitch_r2"]
    kinds = labels.kinds(["pitch:class"])
    (said,) = own(("pitch",), kinds=kinds)
    assert list(said.score(mine, vectors, "noise")) == ["pitch_accuracy"]
    assert "pitch" in tasks.choose(None, ("pitch",), kinds)
    for text in ("pitch", "pitch:colour", ":class"):
        with pytest.raises(UserError, match=f"--kinds={text}: write a label and its kind so: pit"):
            labels.kinds([text])
    for column in ("tempo", "valence"):
        with pytest.raises(UserError, match=f"--kinds={column}: no such label of the .* has pitch"):
            tasks.choose(None, ("pitch", "tempo"), {column: "class"})


def test_an_mlp_reads_what_a_line_does_not(known, vectors):
    odd = labelled(known, odd=lambda has: np.where((np.log2(has["tempo"]) * 2) % 2 > 1, "a", "b"))
    (linear,) = own(("odd",))
    (mlp,) = with_mlp((linear,))
    assert mlp.name == "odd_mlp"
    straight = linear.score(odd, vectors, "tempo")["odd_accuracy"]
    assert mlp.score(odd, vectors, "tempo")["odd_mlp_accuracy"] > straight + 0.1


def test_intervals_hold_the_figure(known, vectors):
    for probe in (TEMPO, KEY, METRE):
        for figure in probe.score(known, vectors, "tempo").values():
            low, high = figure.interval
            assert low <= figure <= high
            assert high - low < 0.3
