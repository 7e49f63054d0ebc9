"""`launch/eval.py` as a user runs it."""

import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import entry_point
import numpy as np
import pytest
import tiny_music
import tiny_run
import tiny_training

from loev_jax import checkpoint
from loev_jax.evaluate import resamples

MANY = 200  # steps, for a training to go on while several checkpoints are evaluated


def run(*arguments):
    return entry_point.run("launch/eval.py", *arguments)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("eval")
    data = tiny_music.write(directory / "data")
    tiny_run.write(directory / "run", steps=(1, 2))
    config = directory / "run" / "config.json"
    settings = json.loads(config.read_text())
    settings["data"]["path"] = str(data)
    config.write_text(json.dumps(settings))
    return directory / "run"


@pytest.fixture(scope="module")
def evaluated(workdir):
    """What was said of the last checkpoint, and then of the rest, when training is done."""
    done = run(f"--workdir={workdir}", "--step=last")
    assert done.returncode == 0, done.stderr
    left = {path.name for path in (workdir / "eval").iterdir()}
    pictures = {"2.png", "2_matrices.png", "2_confusions.png"}
    arrays = {"random_init.npz", "2_resamples.npz"}
    assert left == {".lock", "2.json", *arrays, "events.out.tfevents.000000000002", *pictures}
    (workdir / "DONE").touch()
    rest = run(f"--workdir={workdir}", "--watch")
    assert rest.returncode == 0, rest.stderr
    return done, rest


def test_the_last_checkpoint_then_the_rest(workdir, evaluated):
    done, rest = evaluated
    assert "step 2 (24 train, 8 validation, 12 test clips)" in done.stdout
    rows = [line.split("|")[1].strip() for line in done.stdout.splitlines() if "|" in line]
    spaces = ["encoder", "invariant", "pitch", "tempo", "heads", "all"]
    assert rows[2:] == [
        *spaces,
        *(f"random init, {space}" for space in spaces),
        *(f"shuffled labels, {space}" for space in spaces),
    ]
    assert "Traceback" not in done.stderr
    assert "step 1: evaluated in" in rest.stderr
    assert "step 2: evaluated in" not in rest.stderr
    assert json.loads((workdir / "eval" / "1.json").read_text())["failed"] == {}


def test_every_interval_is_of_the_resamples_beside_it(workdir, evaluated):
    assert evaluated
    result = json.loads((workdir / "eval" / "2.json").read_text())
    kept = resamples.read(workdir / "eval" / "2_resamples.npz")
    assert {space: set(one) for space, one in kept.items()} == {
        space: set(one) for space, one in result["intervals"].items()
    }
    for space, one in kept.items():
        for metric, figure in one.items():
            low, high = result["intervals"][space][metric]
            if low is not None:
                assert figure.value == result["spaces"][space][metric]
                ends = np.nanquantile(figure.resampled, [0.025, 0.975])
                np.testing.assert_allclose(ends, [low, high], atol=1e-5)


def test_a_task_that_fails_is_status_1(workdir, tmp_path):
    """Of a checkpoint whose parameters are no numbers."""
    tiny_run.write(tmp_path / "run", steps=(3,), parameters=np.nan)
    shutil.copy(workdir / "config.json", tmp_path / "run")
    done = run(f"--workdir={tmp_path / 'run'}", "--tasks=equivariance", "--nobaselines")
    assert done.returncode == 1, done.stderr
    told = "equivariance failed (FloatingPointError: space 'encoder' is not finite: training has"
    assert told in done.stderr
    result = json.loads((tmp_path / "run" / "eval" / "3.json").read_text())
    assert (result["tasks"], list(result["failed"])) == ([], ["equivariance"])


# Runs launch/eval.py, and kills it as it calls something for the nth time.
DYING = """
import os, runpy, signal, sys
from loev_jax.evaluate import probes, spaces
place, calls = sys.argv[1], int(sys.argv[2])
owner, name = {
    "embeds": (spaces, "_fetch"), "scores": (probes.Probe, "score"), "writes": (os, "replace")
}[place]
function = getattr(owner, name)
def counted(*arguments):
    global calls
    calls -= place != "writes" or "/eval/" in str(arguments[1])
    if calls == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return function(*arguments)
setattr(owner, name, counted)
sys.argv = sys.argv[3:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def begin(*arguments):
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=entry_point.ROOT,
        env=entry_point.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def killed_after(found, seconds, command):
    """Begins it, and kills it so long after something was found; its status."""
    process = begin(*command)
    while not found() and process.poll() is None:
        time.sleep(0.005)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
    return process.wait()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("more", "first", "then"),
    [
        # Pictures and events are written before the result.
        ([], [("embeds", 2), ("scores", 3), ("writes", 4)], [("embeds", 1), ("scores", 8)]),
        (["--watch"], [("scores", 1), ("writes", 3)], [("embeds", 3)]),
    ],
    ids=["every", "watch"],
)
def test_killed_wherever_it_is_it_goes_on_and_finds_the_same(
    workdir, evaluated, tmp_path, more, first, then
):
    """At moments of the first checkpoint, when it has its result, and at moments of the second."""
    assert evaluated
    command = ["launch/eval.py", "--tasks=tempo,equivariance", f"--workdir={tmp_path / 'run'}"]
    command += more
    shutil.copytree(workdir, tmp_path / "run", ignore=shutil.ignore_patterns("eval"))
    result = tmp_path / "run" / "eval" / "1.json"
    for place, calls in first:
        assert begin("-c", DYING, place, f"{calls}", *command).wait(300) == -signal.SIGKILL
        assert not result.exists(), (place, calls)
    draws = random.Random(0)
    assert killed_after(result.exists, draws.uniform(0, 0.2), command) == -signal.SIGKILL
    before = result.read_bytes()
    for place, calls in then:
        assert begin("-c", DYING, place, f"{calls}", *command).wait(300) == -signal.SIGKILL
    assert killed_after(lambda: True, draws.uniform(5, 20), command) in (0, -signal.SIGKILL)
    rest = entry_point.run(*command)
    assert rest.returncode == 0, rest.stderr
    assert result.read_bytes() == before  # evaluated once
    files = {path.name for path in (workdir / "eval").iterdir()}
    assert {path.name for path in (tmp_path / "run" / "eval").iterdir()} == files
    for step in (1, 2):
        found, left_alone = (
            json.loads((directory / "eval" / f"{step}.json").read_text())
            for directory in (tmp_path / "run", workdir)
        )
        assert (found["tasks"], found["failed"]) == (["tempo", "equivariance"], {})
        for section in ("spaces", "random_init", "shuffled_labels"):
            assert found[section].keys() == left_alone[section].keys()
            for space, metrics in found[section].items():
                assert {"tempo_r2", "pitch_shift_r2"} <= metrics.keys()
                assert metrics.items() <= left_alone[section][space].items()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_checkpoints_deleted_beside_it_are_passed_over(workdir, tmp_path):
    """Training saves each step and keeps one, so that few are there long enough to be read."""
    data = json.loads((workdir / "config.json").read_text())["data"]["path"]
    settings = {"steps": MANY, "checkpoint_every": 1, "keep_checkpoints": 1}
    more = (f"--config.training.{name}={value}" for name, value in settings.items())
    run_ = tmp_path / "run"
    command = ("launch/eval.py", f"--workdir={run_}", "--tasks=equivariance", "--watch")
    with (tmp_path / "log").open("w") as log:
        watcher = subprocess.Popen(
            [sys.executable, *command],
            cwd=entry_point.ROOT,
            env=entry_point.environment(),
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
    try:
        assert begin(*tiny_training.command(run_, data, *more)).wait(600) == 0
        status = watcher.wait(300)
    finally:
        watcher.kill()
    told = (tmp_path / "log").read_text()
    assert status == 0, told
    assert "Traceback" not in told
    assert checkpoint.steps(run_) == [MANY]
    walked = dict(re.findall(r"^step (\d+): (evaluated in|passed over, training has)", told, re.M))
    assert f"{MANY}" in walked
    assert len(walked) > 1, told
    assert len(walked) == len(re.findall(r"^step ", told, re.M)), told
    for number, what in walked.items():
        assert (run_ / "eval" / f"{number}.json").exists() == (what == "evaluated in")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workdir={none}"], "{none}/config.json: no such file"),
        (["--workdir={empty}"], "{empty} has no checkpoint yet: train first, or give --watch"),
        (["--workdir={run}", "--step=9"], "--step=9: {run} has the checkpoints 1, 2"),
        (
            ["--workdir={run}", "--tasks=tempo,chords"],
            "--tasks: unknown task 'chords': choose from tempo, key, metre, instrument, "
            "collection, retrieval,",
        ),
        (["--workdir={run}", "--segments=0"], "--segments=0: give a number of at least 1"),
        (["--workdir={run}", "--watch", "--step=1"], "--step=1: --watch evaluates every"),
    ],
    ids=["no workdir", "no checkpoint", "no such step", "no such task", "no segment", "watch"],
)
def test_bad_input_is_one_line_and_status_2(workdir, tmp_path, arguments, message):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "config.json").write_text((workdir / "config.json").read_text())
    places = {"none": tmp_path / "none", "empty": empty, "run": workdir}
    done = run(*(argument.format(**places) for argument in arguments))
    assert done.returncode == 2
    assert done.stdout == ""
    assert f"error: {message.format(**places)}" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "none").exists()
    assert list(empty.iterdir()) == [empty / "config.json"]
