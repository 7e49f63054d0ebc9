"""The measure itself, and what it says of methods whose answer is known."""

import functools

import numpy as np
import pytest

from loev_jax.benchmark import fidelity, methods, tape, tones

VIEW = methods.View(start_seconds=0.5, frames=150)
RENDER = functools.partial(tones.render, tones.draw(0, 0))


def measured(rate, semitones):
    found = fidelity.measure("test", [RENDER], np.array([rate]), np.array([semitones]), VIEW)
    return {name: row["correlation"] for name, row in found.summary().items()}


def test_correlation_is_pearsons_view_by_view():
    random = np.random.default_rng(0)
    first, second = random.normal(size=(2, 30, 8))
    views = [np.corrcoef(first[k : k + 10].ravel(), second[k : k + 10].ravel())[0, 1]
             for k in (0, 10, 20)]  # fmt: skip
    assert fidelity.correlation(first, second) == pytest.approx(np.mean(views), abs=1e-12)
    assert fidelity.correlation(first, 3 * first + 1) == pytest.approx(1.0)


def test_silence_has_no_correlation():
    with pytest.raises(ValueError, match="constant"):
        fidelity.correlation(np.zeros((30, 8)), np.ones((30, 8)))


def test_without_a_change_everything_is_true():
    found = measured(1.0, 0.0)
    assert set(found) >= {"no change", "analysis", "waveform", "librosa", tape.NAME}
    assert found["no change"] == pytest.approx(1.0, abs=1e-6)
    assert min(found.values()) > 0.98


def test_ours_are_near_the_truth_and_the_source_is_not():
    found = measured(0.8, 3.0)
    assert found["no change"] < 0.8
    assert found["analysis"] > 0.95
    assert found["waveform"] > 0.95
    # In closed form a slower tone that is sped up *is* the tone at the other rate and pitch.
    assert found[tape.NAME] > 0.9999


def test_a_method_that_lags_is_told(monkeypatch):
    def late(source, rates, semitones):
        begin = VIEW.start - 160
        return methods.log_mels(VIEW.frontend, source[None, begin : begin + VIEW.samples])

    monkeypatch.setattr(methods, "available", lambda view: {"late": late})
    found = fidelity.measure("test", [RENDER], np.array([1.0]), np.array([0.0]), VIEW)
    row = found.summary()["late"]
    assert row["best_lag_ms"] == 10
    assert row["at_best_lag"] == pytest.approx(1.0, abs=1e-6)
    assert row["correlation"] < 0.999


def test_the_best_peer_is_the_one_to_beat():
    names = ("analysis", "librosa", "pedalboard")
    means = np.array([[0.9, 0.7, 0.8], [0.8, 0.7, 0.6], [0.95, 0.65, 0.8]])
    correlations = np.zeros((3, 1, 3, len(fidelity.LAGS_MS)))
    correlations[:, 0] = means[:, :, None]
    grid = np.array([[0.7], [1.0], [0.7]])
    found = fidelity.Measured(names, grid, np.zeros((3, 1)), correlations)
    advantage = found.advantage("analysis")
    assert advantage["best_peer"] == "pedalboard"
    assert advantage["difference"] == pytest.approx(0.15)
    assert 0.099 < advantage["low"] < 0.15 < advantage["high"] < 0.201
    assert found.means_by("rates")["librosa"] == pytest.approx({"0.7": 0.675, "1": 0.7})
