import math

import numpy as np
import pytest

from loev_jax.evaluate import matrices, report, results


@pytest.fixture
def result():
    heads = {"tempo": ("time_stretch",), "pitch": ("pitch_shift",)}
    blank = results.blank(7, "data", "0", {}, heads)
    blank["counts"] = {"test": {"clips": 2}}
    blank["spaces"] = {
        "encoder": {"time_stretch_r2": 0.6, "pitch_shift_r2": 0.9, "invariance_gain": 1.0},
        "tempo": {"time_stretch_r2": 0.8, "pitch_shift_r2": 0.2, "invariance_gain": 0.9},
        "pitch": {"time_stretch_r2": 0.1, "pitch_shift_r2": 0.7, "invariance_gain": None},
    }
    return blank


def test_the_diagonal_is_what_a_head_keeps(result):
    assert matrices.disentanglement(result) == (pytest.approx(0.75), pytest.approx(0.15))
    assert report.summary(result, "run").endswith("heads that keep it .75, in the others .15")
    untrained = {"tempo": {"time_stretch_r2": 0.3, "pitch_shift_r2": 0.1}, "pitch": {}}
    beside = report.summary(result | {"random_init": untrained}, "run")
    assert beside.endswith("in the others .15; of random init .30 and .10")
    result["spaces"]["invariant"] = {"time_stretch_r2": 0.4, "pitch_shift_r2": 0.5}
    on, off = matrices.disentanglement(result)
    assert (on, off) == (pytest.approx(0.75), pytest.approx(np.mean([0.2, 0.1, 0.4, 0.5])))
    del result["spaces"]["invariant"]
    result["heads"]["pitch"] = ["reverb"]  # then no head keeps the shift, and it does not count
    assert matrices.disentanglement(result) == (pytest.approx(0.8), pytest.approx(0.1))
    result["heads"] = {"tempo": ["time_stretch"]}
    assert matrices.disentanglement(result) is None
    assert "heads that keep it" not in report.summary(result, "run")


def test_matrices_are_in_the_order_of_spaces(result):
    names, table = matrices.equivariance(result)
    assert names == ["time_stretch", "pitch_shift"]
    np.testing.assert_array_equal(table, [[0.6, 0.9], [0.8, 0.2], [0.1, 0.7]])
    names, table = matrices.invariance(result)
    assert names == ["gain"]
    assert table[:2].tolist() == [[1.0], [0.9]]
    assert math.isnan(table[2, 0])


def test_what_else_a_head_keeps_has_a_column(result):
    result["heads"]["loudness"] = ["gain"]
    result["spaces"]["loudness"] = {"time_stretch_r2": 0.0, "pitch_shift_r2": 0.1, "gain_r2": 0.9}
    for space, value in {"encoder": 0.5, "tempo": 0.2, "pitch": 0.4}.items():
        result["spaces"][space]["gain_r2"] = value
    names, table = matrices.equivariance(result)
    assert names == ["time_stretch", "pitch_shift", "gain"]
    np.testing.assert_array_equal(table[:, 2], [0.5, 0.2, 0.4, 0.9])
    on, off = matrices.disentanglement(result)
    assert on == pytest.approx(np.mean([0.8, 0.7, 0.9]))
    assert off == pytest.approx(np.mean([0.2, 0.2, 0.1, 0.4, 0.0, 0.1]))
    assert "R² of the gain" in report.table(result)


def test_a_filter_has_two_columns_of_its_own(result):
    result["heads"] = {"colour": ["filter"]}
    result["spaces"]["colour"] = {"filter_kind_r2": 0.7, "filter_frequency_r2": 0.5}
    names, table = matrices.equivariance(result)
    assert names[2:] == ["filter_kind", "filter_frequency"]
    assert table[-1, 2:].tolist() == [0.7, 0.5]
    result["heads"]["tempo"] = ["time_stretch"]
    result["spaces"]["tempo"]["filter_kind_r2"] = 0.1
    on, off = matrices.disentanglement(result)
    assert (on, off) == (pytest.approx(np.mean([0.7, 0.5, 0.8])), pytest.approx(0.1))


def test_the_picture_is_written_whole_or_not_at_all(result, tmp_path):
    matrices.plot(result, tmp_path / "7_matrices.png")
    assert [path.name for path in tmp_path.iterdir()] == ["7_matrices.png"]
    for one in result["spaces"].values():
        one.clear()
    matrices.plot(result, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
