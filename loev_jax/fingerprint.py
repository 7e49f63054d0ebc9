"""Sums that tell whether arrays are what they were: what storage hands back is not always.

A sum is over the bits of an array's elements, each times an odd weight of its place, in unsigned
32-bit arithmetic that wraps around. So it is exact, the same in whatever order and on however many
devices it is added up, and any one element that differs changes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

_UNSIGNED = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}


def _sum(leaf: jax.Array) -> jax.Array:
    """Of one array, of elements of at most four bytes, uint32 []."""
    unsigned = _UNSIGNED[leaf.dtype.itemsize]
    bits = jax.lax.bitcast_convert_type(leaf, unsigned).astype(jnp.uint32)
    place, stride = jnp.zeros(leaf.shape, jnp.uint32), 1
    for axis in reversed(range(leaf.ndim)):
        place += jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, axis) * jnp.uint32(stride % 2**32)
        stride *= leaf.shape[axis]
    return jnp.sum(bits * (2 * place + 1), dtype=jnp.uint32)


@jax.jit
def _sums(leaves: list[jax.Array]) -> jax.Array:
    return jnp.stack([_sum(leaf) for leaf in leaves])


def of(tree: Any) -> dict[str, int]:
    """The sum of every array of a tree, by its path; on all processes where there are several."""
    paths, leaves = zip(*jax.tree_util.tree_leaves_with_path(tree), strict=True)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path in paths]
    return dict(zip(names, map(int, jax.device_get(_sums(list(leaves)))), strict=True))


def differing(tree: Any, expected: Mapping[str, int]) -> list[str]:
    """Paths of the arrays of a tree that are not those of which `expected` was made."""
    return [name for name, total in of(tree).items() if expected.get(name) != total]
