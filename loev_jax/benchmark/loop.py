"""What a run costs beside its steps: the loop around them, checkpoints, and the start.

`configs/loev_tempo.py:small` on clips of noise, trained as a user trains it. Every few steps that
training is stopped where it is, and the same compiled step, fed with one batch, takes a turn, so
that both are timed within seconds of each other on a machine whose pace drifts over minutes. The
loop's time is read from the clock in its event files. Each turn is compared with the steps of the
loop just before it, and the median of these ratios is reported, with its interval. The time that
processors worked is compared too: what others take of a machine is not in it, and waiting is not
either.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import psutil
import soundfile as sf

from loev_jax import config, fsdp, presets
from loev_jax import step as steps
from loev_jax.benchmark import bare
from loev_jax.checkpoint import Checkpoints
from loev_jax.data import folder
from loev_jax.data.progress import Progress
from loev_jax.errors import UserError
from loev_jax.monitor.writers import FILE

ROOT = Path(__file__).parents[2]
CONFIG, LOOP = "configs/loev_tempo.py:small", "loop"
HEADS = {"tempo": "time_stretch"}

TURNS, EVERY, WARM = 30, 5, 3
"""Turns of the bare step; the steps of one, also from one line of the loop's to the next; and the
lines before the first turn: the first is that of a step with a look at its views."""

SAVES, RESAMPLES = 6, 2000

CLIPS, SECONDS = 64, 30.0


def run(out: Path, quick: bool) -> dict[str, Any]:
    """Trains and times.

    Args:
        out: not used, there is no plot.
        quick: two clips a step, few steps, once.

    Returns:
        `loop_over_bare`, the median over turns, and its 95 % interval, `loop_over_bare_low` and
        `loop_over_bare_high`; `work_over_bare`, of the time of processors; `step_milliseconds` and
        `step_processor_milliseconds` of both; `save_share`, what a checkpoint adds to the steps
        around it over the default interval between two, and its `save_milliseconds`;
        `start_seconds`, to the metrics of the first step, from a cold and a warm program cache.
    """
    del out
    turns = 2 if quick else TURNS
    settings = presets.recipe("small", HEADS)
    settings.training.clips = 2 if quick else settings.training.clips
    recipe = config.read(settings)
    progress = Progress("loop", turns + 3, "turns")
    done = iter(range(1, turns + 4))
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
        mesh = fsdp.make_mesh(jax.devices()[:1])
        bare_steps = functools.partial(bare.Bare(recipe, mesh).take, EVERY)
        bare_steps()  # the first are slower
        taken = []
        for turn in _turns(root, bare_steps, given, turns):
            taken.append(turn)
            progress.update(next(done))
        lines = _lines(root)
        saving = _saving(bare_steps, steps.init(recipe, mesh), root, 1 if quick else SAVES)
        progress.update(next(done))
    progress.close()
    in_loop, alone = np.array(_seconds(lines, taken)), np.array([turn.seconds for turn in taken])
    step = {"bare": _quartiles(alone), "in the loop": _quartiles(in_loop)}
    low, high = _interval(in_loop / alone)
    work = {
        "bare": statistics.fmean(turn.work for turn in taken),
        "in the loop": _work(lines, taken),
    }
    every = recipe.training.checkpoint_every
    return {
        "clips": recipe.training.clips,
        "views": recipe.views.number,
        "loop_over_bare": float(np.median(in_loop / alone)),
        "loop_over_bare_low": low,
        "loop_over_bare_high": high,
        "work_over_bare": work["in the loop"] / work["bare"],
        "step_milliseconds": step,
        "step_processor_milliseconds": {name: 1000 * seconds for name, seconds in work.items()},
        "save_share": 1000 * saving / (every * step["bare"]["median"]),
        "save_milliseconds": 1000 * saving,
        "checkpoint_every": every,
        "start_seconds": started,
    }


def _interval(ratios: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of a median, by a bootstrap over turns."""
    drawn = np.random.default_rng(0).choice(ratios, (RESAMPLES, len(ratios)))
    low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
    return float(low), float(high)


def _quartiles(seconds: np.ndarray) -> dict[str, float]:
    """Quartiles in milliseconds."""
    values = 1000 * np.quantile(seconds, (0.25, 0.5, 0.75))
    return dict(zip(("lower", "median", "upper"), values.tolist(), strict=True))


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


@dataclasses.dataclass(frozen=True)
class Turn:
    """One turn of the bare step.

    Attributes:
        moment: when training was stopped for it, by the clock of events.
        spent: seconds that processors had worked for the training until then.
        seconds: of a bare step.
        work: seconds that processors worked for it.
    """

    moment: float
    spent: float
    seconds: float
    work: float


def _turns(
    root: Path, take: Callable[[], None], given: Sequence[str], turns: int
) -> Iterator[Turn]:
    """Trains, and lets the bare step take turns with it.

    Training writes a line every `EVERY` steps. It is stopped after the second line of a turn, so
    that it was not stopped between the two.

    Raises:
        UserError: the training ended.
    """
    length = (f"--config.training.steps={10**6}", f"--config.training.log_every={EVERY}")
    training = _train(root, LOOP, given, *length)
    process = psutil.Process(training.pid)
    try:
        _await(root, training, WARM)
        for _ in range(turns):
            _await(root, training, 2)
            process.suspend()
            moment, spent = time.time(), sum(process.cpu_times()[:2])
            begin, worked = time.perf_counter(), time.process_time()
            take()
            seconds, work = time.perf_counter() - begin, time.process_time() - worked
            yield Turn(moment, spent, seconds / EVERY, work / EVERY)
            process.resume()
    finally:
        if training.poll() is None:
            process.resume()
        training.terminate()  # it closes its event files
        training.wait()


def _await(root: Path, training: subprocess.Popen[bytes], more: int) -> None:
    """Waits until a run has written some more lines. Raises UserError where it ended."""
    metrics = root / LOOP / FILE

    def written() -> int:
        return metrics.read_bytes().count(b"\n") if metrics.exists() else 0

    enough = written() + more
    while written() < enough:
        if training.poll() is not None:
            _end(training, root, LOOP)
            raise UserError(f"benchmark loop: training ended after {written()} lines")
        time.sleep(0.1)  # on the cores that are timed


def _lines(root: Path) -> list[tuple[float, int]]:
    """When each line of the loop was written, and its step."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(root / LOOP / "train"), size_guidance={"tensors": 0})
    events.Reload()
    return [(event.wall_time, event.step) for event in events.Tensors("loss")]


def _seconds(lines: Sequence[tuple[float, int]], taken: Sequence[Turn]) -> list[float]:
    """Seconds of a step of the loop between its last two lines before each turn."""
    seconds = []
    for turn in taken:
        (start, first), (end, last) = [line for line in lines if line[0] <= turn.moment][-2:]
        seconds.append((end - start) / (last - first))
    return seconds


def _work(lines: Sequence[tuple[float, int]], taken: Sequence[Turn]) -> float:
    """Seconds that processors worked for a step of the loop, from the first turn to the last."""
    first, last = (
        max(step for moment, step in lines if moment <= turn.moment)
        for turn in (taken[0], taken[-1])
    )
    return (taken[-1].spent - taken[0].spent) / (last - first)


def _saving(take: Callable[[], None], state: steps.State, root: Path, rounds: int) -> float:
    """Median seconds that a checkpoint adds to the `EVERY` steps during which it is written."""
    added = []
    for number in range(1, rounds + 2):
        with Checkpoints(root / "saved", keep=1) as checkpoints:  # leaving it waits for the disk
            begin = time.perf_counter()
            take()
            middle = time.perf_counter()
            checkpoints.save(number, state)
            take()
            added.append((time.perf_counter() - middle) - (middle - begin))
    return statistics.median(added[1:])  # the first also starts threads
