"""Runs of several processes on this machine, started, awaited and compared."""

import json
import shutil
import subprocess
import sys
import time

import entry_point
import jax
import numpy as np
from tiny_training import command

from loev_jax import checkpoint, fsdp, run_config, step

FEW = 10
MORE = 40


def devices_of(count):
    """An environment in which a process has so many devices."""
    flags = entry_point.environment()["XLA_FLAGS"]
    return {"XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={count}"}


def one(number, count, port, arguments, cwd=entry_point.ROOT, more=None):
    """One of `count` processes, with a device of its own and its output in one text."""
    cluster = (f"--coordinator=localhost:{port}", f"--processes={count}", f"--process={number}")
    if count == 1:
        cluster = ()
    return subprocess.Popen(
        [sys.executable, *arguments, *cluster],
        cwd=cwd,
        env=entry_point.environment() | (more or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def start(count, arguments, more=None):
    """`count` processes of one run, with `more` in their environment."""
    port = entry_point.free_port()
    return [one(number, count, port, arguments, more=more) for number in range(count)]


def ended(processes, seconds=200):
    """Statuses and outputs of processes, which must end."""
    try:
        outputs = [process.communicate(timeout=seconds)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], outputs


def metrics(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def state(workdir, last):
    recipe, mesh = run_config.load(workdir), fsdp.make_mesh(jax.devices()[:1])
    with checkpoint.Checkpoints(workdir, keep=0) as checkpoints:
        return jax.device_get(checkpoints.restore(last, step.init(recipe, mesh)))


def assert_close(workdir, other):
    """Two runs are the same to rounding, at every step and in the end."""
    for mine, theirs in zip(metrics(workdir), metrics(other), strict=True):
        assert mine.keys() == theirs.keys()
        np.testing.assert_allclose(
            [*mine.values()], [*theirs.values()], rtol=1e-4, atol=1e-6, err_msg=str(mine["step"])
        )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
        state(workdir, FEW).params,
        state(other, FEW).params,
    )


def short(workdir, corpus, steps=FEW, checkpoint_every=2):
    # Not Adam, which makes much of gradients that are but rounding.
    return command(
        workdir,
        corpus,
        f"--config.training.steps={steps}",
        "--config.training.clips=8",  # as many as there are devices at most
        f"--config.training.checkpoint_every={checkpoint_every}",
        "--config.training.log_every=1",
        "--config.training.inspect_every=5",
        "--config.optimizer.name=sgd",
        "--config.optimizer.learning_rate=0.05",
        "--config.optimizer.warmup_steps=1",
    )


def longer(workdir, corpus):
    """One that something can happen to before it ends."""
    return short(workdir, corpus, MORE, 4)


def cut_back(workdir, last):
    """A run as it was after step `last`, its metrics included that a kill would leave behind."""
    for step_ in checkpoint.steps(workdir):
        if step_ > last:
            shutil.rmtree(workdir / "checkpoints" / str(step_))
    (workdir / "DONE").unlink()


def wait_for(found, processes, seconds=200):
    """Waits for what running processes are to bring about."""
    deadline = time.monotonic() + seconds
    while not found():
        if time.monotonic() > deadline or any(one.poll() is not None for one in processes):
            for process in processes:
                process.kill()
            raise AssertionError(f"it never came: {ended(processes)}")
        time.sleep(0.1)
