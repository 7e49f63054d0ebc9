"""Several processes train as one: equal to one, stopped as one, and none waits for a dead one."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time

import entry_point
import jax
import numpy as np
import pytest
from tiny_training import command

from loev_jax import checkpoint, config, fsdp, step

FEW = 10
MORE = 40


def flags():
    return entry_point.environment()["XLA_FLAGS"]


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
    recipe, mesh = config.load(workdir), fsdp.make_mesh(jax.devices()[:1])
    with checkpoint.Checkpoints(workdir, keep=0) as checkpoints:
        return jax.device_get(checkpoints.restore(last, step.init(recipe, mesh)))


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


@pytest.fixture(scope="module")
def alone(corpus, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("alone") / "run"
    done = entry_point.run(*short(workdir, corpus))
    assert done.returncode == 0, done.stderr
    return workdir


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_several_processes_are_one(alone, corpus, tmp_path, count):
    workdir = tmp_path / "run"
    statuses, outputs = ended(start(count, short(workdir, corpus)))
    assert statuses == [0] * count, outputs
    assert "4 devices" in outputs[0] or count == 2
    together, expected = metrics(workdir), metrics(alone)
    assert [line["step"] for line in together] == list(range(1, FEW + 1))
    for mine, theirs in zip(together, expected, strict=True):
        assert mine.keys() == theirs.keys()
        np.testing.assert_allclose(
            [*mine.values()], [*theirs.values()], rtol=1e-4, atol=1e-6, err_msg=str(mine["step"])
        )
    assert together[-1]["loss"] < 0.99 * together[0]["loss"]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
        state(workdir, FEW).params,
        state(alone, FEW).params,
    )
    assert len(list((workdir / "train").glob("events.out.tfevents.*"))) == 1


def cut_back(workdir, last):
    """A run as it was after step `last`, its metrics included that a kill would leave behind."""
    for step_ in checkpoint.steps(workdir):
        if step_ > last:
            shutil.rmtree(workdir / "checkpoints" / str(step_))
    (workdir / "DONE").unlink()


@pytest.mark.parametrize(
    ("processes", "devices"),
    [
        pytest.param(1, 2, marks=pytest.mark.slow),
        pytest.param(1, 4, marks=pytest.mark.slow),
        pytest.param(1, 8, marks=pytest.mark.slow),
        pytest.param(2, 1, marks=pytest.mark.slow),
    ],
)
def test_a_run_goes_on_elsewhere_and_comes_back(corpus, tmp_path, processes, devices, alone):
    """Some steps on one device, some on others, the rest on one again."""
    workdir = tmp_path / "run"
    shutil.copytree(alone, workdir)
    there = {"XLA_FLAGS": f"{flags()} --xla_force_host_platform_device_count={devices}"}
    for last, count, more in ((4, processes, there), (8, 1, {})):
        cut_back(workdir, last)
        statuses, outputs = ended(start(count, short(workdir, corpus), more))
        assert statuses == [0] * count, outputs
        assert f"resumed from step {last}" in outputs[0]
        assert f"{count * devices if more else 1} devices" in outputs[0]
    for mine, theirs in zip(metrics(workdir), metrics(alone), strict=True):
        np.testing.assert_allclose(
            [*mine.values()], [*theirs.values()], rtol=1e-4, atol=1e-6, err_msg=str(mine["step"])
        )


@pytest.mark.slow
def test_processes_agree_on_the_newest_that_is_whole(corpus, tmp_path, alone):
    """Only one of two finds its part of the newest checkpoint damaged."""
    workdir = tmp_path / "run"
    shutil.copytree(alone, workdir)
    cut_back(workdir, 4)
    statuses, outputs = ended(start(2, short(workdir, corpus)))
    assert statuses == [0, 0], outputs
    cut_back(workdir, 8)
    (part,) = (workdir / "checkpoints/8/params").glob("ocdbt.process_0")
    shutil.rmtree(part)
    statuses, outputs = ended(start(2, short(workdir, corpus)))
    assert statuses == [0, 0], outputs
    assert "checkpoints/8: damaged (" in outputs[0]
    assert all("resumed from step 6" in text for text in outputs)
    assert (workdir / "checkpoints" / "8.damaged").is_dir()
    assert [line["step"] for line in metrics(workdir)] == list(range(1, FEW + 1))


def wait_for(found, seconds=120):
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def both(corpus, tmp_path_factory):
    """A run of two processes that nothing disturbs."""
    workdir = tmp_path_factory.mktemp("both") / "run"
    statuses, outputs = ended(start(2, longer(workdir, corpus)))
    assert statuses == [0, 0], outputs
    return workdir


@pytest.fixture(scope="module")
def stopped(corpus, tmp_path_factory):
    """The same run, one process of which got a SIGTERM."""
    workdir = tmp_path_factory.mktemp("stopped") / "run"
    processes = start(2, longer(workdir, corpus))
    wait_for(lambda: len(checkpoint.steps(workdir)) > 1)
    processes[1].send_signal(signal.SIGTERM)
    return workdir, *ended(processes)


def test_a_signal_to_one_stops_all_after_saving(stopped):
    workdir, statuses, outputs = stopped
    assert statuses == [128 + signal.SIGTERM] * 2, outputs
    saved = [re.search(r"signal 15: saved step (\d+) and leaving", text)[1] for text in outputs]
    assert saved == [str(checkpoint.steps(workdir)[-1])] * 2


@pytest.mark.slow
def test_after_a_signal_and_a_death_the_run_ends_as_undisturbed(stopped, both, corpus, tmp_path):
    """The run that was stopped is started again, and one of its processes dies."""
    workdir = tmp_path / "run"
    shutil.copytree(stopped[0], workdir)
    before = checkpoint.steps(workdir)
    processes = start(2, longer(workdir, corpus))
    wait_for(lambda: checkpoint.steps(workdir) > before)
    processes[1].kill()
    died = time.monotonic()
    (status, _), (output, _) = ended(processes)
    assert time.monotonic() - died < 60
    # Whichever notices first says so: the step that fails, or, after a silence, JAX's own watch,
    # which aborts in the middle of whatever the process does.
    assert status in (1, -signal.SIGABRT), output
    assert re.search(r"has probably died|another task died", output), output
    assert "Fatal Python error" not in output
    assert f"resumed from step {before[-1]}" in output
    statuses, outputs = ended(start(2, longer(workdir, corpus)))
    assert statuses == [0, 0], outputs
    assert "resumed from step" in outputs[0]
    assert metrics(workdir) == metrics(both)
    jax.tree.map(np.testing.assert_array_equal, state(workdir, MORE), state(both, MORE))


@pytest.mark.slow
def test_a_full_disk_of_one_stops_none(corpus, tmp_path):
    """Process 0 can write no checkpoint, and in the end no metrics; the other one could."""
    workdir, port = tmp_path / "run", entry_point.free_port()
    limited = (
        "import os, resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    arguments = short(workdir, corpus)
    processes = [
        one(number, 2, port, ["-c", limited, *arguments] if number == 0 else arguments)
        for number in range(2)
    ]
    statuses, outputs = ended(processes)
    assert statuses == [1, 1], outputs
    assert "checkpoints/2: not saved (File too large); training goes on" in outputs[0]
    assert "checkpoints/2: not saved (OSError: process 0 could not write its part)" in outputs[1]
    assert f"checkpoints/{FEW}: not saved (File too large); free some space" in outputs[0]
    assert (
        f"checkpoints/{FEW}: not saved (OSError: process 0 could not write the metrics); see the "
        "output of all processes" in outputs[1]
    )
    assert not any("Traceback" in output for output in outputs)
    statuses, outputs = ended(start(2, arguments))
    assert statuses == [0, 0], outputs
    assert [line["step"] for line in metrics(workdir)] == list(range(1, FEW + 1))


MEETING = """
import sys
from loev_jax import cluster
number, port, failing, at = map(int, sys.argv[1:])
cluster.join(cluster.Cluster(False, f"localhost:{port}", 2, number))
met = cluster.Rendezvous()
# As Orbax does: two meetings when a save begins, two while it is written, two when it is over.
for save in range(2):
    for key in ("begin1", "begin2"):
        met(key=key, timeout_ms=60_000)
    try:
        for part, key in enumerate(("async_write", "async_commit")):
            if (save, number, part) == (0, failing, at):
                raise OSError("File too large")
            met(key=key, timeout_ms=60_000)
        print(f"save {save}: whole")
    except OSError as error:
        print(f"save {save}: {error}")
    for key in ("end1", "end2"):
        met(key=key, timeout_ms=60_000)
"""


@pytest.mark.parametrize(("failing", "at"), [(0, 0), (0, 1), (1, 0)])
def test_one_that_cannot_save_sets_the_others_free(failing, at):
    port = entry_point.free_port()
    arguments = ["-c", MEETING]
    processes = [
        one(n, 1, port, [*arguments, f"{n}", f"{port}", f"{failing}", f"{at}"]) for n in (0, 1)
    ]
    statuses, outputs = ended(processes, seconds=30)
    assert statuses == [0, 0], outputs
    said = [[line for line in text.splitlines() if "save" in line] for text in outputs]
    assert said[failing] == ["save 0: File too large", "save 1: whole"]
    assert said[1 - failing] == [
        f"save 0: process {failing} could not write its part",
        "save 1: whole",
    ]


STOPPING = """
import sys, time
from loev_jax import cluster
number, port = map(int, sys.argv[1:])
cluster.join(cluster.Cluster(False, f"localhost:{port}", 2, number))
with cluster.stop_on_signal() as stop:
    print("ready", flush=True)
    for step in range(2000):
        time.sleep(0.01)
        if received := stop(step):
            print(step, received)
            break
"""


def test_ctrl_c_at_one_stops_all():
    port = entry_point.free_port()
    processes = [one(n, 1, port, ["-c", STOPPING, f"{n}", f"{port}"]) for n in (0, 1)]
    for process in processes:
        assert any(line == "ready\n" for line in process.stdout)
    processes[1].send_signal(signal.SIGINT)
    statuses, outputs = ended(processes, seconds=60)
    assert statuses == [0, 0], outputs
    (step_0, signal_0), (step_1, signal_1) = (text.split()[-2:] for text in outputs)
    assert step_0 == step_1
    assert (int(signal_0), int(signal_1)) == (signal.SIGTERM, signal.SIGINT)


WAITING = """
import faulthandler, os, sys, time
from loev_jax import cluster
number, port = map(int, sys.argv[1:])
faulthandler.enable()  # as absl does
cluster.SILENCE_SECONDS = 3
cluster.join(cluster.Cluster(False, f"localhost:{port}", 2, number))
if number == 1:
    os._exit(9)
time.sleep(100)
"""


def test_one_that_waits_for_a_dead_one_is_ended_with_a_line():
    """Nothing that it computes can fail: it is JAX's watch that ends it."""
    port = entry_point.free_port()
    statuses, outputs = ended([one(n, 1, port, ["-c", WAITING, f"{n}", f"{port}"]) for n in (0, 1)])
    assert statuses == [-signal.SIGABRT, 9], outputs
    assert "another task died" in outputs[0]
    assert "Fatal Python error" not in outputs[0]
    assert "Thread 0x" not in outputs[0]


def test_what_only_one_lacks_ends_all(corpus, tmp_path):
    """Such as a data set on a disk of its own."""
    port = entry_point.free_port()
    processes = []
    for number in range(2):
        host = tmp_path / str(number)
        host.mkdir()
        for name in ("launch", "configs"):
            (host / name).symlink_to(entry_point.ROOT / name)
        arguments = command(tmp_path / "run", "corpus")
        processes.append(one(number, 2, port, arguments, cwd=host))
    (tmp_path / "0" / "corpus").symlink_to(corpus)
    begun = time.monotonic()
    statuses, outputs = ended(processes)
    assert time.monotonic() - begun < 100
    assert statuses[1] == 2, outputs
    assert "error: data set corpus does not exist" in outputs[1]
    assert statuses[0] not in (0, 2)


def test_processes_of_different_configs_do_not_train(corpus, tmp_path):
    port = entry_point.free_port()
    processes = [
        one(number, 2, port, command(tmp_path / "run", corpus, f"--config.seed={number}"))
        for number in range(2)
    ]
    statuses, outputs = ended(processes)
    assert statuses == [2, 2], outputs
    for output in outputs:
        assert "error: --config of process 1 differs from that of process 0" in output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--process=0"], "--coordinator: missing; --coordinator, --processes, --process go"),
        (
            ["--coordinator=localhost:1", "--processes=2", "--process=2"],
            "--process=2: not one of --processes=2",
        ),
        (["--distributed"], "--distributed: JAX finds no TPU pod, SLURM job or GKE JobSet here"),
    ],
)
def test_what_is_no_cluster_is_one_line(corpus, tmp_path, flags, message):
    done = entry_point.run(*command(tmp_path / "run", corpus), *flags)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr.splitlines()[-1]
    assert not (tmp_path / "run").exists()
