"""What a run says of its steps, logged or not: skipped ones, and spaces that collapse."""

import jax.numpy as jnp
import numpy as np
import pytest

from loev_jax import config, presets
from loev_jax.monitor.inspection import Inspection
from loev_jax.monitor.log import Log, NonFiniteLossError


@pytest.fixture
def recipe():
    settings = presets.recipe("small", {"tempo": "time_stretch"})
    settings.frontend.update(n_fft=512, window=360, hop=200, bands=24)
    settings.training.update(steps=1000, log_every=100)
    settings.optimizer.most_skipped = 3
    return config.read(settings)


@pytest.fixture
def log(recipe, tmp_path):
    made = Log(recipe, tmp_path, 0)
    yield made
    made.close()


class Still:
    """A pace of which there is nothing to tell."""

    def told(self):
        return {}


class Steps:
    """A run whose steps are skipped where they are said to be."""

    def __init__(self, log, skipped):
        self.log, self.skipped, self.in_a_row, self.all = log, set(skipped), 0, 0

    def __call__(self, step, seen=None):
        bad = step in self.skipped
        self.in_a_row = bad * (self.in_a_row + 1)
        self.all += bad
        values = {"loss": np.nan if bad else 1.0, "gradient_norm": 2.0, "update_norm": 3.0}
        values |= {"skipped": self.all, "skipped_in_a_row": self.in_a_row}
        arrays = {name: jnp.float32(value) for name, value in values.items()}
        self.log(step, arrays, Still(), seen)


def test_every_skipped_step_is_told_wherever_the_lines_are(log, caplog):
    steps = Steps(log, (12, 13, 14, 50))
    for number in range(1, 102):
        steps(number)
    told = [line for line in caplog.messages if "was skipped" in line]
    assert [line.split(" was ")[0] for line in told] == ["step 12", "step 13", "step 14", "step 50"]
    assert told[1].endswith("loss nan, norm of the gradient 2, of the update 3; 2 skipped so far")


def test_too_many_in_a_row_end_the_run_a_step_later(log):
    steps = Steps(log, range(12, 30))
    for number in range(1, 16):
        steps(number)
    with pytest.raises(NonFiniteLossError, match=r"step 15: loss nan, .*; 4 steps in a row were"):
        steps(16)


def test_no_checkpoint_is_made_of_one_too_many(log):
    steps = Steps(log, range(12, 30))
    for number in range(1, 15):
        steps(number)
    log.sync()
    steps(15)
    with pytest.raises(NonFiniteLossError, match="step 15"):
        log.sync()


def test_a_space_that_collapses_is_told(log, caplog):
    ranks = {"rank/tempo": jnp.float32(1.2), "rank/encoder": jnp.float32(20.0)}
    views = np.zeros((2, 3, 20, 24), np.float32)
    seen = Inspection(ranks, views, {"tempo": np.eye(6, dtype=np.float32)})
    Steps(log, ())(1, seen)
    log.sync()
    told = [line for line in caplog.messages if "collapsed" in line]
    assert len(told) == 1
    assert told[0].startswith("step 1: the vectors of tempo have collapsed (effective rank 1.20): ")
