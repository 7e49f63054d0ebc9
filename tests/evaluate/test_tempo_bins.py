import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loev_jax.evaluate.tempo_bins import PER_OCTAVE, Bins

BINS = Bins.over(np.log2([60.0, 90.0, 200.0]))


@given(st.floats(60.0, 200.0))
def test_a_tempo_is_in_the_nearest_bin(bpm):
    octave = np.log2([bpm])
    (number,) = BINS.number(octave)
    assert abs(BINS.lowest + number / PER_OCTAVE - octave[0]) <= 0.5001 / PER_OCTAVE


def test_tempi_beyond_all_bins_have_none():
    assert BINS.number(np.log2([50.0, 60.0, 250.0])).tolist() == [-1, 0, -1]


def test_an_estimate_lies_between_the_bins_that_share_it():
    even = np.full(BINS.count, -30.0)
    even[[3, 4]] = 1.0
    assert BINS.octaves(even) == pytest.approx(BINS.lowest + 3.5 / PER_OCTAVE)


def test_a_second_peak_an_octave_away_moves_nothing():
    logits = np.full((2, BINS.count), -30.0)
    logits[:, 4] = 1.0
    logits[1, 4 + PER_OCTAVE] = 0.9
    one, doubtful = BINS.octaves(logits)
    assert doubtful == pytest.approx(one, abs=1e-9)


def test_one_tempo_is_one_bin():
    bins = Bins.over(np.log2([120.0, 120.0]))
    assert bins.count == 1
    assert 2 ** bins.octaves(np.zeros((3, 1))) == pytest.approx(np.full(3, 120.0))
