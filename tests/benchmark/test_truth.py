"""The truth is where the notes say: onsets and pitches of renderings, measured from the audio."""

import dataclasses

import librosa
import numpy as np
import pytest

from loev_jax.benchmark import truth
from loev_jax.corpus import performance
from loev_jax.corpus.score import Score

RATE = truth.SAMPLE_RATE
PIANO = 0
TEMPO = 100.0


def piece(beats, pitches, gap=0.5):
    """A piano piece of notes of those durations in beats, silent for `gap` of each."""
    beats = np.asarray(beats, float)
    score = Score(
        piece="test/tune",
        collection="ryansMammoth",
        family="test",
        onset=np.cumsum(beats) - beats,
        duration=beats * (1 - gap),
        pitch=np.asarray(pitches),
        voice=np.zeros(len(beats), np.int64),
        key=0,
        metre="4/4",
        pickup=0.0,
    )
    played = dataclasses.replace(
        performance.draw(0, 0), tempo=TEMPO, transposition=0, programs=(PIANO,) * 4, start=0.0,
        late=0.0, drums=0, bass=0,
    )  # fmt: skip
    return truth.Piece(0, score, played, gain=4.0)


@pytest.mark.parametrize(("rate", "semitones"), [(1.0, 0), (0.7, -4), (1.3, 3)])
def test_beats_land_at_the_rate_and_pitches_at_the_shift(rate, semitones):
    pitches = [60, 67, 64, 72]
    audio = truth.render(piece([1, 1, 1, 1], pitches), rate, semitones)
    beat = 60 / (TEMPO * rate)
    assert len(audio) == round(truth.SECONDS / rate * RATE)

    heard_from = 0.5  # seconds of silence, for the detector hears nothing at its own start
    four = np.pad(audio[: int(4.5 * beat * RATE)], (int(heard_from * RATE), 0))
    onsets = librosa.onset.onset_detect(y=four, sr=RATE, hop_length=64, units="time") - heard_from
    expected = beat * np.arange(4)
    nearest = onsets[np.abs(onsets[:, None] - expected).argmin(axis=0)]
    np.testing.assert_allclose(nearest, expected, atol=0.03)

    for number, pitch in enumerate(pitches):
        begin = int((number + 0.1) * beat * RATE)
        note = audio[begin : begin + int(0.35 * beat * RATE)]
        heard = np.median(librosa.yin(note, fmin=100, fmax=1000, sr=RATE, frame_length=1024))
        assert librosa.hz_to_midi(heard) == pytest.approx(pitch + semitones, abs=0.2)


def test_notes_too_short_for_the_corpus_at_that_tempo_stay():
    # An eighth of a beat is 75 ms at this tempo and 37 ms at twice it: the corpus plays none there.
    fast = piece([0.125] * 32, [60] * 32, gap=0.0)
    assert np.abs(truth.render(fast, 2.0)).max() > 0.1
    corpus = dataclasses.replace(fast.performance, tempo=2 * TEMPO)
    assert not any(performance.melodic_notes(fast.score, corpus))


def test_pieces_are_a_function_of_seed_and_number():
    three, two = truth.pieces(3, seed=5), truth.pieces(2, seed=5)
    assert [one.score.piece for one in three[:2]] == [one.score.piece for one in two]
    assert [one.performance for one in three[:2]] == [one.performance for one in two]
    assert [one.score.piece for one in truth.pieces(2, seed=6)] != [one.score.piece for one in two]
    for one in two:
        assert one.performance.drums == 0
        source = truth.render(one)
        assert source.dtype == np.float32
        assert np.abs(source).max() == pytest.approx(one.performance.peak, rel=1e-4)
        assert np.abs(source).reshape(-1, RATE).max(axis=1).min() > 0.004  # no rests
        np.testing.assert_array_equal(source, truth.render(one))


@pytest.mark.parametrize(
    ("rate", "semitones", "message"),
    [(0.0, 0, "rate=0.0"), (1.0, 0.5, "semitones=0.5"), (1.0, 70, "semitones=70")],
)
def test_what_no_score_can_be(rate, semitones, message):
    with pytest.raises(ValueError, match=message):
        truth.render(piece([1], [60]), rate, semitones)
