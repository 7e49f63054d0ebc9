"""What a tiny run ended with, to be compared bit for bit with what another did."""

import json

import jax
import numpy as np
from tiny_training import STEPS

from loev_jax import checkpoint, fsdp, run_config, step


def outcome(workdir):
    """All that a run ends with: its metrics as they are, its checkpoints, the last state."""
    recipe, mesh = run_config.load(workdir), fsdp.make_mesh(jax.devices()[:1])
    with checkpoint.Checkpoints(workdir, keep=0) as checkpoints:
        state = checkpoints.restore(STEPS, step.init(recipe, mesh))
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return lines, checkpoint.steps(workdir), jax.device_get(state)


def assert_same(outcome_, other):
    lines, steps, state = outcome_
    assert lines == other[0]
    assert steps == other[1]
    jax.tree.map(np.testing.assert_array_equal, state, other[2])
