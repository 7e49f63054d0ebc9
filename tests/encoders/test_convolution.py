"""Convolutions as XLA's own, with its gradients, in a form that is fast on each platform."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, note
from hypothesis import strategies as st
from jax.test_util import check_grads

from loev_jax.encoders.convolution import conv_general_dilated

AXES = {3: ("NHC", "HIO", "NHC"), 4: ("NHWC", "HWIO", "NHWC")}


def convolve(x, kernel):
    return conv_general_dilated(x, kernel, (1,), "SAME", rhs_dilation=(2,))


def plain(x, kernel):
    return jax.lax.conv_general_dilated(
        x, kernel, (1,), "SAME", rhs_dilation=(2,), dimension_numbers=AXES[3]
    )


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


@given(st.data())
def test_gradients_on_a_cpu_are_those_that_jax_derives(data):
    def draw(low, high):
        return data.draw(st.integers(low, high))

    axes = draw(1, 2)
    kernel_sizes = [draw(1, 4) for _ in range(axes)]
    dilation = tuple(draw(1, 3) for _ in range(axes))
    strides = tuple(draw(1, 3) for _ in range(axes))
    spans = [(k - 1) * by + 1 for k, by in zip(kernel_sizes, dilation, strict=True)]
    x_sizes = [span + draw(0, 6) for span in spans]
    padding = data.draw(st.sampled_from(["SAME", "VALID", "numbers"]))
    if padding == "numbers":
        padding = tuple((draw(0, 5), draw(0, 5)) for _ in range(axes))
    random = np.random.default_rng(draw(0, 99))
    x = jnp.asarray(random.normal(size=(2, *x_sizes, 3)), jnp.float32)
    kernel = jnp.asarray(random.normal(size=(*kernel_sizes, 3, 2)), jnp.float32)
    note(f"{x.shape} {kernel.shape} {strides} {padding} {dilation}")

    def of_xla(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, strides, padding, rhs_dilation=dilation, dimension_numbers=AXES[x.ndim]
        )

    def ours(x, kernel):
        return conv_general_dilated(x, kernel, strides, padding, rhs_dilation=dilation)

    expected, derived = jax.vjp(of_xla, x, kernel)
    found, by_hand = jax.vjp(ours, x, kernel)
    np.testing.assert_array_equal(found, expected)
    cotangent = jnp.asarray(random.normal(size=expected.shape), jnp.float32)
    for a, b in zip(by_hand(cotangent), derived(cotangent), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_on_a_cpu_all_axes_are_in_the_order_it_is_fast_in(stacked, platform):
    """XLA's CPU turns them itself, but not in the body of a loop."""
    gradient = jax.jit(jax.grad(lambda *given: jnp.sum(jnp.sin(convolve(*given))), (0, 1)))
    traced = gradient.trace(stacked[0][0], stacked[1][0])
    program = traced.lower(lowering_platforms=(platform,)).as_text()
    orders = re.findall(r"stablehlo\.convolution.*?dim_numbers = (\[.*?\]->\[.*?\])", program)
    assert len(orders) >= 3
    assert (set(orders) == {"[b, 0, f]x[0, i, o]->[b, 0, f]"}) == (platform == "cpu")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("feature_group_count", 2),
        ("lhs_dilation", (2,)),
        ("dimension_numbers", jax.lax.conv_dimension_numbers((2, 4, 9), (5, 4, 3), None)),
        ("preferred_element_type", jnp.float32),
        ("batch_group_count", 1),
    ],
)
def test_what_is_not_computed_here_is_refused(stacked, name, value):
    x, kernel = stacked[0][0], stacked[1][0]
    with pytest.raises(ValueError, match=f"{name}="):
        conv_general_dilated(x, kernel, (1,), "SAME", **{name: value})


@pytest.mark.parametrize(("platform", "number"), [("cpu", 3), ("tpu", 1), ("cuda", 1)])
def test_one_grouped_convolution_but_on_a_cpu(stacked, platform, number):
    traced = jax.jit(jax.vmap(convolve)).trace(*stacked)
    program = traced.lower(lowering_platforms=(platform,)).as_text()
    convolutions = re.findall(r"stablehlo\.convolution.*?feature_group_count = (\d+)", program)
    assert convolutions == (["1"] * 3 if number == 3 else ["3"])
