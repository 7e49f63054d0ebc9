"""Coloured noise against Welch's estimate; noise added at a ratio, in closed form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from loev_jax.augment import noise

RATE = 16_000
SAMPLES = 16_000
DECAYS = st.floats(-2.0, 2.0, width=32)
SEEDS = st.integers(-(2**31), 2**31 - 1)

coloured = jax.jit(lambda seed, decay: noise.coloured_noise(seed, decay, SAMPLES, RATE))
add = jax.jit(functools.partial(noise.add_noise, sample_rate=RATE))


def full(value, batch=1):
    return jnp.full((batch,), value, jnp.float32)


def seeds(*values):
    return jnp.asarray(values, jnp.int32)


def many(decay):
    return np.asarray(coloured(jnp.arange(32, dtype=jnp.int32), full(decay, 32)), float)


def tones(batch=1, samples=SAMPLES):
    times = np.arange(samples) / RATE
    rows = [0.3 * np.sin(2 * np.pi * 440 * (row + 1) * times) for row in range(batch)]
    return jnp.asarray(np.stack(rows), jnp.float32)


@given(decay=DECAYS)
@settings(max_examples=15)
def test_power_density_falls_as_the_decay_says(decay):
    frequencies, density = scipy.signal.welch(many(decay), RATE, nperseg=2048)
    density = density.mean(axis=0)
    inside = (frequencies > 150) & (frequencies < 7800)
    slope, _ = np.polyfit(np.log2(frequencies[inside]), np.log2(density[inside]), 1)
    assert abs(slope + decay) < 0.05
    # Not its slope only: nowhere, over a third of an octave, is it a decibel off.
    truth = (frequencies[inside] ** 2 + noise.CORNER_HZ**2) ** (-decay / 2)
    ratio = density[inside] / truth / np.mean(density[inside] / truth)
    for low in 150 * 2 ** (np.arange(17) / 3):
        band = (frequencies[inside] >= low) & (frequencies[inside] < low * 2 ** (1 / 3))
        assert abs(10 * np.log10(ratio[band].mean())) < 1.0


@pytest.mark.parametrize("decay", [1.0, 2.0])
def test_density_is_flat_below_the_corner(decay):
    frequencies, density = scipy.signal.periodogram(many(decay), RATE, window="hann")
    density = density.mean(axis=0)
    low = density[(frequencies >= 2) & (frequencies <= 6)].mean()
    high = density[(frequencies >= 100) & (frequencies <= 120)].mean()
    truth = ((110**2 + noise.CORNER_HZ**2) / (4**2 + noise.CORNER_HZ**2)) ** (decay / 2)
    assert abs(10 * np.log10(low / high / truth)) < 1.5


@given(seed=SEEDS, decay=DECAYS)
def test_mean_power_is_1_and_the_batch_does_not_matter(seed, decay):
    """A pure function of its seed and decay; seeds may be any int32."""
    one = np.asarray(coloured(seeds(seed, 1, 2), jnp.asarray([decay, 0.0, 1.0])))
    np.testing.assert_allclose(np.mean(one.astype(float) ** 2, axis=1), 1.0, rtol=1e-5)
    other = coloured(seeds(7, 8, seed), jnp.asarray([1.0, -1.0, decay]))
    np.testing.assert_array_equal(one[0], other[2])
    assert abs(np.mean(one[0].astype(float) * np.asarray(other[1], float))) < 0.2


@pytest.mark.parametrize("decay", [-2.0, 0.0, 2.0])
def test_power_is_the_same_from_the_first_sample_to_the_last(decay):
    """Neither a fade at the ends nor a ripple with the blocks of the filter."""
    power = many(decay) ** 2
    # Brown noise is slow: its power over a short stretch is known less well.
    tolerance = 0.25 if decay > 0 else 0.05
    tenths = power.reshape(32, 10, -1).mean(axis=(0, 2))
    np.testing.assert_allclose(tenths, 1.0, atol=tolerance)
    ends = np.concatenate([power[:, :40], power[:, -40:]], axis=1)
    assert abs(ends.mean() - 1) < 2 * tolerance


def test_noise_is_gaussian_and_seeds_are_independent():
    rows = many(0.0)
    correlation = np.corrcoef(rows) - np.eye(len(rows))
    assert np.abs(correlation).max() < 5 / np.sqrt(SAMPLES)
    assert abs(np.mean(rows**4) - 3) < 0.1  # the fourth moment of a normal distribution


def test_jit_is_eager_vmap_is_the_batch_and_other_rates_work():
    decays = jnp.asarray([-1.5, 0.0, 2.0])
    batch = coloured(seeds(3, 4, 5), decays)
    eager = noise.coloured_noise(seeds(3, 4, 5), decays, SAMPLES, RATE)
    np.testing.assert_allclose(batch, eager, atol=2e-4)
    one = jax.jit(jax.vmap(lambda s, d: coloured(s[None], d[None])[0]))
    mapped = one(seeds(3, 4, 5), decays)
    np.testing.assert_allclose(batch, mapped, atol=2e-4)
    wide = jax.jit(lambda s, d: noise.coloured_noise(s, d, 30_000, 44_100)[0])(seeds(1), full(1.0))
    frequencies, density = scipy.signal.welch(np.asarray(wide, float), 44_100, nperseg=1024)
    inside = (frequencies > 400) & (frequencies < 20_000)
    slope, _ = np.polyfit(np.log2(frequencies[inside]), np.log2(density[inside]), 1)
    assert abs(slope + 1) < 0.15


@given(snr_db=st.floats(-20.0, 60.0, width=32), decay=DECAYS, level=st.floats(-60.0, 10.0))
def test_added_noise_has_its_ratio(snr_db, decay, level):
    audio = tones(3) * 10 ** (level / 20)
    output = add(audio, full(1.0, 3), full(snr_db, 3), full(decay, 3), seeds(5, 6, 7))
    audio = np.asarray(audio, float)
    added = np.asarray(output, float) - audio
    ratio = 10 * np.log10(np.mean(audio**2, axis=1) / np.mean(added**2, axis=1))
    np.testing.assert_allclose(ratio, snr_db, atol=0.01)
    truth = np.asarray(coloured(seeds(5, 6, 7), full(decay, 3))[0], float)
    # What is added is the noise itself: rounding to f32 beside the tone is all that differs.
    assert np.corrcoef(added[0], truth)[0, 1] > 0.9999


def test_not_applied_is_the_input_and_silence_stays_silent():
    audio = tones(3).at[1].set(0.0)
    output = add(audio, jnp.asarray([0.0, 1.0, 1.0]), full(0.0, 3), full(0.0, 3), seeds(1, 2, 3))
    np.testing.assert_array_equal(output[:2], audio[:2])
    assert np.std(output[2] - audio[2]) > 0.1


def test_gradients_are_finite_with_silence_too():
    audio = tones(3).at[1].set(0.0)

    def loss(audio, snr_db, decay):
        applied = jnp.asarray([0.0, 1.0, 1.0])
        output = noise.add_noise(audio, applied, snr_db, decay, seeds(1, 2, 3), RATE)
        return jnp.sum(jnp.abs(output[:, :4000]))

    gradients = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(audio, full(6.0, 3), full(0.5, 3))
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    assert all(np.abs(gradient[2]).max() > 0 for gradient in gradients)
    np.testing.assert_array_equal(gradients[1][:2], 0.0)


def test_bad_values_raise_and_inside_jit_spoil_their_own_example():
    audio, good = tones(2, 500), [full(1.0, 2), full(6.0, 2), full(0.0, 2), seeds(1, 2)]
    for position, value in ((0, 0.5), (0, np.nan), (1, np.nan), (2, 2.5), (2, np.nan)):
        bad = list(good)
        bad[position] = bad[position].at[1].set(value)
        with pytest.raises(ValueError, match=r"must (be|lie)|holds values that are not finite"):
            noise.add_noise(audio, *bad, RATE)
        output = add(audio, *bad)
        assert np.isnan(output[1]).all()
        assert np.isfinite(output[0]).all()


def test_seeds_are_integers_of_the_batch():
    with pytest.raises(ValueError, match=r"seed must be \[batch\] integers; it is \(2,\) of float"):
        noise.coloured_noise(full(1.0, 2), full(1.0, 2), 100, RATE)
    with pytest.raises(ValueError, match=r"their shapes are \(1,\) and \(2,\)"):
        noise.coloured_noise(seeds(1), full(1.0, 2), 100, RATE)
    with pytest.raises(ValueError, match=r"seed must be \[batch\] = \(2,\)"):
        noise.add_noise(tones(2, 99), full(1.0, 2), full(6.0, 2), full(0.0, 2), seeds(1), RATE)
