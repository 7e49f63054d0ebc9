"""Scaling: the step of one chip among 4 and among 256, by the TPU compiler's count.

Nothing runs on a TPU, and this is an estimate: the cycles that the compiler (libtpu) expects of the
program of one chip, each chip having equally many clips. What grows with the number of chips is in
it, above all that rows are contrasted with those of all others; waiting for each other is not, and
what crosses chips as far as the compiler counts it. So the bytes that cross stand beside.

    pip install -e '.[tpu]'
    python launch/benchmark.py --only=scaling
"""

from __future__ import annotations

import importlib.metadata
import math
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from loev_jax import collectives, config, fsdp, presets, step, topology
from loev_jax.benchmark import cycles
from loev_jax.data.progress import Progress

TOPOLOGIES = ("v5e:2x2", "v5e:16x16")
QUICK_TOPOLOGIES = ("v5e:2x2", "v5e:2x4")

RECIPES = ("small", "resnet")
"""Variants of `configs/loev_tempo_pitch.py`: what two cores train, and what a pod does."""

CLIPS, QUICK_CLIPS = 8, 1
"""Of each chip."""

HEADS = {"tempo": "time_stretch", "pitch": "pitch_shift"}


def run(out: Path, quick: bool) -> dict[str, Any]:
    """Compiles the step of `RECIPES` for every topology.

    Args:
        out: an existing directory; nothing is written to it.
        quick: the small recipe on two small topologies and a compiler in a hurry, whose cycles mean
            nothing.

    Returns:
        `estimated_efficiency` of each recipe, the cycles among the fewest chips over those among
        the most;
        and for each recipe and topology the million cycles of a chip, and the megabytes that it
        exchanges.

    Raises:
        UserError: libtpu is not installed, or does not compile.
    """
    del out
    topology.check_compiler()
    names = QUICK_TOPOLOGIES if quick else TOPOLOGIES
    recipes = RECIPES[:1] if quick else RECIPES
    progress = Progress("TPU compilations", len(names) * len(recipes), "programs")
    counted: dict[str, dict[str, float]] = {}
    for variant in recipes:
        for name in names:
            progress.update(len(counted))
            what = f"{variant}, {name}"
            counted[what] = topology.apart(__name__, [variant, name, quick], f"scaling: {what}")
    progress.close()
    few, many = names
    return {
        "estimated_efficiency": {
            variant: counted[f"{variant}, {few}"]["million cycles"]
            / counted[f"{variant}, {many}"]["million cycles"]
            for variant in recipes
        },
        "from": few,
        "to": many,
        "clips a chip": QUICK_CLIPS if quick else CLIPS,
        "libtpu": importlib.metadata.version("libtpu"),
        "chip": counted,
    }


def _count(request: tuple[str, str, bool]) -> dict[str, float]:
    """Compiles a step for a topology: what one chip does, and the seconds that it took."""
    variant, name, quick = request
    start = time.monotonic()
    mesh = fsdp.make_mesh(topology.devices(name))
    settings = presets.recipe(variant, HEADS)
    clips = settings.training.clips = mesh.size * (QUICK_CLIPS if quick else CLIPS)
    recipe = config.read(settings)
    batch = {
        "audio": jax.ShapeDtypeStruct((clips, recipe.views.window_samples), jnp.int16),
        "example": jax.ShapeDtypeStruct((clips,), jnp.uint32),
    }
    jitted: Any = step.make(recipe, mesh)
    arguments = (step.abstract(recipe, mesh), topology.on(batch, step.split_over(mesh)))
    options = {"exec_time_optimization_effort": -1.0} if quick else None
    lowered = jitted.trace(*arguments).lower(lowering_platforms=("tpu",))
    text = lowered.compile(options).as_text()
    crossing = collectives.read(text)
    return {
        "million cycles": cycles.count(text)["all"] / 1e6,
        "collectives": len(crossing),
        "megabytes exchanged": sum(one.bytes for one in crossing) / 1e6,
        "compiled in s": math.ceil(time.monotonic() - start),
    }


if __name__ == "__main__":
    topology.answer(_count)
