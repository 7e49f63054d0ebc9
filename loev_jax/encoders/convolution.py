"""Convolutions that are fast on a CPU too: with stacked kernels, and backwards in a loop."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

Gradients = tuple[jax.Array, jax.Array]


class _Settings(NamedTuple):
    """What `jax.lax.conv_general_dilated` is told: a channel is the last axis, none apart."""

    strides: tuple[int, ...]
    padding: str | tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    precision: Any


def conv_general_dilated(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: tuple[int, ...],
    padding: str | tuple[tuple[int, int], ...],
    *,
    rhs_dilation: tuple[int, ...] | None = None,
    precision: Any = None,
    **usual: Any,
) -> jax.Array:
    """`jax.lax.conv_general_dilated` of images whose channels come last, fast on every platform.

    On a CPU that takes two things. What `jax.vmap` makes of stacked kernels, of LOEV++'s branches,
    is one grouped convolution, which accelerators like; XLA's CPU takes a third longer for it and
    its gradients than for a convolution of each. And XLA's CPU turns the axes of a convolution into
    the order that it is fast in, but not in the body of a loop, where a gradient took up to 30
    times as long: there the gradients are given in that order. There are no forward-mode
    derivatives.

    Args:
        lhs: [batch, *space, inputs].
        rhs: [*space, inputs, outputs].
        window_strides: in each axis of space.
        padding: as there.
        rhs_dilation: of the kernel, in each axis of space.
        precision: as there.
        **usual: as there, of which nothing may be unusual: groups, dilated images, other orders of
            axes or types.

    Raises:
        ValueError: something in `usual` is.
    """
    usually = {
        "lhs_dilation": (1,) * (lhs.ndim - 2),
        "dimension_numbers": jax.lax.conv_dimension_numbers(lhs.shape, rhs.shape, _axes(lhs.ndim)),
        "feature_group_count": 1,
        "preferred_element_type": None,
    }
    for name, value in usual.items():
        if value != usually.get(name):
            raise ValueError(f"{name}={value!r}: only ordinary convolutions can be computed here")
    dilation = rhs_dilation or (1,) * (lhs.ndim - 2)
    settings = _Settings(tuple(window_strides), padding, tuple(dilation), precision)
    plain = functools.partial(_plain, settings)

    @jax.custom_vjp
    def convolve(lhs: jax.Array, rhs: jax.Array) -> jax.Array:
        return _each_on_cpu(plain, plain)(lhs, rhs)

    def forward(lhs: jax.Array, rhs: jax.Array) -> tuple[jax.Array, Gradients]:
        return convolve(lhs, rhs), (lhs, rhs)

    def backward(kept: Gradients, gradient: jax.Array) -> Gradients:
        def derived(lhs: jax.Array, rhs: jax.Array, gradient: jax.Array) -> Gradients:
            return jax.vjp(plain, lhs, rhs)[1](gradient)

        ordered = functools.partial(_gradients, settings)
        return _each_on_cpu(derived, ordered)(*kept, gradient)

    convolve.defvjp(forward, backward)
    return convolve(lhs, rhs)


def _axes(ndim: int) -> tuple[str, str, str]:
    space = "DHW"[-(ndim - 2) :]
    return f"N{space}C", f"{space}IO", f"N{space}C"


def _plain(settings: _Settings, lhs: jax.Array, rhs: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(
        lhs,
        rhs,
        settings.strides,
        settings.padding,
        rhs_dilation=settings.dilation,
        dimension_numbers=_axes(lhs.ndim),
        precision=settings.precision,
    )


def _gradients(
    settings: _Settings, lhs: jax.Array, rhs: jax.Array, gradient: jax.Array
) -> Gradients:
    """Of `_plain` in both arguments, as convolutions whose axes are in the order of `_plain`'s.

    Where y[t] = Σ_k x[t · stride + k · dilation - before] w[k], the gradient in w is x convolved
    with y's, dilated by the stride, at every `dilation`; that in x is y's gradient, spread out by
    the stride, convolved with the kernel from its end.
    """
    around_image, around_gradient = [], []
    for given, taps, results, before, stride, dilation in zip(
        lhs.shape[1:-1],
        rhs.shape[:-2],
        gradient.shape[1:-1],
        _before(settings, lhs, rhs),
        settings.strides,
        settings.dilation,
        strict=True,
    ):
        reach, span = (taps - 1) * dilation, (results - 1) * stride
        around_image.append((before, reach + span + 1 - given - before))
        around_gradient.append((reach - before, given + before - span - 1))
    axes, precision = _axes(lhs.ndim), settings.precision
    in_kernel = jax.lax.conv_general_dilated(
        jnp.swapaxes(lhs, 0, -1),
        jnp.moveaxis(gradient, 0, -2),
        settings.dilation,
        around_image,
        rhs_dilation=settings.strides,
        dimension_numbers=axes,
        precision=precision,
    )
    in_image = jax.lax.conv_general_dilated(
        gradient,
        jnp.swapaxes(jnp.flip(rhs, range(rhs.ndim - 2)), -2, -1),
        (1,) * (rhs.ndim - 2),
        around_gradient,
        lhs_dilation=settings.strides,
        rhs_dilation=settings.dilation,
        dimension_numbers=axes,
        precision=precision,
    )
    return in_image, jnp.moveaxis(in_kernel, 0, -2)


def _before(settings: _Settings, lhs: jax.Array, rhs: jax.Array) -> list[int]:
    """Zeros before the first point, in each axis of space."""
    if not isinstance(settings.padding, str):
        return [before for before, _ in settings.padding]
    taps = zip(rhs.shape[:-2], settings.dilation, strict=True)
    sizes = [(number - 1) * dilation + 1 for number, dilation in taps]
    padded = jax.lax.padtype_to_pads(lhs.shape[1:-1], sizes, settings.strides, settings.padding)
    return [before for before, _ in padded]


def _each_on_cpu(function: Callable[..., Any], on_cpu: Callable[..., Any]) -> Callable[..., Any]:
    """`on_cpu` on a CPU, for each where `vmap` stacks any of its arguments; else `function`."""

    @custom_vmap
    def single(*arguments: jax.Array) -> Any:
        if on_cpu is function:  # a choice, even of the same, would stand twice in an export
            return function(*arguments)
        return jax.lax.platform_dependent(*arguments, cpu=on_cpu, default=function)

    @single.def_vmap
    def stacked(size: int, batched: list[bool], *arguments: jax.Array) -> tuple[Any, Any]:
        axes = tuple(0 if one else None for one in batched)
        vectorised = jax.vmap(function, in_axes=axes)

        def one_by_one(*arguments: jax.Array) -> Any:
            results = [
                on_cpu(
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
