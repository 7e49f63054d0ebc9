import json
import resource

import pytest

from loev_jax.errors import UserError
from loev_jax.monitor.writers import Journal


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_a_resumed_run_repeats_no_step(tmp_path):
    journal = Journal(tmp_path, 1)
    for step in (10, 20, 30):
        journal.write(step, {"loss": step / 10})
    journal.close()
    # Killed after step 30, the newest checkpoint is of step 20: steps 21 to 30 come again.
    journal = Journal(tmp_path, 21)
    journal.write(30, {"loss": 3.5})
    journal.close()
    assert lines(tmp_path) == [
        {"step": 10, "loss": 1.0},
        {"step": 20, "loss": 2.0},
        {"step": 30, "loss": 3.5},
    ]


def test_a_line_cut_short_by_a_kill_is_dropped(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    journal = Journal(tmp_path, 2)
    journal.write(2, {"loss": 1.0})
    journal.close()
    assert [line["step"] for line in lines(tmp_path)] == [1, 2]


def test_a_resumed_run_needs_no_room(tmp_path):
    """Its lines are cut off where they are, not written anew."""
    journal = Journal(tmp_path, 1)
    for step in range(1, 100):
        journal.write(step, {"loss": step / 10})
    journal.close()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        Journal(tmp_path, 81).close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [line["step"] for line in lines(tmp_path)] == list(range(1, 81))


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(UserError, match=r"metrics\.jsonl: cannot be written \(Is a dir"):
        Journal(tmp_path, 1)
