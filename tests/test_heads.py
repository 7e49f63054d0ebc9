"""Projection heads: the published one and others, against the same sums in NumPy."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from loev_jax import config
from loev_jax.errors import UserError
from loev_jax.heads import Projection, ProjectionHead

PUBLISHED = {"norm": False, "bias": False, "final_activation": "relu"}


def head(spec, features=10):
    """A head with random parameters, biases and scales too."""
    made, rng = ProjectionHead(spec, features, rngs=nnx.Rngs(0)), np.random.default_rng(0)
    for _, leaf in nnx.to_flat_state(nnx.state(made)):
        leaf[...] = rng.normal(size=leaf.shape).astype(np.float32)
    return made


def weights(made):
    flat = nnx.to_flat_state(nnx.state(made))
    return {".".join(map(str, path)): np.asarray(leaf[...], np.float64) for path, leaf in flat}


def features():
    return np.random.default_rng(1).normal(0.5, 2.0, (7, 10)).astype(np.float32)


def test_the_published_head_is_two_matrices_and_two_relus():
    """As the config says: no norm, no bias, nothing negative (method, section 6)."""
    spec = config.read({"projection": PUBLISHED}).model.projection
    assert spec.hidden == (512,)
    assert spec.outputs == 128
    made = head(spec)
    stored = weights(made)
    shapes = {name: value.shape for name, value in stored.items()}
    assert shapes == {"hidden.0.kernel": (10, 512), "output.kernel": (512, 128)}
    first, second = stored.values()
    expected = np.maximum(np.maximum(features() @ first, 0) @ second, 0)
    assert 0.2 < np.mean(expected == 0) < 0.8
    np.testing.assert_allclose(made(features()), expected, rtol=1e-4, atol=1e-3)


def test_the_default_head_has_a_norm_biases_and_a_linear_output():
    made = head(Projection(hidden=(6,), outputs=4))
    w, x = weights(made), features().astype(np.float64)
    unit = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-6)
    inner = (unit * w["norm.scale"] + w["norm.bias"]) @ w["hidden.0.kernel"]
    inner = np.maximum(inner + w["hidden.0.bias"], 0)
    expected = inner @ w["output.kernel"] + w["output.bias"]
    assert expected.min() < 0
    np.testing.assert_allclose(made(features()), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("hidden", [(), (6,), (6, 5, 3)])
def test_hidden_layers_are_as_many_and_as_large_as_told(hidden):
    made = head(Projection(hidden=hidden, outputs=4, bias=False, norm=False))
    x, *layers = features(), *weights(made).values()
    assert [layer.shape[1] for layer in layers] == [*hidden, 4]
    for layer in layers[:-1]:
        x = np.maximum(x @ layer, 0)
    np.testing.assert_allclose(made(features()), x @ layers[-1], rtol=1e-4, atol=1e-4)


def test_without_bias_there_is_none_anywhere():
    for norm in (False, True):
        names = weights(head(Projection(bias=False, norm=norm)))
        assert not any(name.endswith("bias") for name in names)
    assert sum(name.endswith("bias") for name in weights(head(Projection()))) == 3


def test_a_final_relu_is_that_of_the_linear_output():
    linear = Projection(hidden=(6,), outputs=4)
    rectified = dataclasses.replace(linear, final_activation="relu")
    np.testing.assert_array_equal(head(rectified)(features()),
                                  jax.nn.relu(head(linear)(features())))  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"hidden": (0,)}, r"config\.projection: hidden=\(0,\)"),
        ({"outputs": 0}, r"config\.projection: .*outputs=0"),
        ({"hidden": 512}, r"config\.projection\.hidden: 512"),
    ],
)
def test_sizes_that_are_none_are_refused(fields, named):
    with pytest.raises(UserError, match=named):
        config.read({"projection": fields})
