"""Several processes train as one: equal to one, step by step, and each goes on where one ended."""

import shutil

import entry_point
import pytest
from cluster_run import (
    FEW,
    assert_close,
    cut_back,
    devices_of,
    ended,
    metrics,
    one,
    short,
    start,
)
from tiny_training import command


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
    assert f" {count} devices, 8 clips" in outputs[0]
    together = metrics(workdir)
    assert [line["step"] for line in together] == list(range(1, FEW + 1))
    assert together[-1]["loss"] < 0.99 * together[0]["loss"]
    assert_close(workdir, alone)
    assert len(list((workdir / "train").glob("events.out.tfevents.*"))) == 1


@pytest.mark.parametrize(
    ("processes", "devices"),
    [
        pytest.param(1, 2, marks=pytest.mark.slow),
        pytest.param(1, 4, marks=pytest.mark.slow),
        pytest.param(1, 8, marks=pytest.mark.slow),
        pytest.param(2, 1, marks=pytest.mark.slow),
        pytest.param(2, 2, marks=pytest.mark.slow),
    ],
)
def test_a_run_goes_on_elsewhere_and_comes_back(corpus, tmp_path, processes, devices, alone):
    """Some steps on one device, some on others, the rest on one again."""
    workdir = tmp_path / "run"
    shutil.copytree(alone, workdir)
    for last, count, each in ((4, processes, devices), (8, 1, 1)):
        cut_back(workdir, last)
        statuses, outputs = ended(start(count, short(workdir, corpus), devices_of(each)))
        assert statuses == [0] * count, outputs
        assert f"resumed from step {last}" in outputs[0]
        assert f" {count * each} devices, 8 clips" in outputs[0]
    assert_close(workdir, alone)


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
