"""What was read as what: counted as scikit-learn and numpy count, kept with a result, drawn."""

import itertools
import json

import mir_eval
import numpy as np
import pytest
import tiny_music
from evaluated import read
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from loev_jax.corpus.key_finding import key_name
from loev_jax.evaluate import confusions, job, results
from loev_jax.evaluate.settings import Settings


@given(st.integers(0, 2**32), st.integers(1, 3))
def test_classes_are_counted_as_by_sklearn(seed, readings):
    rng = np.random.default_rng(seed)
    names = np.array(["waltz", "jig", "reel", "air"])
    truth, seen = rng.choice(names, 30), rng.choice(names, (readings, 30))
    found = confusions.of_classes(truth, seen)
    there = sorted({*truth, *seen.ravel()})
    assert found.names == tuple(there)
    expected = sum(confusion_matrix(truth, one, labels=there) for one in seen)
    np.testing.assert_array_equal(found.counts, expected)


def test_too_many_classes_have_no_table():
    names = np.arange(confusions.MOST + 1)
    assert confusions.of_classes(names[1:], names[None, 1:]) is not None
    assert confusions.of_classes(names, names[None]) is None


def test_neighbouring_keys_are_fifths_apart():
    keys = np.arange(24)
    found = confusions.of_keys(keys, keys[None])
    np.testing.assert_array_equal(found.counts, np.eye(24))
    assert sorted(found.names) == sorted(map(key_name, range(24)))
    for mode in (found.names[:12], found.names[12:]):
        for one, other in itertools.pairwise(mode):
            assert mir_eval.key.weighted_score(one, other) == 0.5


@given(st.integers(0, 2**32))
def test_numbers_are_counted_as_by_numpy(seed):
    rng = np.random.default_rng(seed)
    truth, seen = rng.normal(size=40), rng.normal(scale=2.0, size=(2, 40))
    found = confusions.of_numbers(truth, seen)
    edges = np.linspace(truth.min(), truth.max(), confusions.BINS + 1)
    inside = np.clip(seen, truth.min(), truth.max()).ravel()
    expected, _, _ = np.histogram2d(np.tile(truth, 2), inside, bins=[edges, edges])
    np.testing.assert_array_equal(found.counts, expected)


def test_the_name_of_a_bin_is_its_middle():
    found = confusions.of_numbers(np.array([0.0, 32.0]), np.array([[40.0, -8.0]]))
    assert found.names[:2] == ("1", "3")
    assert found.counts[0, -1] == found.counts[-1, 0] == found.counts.sum() / 2 == 1


def test_one_number_alone_is_counted():
    assert confusions.of_numbers(np.ones(3), np.zeros((1, 3))).counts.sum() == 3


@pytest.mark.usefixtures("small_batches")
def test_they_stand_in_a_result_and_its_picture(workdir):
    assert job.run(workdir, ("key", "equivariance"), Settings(baselines=False), "1", watch=False)
    result = read(workdir, 1)
    assert set(result["confusions"]) == set(result["spaces"])
    for space, tables in result["confusions"].items():
        assert set(tables) == {"key_weighted", "time_stretch_r2", "pitch_shift_r2"}
        counts = np.array(tables["key_weighted"]["counts"])
        assert counts.sum() == tiny_music.CLIPS["test"]
        assert np.trace(counts) == pytest.approx(
            result["spaces"][space]["key_accuracy"] * counts.sum()
        )
    picture = workdir / "eval" / "1_confusions.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert job.run(workdir, ("metre",), Settings(baselines=False), "1", watch=False)
    assert "key_weighted" in read(workdir, 1)["confusions"]["encoder"]  # as well as
    assert "metre_accuracy" in read(workdir, 1)["confusions"]["encoder"]


def test_without_tables_there_is_no_picture(tmp_path):
    for result in (results.blank(1, "d", "0", {}, {}), {"step": 1}):  # the second is an older one
        confusions.plot(result, tmp_path / "1_confusions.png")
    assert not list(tmp_path.iterdir())


@given(
    st.recursive(
        st.none() | st.text() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_numbers_stand_on_a_line_and_mean_the_same(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("written") / "1.json"
    results.write(path, {"value": value, "table": [[1, -2.5], [None, 1e-7]]})
    text = path.read_text()
    assert json.loads(text) == {"value": value, "table": [[1, -2.5], [None, 1e-7]]}
    assert "    [1, -2.5],\n    [null, 1e-07]\n" in text
