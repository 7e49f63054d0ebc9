"""The model: its spaces with and without branches, what decays, and what each head sees."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_encoders
from flax import nnx

from loev_jax import model as models
from loev_jax import optimizer
from loev_jax.augment.differences import Coordinate
from loev_jax.heads import Projection
from loev_jax.model import ModelSpec

STRETCH = Coordinate("time_stretch", "linear", 0.3, "time_stretch")
SPEC = ModelSpec(
    bands=12,
    frame_rate=50.0,
    heads={"tempo": ("time_stretch",), "pitch": ("pitch_shift",)},
    readouts={"tempo": (STRETCH,)},
    encoder=tiny_encoders.CNN,
    projection=Projection(hidden=(16,), outputs=6),
)
BRANCHED = dataclasses.replace(SPEC, branched=True)


def log_mels():
    return jnp.asarray(np.random.default_rng(0).normal(2.5, 1.5, (4, 40, 12)), jnp.float32)


@pytest.mark.parametrize("spec", [SPEC, BRANCHED])
def test_every_space_has_its_name_and_size(spec):
    spaces = models.create(spec, 0).spaces(log_mels())
    branches = 3 if spec.branched else 1
    features = spec.encoder.features
    expected = {"encoder": features * branches}
    if spec.branched:
        expected |= {f"encoder/{head}": features for head in ("invariant", "tempo", "pitch")}
    expected |= {"invariant": 6, "tempo": 6, "pitch": 6}
    assert {name: space.shape for name, space in spaces.items()} == {
        name: (4, size) for name, size in expected.items()
    }
    assert list(spaces) == list(spec.spaces)
    for head in ("invariant", "tempo", "pitch"):
        np.testing.assert_allclose(np.linalg.norm(spaces[head], axis=1), 1.0, rtol=1e-5)


def test_the_encoder_of_branches_is_all_of_them_side_by_side():
    spaces = models.create(BRANCHED, 0).spaces(log_mels())
    parts = [spaces[f"encoder/{head}"] for head in ("invariant", "tempo", "pitch")]
    np.testing.assert_array_equal(spaces["encoder"], np.concatenate(parts, axis=1))


@pytest.mark.parametrize("readout_space", ["encoder", "head"])
def test_a_head_and_its_readout_train_only_their_own_branch(readout_space):
    spec = dataclasses.replace(BRANCHED, readout_space=readout_space)
    graph, state = nnx.split(models.create(spec, 0))

    def of_tempo(state):
        outputs = nnx.merge(graph, state)(log_mels())
        return jnp.sum(jnp.sin(outputs.projections["tempo"])) + jnp.sum(outputs.readouts["tempo"])

    gradient = nnx.to_pure_dict(jax.grad(of_tempo)(state))
    tempo = BRANCHED.projected.index("tempo")
    for leaf in jax.tree.leaves(gradient["encoder"]["branch"]):
        moved = [bool(jnp.any(branch != 0)) for branch in leaf]
        assert moved == [at == tempo for at in range(3)]


@pytest.mark.parametrize("spec", [SPEC, BRANCHED])
def test_kernels_decay_and_nothing_else(spec):
    """Norms and biases do not, stacked for branches or not."""
    params = nnx.to_pure_dict(nnx.state(models.create(spec, 0)))
    names = {
        path[-1].key: decays
        for path, decays in jax.tree_util.tree_leaves_with_path(optimizer.decayed(params))
    }
    assert names == {"kernel": True, "bias": False, "scale": False}


def test_pairs_are_predicted_from_the_two_vectors_and_their_difference():
    """Whatever a pair's prediction is made of changes it, and nothing else of the clip does."""
    spec = dataclasses.replace(SPEC, pairs={"tempo": (STRETCH,)}, reads=True, moves=True)
    model = models.create(spec, 0)
    applied = {"time_stretch": jnp.asarray([[0.0, 0.2], [0.1, -0.3]])}
    base = model(log_mels(), None, applied).predicted
    assert base.differences["tempo"].shape == (2, 2, 1)
    assert base.moved["tempo"].shape == base.swept["tempo"].shape == (2, 2, 6)
    turned = jax.tree.map(lambda x: x.at[0, 1].add(0.5), applied)
    other = model(log_mels(), None, turned).predicted
    np.testing.assert_array_equal(other.differences["tempo"], base.differences["tempo"])
    assert (
        float(jnp.min(jnp.max(jnp.abs(other.moved["tempo"][0] - base.moved["tempo"][0]), -1))) > 0
    )
    np.testing.assert_allclose(other.moved["tempo"][1], base.moved["tempo"][1], atol=1e-6)
    # Swept, both predictions of a clip start from its first view.
    np.testing.assert_allclose(base.swept["tempo"][:, 0], base.moved["tempo"][:, 0], atol=1e-6)
    assert model(log_mels()).predicted.differences == {}
