"""The filters' responses against scipy's analogue designs, and what zero phase does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from loev_jax.augment import filters

FREQUENCIES = np.linspace(0.0, 8000.0, 513).astype(np.float32)
SCIPY_KINDS = {
    filters.LOW_PASS: "lowpass",
    filters.HIGH_PASS: "highpass",
    filters.BAND_PASS: "bandpass",
    filters.BAND_STOP: "bandstop",
}
KINDS = jnp.arange(5)
power_response = jax.jit(filters.power_response, static_argnames="order")
peak_response = jax.jit(filters.peak_response)


def scipy_power(kind, frequency, bandwidth, order):
    """|H|² of scipy's analogue Butterworth filter at FREQUENCIES."""
    band = frequency * np.array([1 - bandwidth / 2, 1 + bandwidth / 2])
    edges = frequency if kind in (filters.LOW_PASS, filters.HIGH_PASS) else band
    zeros, poles, gain = scipy.signal.butter(
        order, 2 * np.pi * edges, SCIPY_KINDS[kind], analog=True, output="zpk"
    )
    _, response = scipy.signal.freqs_zpk(zeros, poles, gain, 2 * np.pi * FREQUENCIES.astype(float))
    return np.abs(response) ** 2


@given(
    kind=st.sampled_from(sorted(SCIPY_KINDS)),
    log2_frequency=st.floats(6.25, 12.875, width=32),
    bandwidth=st.floats(0.25, 1.984375, width=32),
    order=st.integers(1, 4),
)
@settings(max_examples=60)
def test_power_response_is_scipys(kind, log2_frequency, bandwidth, order):
    ours = power_response(
        FREQUENCIES,
        jnp.full((1,), kind),
        jnp.full((1,), log2_frequency),
        jnp.full((1,), bandwidth),
        order=order,
    )
    truth = scipy_power(kind, 2.0**log2_frequency, bandwidth, order)
    np.testing.assert_allclose(ours[0], truth, atol=2e-5)


def test_none_is_unity_whatever_the_other_parameters():
    for frequency, bandwidth in ((0.0, 0.0), (10.0, 1.5)):
        power = power_response(
            FREQUENCIES, jnp.zeros(1), jnp.full((1,), frequency), jnp.full((1,), bandwidth)
        )
        np.testing.assert_array_equal(power, 1.0)


def test_one_call_serves_all_kinds_and_frequencies_may_differ_between_filters():
    log2_frequency, bandwidth = jnp.full((5,), 9.5), jnp.full((5,), 0.8)
    together = power_response(FREQUENCIES, KINDS, log2_frequency, bandwidth)
    own = jnp.tile(FREQUENCIES[None], (5, 1)) * jnp.linspace(0.8, 1.2, 5)[:, None]
    apart = power_response(own, KINDS.astype(jnp.float32), log2_frequency, bandwidth)
    for kind in range(5):
        one = power_response(FREQUENCIES, jnp.asarray(kind), jnp.asarray(9.5), jnp.asarray(0.8))
        np.testing.assert_allclose(together[kind], one, rtol=1e-6)
        scaled = power_response(own[kind], jnp.asarray(kind), jnp.asarray(9.5), jnp.asarray(0.8))
        np.testing.assert_allclose(apart[kind], scaled, rtol=1e-6)
    assert np.abs(np.diff(together, axis=0)).max(axis=1).min() > 0.5


def test_gradients_are_finite_at_0_hz_too():
    def total(log2_frequency, bandwidth):
        return jnp.sum(filters.power_response(FREQUENCIES, KINDS, log2_frequency, bandwidth))

    gradients = jax.grad(total, argnums=(0, 1))(jnp.full((5,), 9.5), jnp.full((5,), 0.8))
    assert np.isfinite(gradients).all()
    assert np.abs(gradients[0][1:]).min() > 0.01


@pytest.mark.parametrize("samples", [100, 640, 2001])
def test_zero_phase_is_a_convolution(samples):
    rng = np.random.default_rng(0)
    audio = rng.standard_normal((2, samples)).astype(np.float32)
    half = rng.standard_normal((2, 21)).astype(np.float32)
    kernels = np.concatenate([half[:, :0:-1], half], axis=1)
    rolled = np.zeros((2, 256), np.float32)
    rolled[:, :21], rolled[:, -20:] = half, half[:, :0:-1]
    ours = filters.zero_phase(jnp.asarray(audio), jnp.fft.rfft(rolled).real, reach=32)
    for row in range(2):
        truth = np.convolve(audio[row], kernels[row])[20 : 20 + samples]
        np.testing.assert_allclose(ours[row], truth, atol=1e-4)


@pytest.mark.parametrize("reach", [65, 128])
def test_zero_phase_refuses_an_fft_that_is_too_short(reach):
    with pytest.raises(ValueError, match=f"FFT of 256 samples is too short for a reach of {reach}"):
        filters.zero_phase(jnp.zeros((1, 500)), jnp.ones((1, 129)), reach)


def scipy_peak(gain_db, frequency, octaves):
    """|H|² at FREQUENCIES of the cookbook's analogue peaking equaliser, through scipy."""
    amplitude = 10 ** (gain_db / 40)
    inverse_q = 2 * np.sinh(np.log(2) / 2 * octaves)
    numerator = [1, amplitude * inverse_q, 1]
    denominator = [1, inverse_q / amplitude, 1]
    _, response = scipy.signal.freqs(numerator, denominator, FREQUENCIES.astype(float) / frequency)
    return np.abs(response) ** 2


@given(
    gain_db=st.floats(-40.0, 40.0, width=32),
    log2_frequency=st.floats(5.0, 13.0, width=32),
    octaves=st.floats(0.125, 4.0, width=32),
)
@settings(max_examples=60)
def test_peak_response_is_the_cookbooks(gain_db, log2_frequency, octaves):
    ours = peak_response(
        FREQUENCIES,
        jnp.full((1,), gain_db),
        jnp.full((1,), log2_frequency),
        jnp.full((1,), octaves),
    )
    truth = scipy_peak(gain_db, 2.0**log2_frequency, octaves)
    np.testing.assert_allclose(10 * np.log10(ours[0]), 10 * np.log10(truth), atol=2e-3)


def test_a_peak_has_its_gain_at_the_centre_and_half_of_it_at_the_bands_edges():
    at = 1000.0 * 2.0 ** np.array([-0.75, 0.0, 0.75], np.float32)
    for gain_db in (-18.0, 6.0):
        power = peak_response(
            at, jnp.asarray(gain_db), jnp.asarray(np.log2(np.float32(1000.0))), jnp.asarray(1.5)
        )
        np.testing.assert_allclose(
            10 * np.log10(power), gain_db * np.array([0.5, 1, 0.5]), atol=0.01
        )


@pytest.mark.parametrize(("log2_frequency", "octaves"), [(0.0, 0.0), (10.0, 1.0), (13.0, 8.0)])
def test_a_peak_of_0_db_is_exactly_1(log2_frequency, octaves):
    frequencies = np.append(FREQUENCIES, [1.0, 1024.0]).astype(np.float32)
    others = jnp.full((1,), log2_frequency), jnp.full((1,), octaves)
    np.testing.assert_array_equal(peak_response(frequencies, jnp.zeros(1), *others), 1.0)


def test_an_equalizer_is_the_product_of_its_peaks():
    gains = jnp.asarray([[6.0, -12.0, 3.0], [0.0, 0.0, 0.0]])
    centres, octaves = jnp.asarray([[7.0, 10.0, 12.0]] * 2), jnp.asarray([[1.0, 0.5, 2.0]] * 2)
    equalize = jax.jit(filters.equalizer_response)
    response = equalize(FREQUENCIES, gains, centres, octaves)
    truth = np.prod(
        [scipy_peak(g, 2.0**c, o) for g, c, o in ((6, 7, 1), (-12, 10, 0.5), (3, 12, 2))], axis=0
    )
    np.testing.assert_allclose(response[0], truth, rtol=1e-3)
    np.testing.assert_array_equal(response[1], 1.0)
    own = jnp.tile(FREQUENCIES[None], (2, 1)) * jnp.asarray([[1.0], [1.5]])
    apart = equalize(own, gains, centres, octaves)
    np.testing.assert_allclose(apart[0], response[0], rtol=1e-6)
    with pytest.raises(ValueError, match=r"must all be \[\.\.\., peaks\]; their shapes are"):
        filters.equalizer_response(FREQUENCIES, gains, centres[:, :2], octaves)
    with pytest.raises(ValueError, match=r"must all be \[\.\.\., peaks\]; their shapes are"):
        filters.equalizer_response(FREQUENCIES, gains[:, :0], centres[:, :0], octaves[:, :0])


def test_a_peaks_gradients_are_finite_at_0_db_0_hz_and_width_0():
    frequencies = np.append(FREQUENCIES, [1.0, 1024.0]).astype(np.float32)
    gains = jnp.asarray([0.0, 0.0, 9.0, -9.0])
    centres, octaves = jnp.asarray([0.0, 10.0, 10.0, 10.0]), jnp.asarray([0.0, 1.0, 1.0, 0.5])

    def total(gains, centres, octaves):
        return jnp.sum(filters.peak_response(frequencies, gains, centres, octaves))

    gradients = jax.jit(jax.grad(total, argnums=(0, 1, 2)))(gains, centres, octaves)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    assert (np.asarray(gradients[0])[1:] > 0.01).all()
    assert np.abs(np.asarray(gradients[2])[2:]).min() > 0.01
