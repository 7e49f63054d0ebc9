"""Hums, beside a pitch tracker and the scores that they are of."""

import librosa
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loev_jax.corpus import humming, scores
from loev_jax.evaluate import probes, retrieval
from loev_jax.evaluate.metrics import tempo_hits

PIECES = ("ryansMammoth/RakesOfWestmeathJig", "bach/bwv338")


@pytest.fixture(params=PIECES)
def score(request):
    return scores.load(request.param)


def test_the_melody_is_one_note_at_a_time(score):
    onset, duration, pitch = humming.melody(score).T
    assert (np.diff(onset) > 0).all()
    assert (onset[:-1] + duration[:-1] <= onset[1:] + 1e-6).all()
    first = score.voice == 0
    assert set(pitch) <= set(score.pitch[first])
    assert len(onset) == len(np.unique(score.onset[first]))


CLIPS = st.lists(st.builds(humming.Played, st.floats(55.0, 210.0), st.integers(-5, 6)), max_size=3)


@given(piece=st.sampled_from(PIECES), clips=CLIPS, number=st.integers(0, 2**31))
def test_a_hum_is_unlike_the_clips_of_its_piece_and_in_the_range_of_a_voice(piece, clips, number):
    score = scores.load(piece)
    hum = humming.draw(score, clips, 0, number)
    for clip in clips:
        assert (hum.transposition - clip.transposition) % 12 != 0
        assert abs(hum.transposition - clip.transposition) > 6
        for tolerance in (probes.TOLERANCE, retrieval.TOLERANCE):
            assert not tempo_hits(np.array(clip.tempo), np.array(hum.tempo), tolerance)
    assert humming.SLOWEST <= hum.tempo <= humming.FASTEST
    middle = np.median(humming.melody(score)[:, 2]) + hum.transposition
    assert abs(middle - humming.VOICES[hum.voice]) <= 6
    assert 0 <= hum.start < score.period


@given(number=st.integers(0, 2**31))
def test_where_no_voice_can_it_is_in_a_clips_octave(number):
    """And as any hum where a piece is heard in every key and at every tempo."""
    score = scores.load(PIECES[0])
    middle = round(float(np.median(humming.melody(score)[:, 2])))
    clips = [humming.Played(90.0, round(note) - middle) for note in humming.VOICES.values()]
    hum = humming.draw(score, clips, 0, number)
    assert all((hum.transposition - clip.transposition) % 12 for clip in clips)
    every = [humming.Played(90.0 + 5 * step, step) for step in range(-11, 12)]
    assert humming.draw(score, every, 0, number).voice in humming.VOICES


def test_of_what_is_left_all_is_drawn(score):
    clip = humming.Played(100.0, 2)
    drawn = [humming.draw(score, [clip], 0, number) for number in range(300)]
    assert {hum.voice for hum in drawn} == set(humming.VOICES)
    assert {(hum.transposition - 2) % 12 for hum in drawn} == set(range(1, 12))
    tempi = [hum.tempo for hum in drawn]
    assert min(tempi) < 65
    assert max(tempi) > 130


def test_a_pitch_tracker_hears_the_melody(score):
    hum = humming.draw(score, [], 0, 1)
    audio = humming.render(score, hum, 8.0)
    assert (audio.dtype, audio.shape) == (np.int16, (128_000,))
    heard, voiced, _ = librosa.pyin(audio / 32768, fmin=60, fmax=700, sr=16_000)
    pitch, loudness = humming.pitch_and_loudness(score, hum, 8.0)
    times, grid = librosa.times_like(heard, sr=16_000), np.arange(len(pitch)) / 100
    sure = voiced & (np.interp(times, grid, loudness) > 0.6)
    error = librosa.hz_to_midi(heard[sure]) - np.interp(times, grid, pitch)[sure]
    assert sure.mean() > 0.6
    assert np.median(np.abs(error)) < 0.15
    # The pitch that it follows is the score's, moved, but for what makes it human.
    beat = hum.start + hum.tempo / 60 * grid
    notes = humming.melody(score)
    at = np.searchsorted(notes[:, 0], beat % score.period, side="right") - 1
    early = grid < 1.5  # later the tempo has drifted
    off = np.abs(pitch - notes[at, 2] - hum.transposition)[early]
    assert np.median(off) < 0.6


def test_it_is_a_function_of_seed_and_number(score):
    one, two = (humming.render(score, humming.draw(score, [], 3, 7), 2.0) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert humming.draw(score, [], 3, 8) != humming.draw(score, [], 3, 7)
    assert humming.draw(score, [], 4, 7) != humming.draw(score, [], 3, 7)


def test_its_partials_are_sines_of_multiples_of_the_pitch(score):
    hum = humming.draw(score, [], 0, 2)
    pitch, loudness = humming.pitch_and_loudness(score, hum, 2.0)
    at = np.arange(32_000) / 160
    grid = np.arange(len(pitch))
    frequency = librosa.midi_to_hz(np.interp(at, grid, pitch))
    phase = 2 * np.pi * np.cumsum(frequency) / 16_000
    gains = [humming._response(n * frequency) / n**2 for n in range(1, 80)]
    plain = sum(gain * np.sin(n * phase) for n, gain in enumerate(gains, 1))
    plain *= np.interp(at, grid, loudness)
    assert np.corrcoef(plain, humming.render(score, hum, 2.0))[0, 1] > 0.999


def test_its_partials_end_where_a_hum_does(score):
    audio = humming.render(score, humming.draw(score, [], 0, 2), 4.0).astype(float)
    power = np.abs(np.fft.rfft(audio)) ** 2
    frequency = np.fft.rfftfreq(len(audio), 1 / 16_000)
    assert power[frequency > 4_000].sum() < 1e-3 * power.sum()
    assert power[frequency < 1_500].sum() > 0.95 * power.sum()
