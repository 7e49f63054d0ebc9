"""Where the time of a small training step goes, and what micro-batches cost and save of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import optax

from loev_jax import config, fsdp, optimizer, presets
from loev_jax import step as steps
from loev_jax.benchmark import bare
from loev_jax.benchmark.timing import measure

REPETITIONS = 10
MICRO_BATCHES = 4
VIEWS, MODEL_FORWARD, MODEL, LOSSES_FORWARD, LOSSES, OPTIMISER, STEP, IN_PARTS = (
    "views (log-mels of augmented audio)",
    "encoder and heads, forward",
    "encoder and heads, forward + backward",
    "losses, forward",
    "losses, forward + backward",
    "optimiser",
    "the whole step",
    f"the whole step, in {MICRO_BATCHES} micro-batches",
)


def run(out: Path, quick: bool) -> dict[str, Any]:
    """Times the parts of a step of `configs/loev_tempo_pitch.py:small`, compiled one by one.

    Args:
        out: not used, there is no plot.
        quick: few clips, once.

    Returns:
        `milliseconds` of each part, and `share` of the whole step; `steps_per_second`; and
        `working_megabytes`, what a whole step and one in micro-batches hold beside the state and
        the clips, by the compiler's account.
    """
    del out
    recipe = config.read(presets.recipe("small", {"tempo": "time_stretch", "pitch": "pitch_shift"}))
    if quick:
        training = dataclasses.replace(recipe.training, clips=MICRO_BATCHES)
        recipe = dataclasses.replace(recipe, training=training)
    mesh = fsdp.make_mesh(jax.devices()[:1])
    clips, batch = recipe.training.clips, bare.batch(recipe, mesh)
    state = steps.init(recipe, mesh)
    parts = steps.parts(recipe)
    transformation = optimizer.create(recipe.optimizer, recipe.training.steps)

    def in_mesh(function: Any) -> Any:
        whole = jax.sharding.PartitionSpec()
        return jax.jit(
            jax.shard_map(function, mesh=mesh, in_specs=whole, out_specs=whole, check_vma=False)
        )

    def model(params: Any, mels: Any, applied: Any, example: Any) -> Any:
        # Nothing in the losses reads features.
        return parts.forward(params, mels, applied, example)._replace(features={})

    def pull(params: Any, mels: Any, applied: Any, example: Any, cotangent: Any) -> Any:
        return jax.vjp(lambda params: model(params, mels, applied, example), params)[1](cotangent)

    def losses(params: Any, outputs: Any, applied: Any, example: Any) -> Any:
        return parts.objective(params, outputs, applied, example)[0]

    def update(params: Any, opt_state: Any) -> Any:
        updates, opt_state = transformation.update(params, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    views, gradient = in_mesh(parts.make_views), in_mesh(jax.grad(losses, argnums=(0, 1)))
    mels, applied = views(batch)
    seen = state.params, mels, applied, batch["example"]
    contrasted = state.params, in_mesh(model)(*seen), applied, batch["example"]
    calls: dict[str, Any] = {
        VIEWS: (views, (batch,)),
        MODEL_FORWARD: (in_mesh(model), seen),
        MODEL: (in_mesh(pull), (*seen, gradient(*contrasted)[1])),
        LOSSES_FORWARD: (in_mesh(losses), contrasted),
        LOSSES: (gradient, contrasted),
        OPTIMISER: (jax.jit(update), (state.params, state.opt_state)),
    }

    def once(function: Any, arguments: Any) -> Any:
        return lambda: jax.block_until_ready(function(*arguments))

    timed: dict[tuple[str, int], Any] = {
        (name, clips): (1, once(*call)) for name, call in calls.items()
    }
    in_parts = dataclasses.replace(
        recipe, training=dataclasses.replace(recipe.training, micro_batches=MICRO_BATCHES)
    )
    whole = {name: bare.Bare(one, mesh) for name, one in {STEP: recipe, IN_PARTS: in_parts}.items()}
    timed |= {(name, clips): (1, one.take) for name, one in whole.items()}
    measured = measure("step", timed, 1 if quick else REPETITIONS)
    milliseconds = {name: value[str(clips)] for name, value in measured.items()}
    return {
        "clips": clips,
        "views": recipe.views.number,
        "steps_per_second": 1000 / milliseconds[STEP],
        "milliseconds": milliseconds,
        "share": {name: value / milliseconds[STEP] for name, value in milliseconds.items()},
        "working_megabytes": {name: one.working_bytes / 1e6 for name, one in whole.items()},
    }
