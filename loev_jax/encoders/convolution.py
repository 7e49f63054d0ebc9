"""Convolutions whose kernels may be stacked: one for each branch of LOEV++."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap


def conv_general_dilated(lhs: jax.Array, rhs: jax.Array, *settings: Any, **more: Any) -> jax.Array:
    """`jax.lax.conv_general_dilated`, fast on every platform also where kernels are stacked.

    What `jax.vmap` makes of stacked kernels is one grouped convolution, which accelerators like; on
    a CPU, XLA takes a third longer for it and its gradients than for a convolution of each. The
    gradient is written by hand since JAX does not derive that of a function with a `vmap` of its
    own; forward-mode derivatives there are none.

    Args:
        lhs: the images.
        rhs: the kernel.
        *settings: as `jax.lax.conv_general_dilated` has them.
        **more: as it has them.
    """
    plain = functools.partial(_plain, settings, more)

    @jax.custom_vjp
    def convolve(lhs: jax.Array, rhs: jax.Array) -> jax.Array:
        return _each_on_cpu(plain)(lhs, rhs)

    def forward(lhs: jax.Array, rhs: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        return convolve(lhs, rhs), (lhs, rhs)

    def backward(
        kept: tuple[jax.Array, jax.Array], gradient: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        def pull(lhs: jax.Array, rhs: jax.Array, gradient: jax.Array) -> Any:
            return jax.vjp(plain, lhs, rhs)[1](gradient)

        return _each_on_cpu(pull)(*kept, gradient)

    convolve.defvjp(forward, backward)
    return convolve(lhs, rhs)


def _plain(settings: Any, more: Any, lhs: jax.Array, rhs: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(lhs, rhs, *settings, **more)


def _each_on_cpu(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that, where `vmap` stacks any of its arguments, is called for each on a CPU."""
    single: Any = custom_vmap(function)

    @single.def_vmap
    def stacked(size: int, batched: list[bool], *arguments: jax.Array) -> tuple[Any, Any]:
        axes = tuple(0 if one else None for one in batched)
        vectorised = jax.vmap(function, in_axes=axes)

        def one_by_one(*arguments: jax.Array) -> Any:
            results = [
                function(
                    *(
                        one[k] if axis == 0 else one
                        for one, axis in zip(arguments, axes, strict=True)
                    )
                )
                for k in range(size)
            ]
            return jax.tree.map(lambda *ones: jnp.stack(ones), *results)

        result = jax.lax.platform_dependent(*arguments, cpu=one_by_one, default=vectorised)
        return result, jax.tree.map(lambda _: True, result)

    return single
