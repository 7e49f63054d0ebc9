"""A comparison from its plan to its tables, with runs that take no time."""

import dataclasses
from pathlib import Path

import made_up
import pytest

from loev_jax.comparison import comparison, runs
from loev_jax.comparison import plan as plans
from loev_jax.data import processes
from loev_jax.errors import UserError

ALL = list(made_up.STEPS)


class Heard(float):
    """A figure of an estimator, with its interval."""

    interval: tuple[float, float]


class Laboratory:
    """Stands for training, evaluation and the clock."""

    def __init__(self):
        self.done, self.pace, self.breaks_at, self.heard = [], 1.0, None, []
        self.quick, self.clips, self.leaves = None, "c0ffee", False

    def time_steps(self, root, names, quick):
        several = dict.fromkeys((*names, plans.REFERENCE))
        return {name: made_up.MILLISECONDS[name] * self.pace for name in several}

    def run(self, root, plan, name, seed, workdirs, *, dearer):
        assert dearer == (seed == 0 and not plan.quick)
        self.quick = plan.quick
        if len(self.done) == self.breaks_at:
            raise UserError("status 1 of train.py")
        self.done.append((name, seed, plan.steps[name]))
        if self.leaves:
            directory = runs.evaluated(plan, name, seed, workdirs)
            directory.mkdir(parents=True)
            made_up.leave(directory, made_up.run(seed))
        return made_up.run(seed)

    def digest(self, splits, most):
        assert most is None
        return self.clips if len(splits["test"]) == 40 else "facade"

    def listen(self, split, numbers):
        self.heard.append(split)
        self.numbers = numbers
        scores = {name: Heard(one) for name, one in made_up.CLASSICAL.items()}
        for name, score in scores.items():
            score.interval = tuple(made_up.CLASSICAL_INTERVALS[name])
        return scores


def open_all(path, scored):
    """Of `fresh` there are more clips than of any other."""
    return {scored: range({"fresh": 70, "large": 4000}.get(path, 40))}


@pytest.fixture(name="laboratory")
def _laboratory(monkeypatch):
    made = Laboratory()
    monkeypatch.setattr(plans, "time_steps", made.time_steps)
    monkeypatch.setattr(runs, "run", made.run)
    monkeypatch.setattr(comparison.classical, "measure", made.listen)
    monkeypatch.setattr(comparison.records, "open_split", lambda path, split: path)
    monkeypatch.setattr(comparison.splits, "open_all", open_all)
    monkeypatch.setattr(comparison.splits, "digest", made.digest)
    return made


def compare(out: Path, only=ALL, seeds=2, steps=100, quick=False, data="data", eval_data=""):
    settings = comparison.Settings(data, only, seeds, steps, quick, eval_data)
    comparison.run(Path("root"), out, out / "runs", settings)


def test_all_recipes_at_equal_time_then_the_tables(laboratory, tmp_path, capsys):
    compare(tmp_path)
    assert laboratory.done == [(name, seed, made_up.STEPS[name]) for seed in (0, 1) for name in ALL]
    assert "6 of 6 runs are done." in capsys.readouterr().out
    assert (tmp_path / "results.png").exists()
    assert "| LOEV, both " in (tmp_path / "tables.md").read_text()
    compare(tmp_path)
    assert len(laboratory.done) == 6
    assert laboratory.heard == ["data"]
    found = runs.read(tmp_path)
    assert found.candidates == 40
    assert found.classical == made_up.CLASSICAL
    assert found.classical_intervals == made_up.CLASSICAL_INTERVALS
    runs.write(tmp_path, dataclasses.replace(found, classical_intervals={}))  # an older one
    compare(tmp_path)
    assert laboratory.heard == ["data", "data"]


def test_what_broke_off_goes_on(laboratory, tmp_path):
    laboratory.breaks_at = 4
    with pytest.raises(UserError, match="status 1"):
        compare(tmp_path)
    laboratory.breaks_at, laboratory.pace = None, 3.0
    compare(tmp_path, seeds=3)
    assert [run[:2] for run in laboratory.done] == [(n, s) for s in (0, 1, 2) for n in ALL]


def test_a_directory_is_filled_by_one_process(laboratory, tmp_path, monkeypatch):
    """Two would each write all that they know, and lose what the other did."""
    monkeypatch.setattr(processes, "_PATIENCE_SECONDS", 0.0)
    with (tmp_path / ".lock").open("w") as held:
        processes.lock(held, "")
        with pytest.raises(UserError, match="another process is comparing there"):
            compare(tmp_path)
    assert laboratory.done == []
    compare(tmp_path)
    assert len(laboratory.done) == 6


def test_a_recipe_added_on_a_slower_day_gets_equal_time(laboratory, tmp_path):
    compare(tmp_path, only=["simclr", "loev_tempo_pitch"], seeds=1)
    laboratory.pace = 3.0
    compare(tmp_path, only=["loevpp_tempo_pitch"], seeds=1)
    assert laboratory.done[-1] == ("loevpp_tempo_pitch", 0, 50)
    assert list(runs.read(tmp_path).plan.steps) == ALL


@pytest.mark.parametrize("quick", [False, True])
def test_a_quick_one_has_quick_runs(laboratory, tmp_path, quick):
    compare(tmp_path, seeds=1, quick=quick, eval_data="large")
    assert laboratory.quick == quick
    found = runs.read(tmp_path)
    assert found.plan.most == (800 if quick else None)
    assert found.candidates == len(set(laboratory.numbers)) == (800 if quick else 4000)
    # One that was begun when all clips were heard goes on so.
    runs.write(
        tmp_path, dataclasses.replace(found, plan=dataclasses.replace(found.plan, most=None))
    )
    compare(tmp_path, seeds=2, quick=quick, eval_data="large")
    assert runs.read(tmp_path).plan.most is None


def test_differences_are_told_of_the_runs_that_left_their_resamples(laboratory, tmp_path, capsys):
    laboratory.leaves = True
    compare(tmp_path, seeds=1)
    found = runs.read(tmp_path)
    seeds = {name: list(one) for name, one in found.differences.items()}
    assert seeds == {"loev_tempo_pitch": ["0"], "loevpp_tempo_pitch": ["0"]}
    assert "instrument minus SimCLR's best, 95 %" in capsys.readouterr().out
    laboratory.leaves = False
    compare(tmp_path, seeds=2)
    assert runs.read(tmp_path).differences == found.differences


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 99}, r"--steps=99: .* has a plan with steps 100; go on with"),
        ({"quick": True}, r"--quick=True: .* has a plan with quick False; go on with"),
    ],
)
def test_what_cannot_be_compared_is_refused(laboratory, tmp_path, change, message):
    compare(tmp_path, seeds=1)
    with pytest.raises(UserError, match=message):
        compare(tmp_path, **change)


def test_other_clips_are_refused_and_the_same_ones_taken_wherever_they_lie(laboratory, tmp_path):
    compare(tmp_path, seeds=1)
    compare(tmp_path, seeds=2, data="moved")
    assert len(laboratory.done) == 6
    assert runs.read(tmp_path).plan.data == "moved"
    laboratory.clips = "decaf"
    with pytest.raises(
        UserError, match=r"--data=other: .* other clips, those of --data=moved; go on"
    ):
        compare(tmp_path, data="other")
    assert len(laboratory.done) == 6


def test_figures_are_of_the_data_set_that_is_asked_for(laboratory, tmp_path):
    compare(tmp_path, seeds=1, eval_data="fresh")
    found = runs.read(tmp_path)
    assert (found.plan.data, found.plan.eval_data) == ("data", "fresh")
    assert found.plan.clips == "c0ffee+facade"
    assert found.candidates == 70
    assert laboratory.heard == ["fresh"]
    compare(tmp_path, seeds=2, eval_data="fresh")
    assert len(laboratory.done) == 6
    with pytest.raises(UserError, match=r"--data=data: .* those of --data=data --eval_data=fresh;"):
        compare(tmp_path)


def test_nothing_to_show(tmp_path):
    with pytest.raises(UserError, match=r"no finished run in results\.json"):
        comparison.show(tmp_path)
