"""launch/train.py as a user runs it: to its end, killed, stopped, and given bad input."""

import functools
import json
import shutil
import signal
import subprocess
import sys
import time

import damage
import entry_point
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tiny_training import STEPS, command

from loev_jax import checkpoint, fsdp, run_config, step, train
from loev_jax.errors import UserError


def final_params(workdir):
    recipe, mesh = run_config.load(workdir), fsdp.make_mesh(jax.devices()[:1])
    with checkpoint.Checkpoints(workdir, keep=0) as checkpoints:
        return jax.device_get(checkpoints.restore(STEPS, step.init(recipe, mesh)))


def logged_steps(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def test_a_run_leaves_what_it_promises(undisturbed):
    workdir, log = undisturbed
    assert checkpoint.steps(workdir) == list(range(10, STEPS + 1, 10))
    assert logged_steps(workdir) == list(range(5, STEPS + 1, 5))
    assert (workdir / "DONE").read_text() == f"{STEPS}\n"
    assert list((workdir / "train").glob("events.out.tfevents.*"))
    assert run_config.load(workdir).training.steps == STEPS
    assert "encoder/stem/layers/0/convolution/kernel" in log  # the parameter overview
    assert "contrastive/tempo" in log


def test_training_does_without_the_test_split(corpus, tmp_path):
    """What is never opened cannot have been used to choose anything."""
    seen = shutil.copytree(corpus, tmp_path / "seen")
    hidden = [path for path in seen.iterdir() if "-test." in path.name]
    assert hidden
    for path in hidden:
        path.unlink()
    done = entry_point.run(*command(tmp_path / "run", seen, "--config.training.steps=2"))
    assert done.returncode == 0, done.stderr
    assert checkpoint.steps(tmp_path / "run") == [2]


def test_a_finished_run_is_left_alone(undisturbed, corpus, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(undisturbed[0], workdir)
    before = (workdir / "metrics.jsonl").read_bytes()
    (workdir / "DONE").unlink()  # as if killed between the last checkpoint and this file
    result = entry_point.run(*command(workdir, corpus))
    assert result.returncode == 0, result.stderr
    assert f"has its {STEPS} steps already" in result.stderr
    assert (workdir / "DONE").exists()
    assert (workdir / "metrics.jsonl").read_bytes() == before


def test_a_stopped_run_ends_as_one_that_was_not(undisturbed, corpus, tmp_path):
    """Stopped in mid-run and started again, its data elsewhere by then: the same, bit for bit."""
    workdir = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, *command(workdir, corpus)],
        cwd=entry_point.ROOT,
        env=entry_point.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 200
    while not checkpoint.steps(workdir):
        assert process.poll() is None, "the run ended before its first checkpoint"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=100) == 128 + signal.SIGTERM
    assert not (workdir / "DONE").exists()
    assert max(checkpoint.steps(workdir)) < STEPS
    moved = shutil.copytree(corpus, tmp_path / "moved")
    result = entry_point.run(*command(workdir, moved))
    assert result.returncode == 0, result.stderr
    assert "resumed from step" in result.stderr
    assert run_config.load(workdir).data.path == str(moved)
    assert logged_steps(workdir) == list(range(5, STEPS + 1, 5))
    jax.tree.map(np.testing.assert_array_equal, final_params(workdir), final_params(undisturbed[0]))


@pytest.mark.slow
def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(undisturbed, corpus, tmp_path):
    """The last two of six: one with a flipped bit, one half deleted."""
    workdir = tmp_path / "run"
    shutil.copytree(undisturbed[0], workdir)
    (workdir / "DONE").unlink()
    damage.flip_a_bit(workdir / "checkpoints/50/params/ocdbt.process_0")
    shutil.rmtree(workdir / "checkpoints/60/rest")
    result = entry_point.run(*command(workdir, corpus))
    assert result.returncode == 0, result.stderr
    assert "checkpoints/60: damaged (" in result.stderr
    assert "is not what was saved); kept as 50.damaged" in result.stderr
    assert "resumed from step 40" in result.stderr
    assert "Traceback" not in result.stderr
    assert checkpoint.steps(workdir) == list(range(10, STEPS + 1, 10))
    assert logged_steps(workdir) == list(range(5, STEPS + 1, 5))
    jax.tree.map(np.testing.assert_array_equal, final_params(workdir), final_params(undisturbed[0]))


def test_a_workdir_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    line = r"--workdir=.*/file/run: cannot be written \(Not a directory\); make room"
    with pytest.raises(UserError, match=line), train._claimed(tmp_path / "file" / "run"):
        pass


def mixing(directory):
    """A config of the user's own that mixes clips."""
    path = directory / "mixing.py"
    path.write_text(
        "from loev_jax import presets\n"
        "def get_config(variant=''):\n"
        "    settings = presets.recipe('small', {'tempo': 'time_stretch'})\n"
        "    settings.augment.mixup = {'probability': 0.5}\n"
        "    return settings\n"
    )
    return path


def bad(name, corpus, workdir):
    """The arguments of a mistake, and what its one line must name."""
    cases = {
        "no config": (["launch/train.py", f"--workdir={workdir}"], "config"),
        "no such config": (
            ["launch/train.py", "--config=configs/nothing.py", f"--workdir={workdir}"],
            "nothing.py",
        ),
        "no such config, overridden": (command(workdir, corpus, base="nothing.py"), "nothing.py"),
        "unknown variant": (command(workdir, corpus, base="simclr.py:huge"), "'huge'"),
        "unknown field": (
            command(workdir, corpus, "--config.optimizer.learning_rat=1"),
            "--config: not found: 'learning_rat' Did you mean ",
        ),
        "value out of range": (
            command(workdir, corpus, "--config.loss.weights.invariant=-1"),
            "config.loss: weights.invariant=-1.0 must be 0 or more",
        ),
        "missing data": (
            command(workdir, workdir.parent / "nowhere"),
            "prepare_data.py",
        ),
        "window longer than the clips": (
            command(workdir, corpus, "--config.views.seconds=40.0"),
            "window",
        ),
        "batch larger than the data": (
            command(workdir, corpus, "--config.training.clips=4000"),
            "4000",
        ),
        "odd clips to mix": (
            [
                f"--config={mixing(workdir.parent)}"
                if argument.startswith("--config=")
                else argument
                for argument in command(workdir, corpus, "--config.training.clips=3")
            ],
            "clips: 3 is not divisible by the 1 devices and in pairs to be mixed; try 2",
        ),
        "clips that do not divide into micro-batches": (
            command(
                workdir,
                corpus,
                "--config.training.clips=6",
                "--config.training.micro_batches=4",
            ),
            "clips: 6 is not divisible by the 1 devices times config.training.micro_batches=4",
        ),
        "shards that do not divide the devices": (
            command(workdir, corpus, "--config.training.fsdp=3"),
            "config.training.fsdp: 3 does not divide the 1 devices",
        ),
        "stray argument": (command(workdir, corpus, "quickly"), "'quickly'"),
    }
    return cases[name]


@pytest.mark.parametrize(
    "name",
    [
        "no config",
        "no such config",
        pytest.param("no such config, overridden", marks=pytest.mark.slow),
        pytest.param("unknown variant", marks=pytest.mark.slow),
        "unknown field",
        pytest.param("value out of range", marks=pytest.mark.slow),
        "missing data",
        "window longer than the clips",
        "batch larger than the data",
        pytest.param("odd clips to mix", marks=pytest.mark.slow),
        pytest.param("clips that do not divide into micro-batches", marks=pytest.mark.slow),
        "shards that do not divide the devices",
        pytest.param("stray argument", marks=pytest.mark.slow),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(name, corpus, tmp_path):
    workdir = tmp_path / "run"
    arguments, named = bad(name, corpus, workdir)
    result = entry_point.run(*arguments)
    assert result.returncode == 2, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    assert named in lines[0]
    assert not workdir.exists()


def test_a_workdir_of_another_config_is_left_alone(undisturbed, corpus, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(undisturbed[0], workdir)
    files = {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.is_file()}
    result = entry_point.run(*command(workdir, corpus, "--config.seed=5"))
    assert result.returncode == 2
    assert "config.seed is 0 there and 5 here" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert files == {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.is_file()}


def test_a_run_that_diverges_stops_at_once_and_keeps_its_good_checkpoints(corpus, tmp_path):
    """Whatever is logged or saved in between: steps 8 and 9 are, and none after."""
    workdir = tmp_path / "run"
    result = entry_point.run(
        *command(
            workdir,
            corpus,
            "--config.optimizer.learning_rate=1e30",
            "--config.optimizer.warmup_steps=25",
            "--config.training.checkpoint_every=9",
            "--config.training.log_every=8",
        )
    )
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    # The first step has a learning rate of 0.
    assert last.startswith("error: step 12: loss ")
    assert "11 steps in a row were skipped" in last
    assert "the last checkpoint is good" in last
    for number in range(2, 12):
        assert f"step {number} was skipped: loss " in result.stderr
    assert not (workdir / "DONE").exists()
    (line,) = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert (line["step"], line["skipped_in_a_row"]) == (8, 7)
    assert None in (line["loss"], line["gradient_norm"], line["update_norm"])  # not finite
    assert checkpoint.steps(workdir) == [9]
    state = nnx.state(checkpoint.restore_model(workdir, 9, run_config.load(workdir)))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(nnx.to_pure_dict(state)))


@pytest.mark.slow
def test_a_run_starts_from_another(undisturbed, corpus, tmp_path):
    """The first step, whose learning rate is 0, leaves it there; the second moves it."""
    workdir = tmp_path / "run"
    result = entry_point.run(
        *command(
            workdir,
            corpus,
            f"--config.start.path={undisturbed[0]}",
            "--config.training.steps=2",
            "--config.training.checkpoint_every=1",
            "--config.optimizer.average_decay=0.9",
        )
    )
    assert result.returncode == 0, result.stderr
    assert f"parameters from {undisturbed[0]}; drawn: none" in result.stderr
    recipe, mesh = run_config.load(workdir), fsdp.make_mesh(jax.devices()[:1])
    fresh = step.init(recipe, mesh)
    with checkpoint.Checkpoints(workdir, keep=0) as checkpoints:
        first, second = (checkpoints.restore(number, fresh) for number in (1, 2))
    source = final_params(undisturbed[0]).params
    jax.tree.map(np.testing.assert_array_equal, first.params, source)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-7)
    jax.tree.map(close, first.average, source)
    kernels = [tree["heads"]["tempo"]["output"]["kernel"] for tree in (source, second.params)]
    assert 0 < np.abs(kernels[0] - kernels[1]).max() < 0.1


def test_a_batch_that_does_not_fit_is_one_line(undisturbed):
    recipe = run_config.load(undisturbed[0])
    line = (
        r"config\.training\.clips: 4 do not fit the memory of \d devices \(.*EXHAUSTED.*\); "
        r"try config\.training\.micro_batches=2 or fewer clips; launch/compile\.py tells"
    )
    with pytest.raises(UserError, match=line), train._fitting(recipe):
        jax.jit(lambda: jnp.zeros(2**50))()


@pytest.mark.slow
def test_the_waveform_domain_trains_too(corpus, tmp_path):
    workdir = tmp_path / "run"
    result = entry_point.run(*command(workdir, corpus, "--config.views.domain=waveform"))
    assert result.returncode == 0, result.stderr
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert len(losses) == STEPS // 5
    assert np.mean(losses[-4:]) < np.mean(losses[:4])
