import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import r2_score

from loev_jax.evaluate import figures


def test_the_interval_of_a_mean_is_scipys():
    scores = np.random.default_rng(0).exponential(size=300)
    found = figures.mean(scores, np.arange(300))
    assert found == pytest.approx(scores.mean())
    peer = stats.bootstrap(
        (scores,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    np.testing.assert_allclose(found.interval, peer, atol=0.02)


def test_the_interval_of_r2_is_that_of_resampled_pairs():
    rng = np.random.default_rng(2)
    truth = rng.normal(size=200) + 100
    predicted = truth + 0.5 * rng.normal(size=200)
    found = figures.explained(truth, predicted, np.arange(200))
    assert found == pytest.approx(r2_score(truth, predicted))
    peer = stats.bootstrap(
        (truth, predicted), lambda t, p: 1 - np.sum((t - p) ** 2) / np.sum((t - t.mean()) ** 2),
        paired=True, vectorized=False, n_resamples=2000, method="percentile",
        rng=np.random.default_rng(3),
    ).confidence_interval  # fmt: skip
    np.testing.assert_allclose(found.interval, peer, atol=0.02)


def test_clips_of_one_piece_count_once():
    scores = np.repeat(np.random.default_rng(4).integers(0, 2, 50), 20).astype(float)
    alone = figures.mean(scores, np.arange(1000)).interval
    together = figures.mean(scores, np.repeat(np.arange(50), 20)).interval
    assert together[1] - together[0] == pytest.approx(np.sqrt(20) * (alone[1] - alone[0]), rel=0.2)


def test_several_readings_are_averaged():
    rng = np.random.default_rng(5)
    truth, read = rng.normal(size=40), rng.normal(size=(3, 40))
    expected = np.mean([r2_score(truth, one) for one in read])
    assert figures.explained(truth, read, np.arange(40)) == pytest.approx(expected)
    assert figures.mean(read, np.arange(40)) == pytest.approx(read.mean())


def test_a_constant_truth_has_no_r2():
    found = figures.explained(np.full(9, 0.1), np.arange(9.0), np.arange(9))
    assert np.isnan([found, *found.interval]).all()
