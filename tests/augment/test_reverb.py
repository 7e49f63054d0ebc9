"""Reverb against scipy's convolution; synthetic rooms against Schroeder's integration."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from loev_jax.augment import reverb

RATE = 16_000


def full(value, batch=1):
    return jnp.full((batch,), value, jnp.float32)


def seeds(*values):
    return jnp.asarray(values, jnp.int32)


def noise(batch, samples, seed=0):
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal((batch, samples))).astype(np.float32)


@functools.lru_cache
def compiled(samples):
    return jax.jit(functools.partial(reverb.reverb, samples=samples))


def eager_room(seed, decay_seconds):
    return reverb.impulse_response(seed, decay_seconds, RATE, RATE)


room = jax.jit(eager_room)


@pytest.mark.parametrize(
    ("taps", "samples"),
    [(1, 100), (7, 2048), (2048, 2049), (2049, 5000), (5000, 300), (9000, 6000)],
)
def test_reverb_is_scipys_convolution(taps, samples):
    audio, response = noise(2, taps - 1 + samples), 3 * noise(2, taps, seed=1)
    wet = jnp.asarray([0.3, 1.0])
    output = compiled(samples)(audio, response, wet)
    assert output.shape == (2, samples)
    for row, share in enumerate((0.3, 1.0)):
        convolved = scipy.signal.fftconvolve(
            audio[row].astype(float), response[row].astype(float), "valid"
        )
        truth = (1 - share) * audio[row, taps - 1 :] + share * convolved
        np.testing.assert_allclose(output[row], truth, atol=2e-6 * np.sqrt(taps))


def test_wet_0_is_the_dry_sound_bit_for_bit_and_more_source_changes_nothing():
    audio, response = noise(2, 3999), noise(2, 3000, seed=1)
    dry = compiled(1000)(audio, response, full(0.0, 2))
    np.testing.assert_array_equal(dry, audio[:, 2999:])
    longer = np.concatenate([audio, noise(2, 500, seed=2)], axis=1)
    np.testing.assert_array_equal(compiled(1000)(longer, response, full(0.0, 2)), dry)
    wet = compiled(1000)(audio, response, full(0.7, 2))
    np.testing.assert_allclose(compiled(1000)(longer, response, full(0.7, 2)), wet, atol=1e-7)


@given(decay_seconds=st.floats(0.1875, 0.875, width=32), seed=st.integers(0, 2**31 - 1))
@settings(max_examples=15)
def test_the_energy_falls_60_db_in_its_time(decay_seconds, seed):
    """RT60 as ISO 3382 measures it: backward integration, the slope from -5 to -35 dB."""
    response = np.asarray(room(seeds(seed), full(decay_seconds))[0], float)
    assert np.sum(response**2) == pytest.approx(1.0, rel=1e-5)
    left = 10 * np.log10(np.cumsum(response[::-1] ** 2)[::-1])
    times = np.arange(len(left)) / RATE
    fitted = (left < -5) & (left > -35)
    slope, _ = np.polyfit(times[fitted], left[fitted], 1)
    assert -60 / slope == pytest.approx(decay_seconds, rel=0.1)


def test_a_room_is_noise_of_all_frequencies():
    response = np.asarray(room(jnp.arange(32, dtype=jnp.int32), full(0.5, 32)), float)
    _, density = scipy.signal.welch(response, RATE, nperseg=64)
    density = density.mean(axis=0)[1:-1]
    assert 10 * np.log10(density.max() / density.min()) < 2.0


def test_a_room_depends_on_its_seed_alone_and_0_is_none():
    one = room(seeds(3, 1, 2), jnp.asarray([0.4, 0.0, 1.0]))
    other = room(seeds(9, 3), jnp.asarray([0.2, 0.4]))
    np.testing.assert_array_equal(one[0], other[1])
    assert abs(np.corrcoef(one[0], other[0])[0, 1]) < 0.1
    np.testing.assert_array_equal(one[1], 0.0)
    eager = eager_room(seeds(3, 1, 2), jnp.asarray([0.4, 0.0, 1.0]))
    np.testing.assert_allclose(one, eager, atol=1e-6)
    mapped = jax.jit(jax.vmap(lambda s, d: room(s[None], d[None])[0]))(seeds(3), full(0.4))
    np.testing.assert_allclose(one[:1], mapped, atol=1e-6)


def test_wet_white_noise_is_as_loud_as_dry():
    response = room(jnp.arange(4, dtype=jnp.int32), full(0.5, 4))
    audio = noise(4, RATE - 1 + 16_000)
    output = compiled(16_000)(audio, response, full(1.0, 4))
    assert np.std(output) == pytest.approx(0.1, rel=0.05)


def test_jit_is_eager_vmap_is_the_batch_and_nan_stays_in_its_example():
    audio, response, wet = noise(3, 3499), noise(3, 2500), jnp.asarray([0.5, 1.0, 0.2])
    batch = compiled(1000)(audio, response, wet)
    eager = reverb.reverb(jnp.asarray(audio), jnp.asarray(response), wet, 1000)
    np.testing.assert_allclose(batch, eager, atol=1e-6)
    one = jax.jit(jax.vmap(lambda x, h, w: compiled(1000)(x[None], h[None], w[None])[0]))
    mapped = one(audio, response, wet)
    np.testing.assert_allclose(batch, mapped, atol=1e-6)
    damaged = audio.copy()
    damaged[0, 2000] = np.nan
    spoilt = compiled(1000)(damaged, response, wet.at[2].set(1.5))
    assert np.isnan(spoilt[0]).any()
    assert np.isnan(spoilt[2]).all()
    np.testing.assert_array_equal(spoilt[1], batch[1])


@pytest.mark.parametrize("automatic", [True, False])
def test_eight_devices_do_what_one_does(automatic):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    batch = jax.sharding.PartitionSpec("data")
    sharding = jax.sharding.NamedSharding(mesh, batch)

    def wet(audio, seed, decay_seconds):
        response = reverb.impulse_response(seed, decay_seconds, 3000, RATE)
        return reverb.reverb(audio, response, jnp.full_like(decay_seconds, 0.5), 2500)

    if automatic:
        on_eight = jax.jit(wet, in_shardings=sharding, out_shardings=sharding)
    else:
        on_eight = jax.jit(jax.shard_map(wet, mesh=mesh, in_specs=batch, out_specs=batch))
    arguments = (noise(8, 5499), jnp.arange(8, dtype=jnp.int32), full(0.1, 8))
    np.testing.assert_allclose(on_eight(*arguments), jax.jit(wet)(*arguments), atol=1e-6)


def test_silence_and_gradients():
    audio, wet, decay = jnp.asarray(noise(2, 3999)).at[0].set(0.0), full(0.0, 2), full(0.2, 2)

    def output(audio, wet, decay):
        response = reverb.impulse_response(seeds(1, 2), decay, 3000, RATE)
        return reverb.reverb(audio, response, wet, 1000)

    assert np.abs(jax.jit(output)(audio, full(0.5, 2), decay)[0]).max() == 0.0
    gradient = jax.jit(jax.grad(lambda *a: jnp.sum(output(*a) ** 2), argnums=(0, 1, 2)))
    at_dry, at_wet = gradient(audio, wet, decay), gradient(audio, wet + 0.5, decay)
    at_none = gradient(audio, wet + 0.5, 0.0 * decay)
    assert all(np.isfinite(each).all() for at in (at_dry, at_wet, at_none) for each in at)
    # Even the dry sound tells what a little reverberation would change.
    assert abs(at_dry[1][1]) > 0
    assert all(np.abs(each[1]).max() > 0 for each in at_wet)


def test_bad_input_raises():
    audio, response = jnp.zeros((2, 1099)), jnp.ones((2, 100))
    with pytest.raises(ValueError, match=r"audio has 1098 samples; .* needs 1099: taps - 1 before"):
        reverb.reverb(audio[:, 1:], response, full(0.5, 2), 1000)
    with pytest.raises(ValueError, match=r"response must be \[batch, taps\] = \(2, taps\)"):
        reverb.reverb(audio, response[:1], full(0.5, 2), 1000)
    with pytest.raises(ValueError, match="response holds values that are not finite"):
        reverb.reverb(audio, response.at[0, 0].set(jnp.nan), full(0.5, 2), 1000)
    with pytest.raises(ValueError, match=r"wet must lie in 0\.\.1"):
        reverb.reverb(audio, response, full(-0.5, 2), 1000)
    with pytest.raises(ValueError, match=r"their shapes are \(2,\) and \(1,\)"):
        eager_room(seeds(1, 2), full(0.5))
    for value in (-0.1, np.nan, np.inf):
        with pytest.raises(ValueError, match="decay_seconds must be 0 or more and finite"):
            eager_room(seeds(1), full(value))
        assert np.isnan(room(seeds(1), full(value))).all()
