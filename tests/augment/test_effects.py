"""Effects against numpy and scipy, closed forms, and 0 as "not applied"."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from hypothesis import given
from hypothesis import strategies as st

from loev_jax.augment import effects

RATE = 16_000
SAMPLES = 1000
ECHOES = {"max_seconds": 0.02, "echoes": 3, "sample_rate": RATE}
HISTORY = effects.delay_history(**ECHOES)
UNIT = st.floats(0.0, 1.0, width=32)

clip = jax.jit(effects.clip)
bit_crush = jax.jit(effects.bit_crush)
mix = jax.jit(effects.mix)
delay = jax.jit(functools.partial(effects.delay, samples=SAMPLES, **ECHOES))


def noise(batch=2, samples=SAMPLES, seed=0):
    rng = np.random.default_rng(seed)
    return (0.2 * rng.standard_normal((batch, samples))).astype(np.float32)


def full(value, batch=2):
    return jnp.full((batch,), value, jnp.float32)


# Each effect with parameters of "not applied" and of a strong effect, on one signature.
LONG = HISTORY + SAMPLES
CASES = {
    "polarity": (effects.polarity, [0.0], [1.0]),
    "reverse": (effects.reverse, [0.0], [1.0]),
    "clip": (effects.clip, [0.0], [12.0]),
    "bit_crush": (effects.bit_crush, [0.0], [3.5]),
    "mix": (lambda x, w: effects.mix(x, x[:, ::-1] * 0.5, w), [0.0], [0.6]),
    "delay": (
        lambda x, s, a, f: effects.delay(x, s, a, f, SAMPLES, **ECHOES),
        [0.0, 0.0, 0.0],
        [0.011, 0.7, 0.5],
    ),
}


def shown(name, audio):
    """The part of the source that an effect's output is of."""
    return audio[:, HISTORY:] if name == "delay" else audio


@pytest.mark.parametrize("name", CASES)
def test_0_is_the_input_bit_for_bit_at_any_level(name):
    effect, nothing, _ = CASES[name]
    audio = noise(3, LONG) * np.float32([[1e-6], [1.0], [5.0]])
    output = jax.jit(effect)(audio, *(full(value, 3) for value in nothing))
    np.testing.assert_array_equal(output, shown(name, audio))


@pytest.mark.parametrize("name", CASES)
def test_examples_are_independent_jit_is_eager_and_vmap_is_the_batch(name):
    effect, nothing, much = CASES[name]
    audio = jnp.asarray(noise(3, LONG))
    parameters = [jnp.asarray([b, a, b], jnp.float32) for a, b in zip(nothing, much, strict=True)]
    batch = jax.jit(effect)(audio, *parameters)
    np.testing.assert_allclose(batch, effect(audio, *parameters), atol=1e-6)
    one = jax.jit(jax.vmap(lambda x, *p: effect(x[None], *(value[None] for value in p))[0]))
    np.testing.assert_allclose(batch, one(audio, *parameters), atol=1e-6)
    assert np.abs(batch[0] - shown(name, audio)[0]).max() > 0.02
    np.testing.assert_array_equal(batch[1], shown(name, audio)[1])
    # What is not finite spoils its own example, in the audio and in any parameter.
    for position in range(len(parameters)):
        bad = list(parameters)
        bad[position] = bad[position].at[0].set(jnp.nan)
        spoilt = jax.jit(effect)(audio.at[2, LONG - 10].set(jnp.nan), *bad)
        assert np.isnan(spoilt[0]).all()
        assert np.isnan(spoilt[2]).any()
        np.testing.assert_array_equal(spoilt[1], batch[1])


@pytest.mark.parametrize("name", CASES)
def test_silence_stays_silent_and_gradients_are_finite(name):
    effect, nothing, much = CASES[name]

    def loss(audio, *values):
        output = effect(audio, *values)
        return jnp.sum(output**2), output

    gradient = jax.jit(jax.grad(loss, argnums=tuple(range(1 + len(much))), has_aux=True))
    for parameters in (nothing, much):
        audio = jnp.asarray(noise(2, LONG)).at[0].set(0.0)
        values = [full(value) for value in parameters]
        gradients, output = gradient(audio, *values)
        assert np.abs(output[0]).max() == 0.0
        assert all(np.isfinite(gradient).all() for gradient in gradients)
        assert np.abs(gradients[0]).max() > 0


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("value", [np.nan, -1.0, np.inf])
def test_bad_parameters_raise(name, value):
    effect, nothing, _ = CASES[name]
    for position in range(len(nothing)):
        parameters = [*nothing[:position], value, *nothing[position + 1 :]]
        with pytest.raises(ValueError, match=r"holds values that are not finite|must (be|lie)"):
            effect(jnp.zeros((2, LONG)), *map(full, parameters))


def test_polarity_and_reverse():
    audio, applied = noise(), jnp.asarray([1.0, 0.0])
    turned, reversed_ = audio.copy(), audio.copy()
    turned[0] *= -1
    reversed_[0] = audio[0, ::-1]
    np.testing.assert_array_equal(effects.polarity(jnp.asarray(audio), applied), turned)
    np.testing.assert_array_equal(effects.reverse(jnp.asarray(audio), applied), reversed_)
    for effect in (effects.polarity, effects.reverse):
        with pytest.raises(ValueError, match="must be 0 or 1"):
            effect(jnp.asarray(audio), full(0.5))


@given(clipping_db=st.floats(0.0, 60.0, width=32), level=st.floats(-80.0, 20.0))
def test_clip_at_the_peak_lowered(clipping_db, level):
    audio = noise() * np.float32(10 ** (level / 20))
    output = clip(audio, full(clipping_db))
    threshold = np.abs(audio).max(axis=1, keepdims=True) * 10 ** (-clipping_db / 20)
    np.testing.assert_allclose(output, np.clip(audio, -threshold, threshold), rtol=2e-5)
    np.testing.assert_allclose(np.abs(output).max(axis=1), threshold[:, 0], rtol=2e-5)


@pytest.mark.parametrize("bits", [1, 2, 3, 8, 13])
def test_bit_crush_has_2_to_the_bits_levels_over_full_scale(bits):
    ramp = np.linspace(-1.5, 1.5, 40_001, dtype=np.float32)[None]
    output = np.asarray(bit_crush(ramp, full(bits, 1)))
    levels = np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1)) / 2 ** (bits - 1)
    np.testing.assert_array_equal(np.unique(output), levels)
    inside = (ramp >= -1) & (ramp <= 1 - 2.0 ** (1 - bits))
    assert np.abs(output - ramp)[inside].max() <= 2.0**-bits * (1 + 1e-6)


def test_16_bits_are_16_bit_audio():
    audio = np.clip(noise(1, 20_000) * 3, -1, 1)
    audio[0, :4] = [1.0, -1.0, 0.0, 1e-5]
    integers = np.clip(np.round(audio.astype(float) * 2**15), -(2**15), 2**15 - 1)
    np.testing.assert_array_equal(bit_crush(audio, full(16.0, 1)), integers / 2**15)


@given(bits=st.floats(1.0, effects.MAX_BITS, width=32))
def test_bit_crush_of_real_bits_rounds_to_its_own_step(bits):
    audio = np.clip(noise() * 2, -1, 1)
    output, step = np.asarray(bit_crush(audio, full(bits)), float), 2.0 ** (1 - bits)
    # As exact as f32 is: the step is a rounded number too.
    steps = output / step
    assert np.abs(steps - np.round(steps)).max() < 1e-6 * max(1.0, np.abs(steps).max())
    assert np.abs(np.round(steps)).max() <= 2 ** (bits - 1) * (1 + 1e-6)
    inside = np.abs(audio) <= 1 - 1.5 * step
    np.testing.assert_array_less(
        np.abs(output - audio)[inside],
        0.5 * step * (1 + 1e-5) + 1e-6 * np.abs(audio)[inside] + 1e-9,
    )


def test_bit_crush_has_a_straight_through_gradient():
    audio = jnp.asarray(noise() * 8)
    gradient = jax.grad(lambda x: jnp.sum(x * bit_crush(x, jnp.asarray([0.0, 2.0]))))(audio)
    crushed = bit_crush(audio, jnp.asarray([0.0, 2.0]))
    np.testing.assert_allclose(gradient, crushed + audio, rtol=1e-6)


@pytest.mark.parametrize("bits", [0.5, 33.0])
def test_bits_out_of_range_raise(bits):
    with pytest.raises(ValueError, match=r"bits must be 0 \(not applied\) or 1 to 32"):
        effects.bit_crush(jnp.zeros((2, 10)), full(bits))


@given(weight=UNIT)
def test_mix_is_linear(weight):
    audio, other = noise(), noise(seed=1)
    output = mix(audio, other, full(weight))
    truth = (1 - weight) * audio.astype(float) + weight * other.astype(float)
    np.testing.assert_allclose(output, truth, atol=1e-6)
    np.testing.assert_array_equal(mix(audio, other, full(1.0)), other)


def test_mix_needs_another_of_its_shape_and_finite():
    with pytest.raises(ValueError, match=r"other must have the shape of audio, \(2, 1000\)"):
        effects.mix(jnp.zeros((2, SAMPLES)), jnp.zeros((1, SAMPLES)), full(0.5))
    with pytest.raises(ValueError, match="other holds values that are not finite"):
        effects.mix(jnp.zeros((2, 9)), jnp.full((2, 9), jnp.inf), full(0.5))


@given(seconds=st.floats(0.0, np.float32(0.02), width=32), level=UNIT, feedback=UNIT)
def test_delay_is_a_convolution_with_its_echoes(seconds, level, feedback):
    audio = noise(2, LONG + 50)
    output = delay(audio, full(seconds), full(level), full(feedback))
    echoes = np.zeros(HISTORY + 1)
    echoes[0] = 1
    for k in (1, 2, 3):
        echoes[min(HISTORY, round(k * seconds * RATE))] += level * feedback ** (k - 1)
    for row in range(2):
        truth = scipy.signal.fftconvolve(audio[row], echoes)[HISTORY : HISTORY + SAMPLES]
        np.testing.assert_allclose(output[row], truth, atol=1e-5)


def test_the_longest_delay_hears_the_first_sample():
    audio = jnp.zeros((1, LONG)).at[0, 0].set(1.0)
    output = delay(audio, full(0.02, 1), full(0.5, 1), full(0.5, 1))
    np.testing.assert_allclose(output[0, 0], 0.125)
    assert np.abs(output[0, 1:]).max() == 0


def test_delay_declares_its_history_and_its_limits():
    assert effects.delay_history(0.02, 3, RATE) == 960
    with pytest.raises(ValueError, match=f"audio has {LONG - 1} samples; .* needs {LONG} "):
        effects.delay(
            jnp.zeros((1, LONG - 1)), full(0.0, 1), full(0.0, 1), full(0.0, 1), SAMPLES, **ECHOES
        )
    with pytest.raises(ValueError, match=r"seconds must lie in 0\.\.max_seconds=0\.02: raise"):
        effects.delay(
            jnp.zeros((1, LONG)), full(0.03, 1), full(0.0, 1), full(0.0, 1), SAMPLES, **ECHOES
        )
    with pytest.raises(ValueError, match="echoes=0 at least 1"):
        effects.delay_history(0.02, 0, RATE)


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"audio must be \[batch, samples\]"):
        effects.clip(jnp.zeros(10), full(1.0))
    with pytest.raises(ValueError, match=r"bits must be \[batch\] = \(2,\)"):
        effects.bit_crush(jnp.zeros((2, 10)), full(4.0, 3))
