import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loev_jax.augment import Augmentations, Filter, Gain, PitchShift, TimeStretch, views
from loev_jax.frontend import LogMel

VIEWS = views.Views(
    frontend=LogMel(n_fft=512, window=400, hop=200, bands=32, fmax=6000.0),
    augmentations=Augmentations(
        time_stretch=TimeStretch(-0.3, 0.3),
        pitch_shift=PitchShift(-3.0, 3.0),
        gain=Gain(-10.0, 5.0),
        filter=Filter(),
    ),
    kept=(("time_stretch",), ("pitch_shift",)),
    seconds=0.6,
    spread_seconds=0.5,
    window_scale=(0.8, 1.2),
)
KEY = jax.random.key(0)


def windows(spec, clips=3):
    rng = np.random.default_rng(0)
    audio = rng.standard_normal((clips, spec.window_samples)) * 3000
    return jnp.asarray(audio.astype(np.int16))


@pytest.mark.parametrize("domain", ["analysis", "waveform"])
def test_shapes_and_finite_values(domain):
    spec = dataclasses.replace(VIEWS, domain=domain)
    mels, applied = views.make(spec, KEY, windows(spec), jnp.arange(3))
    assert mels.shape == (3, 4, spec.frames, 32)
    assert mels.dtype == jnp.float32
    assert bool(jnp.all(jnp.isfinite(mels)))
    assert all(value.shape == (3, 4) for value in applied.values())
    assert float(jnp.std(mels)) > 0.1


def test_draws_are_functions_of_the_example_alone():
    """A clip's views do not depend on the batch, or the device, that it is in."""
    together = views.draw(VIEWS, KEY, jnp.asarray([5, 9, 12]))
    alone = views.draw(VIEWS, KEY, jnp.asarray([9]))
    for name, value in alone.items():
        np.testing.assert_array_equal(value[0], together[name][1])
    assert len(np.unique(np.asarray(together["gain"]))) == 12


def test_a_result_is_reproduced_from_its_record():
    audio = windows(VIEWS)
    mels, applied = views.make(VIEWS, KEY, audio, jnp.arange(3))
    np.testing.assert_array_equal(views.render(VIEWS, audio, applied), mels)


@pytest.mark.parametrize("crop", ["same", "adjacent", "random"])
def test_views_lie_where_the_crop_says(crop):
    spec = dataclasses.replace(VIEWS, crop=crop)
    starts = np.asarray(views.draw(spec, KEY, jnp.arange(50))["crop"])
    spread = spec.window_samples - spec.source_samples
    assert spread == (0 if crop == "same" else 8000)
    assert starts.min() >= 0
    assert starts.max() <= spread
    if crop == "same":
        assert (starts == starts[:, :1]).all()
    elif crop == "adjacent":
        np.testing.assert_allclose(starts, np.broadcast_to([0, 2667, 5333, 8000], (50, 4)), atol=1)
    else:
        assert len(np.unique(starts)) > 150


def test_both_domains_agree():
    """On a chord that swells four times a second the two domains describe the same view."""
    time = np.arange(4 * 16_000) / 16_000
    swell = 0.5 - 0.5 * np.cos(2 * np.pi * 4 * time)
    tones = sum(np.sin(2 * np.pi * f * time) / f for f in (220, 440, 660, 880, 1320)) * 40
    spec = dataclasses.replace(VIEWS, seconds=1.5, window_scale=(1.0, 1.0), crop="same")
    applied = {name: jnp.zeros((1, 4)) for name in views.draw(spec, KEY, jnp.arange(1))}
    applied |= {
        "crop": jnp.zeros((1, 4), jnp.int32),
        "window_scale": jnp.ones((1, 4)),
        "time_stretch": jnp.asarray([[0.0, 0.3, -0.3, 0.2]]),
        "pitch_shift": jnp.asarray([[0.0, 0.0, 2.0, -3.0]]),
        "gain": jnp.asarray([[0.0, -6.0, 0.0, 3.0]]),
        "filter_kind": jnp.asarray([[0.0, 0.0, 1.0, 2.0]]),
        "filter_frequency": jnp.asarray([[0.0, 0.0, 9.0, 8.0]]),
    }
    mels = {}
    for domain in ("analysis", "waveform"):
        one = dataclasses.replace(spec, domain=domain)
        audio = (tones * swell * 8000)[: one.window_samples].astype(np.int16)
        assert len(audio) == one.window_samples
        mels[domain] = np.asarray(views.render(one, jnp.asarray(audio)[None], applied))[0]
    for view in range(4):
        first, second = mels["analysis"][view].ravel(), mels["waveform"][view].ravel()
        assert np.corrcoef(first, second)[0, 1] > 0.95, view
        assert abs(first.mean() - second.mean()) < 0.1, view


def test_a_window_may_follow_the_pitch():
    """It is as many times longer as the view is higher, and the source is long enough for it."""
    fixed = dataclasses.replace(VIEWS, frontend=dataclasses.replace(VIEWS.frontend, n_fft=1024))
    spec = dataclasses.replace(fixed, window_follows_pitch=True)
    plain, applied = (views.draw(one, KEY, jnp.arange(20)) for one in (fixed, spec))
    ratio = 2 ** (np.asarray(applied["pitch_shift"]) / 12)
    assert ratio.max() > 1.1
    np.testing.assert_allclose(applied["window_scale"], plain["window_scale"] * ratio, rtol=1e-5)
    assert applied["window_scale"].max() <= spec.longest_window == 1.2 * 2 ** (3 / 12)
    assert spec.source_samples > fixed.source_samples
    elsewhere = dataclasses.replace(spec, domain="waveform")
    assert (views.draw(elsewhere, KEY, jnp.arange(2))["window_scale"] == 1).all()
    with pytest.raises(ValueError, match="n_fft"):
        dataclasses.replace(VIEWS, window_follows_pitch=True)


def test_windows_of_another_length_are_refused():
    with pytest.raises(ValueError, match="need"):
        views.make(VIEWS, KEY, windows(VIEWS)[:, :-1], jnp.arange(3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seconds": 0.01}, "shorter than one window"),
        ({"construction": "independent", "count": 1}, "two views"),
        ({"spread_seconds": -1.0}, "spread_seconds"),
        ({"window_scale": (1.2, 0.8)}, "window_scale"),
        ({"window_scale": (1.0, 3.0)}, "n_fft"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(VIEWS, **change)
