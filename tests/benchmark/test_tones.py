"""Tones begin, sound and decay where the closed form says."""

import numpy as np
import pytest

from loev_jax.benchmark import tones

RATE = tones.SAMPLE_RATE


@pytest.mark.parametrize(("rate", "semitones"), [(1.0, 0.0), (0.75, 2.5), (1.3, -4.0)])
def test_one_note(rate, semitones):
    note = tones.Tones(
        onset=np.array([2.0]),
        frequency=np.array([440.0]),
        decay=np.array([0.5]),
        amplitude=np.eye(1, 8),
        phase=np.full((1, 8), np.pi / 2),
    )
    audio = tones.render(note, rate, semitones)
    assert len(audio) == round(tones.SECONDS / rate * RATE)
    onset = 2.0 / rate
    assert np.flatnonzero(np.abs(audio) > 0.05)[0] / RATE == pytest.approx(onset, abs=0.002)

    def level(after):  # seconds of the note's own time after its attack
        begin = int((onset + after / rate) * RATE)
        return np.sqrt(np.mean(audio[begin : begin + int(0.1 / rate * RATE)] ** 2))

    assert level(0.6) / level(0.1) == pytest.approx(np.exp(-0.5 / 0.5), rel=0.01)
    sound = audio[int(onset * RATE) :]
    spectrum = np.abs(np.fft.rfft(sound, 1 << 19))
    heard = spectrum.argmax() * RATE / (1 << 19)
    assert heard == pytest.approx(440 * 2 ** (semitones / 12), rel=0.002)


def test_draws():
    first = tones.draw(0, 1)
    np.testing.assert_array_equal(tones.draw(0, 1).onset, first.onset)
    assert not np.array_equal(tones.draw(0, 2).frequency[:5], first.frequency[:5])
    assert np.abs(tones.render(first)).max() == pytest.approx(0.7, rel=1e-3)


@pytest.mark.parametrize(("rate", "semitones", "message"), [(0.0, 0, "rate"), (1, 12, "semitones")])
def test_bad_arguments(rate, semitones, message):
    with pytest.raises(ValueError, match=message):
        tones.render(tones.draw(0, 0), rate, semitones)
