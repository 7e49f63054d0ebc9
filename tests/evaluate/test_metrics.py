import mir_eval
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from loev_jax.evaluate import metrics

BPM = st.floats(30.0, 300.0)


@given(BPM, BPM, st.sampled_from([0.04, 0.08]))
def test_tempo_hits_are_mir_evals(truth, estimate, tolerance):
    def mir(reference):
        pair = np.array([reference, reference]), np.array([estimate, estimate])
        return mir_eval.tempo.detection(pair[0], 0.5, pair[1], tol=tolerance)[2]

    mine = metrics.tempo_hits(np.array([truth]), np.array([estimate]), tolerance)[0]
    assert mine == mir(truth)
    both = metrics.tempo_hits(np.array([truth]), np.array([estimate]), tolerance, octaves=True)[0]
    assert both == any(mir(truth * m) for m in (1, 2, 1 / 2, 3, 1 / 3))


def test_octave_tolerance_is_relative_to_the_multiple():
    truth = np.full(4, 100.0)
    estimate = np.array([207.9, 208.1, 51.9, 52.1])
    hits = metrics.tempo_hits(truth, estimate, 0.04, octaves=True)
    assert hits.tolist() == [True, False, True, False]
    assert not metrics.tempo_hits(truth, estimate, 0.04).any()


def test_key_scores_take_the_reference_first():
    scores = metrics.key_scores()
    c, g, a_minor, c_minor = 0, 7, 21, 12
    assert scores[c, [c, g, a_minor, c_minor]].tolist() == [1.0, 0.5, 0.3, 0.2]
    assert scores[g, c] == 0.0
    assert scores[a_minor, c] == 0.3
    # Of 24 estimates: itself, the fifth above, the relative, the parallel.
    np.testing.assert_allclose(scores.sum(axis=1), 2.0)


@given(st.integers(1, 8), st.integers(0, 1000))
def test_ranks_are_those_of_a_sort_with_ties_last(size, seed):
    similarity = np.random.default_rng(seed).integers(0, 4, (size, size)).astype(float)
    for query, rank in enumerate(metrics.ranks(similarity)):
        others = sorted(np.delete(similarity[query], query), reverse=True)
        better = [value for value in others if value >= similarity[query, query]]
        assert rank == len(better) + 1
