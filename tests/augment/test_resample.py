"""Resampling against closed-form sines and against soxr."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from loev_jax.augment.resample import MARGIN, resample

SOURCE, SAMPLES, MAX_RATIO = 6000, 4000, 1.3
RATIOS = st.floats(0.75, 1.296875, width=32)
EDGE = slice(2 * MARGIN, -2 * MARGIN)


@jax.jit
def read(audio, ratio):
    return resample(audio, ratio, SAMPLES, max_ratio=MAX_RATIO)


def sine(frequency, times, phase=0.4):
    """A sine at a frequency in cycles a sample, in double precision."""
    return np.sin(2 * np.pi * frequency * times + phase)


def snr(truth, value):
    """Signal-to-noise ratio in dB."""
    return 10 * np.log10(np.sum(truth**2) / np.sum((np.asarray(value, float) - truth) ** 2))


@given(ratio=RATIOS, fraction=st.floats(0.01, 0.94))
@settings(max_examples=40)
def test_a_sine_in_the_passband_is_read_to_60_db(ratio, fraction):
    frequency = 0.5 * fraction / max(1.0, ratio)
    audio = sine(frequency, np.arange(SOURCE)).astype(np.float32)
    output = read(audio[None], jnp.full((1,), ratio))[0]
    truth = sine(frequency, np.arange(SAMPLES) * ratio)
    assert snr(truth[EDGE], output[EDGE]) > 60


@given(ratio=st.floats(1.03125, 1.296875, width=32), beyond=st.floats(1.002, 1.2))
@settings(max_examples=40)
def test_a_sine_above_the_outputs_nyquist_frequency_is_gone_to_60_db(ratio, beyond):
    frequency = min(0.499, 0.5 * beyond / ratio)
    audio = sine(frequency, np.arange(SOURCE)).astype(np.float32)
    output = np.asarray(read(audio[None], jnp.full((1,), ratio))[0], float)
    assert 10 * np.log10(np.mean(output[EDGE] ** 2) / 0.5) < -60


@pytest.mark.parametrize(("up", "down"), [(4, 5), (5, 4), (8, 9), (15, 16)])
def test_noise_in_the_passband_agrees_with_soxr(up, down):
    """Output rate / input rate = up / down, so the ratio of reading is its inverse."""
    rng = np.random.default_rng(0)
    spectrum = np.fft.rfft(rng.standard_normal(SOURCE))
    spectrum[int(0.9 * min(1.0, up / down) * len(spectrum)) :] = 0
    audio = np.fft.irfft(spectrum, SOURCE).astype(np.float32)
    truth = soxr.resample(audio.astype(float), down, up, quality="VHQ")
    output = read(audio[None], jnp.full((1,), down / up))[0]
    length = min(len(truth), SAMPLES)
    assert snr(truth[:length][EDGE], output[:length][EDGE]) > 60


def test_a_long_view_does_not_drift():
    """After 30 s in f32 the last samples are read as exactly as the first."""
    ratio, samples = np.float32(1.2599), 480_000
    source = int(samples * 1.26) + 500
    audio = sine(0.3, np.arange(source)).astype(np.float32)
    output = jax.jit(lambda x, r: resample(x, r, samples, max_ratio=1.26))(
        audio[None], jnp.full((1,), ratio)
    )[0]
    truth = sine(0.3, np.arange(samples) * float(ratio))
    assert snr(truth[-3000:-300], output[-3000:-300]) > 60


def test_ratio_1_is_the_input_to_65_db_up_to_the_nyquist_frequency():
    audio = np.random.default_rng(0).standard_normal((1, SOURCE)).astype(np.float32)
    output = read(audio, jnp.ones(1))
    assert snr(audio[0, :SAMPLES], output[0]) > 65


@pytest.mark.parametrize("start", [0, 7, 333])
def test_start_moves_the_origin(start):
    times = np.arange(SOURCE)
    audio = sine(0.2, times).astype(np.float32)[None]
    output = jax.jit(lambda x, r: resample(x, r, 3000, max_ratio=1.25, start=start))(
        audio, jnp.full((1,), 1.125)
    )
    truth = sine(0.2, start + 1.125 * np.arange(3000))
    assert snr(truth[EDGE], output[0, EDGE]) > 60


def test_examples_are_independent_and_vmap_agrees():
    rng = np.random.default_rng(1)
    audio = jnp.asarray(rng.standard_normal((3, SOURCE)).astype(np.float32))
    ratio = jnp.asarray([0.8, 1.0, 1.28])
    batched = read(audio, ratio)
    mapped = jax.vmap(lambda x, r: read(x[None], r[None])[0])(audio, ratio)
    np.testing.assert_allclose(batched, mapped, atol=1e-5)
    poisoned = read(audio.at[0].set(jnp.nan), ratio.at[2].set(1.5))
    np.testing.assert_allclose(poisoned[1], batched[1], atol=1e-5)
    assert np.isnan(poisoned[jnp.asarray([0, 2])]).all()


def test_the_gradient_of_the_audio_is_the_transpose():
    """<resample(x), y> = <x, gradient>: the map is linear in the audio."""
    rng = np.random.default_rng(2)
    audio = jnp.asarray(rng.standard_normal((2, SOURCE)).astype(np.float32))
    weight = jnp.asarray(rng.standard_normal((2, SAMPLES)).astype(np.float32))
    ratio = jnp.asarray([0.9, 1.1])

    def dot(audio, ratio):
        return jnp.vdot(read(audio, ratio), weight, precision="highest")

    value, gradients = jax.jit(jax.value_and_grad(dot, argnums=(0, 1)))(audio, ratio)
    again = np.sum(np.asarray(gradients[0], float) * np.asarray(audio, float))
    np.testing.assert_allclose(again, value, rtol=1e-3)
    assert np.isfinite(gradients[1]).all()


@pytest.mark.parametrize(
    ("shape", "ratio", "message"),
    [
        ((SOURCE,), [1.0], r"audio must be \[batch, samples\]"),
        ((2, SOURCE), [1.0], r"ratio must be \[batch\] = \(2,\)"),
        ((1, 4000), [1.0], "audio has 4000 samples; 4000 at max_ratio=1.3 from start=0 need 5200"),
        ((1, SOURCE), [np.nan], "ratio holds values that are not finite"),
        ((1, SOURCE), [1.5], r"ratio is not in \(0, max_ratio=1.3\]"),
        ((1, SOURCE), [-1.0], r"ratio is not in \(0, max_ratio=1.3\]"),
    ],
)
def test_bad_input_raises(shape, ratio, message):
    with pytest.raises(ValueError, match=message):
        resample(jnp.zeros(shape), jnp.asarray(ratio), SAMPLES, max_ratio=MAX_RATIO)
