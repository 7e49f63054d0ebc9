import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest
import scipy.signal

from loev_jax import frontend
from loev_jax.frontend import LogMel

PUBLISHED = LogMel()
SMALL = LogMel(n_fft=1024, window=704, hop=320, bands=64, fmin=30.0, fmax=6000.0)


@pytest.fixture(scope="module")
def audio():
    rng = np.random.default_rng(0)
    time = np.arange(24_000) / 16_000
    tone = 0.3 * np.sin(2 * np.pi * 440 * time)
    return np.stack([tone, 0.1 * rng.standard_normal(24_000)]).astype(np.float32)


@pytest.mark.parametrize("spec", [PUBLISHED, SMALL])
def test_equals_librosa(audio, spec):
    """librosa pads each window to n_fft in its middle: its frame t starts that much earlier."""
    lead = (spec.n_fft - spec.window) // 2
    mel = librosa.feature.melspectrogram(
        y=np.pad(audio, ((0, 0), (lead, spec.n_fft))),
        sr=spec.sample_rate,
        n_fft=spec.n_fft,
        hop_length=spec.hop,
        win_length=spec.window,
        center=False,
        power=2.0,
        n_mels=spec.bands,
        fmin=spec.fmin,
        fmax=spec.fmax,
        htk=True,
        norm=None,
    )
    expected = np.log10(1 + spec.scale * mel.transpose(0, 2, 1))
    result = frontend.log_mel(spec, jnp.asarray(audio))
    assert result.shape == (2, spec.frames(24_000), spec.bands)
    np.testing.assert_allclose(result, expected[:, : result.shape[1]], atol=2e-4)


def test_window_of_full_width_is_the_periodic_hann():
    window = frontend.hann(704, jnp.asarray([704.0]))
    np.testing.assert_allclose(window[0], scipy.signal.get_window("hann", 704), atol=1e-6)


def test_windows_of_any_width_have_equal_energy():
    windows = frontend.hann(1000, jnp.asarray([300.0, 512.5, 1000.0]))
    np.testing.assert_allclose(jnp.sum(windows**2, axis=1), 3 / 8 * 1000, rtol=1e-3)


def test_frames_and_samples_are_inverse():
    for frames in (1, 2, 77):
        samples = SMALL.samples(frames)
        assert SMALL.frames(samples) == frames
        assert SMALL.frames(samples - 1) == frames - 1


def test_gradient_is_finite_for_silence():
    gradient = jax.grad(lambda x: jnp.sum(frontend.log_mel(SMALL, x)))(jnp.zeros((1, 2000)))
    assert bool(jnp.all(jnp.isfinite(gradient)))


@pytest.mark.parametrize("shape", [(2, 100), (2000,)])
def test_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match="must be"):
        frontend.log_mel(SMALL, jnp.zeros(shape))


@pytest.mark.parametrize("fields", [{"window": 4096}, {"fmax": 9000.0}, {"fmin": 8000.0}])
def test_refuses_settings_that_make_no_sense(fields):
    with pytest.raises(ValueError, match="must"):
        LogMel(**fields)
