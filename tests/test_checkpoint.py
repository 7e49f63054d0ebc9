import shutil
import time

import jax
import numpy as np
import pytest
import tiny_run
from flax import nnx

from loev_jax import checkpoint, config, fsdp, step
from loev_jax.errors import UserError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    tiny_run.write(workdir, steps=(3, 12))
    return workdir


def test_steps_are_those_of_whole_checkpoints(run, tmp_path):
    assert checkpoint.steps(run) == [3, 12]
    assert checkpoint.steps(tmp_path) == []
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    # What SIGKILL in mid-save leaves.
    killed = copy / "checkpoints" / "20.orbax-checkpoint-tmp"
    shutil.copytree(copy / "checkpoints" / "12", killed)
    (killed / "commit_success.txt").unlink()
    assert checkpoint.steps(copy) == [3, 12]
    with checkpoint.Checkpoints(copy, keep=0):
        deadline = time.monotonic() + 60  # Orbax clears up in the background
        while killed.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_state_comes_back_on_another_number_of_devices(run):
    recipe = config.load(run)
    states = []
    for devices in (1, 8):
        mesh = fsdp.make_mesh(jax.devices()[:devices])
        with checkpoint.Checkpoints(run, keep=0) as checkpoints:
            state = checkpoints.restore(3, step.init(recipe, mesh))
        assert all(len(leaf.sharding.device_set) == devices for leaf in jax.tree.leaves(state))
        states.append(jax.device_get(state))
    assert jax.tree.structure(states[0]) == jax.tree.structure(states[1])
    jax.tree.map(np.testing.assert_array_equal, *states)


def test_the_model_has_the_parameters_of_its_step(run):
    recipe = config.load(run)
    mesh = fsdp.make_mesh(jax.devices()[:1])
    with checkpoint.Checkpoints(run, keep=0) as checkpoints:
        state = checkpoints.restore(12, step.init(recipe, mesh))
    params = nnx.to_pure_dict(nnx.state(checkpoint.restore_model(run, 12, recipe)))
    jax.tree.map(np.testing.assert_array_equal, params, state.params)


def test_a_step_that_is_not_there_is_named(run):
    with pytest.raises(UserError, match="no checkpoint of step 5; checkpoints: 3, 12"):
        checkpoint.restore_model(run, 5, config.load(run))


def test_a_damaged_checkpoint_is_named(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    for path in (copy / "checkpoints" / "3" / "params").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    with pytest.raises(UserError, match="cannot be restored"):
        checkpoint.restore_model(copy, 3, config.load(copy))


def test_only_the_newest_are_kept(tmp_path):
    tiny_run.write(tmp_path, steps=(1,))
    recipe, mesh = config.load(tmp_path), fsdp.make_mesh(jax.devices()[:1])
    state = step.init(recipe, mesh)
    with checkpoint.Checkpoints(tmp_path, keep=2) as checkpoints:
        for number in (2, 3, 3):  # saving a step again changes nothing
            checkpoints.save(number, state)
    assert checkpoint.steps(tmp_path) == [2, 3]
