"""Cycles: what augmentation and the front end take of a training step on a TPU v5e chip.

Nothing runs on a TPU. Its compiler (libtpu) is asked for one chip of a v5e, and the cycles that it
estimates are read from the program it made: those of the entry computation, and those of a loop's
body as often as the loop goes round. An instruction without an estimate counts nothing.

    pip install -e '.[tpu]'
    python launch/benchmark.py --only=cycles

Each program is compiled in a process of its own (`loev_jax.topology`).
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp

from loev_jax import config, frontend, fsdp, hlo, presets, step, topology
from loev_jax.augment import analysis, frames, views
from loev_jax.data.progress import Progress
from loev_jax.encoders.encoder import Settings as Encoder
from loev_jax.encoders.nfnet import Nfnet
from loev_jax.encoders.resnet import Resnet

CLIPS, QUICK_CLIPS = 32, 2
TOPOLOGY = "v5e:1x1"

VIEWS, STEP = "views: analysis domain", "training step"

ENCODERS: dict[str, tuple[Encoder, Encoder]] = {
    f"{STEP}: sf_nfnet_f0": (Nfnet(), Nfnet(depths=(1, 1, 1, 1))),
    f"{STEP}: resnet 50": (Resnet(depth=50), Resnet(depth=18)),
}
"""The encoder of each step, and the one that stands for it in a hurry."""


def run(out: Path, quick: bool) -> dict[str, Any]:
    """Compiles every program and compares.

    Args:
        out: an existing directory; nothing is written to it.
        quick: few clips, a small encoder and a compiler in a hurry, whose figures mean nothing.

    Returns:
        `share`, the cycles of augmentation and front end over those of each step; `million_cycles`
        of each program and how many of them lie in loops.

    Raises:
        UserError: libtpu is not installed, or does not compile.
    """
    del out
    topology.check_compiler()
    clips = QUICK_CLIPS if quick else CLIPS
    names = (*PROGRAMS, *ENCODERS)
    progress = Progress("TPU compilations", len(names), "programs")
    counted = {}
    for number, name in enumerate(names):
        progress.update(number)
        counted[name] = topology.apart(__name__, [name, clips, quick], f"cycles: {name}")
    progress.close()
    return {
        "share": {step: counted[VIEWS]["all"] / counted[step]["all"] for step in ENCODERS},
        "chip": TOPOLOGY,
        "libtpu": importlib.metadata.version("libtpu"),
        "clips": clips,
        "rows": clips * _recipe(clips).views.number,
        "million_cycles": {
            name: {
                "all": count["all"] / 1e6,
                "in loops": count["loops"] / 1e6,
                "compiled in s": count["seconds"],
            }
            for name, count in counted.items()
        },
    }


def count(text: str) -> dict[str, int]:
    """The cycles that the TPU compiler estimates of an optimised program.

    Args:
        text: of the program.

    Returns:
        `all` of them, and those in `loops`.

    Raises:
        ValueError: as `hlo.times`.
    """
    often = hlo.times(text)
    cycles = {
        name: often[name] * sum(map(int, re.findall(r'"estimated_cycles":"(\d+)"', lines)))
        for name, lines in hlo.computations(text).items()
    }
    whole = sum(cycles.values())
    return {"all": whole, "loops": whole - cycles[hlo.entry(text)]}


def _recipe(clips: int) -> config.Recipe:
    """The full recipe of configs/loev_tempo_pitch.py, of `clips` a step."""
    heads = {"tempo": "time_stretch", "pitch": "pitch_shift"}
    full = config.read(presets.recipe("", heads))
    return dataclasses.replace(full, training=dataclasses.replace(full.training, clips=clips))


Program = tuple[Callable[..., Any], tuple[jax.ShapeDtypeStruct, ...]]
"""A function and the shapes of its arguments."""


def _frames_at_a_hop(recipe: config.Recipe, power: Callable[..., jax.Array]) -> Program:
    spec, rows = recipe.views.frontend, recipe.training.clips * recipe.views.number

    def spectra(audio: jax.Array) -> jax.Array:
        window = frontend.hann(spec.window, jnp.full((1, 1), spec.window, jnp.float32))
        cut = frontend.hop_frames(audio, spec.window, spec.hop, recipe.views.frames) * window
        return power(cut, spec.n_fft)

    samples = spec.samples(recipe.views.frames)
    return spectra, (jax.ShapeDtypeStruct((rows, samples), jnp.float32),)


def _frames_anywhere(recipe: config.Recipe, power: Callable[..., jax.Array]) -> Program:
    made = recipe.views
    spec, rows = made.frontend, recipe.training.clips * made.number
    length = analysis.span(spec, made.window_scale[1])

    def spectra(audio: jax.Array, starts: jax.Array, width: jax.Array) -> jax.Array:
        windows = frames.windows(width, length, spec.window)
        return power(audio, starts, windows, n_fft=spec.n_fft)

    return spectra, (
        jax.ShapeDtypeStruct((rows, made.source_samples), jnp.float32),
        jax.ShapeDtypeStruct((rows, made.frames), jnp.int32),
        jax.ShapeDtypeStruct((rows,), jnp.float32),
    )


def _log_mel(recipe: config.Recipe) -> Program:
    spec, rows = recipe.views.frontend, recipe.training.clips * recipe.views.number
    samples = spec.samples(recipe.views.frames)
    argument = jax.ShapeDtypeStruct((rows, samples), jnp.float32)
    return functools.partial(frontend.log_mel, spec), (argument,)


def _batch(recipe: config.Recipe) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    clips = recipe.training.clips
    audio = jax.ShapeDtypeStruct((clips, recipe.views.window_samples), jnp.int16)
    return audio, jax.ShapeDtypeStruct((clips,), jnp.uint32)


def _views(recipe: config.Recipe, domain: Literal["analysis", "waveform"]) -> Program:
    made = dataclasses.replace(recipe.views, domain=domain)
    recipe = dataclasses.replace(recipe, views=made)

    def make(audio: jax.Array, example: jax.Array) -> Any:
        return views.make(made, jax.random.key(recipe.seed), audio, example)

    return make, _batch(recipe)


PROGRAMS: dict[str, Callable[[config.Recipe], Program]] = {
    "spectra at a hop: FFT": lambda recipe: _frames_at_a_hop(recipe, frontend.power_by_fft),
    "spectra at a hop: products": lambda recipe: _frames_at_a_hop(recipe, frontend.power_by_matmul),
    "spectra anywhere: slices, FFT": lambda recipe: _frames_anywhere(
        recipe, frames.power_by_slices
    ),
    "spectra anywhere: products": lambda recipe: _frames_anywhere(recipe, frames.power_by_rows),
    "log-mel": _log_mel,
    VIEWS: lambda recipe: _views(recipe, "analysis"),
    "views: waveform domain": lambda recipe: _views(recipe, "waveform"),
}
"""What makes each program but the steps, which bring their own sharding."""


def _count(request: tuple[str, int, bool]) -> dict[str, float]:
    """Compiles a program for a TPU: its `count`, and the seconds that it took."""
    name, clips, quick = request
    start = time.monotonic()
    recipe = _recipe(clips)
    mesh = fsdp.make_mesh(topology.devices(TOPOLOGY))
    if name in ENCODERS:
        model = dataclasses.replace(recipe.model, encoder=ENCODERS[name][quick])
        recipe = dataclasses.replace(recipe, model=model)
        batch = dict(zip(("audio", "example"), _batch(recipe), strict=True))
        jitted: Any = step.make(recipe, mesh)
        arguments = (
            step.abstract(recipe, mesh),
            topology.on(batch, step.split_over(mesh)),
        )
    else:
        function, shapes = PROGRAMS[name](recipe)
        jitted, arguments = jax.jit(function), topology.on(shapes, step.split_over(mesh))
    # At low effort it takes a fraction of the time and says nothing of speed.
    options = {"exec_time_optimization_effort": -1.0} if quick else None
    compiled = jitted.trace(*arguments).lower(lowering_platforms=("tpu",)).compile(options)
    return {**count(compiled.as_text()), "seconds": math.ceil(time.monotonic() - start)}


if __name__ == "__main__":
    topology.answer(_count)
