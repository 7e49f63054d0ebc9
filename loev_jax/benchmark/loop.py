"""What a run costs beside its steps: the loop around them, checkpoints, and the start.

`configs/loev_tempo.py:small` on clips of noise, trained as a user trains it. The loop's time is
read from the clock in its event files, and compared with the same compiled step fed with one batch,
in turn with it.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import soundfile as sf

from loev_jax import config, fsdp, presets
from loev_jax import step as steps
from loev_jax.checkpoint import Checkpoints
from loev_jax.config import Recipe
from loev_jax.data import folder
from loev_jax.data.progress import Progress
from loev_jax.errors import UserError
from loev_jax.monitor.writers import FILE

ROOT = Path(__file__).parents[2]
CONFIG = "configs/loev_tempo.py:small"
HEADS = {"tempo": "time_stretch"}

ROUNDS, STEPS, EVERY = 5, 50, 5
"""Alternations of bare step and loop, the steps of each, and steps from one time to the next."""

CLIPS, SECONDS = 64, 30.0


def run(out: Path, quick: bool) -> dict[str, Any]:
    """Trains and times.

    Args:
        out: not used, there is no plot.
        quick: two clips a step, few steps, once.

    Returns:
        `loop_over_bare`; `step_milliseconds` of both; `save_share`, what a checkpoint adds to the
        steps around it over the default interval between two, and its `save_milliseconds`;
        `start_seconds`, to the metrics of the first step, from a cold and a warm program cache.
    """
    del out
    rounds, number = (1, 2 * EVERY) if quick else (ROUNDS, STEPS)
    settings = presets.recipe("small", HEADS)
    settings.training.clips = 2 if quick else settings.training.clips
    recipe = config.read(settings)
    progress = Progress("loop", 2 * rounds + 3, "runs")
    done = iter(range(1, 2 * rounds + 4))
    with tempfile.TemporaryDirectory(prefix="loev_jax_loop_") as place:
        root = Path(place)
        given = (
            f"--config.data.path={_noise(root)}",
            f"--config.training.clips={recipe.training.clips}",
        )
        started = {}
        for name in ("cold", "warm"):
            started[name] = _start(root, name, given)
            progress.update(next(done))
        bare_steps = _bare(recipe)
        seconds: dict[str, list[float]] = {"bare": [], "loop": []}
        for at in range(rounds):
            seconds["bare"].append(_median(bare_steps, number))
            progress.update(next(done))
            seconds["loop"].append(_loop(root, at, number, given))
            progress.update(next(done))
        saving = _saving(bare_steps, recipe, root, rounds)
        progress.update(next(done))
    progress.close()
    bare, loop = (statistics.median(seconds[name]) for name in ("bare", "loop"))
    every = recipe.training.checkpoint_every
    return {
        "clips": recipe.training.clips,
        "views": recipe.views.number,
        "loop_over_bare": statistics.median(np.divide(seconds["loop"], seconds["bare"])),
        "step_milliseconds": {"bare": 1000 * bare, "in the loop": 1000 * loop},
        "save_share": saving / (every * bare),
        "save_milliseconds": 1000 * saving,
        "checkpoint_every": every,
        "start_seconds": started,
    }


def _noise(root: Path) -> Path:
    """A data set of noise."""
    audio, made = root / "audio", root / "data"
    audio.mkdir()
    random = np.random.default_rng(0)
    for number in range(CLIPS):
        noise = random.normal(0, 0.1, int(SECONDS * 16_000)).astype(np.float32)
        sf.write(audio / f"{number}.wav", noise, 16_000)
    folder.prepare(audio, made, clip_seconds=SECONDS)
    return made


def _train(root: Path, name: str, given: Sequence[str], *more: str) -> subprocess.Popen[bytes]:
    """Training in `root/name`, in a process of its own; what it says goes to `root/name.log`."""
    command = (sys.executable, str(ROOT / "launch" / "train.py"), f"--config={ROOT / CONFIG}")
    with (root / f"{name}.log").open("w") as log:
        return subprocess.Popen(
            [*command, f"--workdir={root / name}", *given, *more],
            env=os.environ | {"JAX_COMPILATION_CACHE_DIR": str(root / "programs")},
            stdout=log,
            stderr=log,
        )


def _end(process: subprocess.Popen[bytes], root: Path, name: str) -> None:
    """Waits for a training. Raises UserError where it failed."""
    if process.wait():
        said = (root / f"{name}.log").read_text().strip().splitlines()
        raise UserError(f"benchmark loop: training failed: {said[-1] if said else 'no word'}")


def _start(root: Path, name: str, given: Sequence[str]) -> float:
    """Seconds from the command to the metrics of the first step."""
    begin = time.perf_counter()
    # The look at step 1 comes after the step, and before its line.
    first = (
        "--config.training.steps=1",
        "--config.training.log_every=1",
        "--config.training.inspect_every=0",
    )
    process = _train(root, name, given, *first)
    metrics = root / name / FILE
    while process.poll() is None and not (metrics.exists() and metrics.stat().st_size):
        time.sleep(0.05)
    seconds = time.perf_counter() - begin
    _end(process, root, name)
    return seconds


def _loop(root: Path, at: int, number: int, given: Sequence[str]) -> float:
    """Median seconds of a step in a run of `number` steps, by the clock in its events."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    name = f"loop {at}"
    length = (f"--config.training.steps={number + EVERY}", f"--config.training.log_every={EVERY}")
    _end(_train(root, name, given, *length), root, name)
    events = EventAccumulator(str(root / name / "train"), size_guidance={"tensors": 0})
    events.Reload()
    # Steps with a look at the views have a line of their own.
    times = [event.wall_time for event in events.Tensors("loss") if event.step % EVERY == 0]
    return float(np.median(np.diff(times))) / EVERY


def _bare(recipe: Recipe) -> Callable[[], None]:
    """Takes `EVERY` steps with one batch that is on the device already."""
    mesh = fsdp.make_mesh(jax.devices()[:1])
    clips, samples = recipe.training.clips, recipe.views.window_samples
    audio = np.random.default_rng(0).normal(0, 3000, (clips, samples)).astype(np.int16)
    batch = steps.to_device(audio, np.arange(clips), mesh)
    train_step, carried = steps.make(recipe, mesh), [steps.init(recipe, mesh)]

    def take() -> None:
        for _ in range(EVERY):
            carried[0], _ = train_step(carried[0], batch)
        jax.block_until_ready(carried[0])

    take()  # compiles
    return take


def _median(take: Callable[[], None], number: int) -> float:
    """Median seconds of a step, of `number`."""
    times = [time.perf_counter()]
    for _ in range(number // EVERY):
        take()
        times.append(time.perf_counter())
    return float(np.median(np.diff(times))) / EVERY


def _saving(take: Callable[[], None], recipe: Recipe, root: Path, rounds: int) -> float:
    """Median seconds that a checkpoint adds to the `EVERY` steps during which it is written."""
    state, added = steps.init(recipe, fsdp.make_mesh(jax.devices()[:1])), []
    for number in range(1, rounds + 2):
        with Checkpoints(root / "saved", keep=1) as checkpoints:  # leaving it waits for the disk
            begin = time.perf_counter()
            take()
            middle = time.perf_counter()
            checkpoints.save(number, state)
            take()
            added.append((time.perf_counter() - middle) - (middle - begin))
    return statistics.median(added[1:])  # the first also starts threads
