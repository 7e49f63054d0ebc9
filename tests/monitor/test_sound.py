import jax.numpy as jnp
import numpy as np
import pytest

from loev_jax.frontend import LogMel, log_mel
from loev_jax.monitor import sound

SPECS = [LogMel(), LogMel(n_fft=512, window=360, hop=200, bands=24)]


def beats(seconds=1.0, rate=16_000):
    """Bursts of noise, brighter one by one."""
    time = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(0).normal(size=len(time))
    dark = np.convolve(noise, np.ones(16) / 4, mode="same")
    envelope = 0.02 + 0.1 * np.exp(-6 * (time % 0.25))
    return (envelope * (time * noise + (1 - time) * dark)).astype(np.float32)


@pytest.mark.parametrize("spec", SPECS, ids=["published", "small"])
def test_the_log_mel_of_the_sound_is_the_log_mel(spec):
    given = np.asarray(log_mel(spec, jnp.asarray(beats()[None])))[0]
    heard = sound.of_log_mel(spec, given)
    assert len(heard) == spec.samples(len(given))
    assert np.abs(heard).max() <= 1.0
    again = np.asarray(log_mel(spec, jnp.asarray(heard[None])))[0]
    given, again = given[4:-4], again[4:-4]  # the ends fade in and out
    assert np.corrcoef(given.ravel(), again.ravel())[0, 1] > 0.95
    assert abs(np.median(given - again)) < 0.05


def test_silence_is_silent():
    assert not sound.of_log_mel(SPECS[1], np.zeros((30, 24))).any()
