"""The plan of a comparison: equal time, and what is run in which order."""

import os
import runpy
from pathlib import Path

import hypothesis.strategies as st
import made_up
import pytest
from hypothesis import given

from loev_jax import config
from loev_jax.comparison import plan
from loev_jax.errors import UserError
from loev_jax.evaluate import changes

ROOT = Path(__file__).parents[2]


@given(
    st.dictionaries(st.sampled_from(list(plan.RECIPES)), st.floats(1, 1e4)),
    st.floats(1, 1e4),
    st.integers(1, 10_000),
)
def test_equal_steps_take_equally_long(milliseconds, of_reference, number):
    milliseconds |= {plan.REFERENCE: of_reference}
    steps = plan.equal_time(milliseconds, number)
    assert steps[plan.REFERENCE] == number
    for name, one in milliseconds.items():
        # Within half a step, or a single one that takes longer.
        assert abs(steps[name] * one - number * of_reference) <= one / 2 or steps[name] == 1


def test_every_recipe_with_the_first_seed_comes_first():
    runs = made_up.PLAN.runs()
    assert len(set(runs)) == len(runs) == 9
    assert [seed for _, seed in runs] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_recipes_are_configs_and_the_reference_one_of_them():
    assert plan.REFERENCE in plan.RECIPES
    assert all(plan.config_path(ROOT, name).is_file() for name in plan.RECIPES)


def test_every_recipe_is_asked_about_the_same_stretches_and_shifts():
    drawn = set()
    for name in plan.RECIPES:
        made = runpy.run_path(str(plan.config_path(ROOT, name)))["get_config"](plan.VARIANT)
        drawn.add(repr(changes.ranges(config.read(made).views.augmentations)))
    assert len(drawn) == 1


def test_steps_are_timed_apart_so_that_the_runs_have_the_accelerator(monkeypatch):
    monkeypatch.setattr(plan, "_time_here", made_up.who_times)
    assert plan.time_steps(ROOT, ["simclr"], True)["simclr"] != os.getpid()


def test_choice():
    assert plan.choose(None) == tuple(plan.RECIPES)
    assert plan.choose(["loev_tempo", "simclr"]) == ("simclr", "loev_tempo")
    with pytest.raises(UserError, match="--only: unknown recipe 'byol': choose from simclr, "):
        plan.choose(["simclr", "byol"])
