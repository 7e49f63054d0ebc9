"""Sums over arrays: exact, the same however they lie, and another when anything differs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from loev_jax import fingerprint, fsdp


def by_hand(array):
    """In Python's integers, modulo 2^32 at the end."""
    flat = np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}").reshape(-1)
    return sum(int(bits) * (2 * place + 1) for place, bits in enumerate(flat)) % 2**32


@pytest.mark.parametrize("dtype", ["float32", "int32", "uint8", "float16"])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (2, 3, 4)])
def test_a_sum_is_that_of_the_definition(dtype, shape):
    rng = np.random.default_rng(0)
    array = np.frombuffer(rng.bytes(int(np.prod(shape)) * np.dtype(dtype).itemsize), dtype)
    array = array.reshape(shape)
    assert fingerprint.of({"a": jnp.asarray(array)}) == {"a": by_hand(array)}


@given(array=arrays.arrays(np.uint32, (4, 6)), bit=st.integers(0, 31), place=st.integers(0, 23))
def test_a_flipped_bit_is_another_sum(array, bit, place):
    other = array.copy().reshape(-1)
    other[place] ^= np.uint32(1) << np.uint32(bit)
    expected = fingerprint.of({"a": jnp.asarray(array)})
    assert fingerprint.differing({"a": jnp.asarray(other.reshape(4, 6))}, expected) == ["a"]
    assert not fingerprint.differing({"a": jnp.asarray(array)}, expected)


def test_what_changed_places_is_another():
    swapped = fingerprint.of([jnp.array([1.0, 2.0])]), fingerprint.of([jnp.array([2.0, 1.0])])
    assert swapped[0] != swapped[1]


def test_it_does_not_matter_where_an_array_lies():
    array = np.random.default_rng(1).normal(size=(64, 40)).astype(np.float32)
    mesh = fsdp.make_mesh(jax.devices(), 4)
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(fsdp.FSDP, fsdp.DATA))
    whole = fingerprint.of({"x": {"y": jnp.asarray(array)}})
    assert (
        fingerprint.of({"x": {"y": jax.device_put(array, split)}})
        == whole
        == {"x/y": by_hand(array)}
    )


def test_what_is_missing_differs():
    assert fingerprint.differing({"a": jnp.ones(3), "b": jnp.ones(2)}, {"a": 1}) == ["a", "b"]
