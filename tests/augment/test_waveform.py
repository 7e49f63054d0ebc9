"""Waveform-domain augmentation: where tones and clicks land, levels, identity, errors."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from loev_jax import augment
from loev_jax.augment import filters, waveform

RATE = 16_000
SAMPLES = 16_000
LIMITS = {"max_log2_rate": waveform.MAX_LOG2_RATE, "max_semitones": 4.0}
SOURCE = waveform.source_samples(SAMPLES, **LIMITS)
LOG2_RATES = st.floats(-0.5, 0.375, width=32)
SEMITONES = st.floats(-4.0, 4.0, width=32)
NAMES = (
    "time_stretch",
    "pitch_shift",
    "gain",
    "filter_kind",
    "filter_frequency",
    "filter_bandwidth",
)

stretch_and_shift = jax.jit(lambda x, r, n: waveform.stretch_and_shift(x, r, n, SAMPLES))
TRANSFORMS = (
    augment.StretchShift(augment.TimeStretch(high=math.log2(1.3)), augment.PitchShift()),
    augment.Filter(),
    augment.Gain(),
)
CHAIN = augment.chain(*TRANSFORMS, samples=SAMPLES, sample_rate=RATE)
apply = jax.jit(CHAIN.apply)
filtered = jax.jit(functools.partial(waveform.filter, sample_rate=RATE))


def move(audio, log2_rate, semitones):
    """One example through `stretch_and_shift`, in double precision."""
    row = jnp.asarray(audio, jnp.float32)[None]
    return np.asarray(
        stretch_and_shift(row, jnp.full((1,), log2_rate), jnp.full((1,), semitones))[0], float
    )


def tone(frequency, samples=SOURCE):
    return np.sin(2 * np.pi * frequency * np.arange(samples) / RATE)


def noise(batch, samples=SOURCE, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(0.1 * rng.standard_normal((batch, samples)).astype(np.float32))


def parameters(batch=1, **given):
    """Parameters of `apply`, 0 unless given."""
    return {name: jnp.full((batch,), given.get(name, 0.0), jnp.float32) for name in NAMES}


def spectral_peak(audio):
    """Frequency of the strongest partial in Hz, between bins by a parabola through decibels."""
    power = 20 * np.log10(np.abs(np.fft.rfft(audio * np.hanning(len(audio)))) + 1e-9)
    peak = int(np.argmax(power))
    left, middle, right = power[peak - 1 : peak + 2]
    return (peak + 0.5 * (left - right) / (left - 2 * middle + right)) * RATE / len(audio)


def snr(truth, value):
    """Signal-to-noise ratio in dB."""
    truth, value = np.asarray(truth, float), np.asarray(value, float)
    return 10 * np.log10(np.sum(truth**2) / (np.sum((truth - value) ** 2) + 1e-30))


@given(log2_rate=LOG2_RATES, semitones=SEMITONES, frequency=st.floats(150.0, 4000.0))
@settings(max_examples=40)
def test_a_tone_lands_on_its_frequency_times_the_ratio(log2_rate, semitones, frequency):
    output = move(tone(frequency), log2_rate, semitones)
    target = frequency * 2 ** (semitones / 12)
    assert abs(spectral_peak(output) - target) < 0.1
    # It stays a pure tone of its level: what remains beside a fitted sinusoid is small.
    middle = output[1600:-800]
    angle = 2 * np.pi * spectral_peak(middle) * np.arange(len(middle)) / RATE
    basis = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    weights, *_ = np.linalg.lstsq(basis, middle, rcond=None)
    assert abs(np.hypot(*weights) - 1) < 0.03
    assert snr(basis @ weights, middle) > 25


@given(log2_rate=LOG2_RATES, semitones=SEMITONES, place=st.floats(0.2, 0.8))
@settings(max_examples=40)
def test_a_click_lands_at_its_time_over_the_rate(log2_rate, semitones, place):
    rate = 2.0**log2_rate
    at = round(place * SAMPLES * rate)
    click = np.zeros(SOURCE)
    click[at] = 1.0
    energy = move(click, log2_rate, semitones) ** 2
    centre = np.sum(energy * np.arange(SAMPLES)) / np.sum(energy)
    assert abs(centre - at / rate) < 0.008 * RATE  # half a hop of the vocoder
    near = np.abs(np.arange(SAMPLES) - at / rate) < 0.033 * RATE
    assert np.sum(energy[near]) > 0.99 * np.sum(energy)


@given(log2_rate=LOG2_RATES, semitones=SEMITONES)
@settings(max_examples=25)
def test_noise_keeps_its_level_from_first_frame_to_last(log2_rate, semitones):
    """Neither a padded tail nor a vocoder's loss of level."""
    band = scipy.signal.butter(6, [100, 4500], "bandpass", fs=RATE, output="sos")
    audio = scipy.signal.sosfiltfilt(band, np.random.default_rng(0).standard_normal(SOURCE))
    audio /= audio.std()
    output = move(audio, log2_rate, semitones)
    power = np.mean(output.reshape(10, -1) ** 2, axis=1)
    # No vocoder keeps all of noise's power: what overlaps no longer adds up. At most 2 dB go.
    assert 0.63 < power.mean() < 1.1
    assert power[-1] > 0.6 * power[1:-1].mean()
    assert power[0] > 0.6 * power[1:-1].mean()
    assert np.mean(output[-160:] ** 2) > 0.25


def test_the_last_sample_comes_from_the_source_at_the_largest_rate():
    """What lies beyond `source_samples` changes nothing; what lies at its end does."""
    rate = jnp.full((1,), LIMITS["max_log2_rate"])
    shift = jnp.full((1,), -4.0)
    audio = noise(1)
    longer = jnp.concatenate([audio, noise(1, 4000, seed=1)], axis=1)
    output = stretch_and_shift(audio, rate, shift)
    np.testing.assert_allclose(output, stretch_and_shift(longer, rate, shift), atol=1e-5)
    end = int(SAMPLES * 1.3)
    silenced = stretch_and_shift(audio.at[:, end - 200 :].set(0.0), rate, shift)
    assert np.abs(output - silenced)[0, -100:].max() > 0.01


def test_the_vocoder_alone_is_the_identity_at_rate_1():
    audio = noise(2)
    output = jax.jit(lambda x, r: waveform.time_stretch(x, r, SAMPLES))(audio, jnp.ones(2))
    assert snr(audio[:, :SAMPLES], output) > 110


def test_zero_parameters_are_the_identity_to_60_db():
    audio = noise(2)
    assert snr(audio[:, :SAMPLES], apply(audio, parameters(2))) > 60


def test_stretch_and_shift_is_a_stretch_then_a_shift():
    """At zero of the other, the combined pass equals the single one."""
    audio, rate, shift = noise(2), jnp.asarray([0.8, 1.25]), jnp.asarray([-3.0, 3.5])
    both = stretch_and_shift(audio, jnp.log2(rate), jnp.zeros(2))
    alone = jax.jit(lambda x, r: waveform.time_stretch(x, r, SAMPLES))(audio, rate)
    # The combined pass begins its phases a little earlier; partials of noise differ, power not.
    np.testing.assert_allclose(np.std(both, axis=1), np.std(alone, axis=1), rtol=0.03)
    shifted = jax.jit(lambda x, n: waveform.pitch_shift(x, n, SAMPLES))(audio, shift)
    np.testing.assert_allclose(
        shifted, stretch_and_shift(audio, jnp.zeros(2), shift), atol=2e-3, rtol=0
    )


@given(
    kind=st.integers(0, 4),
    log2_frequency=st.floats(7.0, 12.0, width=32),
    bandwidth=st.floats(0.5, 1.984375, width=32),
)
@settings(max_examples=25)
def test_filter_has_scipys_amplitude_and_no_phase(kind, log2_frequency, bandwidth):
    impulse = np.zeros((1, SAMPLES), np.float32)
    impulse[0, SAMPLES // 2] = 1.0
    output = filtered(
        impulse,
        jnp.full((1,), kind),
        jnp.full((1,), log2_frequency),
        jnp.full((1,), bandwidth),
    )[0]
    response = np.fft.rfft(np.roll(np.asarray(output, float), -SAMPLES // 2))
    frequencies = np.arange(len(response)) * RATE / SAMPLES
    frequency = 2.0**log2_frequency
    truth = np.ones(len(response))
    if kind != filters.NONE:
        band = frequency * np.array([1 - bandwidth / 2, 1 + bandwidth / 2])
        design = scipy.signal.butter(
            filters.ORDER,
            2 * np.pi * (frequency if kind <= filters.HIGH_PASS else band),
            ["lowpass", "highpass", "bandpass", "bandstop"][kind - 1],
            analog=True,
            output="zpk",
        )
        truth = np.abs(scipy.signal.freqs_zpk(*design, 2 * np.pi * frequencies)[1])
    # A band edge near 0 Hz is finer than the bins of the filter's FFT; look above 40 Hz.
    np.testing.assert_allclose(response.real[40:], truth[40:], atol=5e-3)
    np.testing.assert_allclose(response.imag[40:], 0, atol=2e-3)


@given(gain_db=st.floats(-60.0, 20.0, width=32))
def test_gain_in_closed_form(gain_db):
    audio = noise(1, 100)
    output = waveform.gain(audio, jnp.full((1,), gain_db))
    np.testing.assert_allclose(output, np.asarray(audio) * 10 ** (gain_db / 20), rtol=1e-5)


def test_the_chain_applies_filter_and_gain_after_the_shift():
    """A tone shifted from 1 kHz to 2 kHz·2^(-8/12) is filtered where it lands, then amplified."""
    audio = jnp.asarray(tone(1000.0), jnp.float32)[None]
    landed = 1000.0 * 2 ** (4 / 12)
    chain = parameters(
        pitch_shift=4.0, filter_kind=filters.LOW_PASS, filter_frequency=np.log2(landed), gain=6.0
    )
    output = np.asarray(apply(audio, chain)[0], float)[1600:-1600]
    amplitude = np.sqrt(0.5) * 10 ** (6 / 20)
    np.testing.assert_allclose(np.std(output) * np.sqrt(2), amplitude, rtol=0.02)
    assert abs(spectral_peak(output) - landed) < 0.1


def test_examples_are_independent_jit_is_eager_and_vmap_is_the_batch():
    audio = noise(3)
    given_parameters = parameters(3) | {
        "time_stretch": jnp.asarray([-0.4, 0.1, 0.3]),
        "pitch_shift": jnp.asarray([2.0, -3.5, 0.0]),
        "gain": jnp.asarray([0.0, -6.0, 3.0]),
        "filter_kind": jnp.asarray([3.0, 0.0, 1.0]),
        "filter_frequency": jnp.asarray([9.0, 0.0, 11.0]),
        "filter_bandwidth": jnp.asarray([1.0, 0.0, 0.0]),
    }
    batch = apply(audio, given_parameters)
    eager = CHAIN.apply(audio, given_parameters)
    assert snr(batch, eager) > 60

    def one(signal, its_parameters):
        return apply(signal[None], {k: v[None] for k, v in its_parameters.items()})[0]

    mapped = jax.vmap(one)(audio, given_parameters)
    assert snr(batch, mapped) > 60
    # Inside jit what is not finite or beyond a limit makes its own example NaN, and no other.
    damaged = given_parameters | {"pitch_shift": jnp.asarray([2.0, -3.5, 5.0])}
    poisoned = apply(audio.at[0, 3000].set(jnp.nan), damaged)
    assert np.isnan(poisoned[0]).any()
    assert np.isnan(poisoned[2]).all()
    assert snr(batch[1], poisoned[1]) > 60


@pytest.mark.parametrize("automatic", [True, False])
def test_eight_devices_do_what_one_does(automatic):
    """Under automatic sharding too, where XLA's CPU refuses FFTs of frames-major arrays."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    batch = jax.sharding.PartitionSpec("data")
    sharding = jax.sharding.NamedSharding(mesh, batch)
    samples = 1600
    audio = noise(8, waveform.source_samples(samples, **LIMITS))
    chain = parameters(8, time_stretch=0.2, pitch_shift=-2.0) | {"gain": jnp.arange(8.0)}

    short = augment.chain(*TRANSFORMS, samples=samples, sample_rate=RATE).apply

    if automatic:
        on_eight = jax.jit(short, in_shardings=sharding, out_shardings=sharding)
    else:
        on_eight = jax.jit(
            jax.shard_map(short, mesh=mesh, in_specs=(batch, batch), out_specs=batch)
        )
    assert snr(jax.jit(short)(audio, chain), on_eight(audio, chain)) > 80


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1.0, 30.0])
def test_silence_stays_silent_and_level_does_not_matter(scale):
    audio = noise(1) * scale
    output = stretch_and_shift(audio, jnp.full((1,), 0.3), jnp.full((1,), -2.0))
    reference = stretch_and_shift(noise(1), jnp.full((1,), 0.3), jnp.full((1,), -2.0))
    np.testing.assert_allclose(np.std(output), scale * np.std(reference), rtol=0.02)


def test_sound_after_silence_is_heard():
    """A bin that was silent keeps a phasor to turn by."""
    audio = tone(440.0)
    audio[: SOURCE // 2] = 0.0
    output = move(audio, 0.2, 1.0)
    assert np.std(output[-3000:]) * np.sqrt(2) == pytest.approx(1.0, abs=0.03)


def test_gradients_are_finite_with_silence_too():
    audio = noise(2).at[:, 4000:9000].set(0.0)
    chain = parameters(2, time_stretch=0.2, pitch_shift=1.0, filter_kind=2.0, filter_frequency=9.0)

    def loss(audio, parameters):
        return jnp.sum(apply(audio, parameters) ** 2)

    by_audio, by_parameter = jax.jit(jax.grad(loss, argnums=(0, 1)))(audio, chain)
    assert np.isfinite(by_audio).all()
    assert np.abs(by_audio).max() > 0
    assert all(np.isfinite(value).all() for value in by_parameter.values())
    assert np.abs(by_parameter["gain"]).min() > 0


def test_source_samples_grows_with_every_limit():
    base = waveform.source_samples(SAMPLES)
    assert base > SAMPLES
    stretched = waveform.source_samples(SAMPLES, max_log2_rate=0.25)
    shifted = waveform.source_samples(SAMPLES, max_log2_rate=0.25, max_semitones=4.0)
    assert base < stretched < shifted < SAMPLES * 2**0.25 + 2000
    with pytest.raises(ValueError, match=r"max_log2_rate=-0\.5"):
        waveform.source_samples(SAMPLES, max_log2_rate=-0.5)


@pytest.mark.parametrize(
    ("audio", "changed", "message"),
    [
        (np.zeros(SOURCE), {}, r"audio \(\d+,\) must be \[batch, \d+ samples or more\]"),
        (np.zeros((1, SOURCE - 1)), {}, rf"must be \[batch, {SOURCE} samples or more\]"),
        (np.zeros((2, SOURCE)), {}, r"log2_rate must be \[batch\] = \(2,\); its shape is \(1,\)"),
        (np.full((1, SOURCE), np.nan), {}, "audio holds values that are not finite"),
        (np.zeros((1, SOURCE)), {"pitch_shift": np.inf}, "semitones holds values that are not"),
        (np.zeros((1, SOURCE)), {"pitch_shift": -5.0}, "exceed .* max_semitones=4.0"),
        (np.zeros((1, SOURCE)), {"time_stretch": 0.5}, "exceed max_log2_rate=0.37"),
    ],
)
def test_bad_input_raises(audio, changed, message):
    with pytest.raises(ValueError, match=message):
        CHAIN.apply(jnp.asarray(audio, jnp.float32), parameters(**changed))


def test_a_source_that_is_too_short_raises_while_tracing():
    with pytest.raises(ValueError, match="see source_samples"):
        jax.eval_shape(
            lambda x, r: waveform.time_stretch(x, r, SAMPLES), jnp.zeros((1, SAMPLES)), jnp.ones(1)
        )


def test_a_filter_neither_fades_nor_rings_at_the_ends():
    """A constant passes a low-pass and not a high-pass, to the first and last sample."""
    kinds = jnp.asarray([filters.LOW_PASS, filters.HIGH_PASS])
    output = filtered(jnp.ones((2, 4000)), kinds, jnp.full((2,), 7.0), jnp.zeros(2))
    np.testing.assert_allclose(output[0], 1.0, atol=1e-3)
    np.testing.assert_allclose(output[1], 0.0, atol=1e-3)
