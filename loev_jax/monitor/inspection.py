"""A look at some clips of a batch, now and then: their views, and where each space puts them.

It is a program of its own on the device, beside the train step, whose losses it does not change.
Like the step it is a function of (seed, step, example): a run that is resumed shows the same. The
compiler divides the clips that are looked at over all devices. So their audio crosses devices, and
no other; `launch/compile.py` tells its memory, and does not count what it exchanges.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from loev_jax import step as steps
from loev_jax.config import Recipe
from loev_jax.heads import INVARIANT
from loev_jax.losses import masks
from loev_jax.losses import objective as objectives
from loev_jax.losses.global_batch import Marks
from loev_jax.model import ENCODER, branch, normalise
from loev_jax.monitor import geometry

CLIPS = 32
"""Most clips that are looked at."""


class Inspection(NamedTuple):
    """What was seen.

    Attributes:
        metrics: "alignment/HEAD", "uniformity/HEAD" and "rank/SPACE", of the heads and of what is
            under them, each f32 [].
        views: log-mels of the clips, [clips, views, frames, bands] f32.
        similarities: by head, cosines of all views, clip by clip, [clips * views] squared, f32.
    """

    metrics: dict[str, jax.Array]
    views: jax.Array
    similarities: dict[str, jax.Array]


def number(recipe: Recipe) -> int:
    """How many clips are looked at: an even number where they are mixed in pairs."""
    clips = min(recipe.training.clips, CLIPS)
    return clips - clips % 2 if recipe.views.augmentations.mixes else clips


def make(recipe: Recipe, mesh: Mesh) -> Callable[[Any, steps.Batch], Inspection]:
    """Compiles lazily the look at the first clips of a batch.

    Returns:
        (parameters of a state, batch of the step) → an inspection, whole on every device.
    """
    graph = steps.graph_of(recipe.model)
    pairing = objectives.pairing(recipe.loss)
    parts = steps.parts(recipe)
    clips = number(recipe)

    def positives(head: str, applied: dict[str, jax.Array], example: jax.Array) -> jax.Array:
        kept = masks.parameters_of(recipe.model.heads.get(head, ()))
        rows = clips * recipe.views.number
        parameters = {name: applied[name].reshape(-1) for name in kept}
        marks = Marks(jnp.arange(rows), jnp.repeat(example, recipe.views.number), parameters)
        return pairing(marks, marks).positive

    def inspect(params: Any, batch: steps.Batch) -> Inspection:
        few = {name: value[:clips] for name, value in batch.items()}
        mels, applied = parts.make_views(few)
        own = {name: value for name, value in params.items() if name != objectives.PARAMS}
        outputs = nnx.merge(graph, own)(mels.reshape(-1, *mels.shape[2:]))
        found: dict[str, jax.Array] = {}
        similar: dict[str, jax.Array] = {}
        for head, projections in outputs.projections.items():
            unit = normalise(projections)
            same = positives(head, applied, few["example"])
            found[f"alignment/{head}"] = geometry.alignment(unit, same)
            found[f"uniformity/{head}"] = geometry.uniformity(unit)
            found[f"rank/{head}"] = geometry.effective_rank(unit)
            similar[head] = geometry.similarities(unit)
        under = outputs.features if recipe.model.branched else {"": outputs.features[INVARIANT]}
        for head, features in under.items():
            space = branch(head) if recipe.model.branched else ENCODER
            found[f"rank/{space}"] = geometry.effective_rank(features)
        return Inspection(found, mels, similar)

    return jax.jit(inspect, out_shardings=NamedSharding(mesh, PartitionSpec()))
