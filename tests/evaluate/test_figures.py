import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import average_precision_score, r2_score, roc_auc_score

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


def test_the_first_that_are_found_in_what_was_drawn():
    """Beside an index that holds each clip as often as it was drawn, one resample at a time."""
    rng = np.random.default_rng(8)
    scores, alike, groups = rng.random((3, 40)), rng.normal(size=(3, 40)), np.arange(40) // 2
    resampled = []
    for drawn in figures._weights(groups).astype(int):
        often = np.repeat(np.arange(40), drawn)
        best = np.argsort(-alike[:, often], axis=1)[:, :10]
        resampled.append(np.mean([row[often[one]] for row, one in zip(scores, best, strict=True)]))
    found = figures.first(scores, alike, 10, groups)
    best = np.argsort(-alike, axis=1)[:, :10]
    assert found == pytest.approx(np.take_along_axis(scores, best, axis=1).mean())
    np.testing.assert_allclose(found.interval, np.quantile(resampled, [0.025, 0.975]))
    every = figures.first(scores, alike, 100, groups)
    assert every == pytest.approx(scores.mean())
    assert every.interval == pytest.approx(figures.mean(scores, groups).interval)


def test_several_readings_are_averaged():
    rng = np.random.default_rng(5)
    truth, read = rng.normal(size=40), rng.normal(size=(3, 40))
    expected = np.mean([r2_score(truth, one) for one in read])
    assert figures.explained(truth, read, np.arange(40)) == pytest.approx(expected)
    assert figures.mean(read, np.arange(40)) == pytest.approx(read.mean())


@given(st.integers(0, 2**32), st.integers(2, 9), st.integers(1, 3))
def test_r2_of_several_columns_is_scikit_learns(seed, columns, readings):
    """Of indicators or a curve: residuals and squares of all columns are added up."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(30, columns)) * rng.uniform(0.1, 10, columns) + rng.normal(
        size=columns
    )
    read = truth + rng.normal(size=(readings, 30, columns)) * rng.uniform(0.1, 10, columns)
    found = figures.explained(truth, read, np.arange(30) // 2)
    peers = [r2_score(truth, one, multioutput="variance_weighted") for one in read]
    assert found == pytest.approx(np.mean(peers))
    drawn = figures._weights(np.arange(30) // 2)[3].astype(int)
    often = np.repeat(np.arange(30), drawn)
    peers = [r2_score(truth[often], o[often], multioutput="variance_weighted") for o in read]
    assert found.resampled[3] == pytest.approx(np.mean(peers))


def test_a_constant_truth_has_no_r2():
    found = figures.explained(np.full(9, 0.1), np.arange(9.0), np.arange(9))
    assert np.isnan([found, *found.interval]).all()


@pytest.mark.parametrize("ties", [False, True])
def test_rankings_are_scikit_learns(ties):
    rng = np.random.default_rng(5)
    truth = rng.random((90, 4)) < np.array([0.1, 0.5, 0.8, 0.3])
    scores = truth + rng.normal(size=(2, 90, 4))
    if ties:
        scores = np.round(scores)
    groups = np.arange(90) // 2
    auc, precision = figures.ranking(truth, scores, groups)
    assert auc == pytest.approx(np.mean([roc_auc_score(truth, one) for one in scores]))
    peer = np.mean([average_precision_score(truth, one) for one in scores])
    assert precision == pytest.approx(peer)
    # One resample, by hand: clips are repeated as often as they were drawn.
    drawn = figures._weights(groups)[7].astype(int)
    often = np.repeat(np.arange(90), drawn)
    pair = figures._ranked(drawn[None].astype(float), truth[:, 1], scores[0][:, 1])
    np.testing.assert_allclose(
        pair[0],
        [
            roc_auc_score(truth[often, 1], scores[0][often, 1]),
            average_precision_score(truth[often, 1], scores[0][often, 1]),
        ],
    )
    for figure in (auc, precision):
        low, high = figure.interval
        assert low < figure < high


def test_a_tag_of_one_clip_which_resamples_lack():
    truth = np.arange(6)[:, None] == 3
    auc, _ = figures.ranking(truth, np.arange(6.0)[None, :, None], np.arange(6))
    assert auc == pytest.approx(3 / 5)
    assert np.isfinite(auc.interval).all()


def test_a_tag_that_all_or_none_have_ranks_nothing():
    rng = np.random.default_rng(6)
    truth = np.stack([rng.random(40) < 0.5, np.ones(40, bool), np.zeros(40, bool)], axis=1)
    scores = rng.normal(size=(1, 40, 3))
    auc, _ = figures.ranking(truth, scores, np.arange(40))
    assert auc == pytest.approx(roc_auc_score(truth[:, 0], scores[0][:, 0]))
    none, _ = figures.ranking(truth[:, 1:], scores[:, :, 1:], np.arange(40))
    assert np.isnan([none, *none.interval]).all()
