"""One of several processes gets a signal, freezes, dies or cannot write: the others do not wait."""

import re
import shutil
import signal
import time

import entry_point
import jax
import numpy as np
import pytest
from cluster_run import FEW, MORE, ended, longer, metrics, one, short, start, state, wait_for
from tiny_training import command

from loev_jax import checkpoint


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
    wait_for(lambda: len(checkpoint.steps(workdir)) > 1, processes)
    processes[1].send_signal(signal.SIGTERM)
    return workdir, *ended(processes)


def test_a_signal_to_one_stops_all_after_saving(stopped):
    workdir, statuses, outputs = stopped
    assert statuses == [128 + signal.SIGTERM] * 2, outputs
    saved = [re.search(r"signal 15: saved step (\d+) and leaving", text)[1] for text in outputs]
    assert saved == [str(checkpoint.steps(workdir)[-1])] * 2


def assert_told(status, output):
    """Whichever notices first says so: the step that fails, or JAX's own watch.

    The watch aborts in the middle of whatever the process does.
    """
    assert status in (1, -signal.SIGABRT), output
    assert re.search(r"has probably died|another task died", output), output
    assert "Fatal Python error" not in output


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_after_a_signal_and_two_deaths_the_run_ends_as_undisturbed(stopped, both, corpus, tmp_path):
    """The run that was stopped is started again; then 1 dies, then 0, where all meet."""
    workdir = tmp_path / "run"
    shutil.copytree(stopped[0], workdir)
    for dying in (1, 0):
        before = checkpoint.steps(workdir)
        processes = start(2, longer(workdir, corpus))
        wait_for(lambda before=before: checkpoint.steps(workdir) > before, processes)
        processes[dying].kill()
        died = time.monotonic()
        statuses, outputs = ended([processes[1 - dying], processes[dying]])
        assert time.monotonic() - died < 60
        assert statuses[1] == -signal.SIGKILL, outputs
        assert_told(statuses[0], outputs[0])
        assert f"resumed from step {before[-1]}" in outputs[0]
    statuses, outputs = ended(start(2, longer(workdir, corpus)))
    assert statuses == [0, 0], outputs
    assert "resumed from step" in outputs[0]
    assert metrics(workdir) == metrics(both)
    jax.tree.map(np.testing.assert_array_equal, state(workdir, MORE), state(both, MORE))


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [0, 1])
def test_one_that_freezes_ends_the_other(corpus, tmp_path, frozen):
    """It closes no connection: only its silence tells."""
    workdir = tmp_path / "run"
    processes = start(2, longer(workdir, corpus))
    wait_for(lambda: len(checkpoint.steps(workdir)) > 1, processes)
    processes[frozen].send_signal(signal.SIGSTOP)
    began = time.monotonic()
    try:
        (status,), (output,) = ended([processes[1 - frozen]], seconds=90)
    finally:
        processes[frozen].kill()
        ended([processes[frozen]])
    assert time.monotonic() - began < 75
    assert_told(status, output)
    assert not (workdir / "DONE").exists()


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
