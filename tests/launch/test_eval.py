"""`launch/eval.py` as a user runs it."""

import json
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
    pictures = {"2.png", "2_matrices.png", "events.out.tfevents.000000000002"}
    assert left == {"2.json", "random_init.npz", *pictures}
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


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_and_finds_the_same(workdir, evaluated, tmp_path):
    """Of two checkpoints one has its result, and the other is being evaluated."""
    assert evaluated
    command = ("launch/eval.py", "--tasks=tempo,equivariance", "--nobaselines")
    command += (f"--workdir={tmp_path / 'run'}",)
    shutil.copytree(workdir, tmp_path / "run", ignore=shutil.ignore_patterns("eval"))
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=entry_point.ROOT,
        env=entry_point.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not list(tmp_path.glob("run/eval/*.json")):
        assert process.poll() is None, "it ended before its first result"
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    (first,) = tmp_path.glob("run/eval/*.json")
    before = first.read_bytes()
    rest = entry_point.run(*command)
    assert rest.returncode == 0, rest.stderr
    assert first.read_bytes() == before  # evaluated once
    for step in (1, 2):
        found, left_alone = (
            json.loads((directory / "eval" / f"{step}.json").read_text())
            for directory in (tmp_path / "run", workdir)
        )
        assert found["failed"] == {}
        for space, metrics in found["spaces"].items():
            assert "tempo_r2" in metrics
            assert "pitch_shift_r2" in metrics
            assert metrics.items() <= left_alone["spaces"][space].items()


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
