"""Convolutions with stacked kernels: those of each kernel, and on an accelerator one program."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from loev_jax.encoders.convolution import conv_general_dilated

SETTINGS = {"dimension_numbers": ("NHC", "HIO", "NHC"), "rhs_dilation": (2,)}


def convolve(x, kernel):
    return conv_general_dilated(x, kernel, (1,), "SAME", **SETTINGS)


def plain(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (1,), "SAME", **SETTINGS)


@pytest.fixture(name="stacked")
def _stacked():
    random = np.random.default_rng(0)
    return (
        jnp.asarray(random.normal(size=(3, 2, 9, 4)), jnp.float32),
        jnp.asarray(random.normal(size=(3, 3, 4, 5)), jnp.float32),
    )


@pytest.mark.parametrize("axes", [(0, 0), (None, 0), (0, None)])
def test_stacked_is_each_and_so_is_the_gradient(stacked, axes):
    arguments = tuple(one if axis == 0 else one[0] for one, axis in zip(stacked, axes, strict=True))

    def loss(function):
        return lambda *given: jnp.sum(jnp.sin(jax.vmap(function, axes)(*given)))

    def each(x, kernel):
        several = [
            plain(x if axes[0] is None else x[k], kernel if axes[1] is None else kernel[k])
            for k in range(3)
        ]
        return jnp.sum(jnp.sin(jnp.stack(several)))

    found = jax.jit(jax.value_and_grad(loss(convolve), (0, 1)))(*arguments)
    expected = jax.value_and_grad(each, (0, 1))(*arguments)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), found, expected)


def test_alone_it_is_that_of_xla_and_its_gradient_the_derivative(stacked):
    x, kernel = stacked[0][0], stacked[1][0]
    np.testing.assert_array_equal(convolve(x, kernel), plain(x, kernel))
    check_grads(convolve, (x, kernel), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize(("platform", "number"), [("cpu", 3), ("tpu", 1), ("cuda", 1)])
def test_one_grouped_convolution_but_on_a_cpu(stacked, platform, number):
    traced = jax.jit(jax.vmap(convolve)).trace(*stacked)
    program = traced.lower(lowering_platforms=(platform,)).as_text()
    convolutions = re.findall(r"stablehlo\.convolution.*?feature_group_count = (\d+)", program)
    assert convolutions == (["1"] * 3 if number == 3 else ["3"])
