"""The filters' response against scipy's analogue Butterworth design, and what zero phase does."""

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
