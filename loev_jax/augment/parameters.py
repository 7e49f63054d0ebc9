"""What is drawn: parameters, the laws they follow, and how the views of a clip share them.

`Parameters` maps a parameter's name to an array of one shape (usually [clips, views]) in its
natural unit. 0 is "not applied" for every transform: where all its parameters are 0, it gives back
what it was given. So probabilities, one-of and views without augmentation need no branches.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping
from typing import Literal, Protocol

import jax
import jax.numpy as jnp

Parameters = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Range:
    """The law that a parameter is drawn from, within `low` to `high`.

    Attributes:
        low: least value, in the parameter's unit.
        high: greatest value.
        step: 0 for a continuous draw; otherwise values are whole multiples of it, all equally
            likely (uniform only).
        distribution: "uniform"; "log_uniform", even in octaves, for `low` above 0; or "beta", a
            Beta(alpha, beta) variable stretched from 0..1 to the range.
        alpha: of "beta", above 0.
        beta: of "beta", above 0.
    """

    low: float
    high: float
    step: float = 0.0
    distribution: Literal["uniform", "log_uniform", "beta"] = "uniform"
    alpha: float = 1.0
    beta: float = 1.0

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"low={self.low} exceeds high={self.high}")
        if self.step < 0:
            raise ValueError(f"step={self.step} must be 0 or more")
        if self.step and self.distribution != "uniform":
            raise ValueError(f"step={self.step} needs distribution=uniform")
        if self.step and self._steps[0] > self._steps[1]:
            raise ValueError(f"no multiple of step={self.step} lies in {self.low}..{self.high}")
        if self.distribution == "log_uniform" and self.low <= 0:
            raise ValueError(f"low={self.low} must be above 0 to be drawn evenly in octaves")
        if min(self.alpha, self.beta) <= 0:
            raise ValueError(f"alpha={self.alpha} and beta={self.beta} must be above 0")

    @property
    def _steps(self) -> tuple[int, int]:
        """The first and the last whole multiple of `step` in the range."""
        slack = 1e-6
        return math.ceil(self.low / self.step - slack), math.floor(self.high / self.step + slack)

    @property
    def half_width(self) -> float:
        """Half the distance from the least to the greatest value."""
        return (self.high - self.low) / 2

    def value(self, key: jax.Array) -> jax.Array:
        """One value, f32 []."""
        if self.step:
            first, last = self._steps
            return jax.random.randint(key, (), first, last + 1).astype(jnp.float32) * self.step
        if self.distribution == "beta":
            unit = jax.random.beta(key, self.alpha, self.beta, (), jnp.float32)
            return self.low + (self.high - self.low) * unit
        if self.distribution == "log_uniform":
            low, high = math.log2(self.low), math.log2(self.high)
            return jnp.exp2(jax.random.uniform(key, (), jnp.float32, low, high))
        return jax.random.uniform(key, (), jnp.float32, self.low, self.high)


class Drawer(Protocol):
    """Whatever draws the parameters of one view: a transform, a chain, `Augmentations`."""

    @property
    def augmentations(self) -> Mapping[str, tuple[str, ...]]:
        """The names of the augmentations, each with those of its parameters."""

    def draw(self, key: jax.Array) -> Parameters:
        """All parameters of one view, each []."""


def independent(
    drawer: Drawer, key: jax.Array, views: int, shared: Collection[str] = ()
) -> Parameters:
    """Draws every view of a clip on its own (the published setting).

    Args:
        drawer: what may be applied.
        key: a JAX random key [].
        views: their number.
        shared: augmentations of which all views take the first one's parameters.

    Returns:
        Each parameter [views].
    """
    keys = jax.vmap(lambda view: jax.random.fold_in(key, view))(jnp.arange(views))
    drawn = jax.vmap(drawer.draw)(keys)
    for augmentation in shared:
        for name in _names(drawer, augmentation):
            drawn[name] = jnp.broadcast_to(drawn[name][:1], drawn[name].shape)
    return drawn


def leave_one_out(
    drawer: Drawer,
    key: jax.Array,
    kept: tuple[tuple[str, ...], ...],
    shared: Collection[str] = (),
) -> Parameters:
    """Draws the views of one clip so that each variant head has positives and negatives.

    As in LooC (Xiao et al. 2021, arXiv 2008.05659, section 3): view 0 is the query; view k + 1
    copies the query's parameters of the augmentations `kept[k]` and redraws the rest; the last view
    redraws all.

    Args:
        drawer: what may be applied.
        key: a JAX random key [].
        kept: for each variant head, the augmentations it must not be invariant to.
        shared: augmentations of which all views take the first one's parameters.

    Returns:
        Each parameter [len(kept) + 2].
    """
    drawn = independent(drawer, key, len(kept) + 2, shared)
    for view, augmentations_kept in enumerate(kept, start=1):
        for augmentation in augmentations_kept:
            for name in _names(drawer, augmentation):
                drawn[name] = drawn[name].at[view].set(drawn[name][0])
    return drawn


def _names(drawer: Drawer, augmentation: str) -> tuple[str, ...]:
    known = drawer.augmentations
    if augmentation not in known:
        raise ValueError(f"{augmentation!r} is not applied here; there are {', '.join(known)}")
    return known[augmentation]
