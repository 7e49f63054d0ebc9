"""The NFNet: its size, its convolutions against XLA's, stochastic depth by example."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import mule_peer
import numpy as np
import pytest
import tiny_encoders
from flax import nnx
from scipy.special import erf

from loev_jax.encoders import mule, nfnet
from loev_jax.encoders.encoder import Encoder
from loev_jax.encoders.nfnet import Nfnet
from loev_jax.encoders.standardized import (
    StandardizedConv,
    by_convolution,
    by_products,
    convolved,
    standardized,
)

SPEC = dataclasses.replace(tiny_encoders.NFNET, depths=(1, 2), stochastic_depth=0.6)


def log_mels(batch=4, frames=48, bands=12):
    drawn = np.random.default_rng(0).normal(2.5, 1.5, (batch, frames, bands))
    return jnp.asarray(drawn, jnp.float32)


@functools.cache
def parts(spec=SPEC):
    """An encoder of random weights, open residual paths and all."""
    graph = nnx.graphdef(nnx.eval_shape(lambda: encoder(spec)))
    shapes = {
        name: shape[::-1] if path[-1] == "kernel" else shape
        for name, (path, shape) in mule.names(spec).items()
    }
    return graph, mule.imported(mule_peer.weights(shapes), spec)


def encoder(spec, bands=12):
    return Encoder(spec, bands=bands, frame_rate=100.0, rngs=nnx.Rngs(0))


@functools.cache
def compiled(spec=SPEC):
    """Features and frames of log-mels, and of keys."""
    graph, state = parts(spec)

    def both(x, keys):
        model = nnx.merge(graph, state)
        return model(x, keys), model.frames(x, keys)

    return quickly_compiled(both)


def quickly_compiled(function):
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


def features(x, keys=None, spec=SPEC):
    return np.asarray(compiled(spec)(x, keys)[0])


def frames(x, spec=SPEC):
    return np.asarray(compiled(spec)(x, None)[1])


def test_the_default_is_mules_own_size():
    model = nnx.eval_shape(lambda: encoder(Nfnet(), bands=96))
    number = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(model)))
    assert number == 62_345_742  # mule-torch's, which tells 62.35 M
    pooled, frames = nnx.eval_shape(
        lambda model, x: (model(x), model.frames(x)), model, log_mels(2, 300, 96)
    )
    assert pooled.shape == (2, Nfnet().features) == (2, 1728)
    assert pooled.dtype == frames.dtype == jnp.float32
    assert frames.shape == (2, -(-300 // Nfnet().stride), 1728)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(nnx.state(model)))


def test_a_standardised_kernel_has_mean_zero_and_the_variance_of_its_gain():
    rng = np.random.default_rng(0)
    kernel, gain = rng.normal(3.0, 2.0, (3, 1, 8, 5)), rng.uniform(0.5, 2.0, 5)
    scaled = np.asarray(standardized(*(jnp.asarray(x, jnp.float32) for x in (kernel, gain))))
    flat = scaled.reshape(-1, 5)
    np.testing.assert_allclose(flat.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(flat.var(axis=0), gain**2 / 24, rtol=1e-4)


@pytest.mark.parametrize("size", [1.0, 1e-4])
def test_the_gradient_of_standardisation_is_what_jax_derives(size):
    """Also where a kernel is next to nothing and its length is not divided out."""
    rng = np.random.default_rng(1)
    kernel, gain = size * rng.normal(size=(3, 1, 4, 6)), rng.uniform(0.5, 2.0, 6)
    weights = jnp.asarray(rng.normal(size=kernel.shape))

    def plain(kernel, gain):
        centred = kernel - jnp.mean(kernel, (0, 1, 2), keepdims=True)
        energy = jnp.sum(jnp.square(centred), (0, 1, 2), keepdims=True)
        return centred * jax.lax.rsqrt(jnp.maximum(energy, 1e-4)) * gain.reshape(1, 1, 1, -1)

    def total(function):
        return jax.grad(lambda k, g: jnp.sum(weights * function(k, g)), argnums=(0, 1))

    with jax.enable_x64(True):
        arguments = jnp.asarray(kernel), jnp.asarray(gain)
        for ours, derived in zip(total(standardized)(*arguments), total(plain)(*arguments),
                                 strict=True):  # fmt: skip
            np.testing.assert_allclose(ours, derived, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("sizes", "strides", "groups"),
    [((3, 1), (1, 2), 4), ((1, 3), (1, 1), 2), ((7, 1), (4, 1), 1), ((3, 3), (2, 2), 1),
     ((1, 3), (8, 2), 1), ((2, 2), (4, 3), 1), ((1, 1), (1, 1), 1)],
)  # fmt: skip
def test_both_forms_of_a_convolution_are_one(sizes, strides, groups):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 11, 7, 8)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(*sizes, 8 // groups, 12)), jnp.float32)

    def both(form):
        def loss(x, kernel):
            y = form(x, kernel, strides, groups)
            return jnp.sum(jnp.sin(y)), y

        return jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(x, kernel)

    expected = both(by_convolution)
    for form in (by_products, convolved):
        for ours, theirs in zip(*map(jax.tree.leaves, (both(form), expected)), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_only_an_accelerator_gets_grouped_convolutions():
    layer = StandardizedConv(8, 8, (3, 1), groups=2, dtype="float32", rngs=nnx.Rngs(0))
    traced = jax.jit(layer).trace(jax.ShapeDtypeStruct((2, 9, 5, 8), jnp.float32))
    text = {name: traced.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "tpu")}
    assert "feature_group_count = 2" in text["tpu"]
    assert "convolution" not in text["cpu"]


def test_the_activation_keeps_the_variance():
    x = np.random.default_rng(0).standard_normal(200_000)
    y = np.asarray(nfnet.scaled_gelu(jnp.asarray(x, jnp.float32)))
    np.testing.assert_allclose(y, 1.7015043 * x * (1 + erf(x / np.sqrt(2))) / 2, atol=1e-5)
    assert y.var() == pytest.approx(1.0, abs=0.02)


def test_bands_are_halved_by_means():
    x = jnp.arange(5, dtype=jnp.float32).reshape(1, 1, 5, 1)
    np.testing.assert_array_equal(nfnet.halved(x)[0, 0, :, 0], [0.5, 2.5, 4.0])


def test_stochastic_depth_is_drawn_for_each_example():
    """By its key alone, whatever batch it is in, and never in evaluation."""
    x = jnp.repeat(log_mels(1), 64, axis=0)
    keys = jax.random.split(jax.random.key(0), 64)
    drawn = features(x, keys)
    distinct = {tuple(row) for row in np.round(drawn, 3)}
    assert 4 < len(distinct) <= 2 ** (2 * sum(SPEC.depths))
    np.testing.assert_allclose(features(x, keys[::-1])[::-1], drawn, atol=1e-5)
    still = features(x)
    np.testing.assert_allclose(still, np.repeat(still[:1], 64, axis=0), atol=1e-5)
    certain = dataclasses.replace(SPEC, stochastic_depth=0.0)
    assert nfnet.kept_residuals(certain, keys, 0) == (None, None)


def test_later_blocks_are_left_out_more_often_and_all_apart():
    keys = jax.random.split(jax.random.key(1), 4000)
    parts = [path for part in (0, 1) for path in nfnet.kept_residuals(SPEC, keys, part)]
    expected = 1 - 0.6 * np.arange(3) / 3
    for kept in parts:
        np.testing.assert_allclose(kept.mean(axis=0), expected, atol=0.03)
    drawn = np.concatenate([kept[:, 1:] for kept in parts], axis=1)
    correlation = np.corrcoef(drawn.T) - np.eye(drawn.shape[1])
    assert np.abs(correlation).max() < 0.08


def test_branches_that_are_equal_differ_by_what_they_leave_out():
    branched = nnx.eval_shape(
        lambda: Encoder(SPEC, bands=12, frame_rate=100.0, branches=2, rngs=nnx.Rngs(0))
    )
    graph = nnx.graphdef(branched)
    _, state = parts()
    state = state | {"branch": jax.tree.map(lambda leaf: np.stack([leaf, leaf]), state["branch"])}
    run = quickly_compiled(lambda state, x, keys: nnx.merge(graph, state)(x, keys))
    x, keys = log_mels(8), jax.random.split(jax.random.key(0), 8)
    first, second = run(state, x, keys)
    differ = np.abs(first - second).max(axis=1) > 1e-3
    assert 2 <= differ.sum() < 8  # by chance some examples draw the same in both


def test_what_is_left_out_is_the_residual_path():
    block = nfnet.Block(SPEC, 16, 16, 8, 1.0, halves=False, transition=False, rngs=nnx.Rngs(0))
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 6, 5, 16)), jnp.float32)
    np.testing.assert_array_equal(block(x, None), x)  # before it has learned anything
    block.skip_gain[...] = jnp.ones(1)
    y = block(x, jnp.asarray([0.0, 1.0]))
    np.testing.assert_array_equal(y[0], x[0])
    np.testing.assert_allclose(y[1], block(x, None)[1], atol=1e-6)
    assert float(jnp.abs(y[1] - x[1]).max()) > 1e-2


def test_the_level_and_contrast_of_a_view_are_invisible_unless_fixed():
    x = log_mels()
    np.testing.assert_allclose(features(2 * x + 3), features(x), atol=1e-4)
    fixed = dataclasses.replace(SPEC, input_norm="fixed")
    assert np.abs(features(x + 1, spec=fixed) - features(x, spec=fixed)).max() > 1e-2
    # The settings' own mean and deviation are those that these log-mels have.
    np.testing.assert_allclose(features(x, spec=fixed), features(x), atol=0.1)
    silent = features(jnp.zeros_like(x))
    assert np.isfinite(silent).all()


def test_a_frame_is_pooled_as_a_view_of_one_frame_is():
    short = log_mels(frames=SPEC.stride)
    np.testing.assert_allclose(frames(short)[:, 0], features(short), atol=1e-5)
    longer = jax.eval_shape(compiled(), log_mels(frames=70), None)[1]
    assert longer.shape == (4, -(-70 // SPEC.stride), SPEC.features)


@pytest.mark.parametrize("at", [0.2, 0.5, 0.8])
def test_frames_of_both_paths_change_where_the_music_does(at):
    """A click is seen in the frames about it: the slow path's are repeated at the right place."""
    fixed = dataclasses.replace(SPEC, input_norm="fixed")
    x = log_mels(1, 480)
    clicked = x.at[:, int(at * 480)].add(6.0)
    change = np.abs(frames(clicked, fixed) - frames(x, fixed))[0]
    for path in (change[:, : SPEC.slow_channels[-1]], change[:, SPEC.slow_channels[-1] :]):
        weight = np.square(path.sum(axis=1))
        centre = (weight * np.arange(len(weight))).sum() / weight.sum()
        assert centre == pytest.approx(at * 480 / SPEC.stride, abs=4)


def test_bf16_is_close_to_f32():
    half = dataclasses.replace(SPEC, compute_dtype="bfloat16")
    exact, rough = features(log_mels()), features(log_mels(), spec=half)
    error = np.linalg.norm(exact - rough) / np.linalg.norm(exact)
    assert 0 < error < 0.03


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depths": (1,)}, "one entry per stage"),
        ({"slow_stem": (2, 2)}, "slow_stem"),
        ({"fast_group": 3}, "fast_group=3"),
        ({"stochastic_depth": 1.0}, "stochastic_depth"),
        ({"input_deviation": 0.0}, "input_deviation"),
    ],
)
def test_bad_settings_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SPEC, **fields)
