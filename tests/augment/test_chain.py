"""Composition: what is drawn is applied, what is recorded can be applied again."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from loev_jax import augment, frontend
from loev_jax.augment import analysis, composition, effects, reverb, waveform
from loev_jax.augment.augmentations import TRANSFORMS

RATE = 16_000
SAMPLES = 4000
MEL = frontend.LogMel(n_fft=1024, window=704, hop=320, bands=40, fmax=6000.0)
KEY = jax.random.key(4)
ROOM = augment.Reverb(seconds=0.05, decay=augment.Range(0.05, 0.3))
ECHO = augment.Delay(time=augment.Range(0.01, 0.03), echoes=2)

AUDIO_TRANSFORMS = (
    augment.Reverse(),
    augment.Mix(),
    augment.Polarity(),
    augment.Clipping(),
    augment.BitCrush(),
    ECHO,
    ROOM,
    augment.Convolution(np.eye(2, 30, 5, dtype=np.float32)),
    augment.Noise(),
    augment.StretchShift(),
    augment.Filter(probability=1.0),
    augment.Equalizer(),
    augment.Gain(),
)


def sound(batch, samples, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(0.2 * rng.standard_normal((batch, samples)), jnp.float32)


def test_every_augmentation_of_a_config_can_be_chained():
    chained = {name for transform in AUDIO_TRANSFORMS for name in transform.augmentations}
    mels = {"mixup", "time_mask", "frequency_mask"}
    assert chained - {"convolution"} == set(TRANSFORMS) - mels


@pytest.mark.parametrize("transform", AUDIO_TRANSFORMS, ids=lambda transform: transform.NAME)
def test_each_transform_changes_audio_and_is_reproduced_by_its_record(transform):
    chain = augment.chain(transform, samples=SAMPLES)
    audio = sound(4, chain.source_samples)
    changed, applied = jax.jit(chain)(KEY, audio)
    assert changed.shape == (4, SAMPLES)
    assert changed.dtype == jnp.float32
    assert np.isfinite(changed).all()
    assert set(applied) == {name for names in transform.augmentations.values() for name in names}
    again = jax.jit(chain.apply)(audio, applied)
    np.testing.assert_array_equal(changed, again)
    lead = transform.history()
    untouched = np.asarray(audio[:, lead : lead + SAMPLES])
    different = np.abs(np.asarray(changed) - untouched).max(axis=1) > 1e-4
    # Polarity and reversal are a toss of a coin; all others are always applied here.
    assert different.all() or (transform.probability < 1 and different.any())


@pytest.mark.parametrize("transform", AUDIO_TRANSFORMS, ids=lambda transform: transform.NAME)
def test_zero_is_not_applied(transform):
    chain = augment.chain(transform, samples=SAMPLES)
    audio = sound(2, chain.source_samples)
    nothing = {name: jnp.zeros(2) for names in chain.augmentations.values() for name in names}
    lead = transform.history()
    # The vocoder and the zero-phase filters pass through spectra of f32.
    np.testing.assert_allclose(
        jax.jit(chain.apply)(audio, nothing), audio[:, lead : lead + SAMPLES], atol=2e-3
    )


def test_a_view_depends_on_its_source_alone():
    """Nothing is padded: what follows or precedes the declared source cannot be heard."""
    chain = augment.chain(ECHO, ROOM, augment.TimeStretch(), samples=SAMPLES)
    audio = sound(2, chain.source_samples)
    longer = jnp.concatenate([audio, sound(2, 500, seed=1)], axis=1)
    one, applied = jax.jit(chain)(KEY, audio)
    np.testing.assert_allclose(one, jax.jit(chain.apply)(longer, applied), atol=1e-6)


def test_a_chain_is_its_transforms_one_after_the_other():
    parts = (ECHO, ROOM, augment.StretchShift(), augment.Gain())
    chain = augment.chain(*parts, samples=SAMPLES)
    audio = sound(3, chain.source_samples)
    result, p = jax.jit(chain)(KEY, audio)
    moved_samples = waveform.source_samples(
        SAMPLES, max_log2_rate=parts[2].time_stretch.high, max_semitones=4.0
    )
    wet = moved_samples + ROOM.history()
    step = effects.delay(
        audio, p["delay_time"], p["delay"], p["delay_feedback"], wet,
        max_seconds=0.03, echoes=2, sample_rate=RATE,
    )  # fmt: skip
    room = reverb.impulse_response(p["reverb_seed"], p["reverb_decay"], 800, RATE)
    step = reverb.reverb(step, room, p["reverb"], moved_samples)
    step = waveform.stretch_and_shift(
        step, p["time_stretch"], p["pitch_shift"], SAMPLES,
        max_log2_rate=parts[2].time_stretch.high, max_semitones=4.0,
    )  # fmt: skip
    np.testing.assert_allclose(result, waveform.gain(step, p["gain"]), atol=1e-5)


def test_draws_are_functions_of_key_and_example_alone():
    chain = augment.chain(augment.Gain(), augment.Noise(), samples=100)
    audio = sound(4, 100)
    run = jax.jit(chain)
    whole, applied = run(KEY, audio, example=jnp.arange(10, 14))
    part, its_own = run(KEY, audio[2:], example=jnp.arange(12, 14))
    np.testing.assert_allclose(whole[2:], part, atol=1e-6)
    for name, value in its_own.items():
        np.testing.assert_array_equal(applied[name][2:], value)
    other, _ = run(jax.random.key(5), audio)
    assert np.abs(other - whole).max() > 0.01


def test_given_parameters_replace_drawn_ones():
    chain = augment.chain(augment.Gain(), augment.Polarity(probability=0.0), samples=100)
    audio = sound(2, 100)
    result, applied = chain(KEY, audio, given={"gain": jnp.asarray([6.0, -6.0])})
    np.testing.assert_array_equal(applied["gain"], [6.0, -6.0])
    np.testing.assert_allclose(result[0], audio[0] * 10 ** (6 / 20), rtol=1e-5)
    with pytest.raises(ValueError, match="given 'level': no such parameter"):
        chain(KEY, audio, given={"level": jnp.zeros(2)})
    with pytest.raises(ValueError, match="the parameter 'polarity' is missing"):
        chain.apply(audio, {"gain": jnp.zeros(2)})


def test_one_of_applies_each_as_often_and_never_two():
    choice = augment.one_of(
        augment.Gain(3.0, 6.0), augment.Polarity(probability=1.0), augment.Clipping(),
        probability=0.75,
    )  # fmt: skip
    keys = jax.random.split(KEY, 4000)
    drawn = {name: np.asarray(value) for name, value in jax.vmap(choice.draw)(keys).items()}
    applied = np.stack([drawn[name] != 0 for name in ("gain", "polarity", "clipping")])
    assert applied.sum(axis=0).max() == 1
    counts = applied.sum(axis=1)
    assert scipy.stats.chisquare([*counts, 4000 - counts.sum()]).pvalue > 0.01


def test_a_shuffled_order_is_the_one_that_is_recorded():
    """Every permutation, each against its transforms called by hand in that order."""
    parts = (augment.Clipping(10.0, 10.0), ECHO, augment.Gain(6.0, 6.0))
    chain = augment.chain(augment.shuffled(*parts), samples=SAMPLES)
    history = ECHO.history()
    assert chain.source_samples == SAMPLES + history
    orders = list(itertools.permutations(range(3)))
    audio = jnp.tile(sound(1, chain.source_samples), (len(orders), 1))
    numbers = jnp.arange(len(orders))
    result, applied = jax.jit(chain)(KEY, audio, {"order": numbers})
    for row, order in enumerate(orders):
        one = {name: value[row : row + 1] for name, value in applied.items()}
        step = audio[row : row + 1]
        for which in order:
            part = parts[which]
            samples = step.shape[1] - part.history()
            whole = part.on_audio(step, one, samples, RATE)
            step = jnp.concatenate([step[:, : part.history()], whole], axis=1)
        np.testing.assert_allclose(result[row], step[0, history:], atol=1e-6)
    assert np.abs(result[0] - result[-1]).max() > 0.01


def test_orders_are_equally_likely():
    order = jax.vmap(augment.shuffled(augment.Gain(), ROOM, augment.BitCrush()).draw)(
        jax.random.split(KEY, 3000)
    )["order"]
    assert scipy.stats.chisquare(np.bincount(order, minlength=6)).pvalue > 0.01


def test_two_of_a_kind_need_names():
    with pytest.raises(ValueError, match="gain appears twice"):
        augment.chain(augment.Gain(), augment.Gain(), samples=10)
    chain = augment.chain(
        augment.Gain(3.0, 3.0), augment.Named("after", augment.Gain(-9.0, -9.0)), samples=10
    )
    result, applied = chain(KEY, jnp.ones((1, 10)))
    assert set(applied) == {"gain", "after/gain"}
    np.testing.assert_allclose(result, 10 ** (-6 / 20), rtol=1e-5)


def test_leave_one_out_views_of_audio():
    chain = augment.chain(augment.StretchShift(), augment.Mix(), augment.Gain(), samples=1000)
    audio = sound(2, chain.source_samples)
    kept = (("time_stretch",), ("gain",))
    views, applied = jax.jit(lambda audio: chain.views(KEY, audio, kept, shared=("mix",)))(audio)
    assert views.shape == (2, 4, 1000)
    for clip in range(2):
        stretch, gain, mix = (applied[name][clip] for name in ("time_stretch", "gain", "mix"))
        assert stretch[1] == stretch[0] != stretch[2]
        assert gain[2] == gain[0] != gain[1]
        assert len(set(mix.tolist())) == 1
    # Mixed with the same view of the other clip, not with another view of its own.
    row = {name: value[:, 3] for name, value in applied.items()}
    np.testing.assert_allclose(views[:, 3], jax.jit(chain.apply)(audio, row), atol=1e-5)
    independent = jax.eval_shape(lambda audio: chain.views(KEY, audio, 3)[0], audio)
    assert independent.shape == (2, 3, 1000)
    with pytest.raises(ValueError, match="'tempo' is not applied here"):
        chain.views(KEY, audio, (("tempo",),))


@pytest.mark.parametrize("domain", ["analysis", pytest.param("waveform", marks=pytest.mark.slow)])
def test_a_log_mel_chain_is_audio_spectrum_and_mel_in_turn(domain):
    transforms = (
        augment.Polarity(), ROOM, augment.StretchShift(), augment.Equalizer(), augment.Gain(),
        augment.Mixup(), augment.TimeMask(), augment.FrequencyMask(),
    )  # fmt: skip
    chain = augment.log_mel_chain(*transforms, frames=20, frontend=MEL, domain=domain)
    audio = sound(2, chain.source_samples)
    mels, applied = jax.jit(chain)(KEY, audio)
    assert mels.shape == (2, 20, 40)
    np.testing.assert_allclose(mels, jax.jit(chain.apply)(audio, applied), atol=1e-5)
    masked = np.asarray(mels) == 0
    for row in range(2):
        assert abs(masked[row].all(axis=1).sum() - 20 * applied["time_mask"][row]) <= 1
        assert abs(masked[row].all(axis=0).sum() - 40 * applied["frequency_mask"][row]) <= 1


def test_an_empty_log_mel_chain_is_the_front_end():
    chain = augment.log_mel_chain(frames=20, frontend=MEL)
    audio = sound(2, chain.source_samples)
    mels, applied = jax.jit(chain)(KEY, audio)
    assert applied == {}
    np.testing.assert_allclose(mels, frontend.log_mel(MEL, audio), atol=1e-4)


def test_domains_agree_on_equaliser_and_gain_of_music():
    """A curve on the spectrum in one, a filter in the other: within 1 dB where music is.

    Between the partials both see the window's side lobes, which a steep curve tilts in one only.
    """
    rng = np.random.default_rng(0)
    time = np.arange(12_000) / RATE
    audio = sum(np.sin(2 * np.pi * f * time + rng.uniform(0, 6)) for f in (220, 440, 1320, 3300))
    audio = jnp.asarray(0.1 * audio[None], jnp.float32)
    transforms = (augment.Equalizer(), augment.Gain())
    chains = [
        augment.log_mel_chain(*transforms, frames=20, frontend=MEL, domain=domain)
        for domain in ("analysis", "waveform")
    ]
    for seed in range(5):
        one, applied = jax.jit(chains[0])(jax.random.key(seed), audio)
        other = jax.jit(chains[1].apply)(audio, applied)
        loud = np.asarray(one) > 2.5
        assert np.abs(np.asarray(one - other))[loud].max() < 0.1


def test_the_equaliser_of_the_analysis_domain_acts_where_shifted_tones_land():
    shift, landed = 4.0, 500.0 * 2 ** (4 / 12)
    audio = jnp.asarray(np.sin(2 * np.pi * 500.0 * np.arange(9000) / RATE)[None], jnp.float32)
    plain = {"pitch_shift": jnp.full(1, shift)}
    peak = {name: jnp.zeros(1) for name in augment.Equalizer.PARAMETERS} | {
        "equalizer_gain_1": jnp.full(1, 10.0),
        "equalizer_frequency_1": jnp.full(1, np.log2(landed)),
        "equalizer_bandwidth_1": jnp.ones(1),
    }
    log_mel = jax.jit(lambda parameters: analysis.log_mel(MEL, audio, parameters, 20))
    before, after = log_mel(plain), log_mel(plain | peak)
    assert float(jnp.max(after) - jnp.max(before)) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: augment.chain(augment.TimeMask(), samples=10), "time_mask works on log-mels"),
        (lambda: augment.one_of(augment.Gain(), augment.Mixup()), "mixup works on log-mels"),
        (lambda: augment.one_of(augment.Gain()), "two transforms or more"),
        (lambda: augment.shuffled(augment.Gain(), augment.TimeStretch()), "changes the length"),
        (
            lambda: augment.log_mel_chain(augment.Gain(), augment.Noise(), frames=5),
            "gain, noise: degradations come first",
        ),
        (lambda: augment.chain(samples=0), "samples=0"),
        (
            lambda: augment.chain(augment.Gain(), samples=10).apply(
                jnp.zeros((1, 9)), {"gain": jnp.zeros(1)}
            ),
            r"audio \(1, 9\) must be \[batch, 10 samples or more\]",
        ),
        (
            lambda: augment.chain(augment.Mix(), samples=10)(KEY, jnp.zeros((3, 10))),
            "3 a device are odd",
        ),
        (lambda: augment.Noise(probability=2.0), "probability=2.0"),
        (lambda: augment.Polarity(probability=-1.0), "probability=-1.0"),
        (lambda: augment.StretchShift(None, None), "give one of them"),
        (lambda: augment.Delay(echoes=0), "echoes=0"),
        (lambda: augment.Reverb(seconds=0.0), "seconds=0.0"),
        (lambda: augment.Mixup(high=2.0), "a weight must lie in 0..1"),
        (lambda: augment.TimeMask(width=augment.Range(0.0, 2.0)), "width=0.0..2.0"),
        (lambda: augment.BitCrush(low=0.0), "low=0.0 bits"),
        (lambda: augment.Convolution(np.zeros(5)), "responses must be finite"),
        (lambda: augment.Equalizer(frequency=augment.Range(0.0, 5.0)), "frequency.low"),
    ],
)
def test_bad_compositions_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_shuffle_needs_a_bound():
    parts = [augment.Named(str(number), augment.Gain()) for number in range(7)]
    with pytest.raises(ValueError, match=f"shuffle {composition.MOST_SHUFFLED} at most"):
        augment.shuffled(*parts)


def test_gradients_reach_audio_and_parameters_through_a_chain():
    transforms = (ROOM, augment.Noise(), augment.Equalizer(), augment.Gain())
    chain = augment.chain(*transforms, samples=1000)
    audio = sound(2, chain.source_samples)
    applied = composition.batched_draw(chain.draw, KEY, jnp.arange(2))
    real = {name: value for name, value in applied.items() if value.dtype == jnp.float32}

    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1))
    def gradient(audio, parameters):
        return jnp.sum(chain.apply(audio, applied | parameters) ** 2)

    by_audio, by_parameter = gradient(audio, real)
    assert np.isfinite(by_audio).all()
    assert np.abs(by_audio).max() > 0
    for name in ("reverb", "noise_snr", "equalizer_gain_1", "gain"):
        assert np.isfinite(by_parameter[name]).all()
        assert np.abs(by_parameter[name]).min() > 0
