import jax
import jax.numpy as jnp
import librosa
import ml_dtypes
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


@pytest.mark.parametrize(("length", "hop"), [(400, 160), (704, 320), (10, 10), (7, 9), (9, 2)])
def test_frames_at_a_hop(length, hop):
    signal = np.random.default_rng(0).standard_normal((2, 3000)).astype(np.float32)
    expected = np.lib.stride_tricks.sliding_window_view(signal, length, axis=1)[:, ::hop]
    result = frontend.hop_frames(jnp.asarray(signal), length, hop, expected.shape[1])
    np.testing.assert_array_equal(result, expected)


def windowed(length):
    """Windowed frames whose empty bands are hard to keep empty: tones at full scale, and noise."""
    time = np.arange(length)
    signals = [np.sin(0.17 * time), np.cos(0.0003 * time**2 + time), np.ones(length)]
    noise = 0.2 * np.random.default_rng(0).standard_normal(length)
    return np.stack([*signals, noise]) * scipy.signal.get_window("hann", length)


def log_power(spectrum):
    return np.log10(1 + 1e4 * np.abs(spectrum) ** 2)


@pytest.mark.parametrize(("length", "n_fft"), [(400, 2048), (704, 1024), (37, 64), (9, 9)])
def test_both_ways_to_a_power_spectrum_are_right(length, n_fft):
    frames = windowed(length).astype(np.float32)
    expected = log_power(np.fft.rfft(frames.astype(np.float64), n_fft))
    for way in (frontend.power_by_fft, frontend.power_by_matmul, frontend.power_spectrum):
        result = np.log10(1 + 1e4 * np.asarray(way(jnp.asarray(frames), n_fft), np.float64))
        np.testing.assert_allclose(result, expected, atol=3e-4)


def in_bf16(a, b, pieces):
    """A product as a TPU makes it, of the leading bf16 pieces of both factors: 2 HIGH, 3 HIGHEST.

    See `jax.lax.Precision`; products of pieces beyond the last one kept are left out.
    """
    split = []
    for rest in (a.astype(np.float32), b.astype(np.float32)):
        split.append([])
        for _ in range(pieces):
            split[-1].append(rest.astype(ml_dtypes.bfloat16).astype(np.float32))
            rest = rest - split[-1][-1]
    pairs = [(i, j) for i in range(pieces) for j in range(pieces) if i + j < pieces]
    return sum(split[0][i].astype(np.float64) @ split[1][j].astype(np.float64) for i, j in pairs)


def test_the_precision_that_the_products_ask_for_is_needed_and_suffices(monkeypatch):
    """A CPU has f32 whatever is asked for: here the products are those of a TPU."""
    frames = windowed(400)
    filterbank = np.asarray(frontend.triangles(jnp.asarray(PUBLISHED.mel_edges),
                                               PUBLISHED.frequencies))  # fmt: skip
    power = np.abs(np.fft.rfft(frames, 2048)) ** 2
    expected = np.log10(1 + 1e4 * power @ filterbank.astype(np.float64))

    def error(pieces, mel_pieces):
        monkeypatch.setattr(
            jnp, "matmul", lambda a, b, precision: in_bf16(np.asarray(a), np.asarray(b), pieces)
        )
        spectrum = frontend.power_by_matmul(jnp.asarray(frames, jnp.float32), 2048)
        mel = in_bf16(np.asarray(spectrum), filterbank, mel_pieces)
        return np.abs(np.log10(1 + 1e4 * mel) - expected).max()

    assert error(1, 2) > 0.1
    assert error(2, 2) > 1e-3
    assert error(3, 2) < 3e-4
    assert error(3, 1) > 1e-3


def test_each_platform_has_its_own_way():
    def lowered(platform):
        function = jax.jit(lambda x: frontend.log_mel(PUBLISHED, x))
        argument = jax.ShapeDtypeStruct((2, 4000), jnp.float32)
        return function.trace(argument).lower(lowering_platforms=(platform,)).as_text()

    for platform in ("cpu", "cuda"):
        assert "stablehlo.fft" in lowered(platform)
    tpu = lowered("tpu")
    assert "stablehlo.fft" not in tpu
    assert "gather" not in tpu
    products = [line for line in tpu.splitlines() if "dot_general" in line]
    assert len(products) == 3
    assert all("precision = [HIGH" in line for line in products)


def test_both_ways_have_the_same_gradient():
    frames = jnp.asarray(windowed(400), jnp.float32)
    weights = jnp.asarray(np.random.default_rng(1).standard_normal((4, 1025)), jnp.float32)

    def gradient(way):
        return jax.grad(lambda x: jnp.sum(way(x, 2048) * weights))(frames)

    expected = gradient(frontend.power_by_fft)
    scale = float(jnp.max(jnp.abs(expected)))
    np.testing.assert_allclose(gradient(frontend.power_by_matmul), expected, atol=1e-5 * scale)
