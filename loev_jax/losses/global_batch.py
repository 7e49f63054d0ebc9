"""The rows of every device: what each of them contrasts its own with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from loev_jax.augment.parameters import Parameters
from loev_jax.model import normalise

Axis = str | tuple[str, ...]
"""A mesh axis by name, or several that are counted through as one."""


class Marks(NamedTuple):
    """What tells which rows are positives of each other.

    Attributes:
        number: of the row in the global batch, [n].
        clip: the global number of its clip, [n].
        parameters: those in which positives agree, each [n].
    """

    number: jax.Array
    clip: jax.Array
    parameters: Parameters

    def of(self, names: Sequence[str]) -> Marks:
        """The same rows with some of the parameters only."""
        return self._replace(parameters={name: self.parameters[name] for name in names})


class GlobalBatch(NamedTuple):
    """The rows of this device and of all, n of N.

    Attributes:
        rows: by head, [n, d] unit vectors of this device.
        columns: by head, [N, d] unit vectors of every device, in order.
        row_marks: of this device's rows.
        column_marks: of every device's.
    """

    rows: dict[str, jax.Array]
    columns: dict[str, jax.Array]
    row_marks: Marks
    column_marks: Marks


def gather(
    projections: Mapping[str, jax.Array],
    parameters: Parameters,
    names: Sequence[str],
    clips: jax.Array,
    axis: Axis,
) -> GlobalBatch:
    """Gathers the rows of every device, in at most three collectives however many heads there are.

    The transpose of a gather sends every gradient home, so gradients are exact.

    Args:
        projections: by head, [n, d] of this device's views.
        parameters: applied to them, each [n].
        names: of the parameters that are compared.
        clips: the global number of each row's clip, [n].
        axis: the mesh axis, or axes, over which the global batch is split.
    """
    number = clips.shape[0]
    rows = {head: normalise(space) for head, space in projections.items()}
    here = Marks(jax.lax.axis_index(axis) * number + jnp.arange(number), clips, parameters)
    all_clips = jax.lax.all_gather(clips, axis, tiled=True)
    compared = _gathered({name: parameters[name] for name in names}, axis)
    everywhere = Marks(jnp.arange(all_clips.shape[0]), all_clips, compared)
    return GlobalBatch(rows, _gathered(rows, axis), here.of(names), everywhere)


def _gathered(arrays: Mapping[str, jax.Array], axis: Axis) -> dict[str, jax.Array]:
    """Each [n] or [n, d] → those of every device, [N] or [N, d], crossing the mesh as one array."""
    if not arrays:
        return {}
    columns = [x.reshape(x.shape[0], -1) for x in arrays.values()]
    ends = np.cumsum([x.shape[1] for x in columns])
    together = jnp.concatenate(columns, axis=1)
    parts = jnp.split(jax.lax.all_gather(together, axis, tiled=True), ends[:-1], axis=1)
    return {
        name: part.reshape(-1, *x.shape[1:])
        for (name, x), part in zip(arrays.items(), parts, strict=True)
    }
