import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from loev_jax.encoders.encoder import Encoder
from loev_jax.encoders.resnet import Residual, Resnet


def log_mels(frames=100):
    return jnp.asarray(np.random.default_rng(0).normal(2.5, 1.5, (3, frames, 12)), jnp.float32)


RESNET = Resnet(depth=18, groups=8, compute_dtype="float32")


def resnet(spec=RESNET):
    return Encoder(spec, bands=12, frame_rate=50.0, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("depth", "published", "classifier"),
    [(18, 11_689_512, 513_000), (34, 21_797_672, 513_000), (50, 25_557_032, 2_049_000)],
)
def test_a_resnet_has_the_well_known_number_of_parameters(depth, published, classifier):
    """Those of torchvision, less the classifier and two of three channels of the stem."""
    model = nnx.eval_shape(lambda: resnet(Resnet(depth=depth)))
    number = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(model)))
    assert number == published - classifier - 2 * 7 * 7 * 64


@pytest.mark.parametrize(
    ("depth", "features"), [(18, 512), pytest.param(50, 2048, marks=pytest.mark.slow)]
)
def test_sizes_of_a_resnet(depth, features):
    spec = Resnet(depth=depth)
    pooled, frames = nnx.eval_shape(
        lambda: (resnet(spec)(log_mels(70)), resnet(spec).frames(log_mels(70)))
    )
    assert pooled.shape == (3, spec.features) == (3, features)
    assert pooled.dtype == jnp.float32
    assert frames.shape == (3, -(-70 // spec.stride), features)
    model = nnx.eval_shape(lambda: resnet(spec))
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


@pytest.mark.slow
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
