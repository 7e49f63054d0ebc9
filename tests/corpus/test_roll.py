import dataclasses

import numpy as np
import pytest
import symusic
from scipy.signal import find_peaks

from loev_jax.corpus import key_finding, roll, scores
from loev_jax.corpus.roll import Notes
from loev_jax.errors import UserError

PIECE = "ryansMammoth/RakesOfWestmeathJig"


def clicks(period, *, pitch=60, seconds=30.0):
    """A short note every `period` seconds."""
    onset = np.arange(0.0, seconds - 1e-9, period)
    return Notes(onset, np.full(len(onset), 0.1), np.full(len(onset), pitch), seconds)


@pytest.mark.parametrize("key", range(24))
def test_a_score_is_performed_at_a_tempo_and_in_a_key(key):
    score = scores.load(PIECE)
    key = score.key // 12 * 12 + key % 12
    notes = roll.perform(score, 120.0, key)
    np.testing.assert_allclose(notes.onset, score.onset / 2)
    np.testing.assert_allclose(notes.duration, score.duration / 2)
    assert notes.period == score.period / 2
    assert np.abs(notes.pitch - score.pitch).max() <= 6
    weights = np.bincount(notes.pitch % 12, weights=notes.duration, minlength=12)
    assert key_finding.find_key(weights) == key


def test_a_roll_holds_the_time_that_notes_sound():
    notes = Notes(
        np.array([2.0, 2.5, 3.01]), np.array([0.5, 0.25, 1.333]), np.array([60, 64, 60]), 60.0
    )
    sounding, onsets = roll.piano_roll(notes)
    assert sounding.shape == onsets.shape == (750, 128)
    seconds = sounding.sum(axis=0) / roll.RATE
    assert seconds[60] == pytest.approx(1.833, abs=1e-4)
    assert seconds[64] == pytest.approx(0.25, abs=1e-4)
    assert np.count_nonzero(seconds) == 2
    # From the first note on, half a second is twelve frames and a half.
    assert [tuple(one) for one in np.argwhere(onsets)] == [(0, 60), (12, 64), (25, 60)]
    assert sounding.max() <= 1 + 1e-6


def test_a_short_piece_starts_again_and_a_long_one_is_cut():
    once = Notes(np.array([0.0]), np.array([1.0]), np.array([60]), 4.0)
    sounding, onsets = roll.piano_roll(once)
    assert np.flatnonzero(onsets[:, 60]).tolist() == [100 * time for time in range(8)]
    assert sounding.sum() / roll.RATE == pytest.approx(8.0, abs=1e-3)
    long = dataclasses.replace(once, onset=np.array([0.0]), duration=np.array([90.0]), period=90.0)
    assert roll.piano_roll(long)[0].sum() / roll.RATE == pytest.approx(30.0, abs=1e-3)


def test_a_faster_tempo_moves_the_rhythm_by_its_octaves():
    slow, fast = roll.describe([clicks(1.0), clicks(0.5)])[:, 128 + 12 : 128 + 12 + 48]
    first = [int(find_peaks(one, height=0.5 * one.max())[0][0]) for one in (slow, fast)]
    frequencies = np.geomspace(0.5, 8.0, 48)
    np.testing.assert_allclose(frequencies[first], [1.0, 2.0], rtol=0.08)
    assert abs(first[1] - first[0] - 47 / 4) <= 1.25  # an octave of 48 frequencies over four


@pytest.mark.parametrize("steps", [1, 5, 12])
def test_a_transposition_moves_pitches_and_turns_pitch_classes(steps):
    low = roll.perform(scores.load(PIECE), 100.0, 0)
    high = dataclasses.replace(low, pitch=low.pitch + steps)
    below, above = roll.describe([low, high])
    np.testing.assert_allclose(above[steps:128], below[: 128 - steps], atol=1e-5)
    np.testing.assert_allclose(above[128:140], np.roll(below[128:140], steps), atol=1e-5)
    np.testing.assert_allclose(above[140:188], below[140:188], atol=1e-5)


def test_the_number_of_rolls_changes_none():
    many = [clicks(0.2 + 0.01 * n, pitch=40 + n) for n in range(70)]
    np.testing.assert_allclose(roll.describe(many)[66:], roll.describe(many[66:]), atol=1e-6)


def test_midi_is_read_in_seconds_and_without_drums(tmp_path):
    midi = symusic.Score(480)
    midi.tempos.append(symusic.Tempo(0, qpm=90.0))
    for drums in (False, True):
        track = symusic.Track(name="", program=0, is_drum=drums)
        track.notes.append(symusic.Note(480, 240, 36 if drums else 67, 90))
        track.notes.append(symusic.Note(960, 480, 37 if drums else 69, 90))
        midi.tracks.append(track)
    midi.dump_midi(tmp_path / "tune.mid")
    notes = roll.read_midi(tmp_path / "tune.mid")
    np.testing.assert_allclose(notes.onset, [2 / 3, 4 / 3], atol=1e-5)
    np.testing.assert_allclose(notes.duration, [1 / 3, 2 / 3], atol=1e-5)
    assert notes.pitch.tolist() == [67, 69]


def test_what_is_no_midi_is_told(tmp_path):
    (tmp_path / "text.mid").write_text("no notes")
    symusic.Score(480).dump_midi(tmp_path / "empty.mid")
    for name in ("none.mid", "text.mid", "empty.mid"):
        with pytest.raises(UserError, match=f"--score=.*{name}: "):
            roll.read_midi(tmp_path / name)
