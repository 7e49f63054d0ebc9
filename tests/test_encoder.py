import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from loev_jax import encoder as encoders
from loev_jax.encoder import Cnn, CnnEncoder, Residual, Resnet, ResnetEncoder, modulation

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
    return CnnEncoder(spec, bands=12, frame_rate=50.0, rngs=nnx.Rngs(0))


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
    model = nnx.eval_shape(lambda: CnnEncoder(Cnn(), bands=96, frame_rate=100.0, rngs=nnx.Rngs(0)))
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
        ({"rhythm_range": (1.0, 20.0)}, "half the rate of frames"),
    ],
)
def test_bad_settings_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        encoder(dataclasses.replace(SPEC, **fields))


RESNET = Resnet(depth=18, groups=8, compute_dtype="float32")


def resnet(spec=RESNET):
    return encoders.create(spec, bands=12, frame_rate=50.0, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("depth", "published", "classifier"),
    [(18, 11_689_512, 513_000), (34, 21_797_672, 513_000), (50, 25_557_032, 2_049_000)],
)
def test_a_resnet_has_the_well_known_number_of_parameters(depth, published, classifier):
    """Those of torchvision, less the classifier and two of three channels of the stem."""
    model = nnx.eval_shape(lambda: resnet(Resnet(depth=depth)))
    number = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(model)))
    assert number == published - classifier - 2 * 7 * 7 * 64


@pytest.mark.parametrize(("depth", "features"), [(18, 512), (50, 2048)])
def test_sizes_of_a_resnet(depth, features):
    spec = Resnet(depth=depth)
    pooled, frames = nnx.eval_shape(
        lambda: (resnet(spec)(log_mels(70)), resnet(spec).frames(log_mels(70)))
    )
    assert pooled.shape == (3, spec.features) == (3, features)
    assert pooled.dtype == jnp.float32
    assert frames.shape == (3, -(-70 // spec.stride), 1, features)
    assert frames.dtype == jnp.bfloat16
    model = nnx.eval_shape(lambda: resnet(spec))
    assert isinstance(model, ResnetEncoder)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(nnx.state(model)))


def test_every_parameter_of_a_resnet_has_a_gradient_and_views_are_apart():
    graph, state = nnx.split(resnet())
    inputs = log_mels(40)

    @jax.jit
    def both(state, inputs):
        def loss(state):
            features = nnx.merge(graph, state)(inputs)
            return jnp.sum(features * jnp.cos(jnp.arange(512.0))[None]), features

        return jax.grad(loss, has_aux=True)(state)

    gradient, features = both(state, inputs)
    for path, leaf in nnx.to_flat_state(gradient):
        value = np.asarray(leaf[...])
        assert np.isfinite(value).all(), path
        assert np.abs(value).max() > 0, path
    # Another first view leaves the features of the others as they are.
    _, other = both(state, inputs.at[0].multiply(-1.0))
    np.testing.assert_allclose(other[1:], features[1:], rtol=1e-4, atol=1e-5)
    assert float(jnp.abs(other[0] - features[0]).max()) > 1e-2


def test_a_bottleneck_adds_to_what_it_is_given():
    """Without its last norm's scale a block of equal shapes is the rectified identity."""
    block = Residual(Resnet(depth=50, compute_dtype="float32"), 256, 64, 1, rngs=nnx.Rngs(0))
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 6, 5, 256)), jnp.float32)
    assert float(jnp.abs(block(x) - nnx.relu(x)).max()) > 0.1
    last = block.layers[-1].norm
    last.scale[...] = jnp.zeros_like(last.scale[...])
    np.testing.assert_allclose(block(x), nnx.relu(x), atol=1e-6)


def test_a_resnet_in_bf16_is_close_to_f32():
    half = dataclasses.replace(RESNET, compute_dtype="bfloat16")
    exact, rough = (np.asarray(nnx.jit(resnet(spec))(log_mels(40))) for spec in (RESNET, half))
    error = np.linalg.norm(exact - rough) / np.linalg.norm(exact)
    assert 0 < error < 0.03


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"depth": 20}, "depth=20"), ({"groups": 48}, "groups=48"), ({"input_deviation": 0.0}, "pos")],
)
def test_bad_settings_of_a_resnet_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Resnet(**fields)
