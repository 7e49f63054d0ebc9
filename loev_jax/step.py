"""The train step: windows of audio in, new state and metrics out; one program on every mesh.

The gradient is computed under `jax.shard_map`. Views, features and losses of a clip are computed
where the clip is; only projections and applied parameters are gathered, and the gradient is reduced
once, in f32. Losses and random draws do not depend on the number of devices. The parameters may lie
in shards (`fsdp`); the optimiser then works on each shard where it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from loev_jax import fsdp, gradient, optimizer
from loev_jax import model as models
from loev_jax.augment import views
from loev_jax.augment.parameters import Parameters
from loev_jax.config import Recipe
from loev_jax.fsdp import AXES
from loev_jax.gradient import Batch
from loev_jax.losses import objective as objectives
from loev_jax.model import ModelSpec, Outputs

Metrics = dict[str, jax.Array]


class State(NamedTuple):
    """All that changes while training.

    Attributes:
        step: number of steps taken, int32 [].
        params: the model's parameters, a pure dict, f32; and the objective's, where it has some.
        opt_state: the optimiser's state.
        skipped: number of steps that were skipped, their loss, gradient or update not being finite,
            int32 []; a skipped step leaves everything but these counts as it was.
        skipped_in_a_row: the last ones of them, int32 [].
        average: of the parameters, a tree like them; None where none is kept.
    """

    step: jax.Array
    params: Any
    opt_state: optax.OptState
    skipped: jax.Array
    skipped_in_a_row: jax.Array
    average: Any


def split_over(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch: rows divided over all devices."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def graph_of(spec: ModelSpec) -> nnx.GraphDef[models.Model]:
    """The model's structure without its parameters."""
    return nnx.split(nnx.eval_shape(lambda: models.create(spec, 0)))[0]


def _fresh(recipe: Recipe) -> Callable[[], State]:
    """Makes the state before the first step."""

    def fresh() -> State:
        params = nnx.to_pure_dict(nnx.state(models.create(recipe.model, recipe.seed)))
        params |= objectives.initial_params(recipe.loss, recipe.model.projected)
        opt_state = optimizer.create(recipe.optimizer, recipe.training.steps).init(params)
        # Buffers of their own: the step consumes each.
        none = (jnp.zeros((), jnp.int32) for _ in range(3))
        average = jax.tree.map(jnp.copy, params) if recipe.optimizer.average_decay else None
        return State(next(none), params, opt_state, next(none), next(none), average)

    return fresh


def abstract(recipe: Recipe, mesh: Mesh) -> State:
    """Shapes and dtypes of a state, and how it lies on the mesh; nothing is computed."""
    shapes = jax.eval_shape(_fresh(recipe))
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        fsdp.shardings(shapes, mesh),
    )


def init(recipe: Recipe, mesh: Mesh) -> State:
    """The state before the first step, as it lies on the mesh."""
    fresh = _fresh(recipe)
    return jax.jit(fresh, out_shardings=fsdp.shardings(jax.eval_shape(fresh), mesh))()


def unit(recipe: Recipe, devices: int) -> int:
    """Clips that a batch is a multiple of: a device's micro-batches hold one, or a pair to mix."""
    return devices * recipe.training.micro_batches * (2 if recipe.views.augmentations.mixes else 1)


def to_device(audio: np.ndarray, example: np.ndarray, mesh: Mesh) -> Batch:
    """This process's rows of a global batch become arrays over the whole mesh."""
    sharding = split_over(mesh)
    # Example numbers stay below 2^32: 200 000 steps of 4 096 clips take a fifth of that.
    rows = {"audio": audio, "example": example.astype(np.uint32)}
    return {
        name: jax.make_array_from_process_local_data(sharding, value)
        for name, value in rows.items()
    }


def row_keys(key: jax.Array, example: jax.Array, views: int) -> jax.Array:
    """A random key for each view of each clip, whatever device or batch it is in.

    Args:
        key: of the run.
        example: the global number of each clip, [clips].
        views: of each clip.

    Returns:
        [clips * views] keys, clip by clip.
    """
    fold = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
    by_view = jax.vmap(fold, in_axes=(0, None))(fold(key, example), jnp.arange(views))
    return by_view.reshape(-1)


def parts(recipe: Recipe) -> gradient.Parts:
    """The loss of a recipe, on one device of a mesh of `AXES`."""
    graph = graph_of(recipe.model)

    def keys() -> tuple[jax.Array, jax.Array]:
        view_key, model_key = jax.random.split(jax.random.key(recipe.seed))
        return view_key, model_key

    @jax.named_scope("views")
    def make_views(batch: Batch) -> tuple[jax.Array, Parameters]:
        return views.make(recipe.views, keys()[0], batch["audio"], batch["example"])

    @jax.named_scope("model")
    def forward(params: Any, mels: jax.Array, applied: Parameters, example: jax.Array) -> Outputs:
        own = {name: value for name, value in params.items() if name != objectives.PARAMS}
        rows = mels.reshape(-1, *mels.shape[2:])
        return nnx.merge(graph, own)(rows, row_keys(keys()[1], example, mels.shape[1]), applied)

    @jax.named_scope("objective")
    def objective(
        params: Any, outputs: Outputs, applied: Parameters, example: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        return objectives.objective(
            recipe.loss,
            recipe.model,
            outputs,
            applied,
            example,
            AXES,
            objectives.temperatures_of(recipe.loss, recipe.model.projected, params),
        )

    return gradient.Parts(make_views, forward, objective)


def _update(recipe: Recipe) -> Callable[[State, Any, Metrics], tuple[State, Metrics]]:
    """What the reduced gradient and its metrics make of a state."""
    transformation = optimizer.create(recipe.optimizer, recipe.training.steps)
    learning_rate = optimizer.schedule(recipe.optimizer, recipe.training.steps)

    @jax.named_scope("update")
    def update(state: State, total: Any, metrics: Metrics) -> tuple[State, Metrics]:
        norm = optax.tree.norm(total)
        updates, opt_state = transformation.update(total, state.opt_state, state.params)
        # A finite gradient may be made so large that the parameters would be no numbers any more.
        moved = optax.tree.norm(updates)
        finite = jnp.isfinite(jnp.stack([metrics["loss"], norm, moved])).all()
        params = objectives.bounded(recipe.loss, optax.apply_updates(state.params, updates))
        taken = state.step - state.skipped
        average = state.average
        if average is not None:
            average = optimizer.averaged(recipe.optimizer, average, params, taken)
        kept = (state.params, state.opt_state, state.average)
        params, opt_state, average = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old), (params, opt_state, average), kept
        )
        bad = 1 - finite.astype(jnp.int32)
        in_a_row = bad * (state.skipped_in_a_row + 1)
        metrics = metrics | {
            "gradient_norm": norm,
            "update_norm": moved,
            "learning_rate": jnp.asarray(learning_rate(taken), jnp.float32),
            "skipped": (state.skipped + bad).astype(jnp.float32),
            "skipped_in_a_row": in_a_row.astype(jnp.float32),
        }
        if recipe.loss.learn_temperature:
            heads = recipe.model.projected
            for head, value in objectives.temperatures_of(recipe.loss, heads, state.params).items():
                metrics[f"temperature/{head}"] = jnp.asarray(value, jnp.float32)
        return State(
            state.step + 1, params, opt_state, state.skipped + bad, in_a_row, average
        ), metrics

    return update


def make(recipe: Recipe, mesh: Mesh) -> Callable[[State, Batch], tuple[State, Metrics]]:
    """Compiles lazily the step of a recipe; it consumes (donates) the state it is given.

    Args:
        recipe: the run.
        mesh: of `fsdp.make_mesh`; its size times `recipe.training.micro_batches` divides
            `recipe.training.clips`.

    Returns:
        (state, {"audio": [clips, window_samples] int16, "example": [clips]}) → (state, metrics).
        Metrics are f32 []: "loss", one for each part of it, "gradient_norm", "update_norm",
        "learning_rate", "skipped", "skipped_in_a_row" and, where they are learned, the
        "temperature/HEAD" that the step began with.
    """
    loss, micro_batches = parts(recipe), recipe.training.micro_batches
    update = _update(recipe)
    state_like = abstract(recipe, mesh)
    layout = fsdp.specs(state_like.params, mesh)
    loss = loss._replace(forward=fsdp.gathering(loss.forward, layout))

    def local_gradient(shards: Any, batch: Batch) -> tuple[Any, Metrics]:
        # Parameters made device-varying keep the gradient local: it is reduced once, below.
        params = fsdp.varying(shards, layout)
        local, shares = (
            gradient.of_batch(loss, params, batch)
            if micro_batches == 1
            else gradient.in_micro_batches(loss, params, batch, micro_batches)
        )
        return fsdp.reduced(local, shares, layout)

    global_gradient = jax.shard_map(
        local_gradient,
        mesh=mesh,
        in_specs=(layout, PartitionSpec(AXES)),
        out_specs=(layout, PartitionSpec()),
    )

    def step(state: State, batch: Batch) -> tuple[State, Metrics]:
        return update(state, *global_gradient(state.params, batch))

    lies = jax.tree.map(lambda leaf: leaf.sharding, state_like)
    out = (lies, NamedSharding(mesh, PartitionSpec()))
    return jax.jit(step, donate_argnums=0, out_shardings=out)
