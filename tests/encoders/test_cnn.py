import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from loev_jax.encoders.cnn import Cnn, modulation
from loev_jax.encoders.encoder import Encoder

SPEC = Cnn(
    channels=(16, 16),
    kernels=(3, 3),
    strides=(2, 1),
    dilations=(1, 2),
    rhythm_channels=4,
    rhythm_bands=6,
    compute_dtype="float32",
)


def encoder(spec=SPEC):
    return Encoder(spec, bands=12, frame_rate=50.0, rngs=nnx.Rngs(0))


def log_mels(frames=100):
    return jnp.asarray(np.random.default_rng(0).normal(2.5, 1.5, (3, frames, 12)), jnp.float32)


@pytest.mark.parametrize("cycles", [0.05, 0.11, 0.2])
def test_modulation_of_a_sinusoid_is_its_amplitude_at_its_frequency(cycles):
    time = np.arange(125)
    frames = 3.0 + 0.7 * np.sin(2 * np.pi * cycles * time + 1.0)
    frequencies = np.asarray([cycles / 2, cycles, cycles * 2])
    result = modulation(jnp.asarray(frames, jnp.float32)[None, :, None], frequencies)[0, :, 0]
    assert float(result[1]) == pytest.approx(0.7, abs=0.02)
    assert float(result[0]) < 0.02
    assert float(result[2]) < 0.02


def test_a_faster_tempo_moves_the_modulation_by_its_octaves():
    """A train of clicks, its harmonics and all: the log-frequency pattern is translated."""
    frequencies = np.geomspace(0.02, 0.16, 25)
    step = np.log2(frequencies[1] / frequencies[0])

    def pattern(period):
        frames = np.zeros(400, np.float32)
        frames[np.arange(3, 400, period).astype(int)] = 1.0
        frames = np.convolve(frames, np.hanning(7), "same").astype(np.float32)
        return np.asarray(modulation(jnp.asarray(frames)[None, :, None], frequencies)[0, :, 0])

    slow, fast = pattern(32), pattern(16)
    octave = round(1.0 / step)
    agreement = [np.corrcoef(slow[: 25 - lag], fast[lag:])[0, 1] for lag in range(12)]
    assert int(np.argmax(agreement)) == octave
    assert agreement[octave] > 0.75


def test_sizes_and_dtypes():
    features = encoder()(log_mels())
    assert features.shape == (3, SPEC.features) == (3, 32 + 24)
    assert features.dtype == jnp.float32
    assert encoder().frames(log_mels()).shape == (3, 50, 16)
    half = dataclasses.replace(SPEC, compute_dtype="bfloat16")
    assert encoder(half)(log_mels()).dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(nnx.state(encoder(half))))


def test_without_rhythm_there_are_only_moments():
    plain = dataclasses.replace(SPEC, rhythm_channels=0)
    assert encoder(plain)(log_mels()).shape == (3, 32)


def test_the_default_has_about_a_million_parameters():
    model = nnx.eval_shape(lambda: Encoder(Cnn(), bands=96, frame_rate=100.0, rngs=nnx.Rngs(0)))
    number = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(model)))
    assert 0.8e6 < number < 1.2e6


def test_one_view_does_not_depend_on_the_others():
    together, alone = encoder()(log_mels()), encoder()(log_mels()[1:2])
    np.testing.assert_allclose(together[1:2], alone, atol=1e-5)


def test_the_gradient_is_finite_for_a_constant_input():
    model = encoder()
    gradient = jax.grad(lambda x: jnp.sum(model(x)))(jnp.zeros((1, 40, 12)))
    assert bool(jnp.all(jnp.isfinite(gradient)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kernels": (3,)}, "one entry per layer"),
        ({"input_deviation": 0.0}, "input_deviation"),
        ({"rhythm_range": (2.0, 1.0)}, "ascend"),
        ({"branch_layers": 3}, "branch_layers=3"),
        ({"rhythm_range": (1.0, 20.0)}, "half the rate of frames"),
    ],
)
def test_bad_settings_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        encoder(dataclasses.replace(SPEC, **fields))


def test_the_moments_of_every_shared_layer_are_pooled():
    """Those of a layer are the mean and the deviation of its channels over time."""
    spec = dataclasses.replace(
        SPEC, channels=(16, 24, 16), kernels=(3, 3, 3), strides=(2, 1, 1), dilations=(1, 1, 1),
        branch_layers=1,
    )  # fmt: skip
    model = encoder(spec)
    assert spec.features == 2 * (16 + 24 + 16) + 24
    x = (np.asarray(log_mels()) - spec.input_mean) / spec.input_deviation
    expected = []
    for layer in (*model.stem.layers, *model.branch.layers):
        x = np.asarray(layer(jnp.asarray(x)))
        expected += [x.mean(axis=1), x.std(axis=1)]
    pooled = model(log_mels())
    np.testing.assert_allclose(pooled[:, : 2 * 56], np.concatenate(expected, axis=1), atol=4e-3)
    plain = dataclasses.replace(spec, pool_shared=False)
    np.testing.assert_allclose(encoder(plain)(log_mels()), pooled[:, 2 * 40 :], atol=1e-6)
