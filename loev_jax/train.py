"""The training loop: restores or starts a run, steps to its end, logs and saves on the way.

Resuming needs no data state: the order of clips and every random draw are functions of
(seed, step, global example), so a run continues from its newest checkpoint on any mesh.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import jax
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from loev_jax import checkpoint, cluster, config, errors, fsdp, run_config, warm_start
from loev_jax import step as steps
from loev_jax.checkpoint import Checkpoints
from loev_jax.config import Recipe
from loev_jax.data import pipeline, processes
from loev_jax.data.records import Split, open_split
from loev_jax.errors import UserError
from loev_jax.monitor import inspection
from loev_jax.monitor.log import Log
from loev_jax.monitor.pace import Pace
from loev_jax.monitor.profiler import Profiler

DONE = "DONE"


@contextmanager
def _claimed(workdir: Path) -> Iterator[None]:
    """Keeps a directory to this process. Raises UserError where it cannot, or cannot be made."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = (workdir / ".lock").open("w")
    except OSError as error:
        raise UserError(
            f"--workdir={workdir}: cannot be written ({error.strerror}); make room for it, or "
            "choose another directory"
        ) from error
    with file as lock:
        processes.lock(lock, f"{workdir}: another process is training in it; wait for it")
        yield


def _source(recipe: Recipe, clips: Split, mesh: Mesh) -> Callable[[int], Iterator[steps.Batch]]:
    """Global batches on the device, from any step on; bad data is told at once."""
    devices, size, parts = mesh.size, recipe.training.clips, recipe.training.micro_batches
    unit, what = steps.unit(recipe, devices), f"the {devices} devices"
    if parts > 1:
        what += f" times config.training.micro_batches={parts}"
    if recipe.views.augmentations.mixes:
        what += " and in pairs to be mixed"
    if size % unit:
        raise UserError(
            f"config.training.clips: {size} is not divisible by {what}; "
            f"try {size // unit * unit or unit}"
        )
    from_step = functools.partial(
        pipeline.batches,
        clips,
        seed=recipe.seed,
        batch_size=size,
        window_samples=recipe.views.window_samples,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        threads=recipe.data.threads,
        prefetch=recipe.data.prefetch,
    )
    from_step(start_step=0)  # whatever is wrong with it is better known now

    def batches(first_step: int) -> Iterator[steps.Batch]:
        for batch in from_step(start_step=first_step):
            yield steps.to_device(batch["audio"], batch["example"], mesh)

    return batches


def train(settings: ConfigDict, workdir: Path) -> int:
    """Trains until a config's last step, resuming from the newest checkpoint in `workdir`.

    Nothing is written before the config, the directory and the data are known to be good.

    Args:
        settings: the config, as in `loev_jax.config.default()`.
        workdir: gets `config.json`, `data.json`, `checkpoints/`, `train/` (events),
            `metrics.jsonl` and, at the end, `DONE`.

    Returns:
        0, or 128 + the number of the signal that stopped it, after saving.

    Raises:
        UserError: a bad config, a directory of another run, a data set that is missing or does not
            fit, or a batch that does not divide over the devices or fit their memory.
        NonFiniteLossError: too many steps in a row were skipped; the last checkpoint stays.
        SaveError: the last checkpoint of this run, or before a signal, could not be written.
    """
    recipe = config.read(settings)
    run_config.check(settings, workdir)
    cluster.check_same(json.dumps(settings.to_dict(), sort_keys=True), "--config")
    first = cluster.agreed(max(checkpoint.steps(workdir), default=0))
    mesh = fsdp.make_mesh(shards=recipe.training.fsdp)
    clips = open_split(recipe.data.path, recipe.data.split)
    run_config.check_data(clips, workdir)
    source = _source(recipe, clips, mesh)
    warm = warm_start.read(recipe.start, recipe) if recipe.start.path and not first else None
    primary = jax.process_index() == 0
    with _claimed(workdir) if primary else nullcontext():
        if primary:
            run_config.save(settings, workdir)
            run_config.save_data(clips, workdir)
        status = 0
        # What says so itself is believed; else the last checkpoint is looked at once more.
        if not (first >= recipe.training.steps and cluster.agreed((workdir / DONE).exists())):
            keep = recipe.training.keep_checkpoints
            with Checkpoints(workdir, keep) as checkpoints, _fitting(recipe):
                if newest := checkpoints.newest(steps.abstract(recipe, mesh)):
                    first, state = newest
                    logging.info("resumed from step %d", first)
                else:
                    state = steps.init(recipe, mesh)
                    state = state if warm is None else _warmed(state, warm, recipe)
                if first < recipe.training.steps:
                    status = _loop(recipe, workdir, mesh, state, first, source(first), checkpoints)
        if first >= recipe.training.steps:
            logging.info("%s has its %d steps already", workdir, first)
        if status == 0 and primary:
            # Also where a kill came between the last checkpoint and this line.
            (workdir / DONE).write_text(f"{recipe.training.steps}\n")
    return status


@contextmanager
def _fitting(recipe: Recipe) -> Iterator[None]:
    """Tells in one line where a step is too large for a device."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        training = recipe.training
        raise UserError(
            f"config.training.clips: {training.clips} do not fit the memory of "
            f"{jax.device_count()} devices ({errors.reason(error)}); try "
            f"config.training.micro_batches={2 * training.micro_batches} or fewer clips; "
            "launch/compile.py tells what fits TPUs"
        ) from error


def _warmed(state: steps.State, given: warm_start.Flat, recipe: Recipe) -> steps.State:
    """A fresh state with the parameters of another model, as far as they fit."""
    where = recipe.start.path
    taken, drawn = warm_start.fit(recipe.model, state.params, given, where)
    logging.info(
        "start: %d of %d parameters from %s; drawn: %s",
        len(taken), len(jax.tree.leaves(state.params)), where, ", ".join(drawn) or "none",
    )  # fmt: skip
    params, average = (warm_start.put(tree, taken) for tree in (state.params, state.average))
    return state._replace(params=params, average=average)


def _loop(
    recipe: Recipe,
    workdir: Path,
    mesh: Mesh,
    state: steps.State,
    first: int,
    batches: Iterator[steps.Batch],
    checkpoints: Checkpoints,
) -> int:
    """Steps from `first` to the end; returns as `train` does."""
    total, every = recipe.training.steps, recipe.training.checkpoint_every
    log = Log(recipe, workdir, first)
    _describe(recipe, state)
    train_step, inspect = steps.make(recipe, mesh), inspection.make(recipe, mesh)
    pace, profiler = Pace(recipe, mesh.size), Profiler(workdir)
    status = 0
    with cluster.stop_on_signal() as stop:
        for step in range(first + 1, total + 1):
            profiler.before(step)
            with jax.profiler.StepTraceAnnotation("train", step_num=step):
                batch = pace.next_of(batches)
                state, metrics = train_step(state, batch)
            seen = inspect(state.params, batch) if _is_inspected(recipe, step) else None
            profiler.after(step, metrics)
            pace.step(metrics)
            log(step, metrics, pace, seen)
            received = stop(step)
            last = step == total or bool(received)
            if step % every == 0 or last:
                _save(log, checkpoints, step, state)
            if last:
                checkpoints.finish()
            if received and step < total:
                logging.warning("signal %d: saved step %d and leaving", received, step)
                status = 128 + received
                break
    profiler.close()
    pace.close()
    log.close()
    return status


def _is_inspected(recipe: Recipe, step: int) -> bool:
    """Whether some views of a step are looked at: of the first, and then now and then."""
    every = recipe.training.inspect_every
    return every > 0 and (step == 1 or step % every == 0)


def _save(log: Log, checkpoints: Checkpoints, step: int, state: steps.State) -> None:
    """Saves, if the metrics could be; what cannot be saved now is tried at the next checkpoint."""
    failure: OSError | None = None
    try:
        log.sync()
    except OSError as error:
        failure = error
    # Process 0 alone has the metrics' file, but saving takes all.
    if cluster.any_of(failure is not None):
        checkpoints.give_up(step, failure or OSError("process 0 could not write the metrics"))
    else:
        checkpoints.save(step, state)


def _describe(recipe: Recipe, state: steps.State) -> None:
    """Logs what is trained: the table of parameters, the batch and the devices."""
    from clu import parameter_overview

    # Of shards there is how they lie, and no mean: no process has all of them.
    stats = "sharding" if recipe.training.fsdp > 1 else True
    logging.info("%s", parameter_overview.get_parameter_overview(state.params, include_stats=stats))
    logging.info(
        "%d devices, %d clips x %d views of %.2f s a step, windows of %.2f s",
        jax.device_count(),
        recipe.training.clips,
        recipe.views.number,
        recipe.views.seconds,
        recipe.views.window_samples / recipe.views.frontend.sample_rate,
    )
