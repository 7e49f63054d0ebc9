"""What is drawn, what is played, and what an independent ear hears of it."""

import dataclasses

import librosa
import numpy as np
import pytest
import scipy.stats

from loev_jax.corpus import performance, rendering, scores
from loev_jax.corpus.score import METRES, Score


def tune(pitches, duration=1.0, metre="4/4", key=0, pickup=0.0):
    """A tune of equal notes, `duration` beats each."""
    count = len(pitches)
    return Score(
        piece="test/tune",
        collection="ryansMammoth",
        family="test",
        onset=np.arange(count) * duration,
        duration=np.full(count, duration),
        pitch=np.asarray(pitches),
        voice=np.zeros(count, np.int64),
        key=key,
        metre=metre,
        pickup=pickup,
    )


def played(**changes):
    """A performance on a flute with nothing else, from the beginning."""
    plain = performance.Performance(
        tempo=120.0,
        transposition=0,
        family="pipe",
        programs=(73,) * 4,
        start=0.0,
        late=0.0,
        drums=0,
        bass=0,
        bass_program=33,
        peak=0.8,
        velocity_seed=0,
    )
    return dataclasses.replace(plain, **changes)


def test_draws_follow_their_distributions():
    draws = [performance.draw(7, clip) for clip in range(1500)]
    low, high = np.log(60), np.log(200)
    tempos = (np.log([draw.tempo for draw in draws]) - low) / (high - low)
    assert scipy.stats.kstest(tempos, "uniform").pvalue > 0.001
    shifts, counts = np.unique([draw.transposition for draw in draws], return_counts=True)
    np.testing.assert_array_equal(shifts, np.arange(-5, 7))
    assert scipy.stats.chisquare(counts).pvalue > 0.001
    families, counts = np.unique([draw.family for draw in draws], return_counts=True)
    assert set(families) == set(performance.FAMILIES)
    assert scipy.stats.chisquare(counts).pvalue > 0.001
    assert 0.45 < np.mean([draw.drums > 0 for draw in draws]) < 0.55
    for draw in draws:
        assert set(draw.programs) <= set(performance.FAMILIES[draw.family])


def test_a_draw_depends_on_seed_and_clip_alone():
    assert performance.draw(3, 5) == performance.draw(3, 5)
    others = {performance.draw(3, 6), performance.draw(4, 5), performance.draw(5, 3)}
    assert len(others | {performance.draw(3, 5)}) == 4


@pytest.mark.parametrize("tempo", [63.0, 118.5, 197.0])
def test_rendered_tempo_is_the_label(tempo):
    """librosa's onsets are the notated beats, to a fifth of a per cent over 30 s."""
    score = tune([60, 64, 67, 72, 71, 67, 65, 62] * 4)
    audio = rendering.render(score, played(tempo=tempo, programs=(0,) * 4)) / 32768
    onsets = librosa.onset.onset_detect(y=audio, sr=16000, hop_length=128, units="time")
    beats = np.round(onsets * tempo / 60)
    slope = scipy.stats.linregress(beats, onsets).slope
    assert 60 / slope == pytest.approx(tempo, rel=0.002)
    assert len(onsets) > 0.95 * 30 * tempo / 60


@pytest.mark.parametrize("shift", [-5, 0, 6])
def test_rendered_pitch_is_transposed(shift):
    score = tune([69], duration=4.0)
    audio = rendering.render(score, played(transposition=shift)) / 32768
    f0 = librosa.yin(audio[8000:40000], fmin=200, fmax=1000, sr=16000)
    assert np.median(f0) == pytest.approx(440 * 2 ** (shift / 12), rel=0.012)


@pytest.mark.parametrize("program", sorted(sum(performance.FAMILIES.values(), ())))
def test_every_instrument_sounds_its_note_in_tune_and_soon(program):
    """The strongest pitch class of an A is A; the sound is there within 0.2 s."""
    import symusic

    midi = symusic.Score(480)
    midi.tempos.append(symusic.Tempo(0, qpm=120))
    midi.tracks.append(symusic.Track(program=program))
    midi.tracks[0].notes.append(symusic.Note(0, 1400, 69, 100))
    audio = rendering.render_midi(midi.dumps_midi())[:22000]
    chroma = librosa.feature.chroma_cqt(
        y=audio[2000:], sr=16000, bins_per_octave=36, n_octaves=4, fmin=librosa.note_to_hz("C3"),
    ).mean(axis=1)  # fmt: skip
    assert np.argmax(chroma) == 9
    envelope = np.abs(audio)
    assert envelope[:3200].max() > 0.3 * envelope.max()


def test_clip_is_full_of_music_and_of_the_asked_peak():
    score = tune([60, 62, 64, 65, 67, 69, 71, 72], duration=0.5)
    for start in (0.0, 0.3, 0.99):
        audio = rendering.render(score, played(start=start, late=0.9, peak=0.6))
        assert audio.dtype == np.int16
        assert audio.shape == (480_000,)
        assert np.abs(audio).max() == round(0.6 * 32767)
        loudness = np.sqrt((audio.reshape(60, -1).astype(float) ** 2).mean(axis=1))
        assert loudness.min() > 0.1 * loudness.max()


@pytest.mark.parametrize(("late", "start"), [(0.0, 0.0), (0.5, 0.4), (0.99, 0.9)])
def test_piece_begins_again_after_whole_bars_and_fills_the_clip(late, start):
    score = tune(range(60, 71), metre="3/4", pickup=1.0)  # 11 beats: 12 with the rest
    (notes,) = performance.melodic_notes(score, played(late=late, start=start))
    assert notes[0].onset == 0
    onsets = np.asarray([note.onset for note in notes])
    ends = onsets + [note.duration for note in notes]
    assert ends.max() <= 60
    assert 60 - ends.max() <= 1 + 1e-9
    pitches = np.asarray([note.pitch for note in notes])
    for pitch in range(60, 71):
        again = np.diff(onsets[(pitches == pitch) & (onsets > 0)])
        np.testing.assert_allclose(again, 12)
    assert np.diff(onsets).max() <= 2 + 1e-9  # one beat of rest where the piece ends


@pytest.mark.parametrize("metre", sorted(METRES))
def test_drums_and_bass_fall_on_the_beats_of_the_score(metre):
    bar = METRES[metre][1]
    score = tune([60, 64, 67] * 8, duration=bar / 3, metre=metre, pickup=bar / 3)
    asked = played(start=0.37, late=0.8, drums=100, bass=80, tempo=100.0, transposition=2)
    start = score.onset[8] + 0.4 * bar / 3
    hits = performance.drum_notes(score, asked)
    place = np.asarray([hit.onset for hit in hits]) + start - score.pickup
    drums = np.asarray([hit.pitch for hit in hits])
    beats = place[drums != 42]
    np.testing.assert_allclose(beats, np.round(beats), atol=1e-9)
    assert len(beats) == 50
    kicks = place[drums == 36] % bar
    assert np.isclose(kicks % bar, 0).any() or np.isclose(kicks % bar, bar).any()
    division = 3 if metre in ("6/8", "9/8", "12/8") else 2
    np.testing.assert_allclose(place * division, np.round(place * division), atol=1e-6)
    bass = performance.bass_notes(score, asked)
    # All bars but the first, which the clip enters midway, are C major: transposed, D.
    assert {note.pitch % 12 for note in bass[1:]} == {2}
    downbeats = (np.asarray([note.onset for note in bass[1:]]) + start - score.pickup) / bar
    np.testing.assert_allclose(downbeats, np.round(downbeats), atol=1e-6)


def test_drums_and_bass_are_heard():
    score = tune([60, 64, 67, 72] * 4, duration=2.0)
    plain = rendering.render(score, played()).astype(float)
    # Hertz: where a hi-hat sounds and a flute does not, and where a bass does.
    for changes, (low, high) in (({"drums": 100}, (5000, 8000)), ({"bass": 100}, (50, 120))):
        louder = rendering.render(score, played(**changes)).astype(float)
        band = slice(low * 30, high * 30)
        power = [(np.abs(np.fft.rfft(audio)[band]) ** 2).sum() for audio in (plain, louder)]
        assert power[1] > 3 * power[0]


def test_chorale_voices_keep_their_instruments_and_octaves():
    score = scores.load("bach/bwv66.6")
    asked = dataclasses.replace(performance.draw(0, 0), programs=(56, 57, 58, 61), transposition=0)
    voices = performance.melodic_notes(score, asked)
    assert len(voices) == 4
    for voice, notes in enumerate(voices):
        assert {note.pitch for note in notes} <= set(score.pitch[score.voice == voice])
