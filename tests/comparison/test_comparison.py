"""A comparison from its plan to its tables, with runs that take no time."""

from pathlib import Path

import made_up
import pytest

from loev_jax.comparison import comparison, runs
from loev_jax.comparison import plan as plans
from loev_jax.errors import UserError

ALL = list(made_up.STEPS)


class Laboratory:
    """Stands for training, evaluation and the clock."""

    def __init__(self):
        self.done, self.pace, self.breaks_at, self.heard = [], 1.0, None, 0
        self.quick = None

    def time_steps(self, root, names, quick):
        several = dict.fromkeys((*names, plans.REFERENCE))
        return {name: made_up.MILLISECONDS[name] * self.pace for name in several}

    def run(self, root, plan, name, seed, workdirs, *, dearer, quick):
        assert dearer == (seed == 0 and not quick)
        self.quick = quick
        if len(self.done) == self.breaks_at:
            raise UserError("status 1 of train.py")
        self.done.append((name, seed, plan.steps[name]))
        return made_up.run(seed)

    def listen(self, split):
        self.heard += 1
        return made_up.CLASSICAL


@pytest.fixture(name="laboratory")
def _laboratory(monkeypatch):
    made = Laboratory()
    monkeypatch.setattr(plans, "time_steps", made.time_steps)
    monkeypatch.setattr(runs, "run", made.run)
    monkeypatch.setattr(comparison.classical, "measure", made.listen)
    monkeypatch.setattr(comparison.records, "open_split", lambda path, split: None)
    return made


def compare(out: Path, only=ALL, seeds=2, steps=100, quick=False):
    settings = comparison.Settings("data", only, seeds, steps, quick)
    comparison.run(Path("root"), out, out / "runs", settings)


def test_all_recipes_at_equal_time_then_the_tables(laboratory, tmp_path, capsys):
    compare(tmp_path)
    assert laboratory.done == [(name, seed, made_up.STEPS[name]) for seed in (0, 1) for name in ALL]
    assert "6 of 6 runs are done." in capsys.readouterr().out
    assert (tmp_path / "results.png").exists()
    compare(tmp_path)
    assert len(laboratory.done) == 6
    assert laboratory.heard == 1


def test_what_broke_off_goes_on(laboratory, tmp_path):
    laboratory.breaks_at = 4
    with pytest.raises(UserError, match="status 1"):
        compare(tmp_path)
    laboratory.breaks_at, laboratory.pace = None, 3.0
    compare(tmp_path, seeds=3)
    assert [run[:2] for run in laboratory.done] == [(n, s) for s in (0, 1, 2) for n in ALL]


def test_a_recipe_added_on_a_slower_day_gets_equal_time(laboratory, tmp_path):
    compare(tmp_path, only=["simclr", "loev_tempo_pitch"], seeds=1)
    laboratory.pace = 3.0
    compare(tmp_path, only=["loevpp_tempo_pitch"], seeds=1)
    assert laboratory.done[-1] == ("loevpp_tempo_pitch", 0, 50)
    assert list(runs.read(tmp_path).plan.steps) == ALL


@pytest.mark.parametrize("quick", [False, True])
def test_a_quick_one_has_quick_runs(laboratory, tmp_path, quick):
    compare(tmp_path, seeds=1, quick=quick)
    assert laboratory.quick == quick


def test_another_length_is_refused(laboratory, tmp_path):
    compare(tmp_path, seeds=1)
    with pytest.raises(UserError, match=r"--steps=99: .* has a plan of 100 steps; go on with"):
        compare(tmp_path, steps=99)


def test_nothing_to_show(tmp_path):
    with pytest.raises(UserError, match=r"no finished run in results\.json"):
        comparison.show(tmp_path)
