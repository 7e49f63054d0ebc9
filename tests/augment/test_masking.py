"""Mixup and masks of log-mels against plain numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loev_jax.augment import masking

FRAMES, BANDS = 37, 24
UNIT = st.floats(0.0, 1.0, width=32)
MASKS = {1: masking.time_mask, 2: masking.frequency_mask}

mixup = jax.jit(masking.mixup)
jitted = {axis: jax.jit(mask) for axis, mask in MASKS.items()}


def mels(batch=2, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(0.5, 4.0, (batch, FRAMES, BANDS)).astype(np.float32)


def full(value, batch=2):
    return jnp.full((batch,), value, jnp.float32)


@given(weight=UNIT)
def test_mixup_is_linear_from_the_one_to_the_other(weight):
    one, other = mels(), mels(seed=1)
    truth = (1 - weight) * one.astype(float) + weight * other.astype(float)
    np.testing.assert_allclose(mixup(one, other, full(weight)), truth, rtol=1e-6)
    np.testing.assert_array_equal(mixup(one, other, full(0.0)), one)
    np.testing.assert_array_equal(mixup(one, other, full(1.0)), other)


@pytest.mark.parametrize("axis", MASKS)
@given(start=UNIT, width=UNIT)
def test_a_mask_is_one_run_of_its_width_at_its_place(axis, start, width):
    values = mels()
    output = np.moveaxis(np.asarray(jitted[axis](values, full(start), full(width))), axis, -1)
    values = np.moveaxis(values, axis, -1)
    masked = (output == 0).all(axis=(0, 1))
    np.testing.assert_array_equal(output[..., ~masked], values[..., ~masked])
    length, count = len(masked), masked.sum()
    assert abs(count - width * length) <= 0.5 + 1e-4
    if count:
        places = np.flatnonzero(masked)
        assert places[-1] - places[0] == count - 1
        assert abs(places[0] - start * (length - count)) <= 0.5 + 1e-4


@pytest.mark.parametrize("axis", MASKS)
def test_masks_at_both_ends_of_none_of_all_and_one_per_example(axis):
    values, length = mels(5), (FRAMES, BANDS)[axis - 1]
    start, width = jnp.asarray([0.0, 1.0, 0.3, 0.7, 1.0]), jnp.asarray([0.25, 0.25, 0.0, 1.0, 0.0])
    truth, count = np.moveaxis(values.copy(), axis, -1), round(0.25 * length)
    truth[0, :, :count] = truth[1, :, -count:] = truth[3] = 0
    truth = np.moveaxis(truth, -1, axis)
    for mask in (MASKS[axis], jitted[axis]):
        np.testing.assert_array_equal(mask(jnp.asarray(values), start, width), truth)
    one = jax.jit(jax.vmap(lambda m, s, w: MASKS[axis](m[None], s[None], w[None])[0]))
    np.testing.assert_array_equal(one(jnp.asarray(values), start, width), truth)


def test_gradients_flow_past_the_mask_and_through_the_mix():
    one, other = jnp.asarray(mels()), jnp.asarray(mels(seed=1))

    def loss(one, other, weight, start):
        mixed = masking.mixup(one, other, weight)
        return jnp.sum(masking.time_mask(mixed, start, full(0.5)))

    by_one, by_other, by_weight, by_start = jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3)))(
        one, other, full(0.25), full(0.0)
    )
    kept = (np.arange(FRAMES) >= 18).astype(float)
    np.testing.assert_allclose(by_one, np.tile(0.75 * kept[None, :, None], (2, 1, BANDS)))
    np.testing.assert_allclose(by_other, np.tile(0.25 * kept[None, :, None], (2, 1, BANDS)))
    difference = np.sum((other - one) * kept[None, :, None], axis=(1, 2))
    np.testing.assert_allclose(by_weight, difference, rtol=1e-4)
    np.testing.assert_array_equal(by_start, 0.0)


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan])
def test_parameters_out_of_range_raise_and_inside_jit_spoil_their_own_example(value):
    values, bad = jnp.asarray(mels()), jnp.asarray([value, 0.5])
    good = full(0.5)
    calls = [
        (masking.mixup, (values, bad)),
        (masking.time_mask, (bad, good)),
        (masking.frequency_mask, (good, bad)),
    ]
    for function, rest in calls:
        with pytest.raises(ValueError, match=r"must lie in 0\.\.1|holds values that are not fin"):
            function(values, *rest)
        output = jax.jit(function)(values, *rest)
        assert np.isnan(output[0]).all()
        assert np.isfinite(output[1]).all()


def test_shapes_and_values_are_checked():
    with pytest.raises(ValueError, match=r"mels must be \[batch, frames, bands\]"):
        masking.time_mask(jnp.zeros((2, 3)), full(0.0), full(0.0))
    with pytest.raises(ValueError, match=r"width must be \[batch\] = \(2,\); its shape is \(3,\)"):
        masking.frequency_mask(jnp.asarray(mels()), full(0.0), full(0.0, 3))
    with pytest.raises(ValueError, match=r"other must have the shape of mels"):
        masking.mixup(jnp.asarray(mels()), jnp.asarray(mels(3)), full(0.0))
    for damaged, name in ((0, "mels"), (1, "other")):
        pair = [jnp.asarray(mels()), jnp.asarray(mels())]
        pair[damaged] = pair[damaged].at[0, 0, 0].set(jnp.inf)
        with pytest.raises(ValueError, match=f"{name} holds values that are not finite"):
            masking.mixup(*pair, full(0.5))
