"""The analysis domain against the closed form: tones and clicks re-synthesised at the truth."""

import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings

from loev_jax import frontend
from loev_jax.augment import analysis
from loev_jax.augment.augmentations import PARAMETER_NAMES

SPEC = frontend.LogMel(n_fft=1024, window=704, hop=320, bands=96, fmin=30.0, fmax=6000.0)
FRAMES, RATE = 120, SPEC.sample_rate


def music(seconds, rate=1.0, semitones=0.0):
    """Decaying notes with harmonics, in closed form at any tempo and transposition."""
    rng = np.random.default_rng(7)
    time = np.arange(round(seconds * RATE)) / RATE
    audio = np.zeros_like(time)
    for note in range(40):
        onset, pitch, level = 0.25 * note, rng.integers(48, 72), rng.uniform(0.3, 1.0)
        since = time - onset / rate
        # A faster performance has shorter notes: the decay is in beats.
        envelope = np.where(since >= 0, np.exp(-np.maximum(since, 0) * rate / 0.3), 0.0)
        f0 = 440 * 2 ** ((pitch + semitones - 69) / 12)
        for harmonic in range(1, 7):
            audio += 0.1 * level / harmonic * envelope * np.sin(2 * np.pi * harmonic * f0 * since)
    return audio.astype(np.float32)


def applied(**values):
    return {name: jnp.asarray([values.get(name, 0.0)], jnp.float32) for name in PARAMETER_NAMES}


def transformed(audio, **values):
    return np.asarray(analysis.log_mel(SPEC, jnp.asarray(audio)[None], applied(**values), FRAMES))[
        0
    ]


def plain(audio):
    return np.asarray(frontend.log_mel(SPEC, jnp.asarray(audio)[None]))[0][:FRAMES]


def test_nothing_applied_is_the_plain_log_mel():
    audio = music(3.0)
    np.testing.assert_allclose(transformed(audio), plain(audio), atol=1e-4)


@pytest.mark.parametrize("rate", [0.75, 0.9, 1.2, 1.3])
@pytest.mark.parametrize("semitones", [-4, 0, 3])
def test_agrees_with_notes_played_at_that_tempo_and_pitch(rate, semitones):
    source = music(2.6 * 1.3 + 0.2)
    truth = plain(music(2.6, rate, semitones))
    result = transformed(source, time_stretch=np.log2(rate), pitch_shift=semitones)
    assert np.corrcoef(result.ravel(), truth.ravel())[0, 1] > 0.97


@settings(max_examples=10)
@given(st.floats(-4, 4), st.floats(200, 2000))
def test_a_tone_lands_on_its_frequency_times_the_ratio(semitones, frequency):
    time = np.arange(2 * RATE) / RATE
    ratio = 2 ** (semitones / 12)
    source, truth = (
        np.sin(2 * np.pi * f * time).astype(np.float32) for f in (frequency, frequency * ratio)
    )
    moved = transformed(source, pitch_shift=semitones)[:90].mean(axis=0)
    expected = plain(truth)[:90].mean(axis=0)
    assert abs(int(moved.argmax()) - int(expected.argmax())) <= 1


def test_a_click_lands_at_its_time_over_the_rate():
    audio = np.zeros(4 * RATE, np.float32)
    audio[round(1.6 * RATE)] = 1.0
    for rate in (0.8, 1.0, 1.25):
        energy = transformed(audio, time_stretch=np.log2(rate)).sum(axis=1)
        centre = (np.average(np.arange(FRAMES), weights=energy) * SPEC.hop + SPEC.window / 2) / RATE
        assert centre == pytest.approx(1.6 / rate, abs=SPEC.hop / RATE)


def test_gain_is_a_factor_of_power():
    audio = music(3.0)
    loud = 10 ** transformed(audio, gain=-7.0).astype(np.float64) - 1
    expected = (10 ** plain(audio).astype(np.float64) - 1) * 10**-0.7
    np.testing.assert_allclose(loud, expected, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize(("kind", "name"), [(1, "lowpass"), (2, "highpass")])
def test_filters_agree_with_scipy_on_noise(kind, name):
    noise = (0.1 * np.random.default_rng(0).standard_normal(3 * RATE)).astype(np.float32)
    b, a = scipy.signal.butter(2, 2 * np.pi * 900, name, analog=True)
    frequencies = np.fft.rfftfreq(len(noise), 1 / RATE)
    response = np.abs(scipy.signal.freqs(b, a, 2 * np.pi * frequencies)[1])
    truth = plain(np.fft.irfft(np.fft.rfft(noise) * response).astype(np.float32))
    result = transformed(noise, filter_kind=kind, filter_frequency=np.log2(900.0))
    # The window smears the response over neighbouring bins: compare averages over time.
    np.testing.assert_allclose(result.mean(axis=0), truth.mean(axis=0), atol=0.05)


def test_a_filter_acts_after_the_shift():
    """A tone shifted up across a high-pass's cut-off is let through."""
    time = np.arange(2 * RATE) / RATE
    tone = np.sin(2 * np.pi * 500 * time).astype(np.float32)
    cut = {"filter_kind": 2.0, "filter_frequency": np.log2(570.0)}
    below = transformed(tone, pitch_shift=-4.0, **cut)[:90].max()
    above = transformed(tone, pitch_shift=4.0, **cut)[:90].max()
    # Closed form: |H|² is .19 at 397 Hz and .60 at 630 Hz, half a decade apart.
    assert 0.3 < above - below < 0.7


def test_the_source_is_exactly_long_enough():
    """One sample less would move the last frame: it is read to its end, and nothing is padded."""
    needed = analysis.source_samples(SPEC, FRAMES, 1.25, 1.0)
    noise = np.random.default_rng(1).standard_normal(needed).astype(np.float32)
    longer = np.concatenate([noise, np.zeros(RATE, np.float32)])
    fastest = {"time_stretch": np.log2(1.25)}
    np.testing.assert_array_equal(transformed(noise, **fastest), transformed(longer, **fastest))


def test_a_longer_window_keeps_the_level_of_noise():
    noise = (0.1 * np.random.default_rng(0).standard_normal(3 * RATE)).astype(np.float32)
    levels = [
        float(
            jnp.mean(
                analysis.log_mel(
                    SPEC, jnp.asarray(noise)[None], applied(), FRAMES, jnp.asarray([scale]), 1.36
                )
            )
        )
        for scale in (0.72, 1.0, 1.36)
    ]
    assert max(levels) - min(levels) < 0.05


def test_a_window_beyond_n_fft_is_refused():
    with pytest.raises(ValueError, match="exceeds n_fft"):
        analysis.span(SPEC, 2.0)
