"""LOEV++: branches of an encoder, each as if it were alone."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_encoders
from flax import nnx

from loev_jax.encoders.cnn import Cnn
from loev_jax.encoders.encoder import SETTINGS, Encoder
from loev_jax.encoders.resnet import Resnet

SPECS = {
    "cnn": Cnn(
        channels=(16, 16, 16),
        kernels=(3, 3, 3),
        strides=(2, 1, 1),
        dilations=(1, 2, 1),
        rhythm_channels=4,
        rhythm_bands=6,
        compute_dtype="float32",
    ),
    "resnet": Resnet(depth=18, groups=8, compute_dtype="float32"),
    "sf_nfnet_f0": dataclasses.replace(tiny_encoders.NFNET, depths=(1, 2)),
}


BRANCHES = 3


def encoder(name, branches):
    return Encoder(SPECS[name], bands=12, frame_rate=50.0, branches=branches, rngs=nnx.Rngs(0))


@functools.cache
def branched(name):
    """An encoder none of whose paths begins at zero, as residual ones of an NFNet do."""
    graph, state = nnx.split(encoder(name, BRANCHES))
    for path, leaf in nnx.to_flat_state(state):
        if path[-1] == "skip_gain":
            leaf[...] = jnp.ones_like(leaf[...])
    return graph, nnx.to_pure_dict(state)


def log_mels():
    return jnp.asarray(np.random.default_rng(0).normal(2.5, 1.5, (2, 48, 12)), jnp.float32)


def test_every_encoder_is_tested():
    assert SPECS.keys() == SETTINGS.keys()


@pytest.mark.parametrize("name", SPECS)
def test_each_branch_is_what_it_would_be_alone(name):
    """Each slice of the stacked parameters, in an encoder of one space, gives that branch."""
    graph, state = branched(name)
    features = np.asarray(jax.jit(lambda state, x: nnx.merge(graph, state)(x))(state, log_mels()))
    frames = jax.eval_shape(lambda state: nnx.merge(graph, state).frames(log_mels()), state)
    assert features.shape == (BRANCHES, 2, SPECS[name].features)
    assert frames.shape[:2] == (BRANCHES, 2)
    assert frames.ndim == 4
    single = nnx.graphdef(nnx.eval_shape(lambda: encoder(name, None)))
    alone = jax.jit(lambda state, x: nnx.merge(single, state)(x))
    for at in range(BRANCHES):
        own = state | {"branch": jax.tree.map(lambda leaf, at=at: leaf[at], state["branch"])}
        expected = np.asarray(alone(own, log_mels()))
        np.testing.assert_allclose(features[at], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", SPECS)
def test_branches_start_different_and_share_a_stem(name):
    """All kernels of the branches are drawn apart; the stem has no axis of branches."""
    _, state = branched(name)
    single = nnx.to_pure_dict(nnx.eval_shape(lambda: nnx.state(encoder(name, None))))
    stems = jax.tree.map(
        lambda one, other: one.shape == other.shape, *(tree["stem"] for tree in (state, single))
    )
    assert all(jax.tree.leaves(stems))
    for path, leaf in jax.tree_util.tree_leaves_with_path(state["branch"]):
        assert leaf.shape[0] == BRANCHES
        if path[-1].key == "kernel":
            assert float(jnp.abs(leaf[0] - leaf[1]).max()) > 1e-3, path


@pytest.mark.parametrize("name", SPECS)
def test_the_gradient_of_a_branch_leaves_the_others_alone(name):
    graph, state = branched(name)

    def first(state):
        return jnp.sum(jnp.sin(nnx.merge(graph, state)(log_mels())[0]))

    gradient = jax.jit(jax.grad(first))(state)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient["branch"]):
        assert float(jnp.abs(leaf[1:]).max()) == 0, path
        assert float(jnp.abs(leaf[0]).max()) > 0, path
    assert all(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(gradient["stem"]))
