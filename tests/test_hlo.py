"""Programs that XLA made, whose work is known in closed form."""

import jax
import jax.numpy as jnp
import pytest

from loev_jax import hlo

SIDE = 64
PRODUCT = 2 * SIDE**3


def text(function) -> str:
    """Of a program for the CPU, of two square matrices."""
    shape = jax.ShapeDtypeStruct((SIDE, SIDE), jnp.float32)
    return jax.jit(function).lower(shape, shape).compile().as_text()


def loop(function, length):
    return lambda x, w: jax.lax.scan(lambda x, _: (function(x, w), None), x, None, length=length)[0]


def product(x, w):
    return jnp.tanh(x @ w)


def nested(x, w):
    """15 products in a loop within a loop, 7 in another one, and one in none."""
    return loop(product, 7)(loop(loop(product, 3), 5)(x, w), w) @ w


def test_flops_of_a_loop_count_as_often_as_it_goes_round():
    program = text(nested)
    assert hlo.flops(program) == pytest.approx((15 + 7 + 1) * PRODUCT, rel=1e-3)
    assert hlo.flops(text(product)) == pytest.approx(PRODUCT, rel=1e-3)


def test_loops_are_found_with_their_trips():
    program = text(nested)
    found = {one.trips: one for one in hlo.loops(hlo.computations(program))}
    assert set(found) == {3, 5, 7}
    assert found[5].place == found[7].place == hlo.entry(program)
    assert found[3].place == found[5].body
    often = hlo.times(program)
    assert [often[found[trips].body] for trips in (3, 5, 7)] == [15, 5, 7]
    assert often[hlo.entry(program)] == 1


def test_a_loop_may_count_in_any_integers():
    def counted(x, w):
        limits = jnp.uint32(0), jnp.uint32(9)
        return jax.lax.fori_loop(*limits, lambda _, x: product(x, w), x)

    assert hlo.flops(text(counted)) == pytest.approx(9 * PRODUCT, rel=1e-3)


def test_a_loop_that_may_go_round_for_ever_is_told():
    def until(x, w):
        return jax.lax.while_loop(lambda x: jnp.sum(x) < 1e6, lambda x: x @ w, x)

    with pytest.raises(ValueError, match="goes round no fixed number of times"):
        hlo.flops(text(until))
