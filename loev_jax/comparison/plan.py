"""The plan of a comparison: which recipes, which seeds, and how many steps take equally long."""

from __future__ import annotations

import dataclasses
import runpy
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax

from loev_jax import config, fsdp, memory, program_cache
from loev_jax.benchmark import bare
from loev_jax.benchmark.timing import measure
from loev_jax.data import processes
from loev_jax.errors import UserError

RECIPES = {
    "simclr": "SimCLR",
    "simclr_spared": "SimCLR without stretch and shift",
    "loev_tempo": "LOEV, tempo",
    "loev_pitch": "LOEV, pitch",
    "loev_tempo_pitch": "LOEV, both",
    "loevpp_tempo_pitch": "LOEV++, both",
    "looc_tempo_pitch": "LooC++",
    "equivariance_tempo_pitch": "equivariance alone",
}
"""The configs that are compared, and what a table calls them."""

REFERENCE = "loev_tempo_pitch"
"""The recipe whose time all others are given."""

VARIANT = "small"
REPETITIONS, QUICK_REPETITIONS = 8, 4


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is run.

    Attributes:
        data: path of the data set to train on.
        clips: what tells all clips from others, see `splits.digest`.
        quick: whether less is heard of each clip, see `runs.run`.
        seeds: how many, from 0 on; all recipes with the first one come first.
        reference_steps: of `REFERENCE`, whether it is among the recipes or not.
        steps: of each recipe, by the name of its config.
        milliseconds: of a step of each recipe, as measured in turn.
        eval_data: path of the data set to evaluate on; "" for the one that is trained on.
        most: clips of a split that are heard in evaluations; None for all.
    """

    data: str
    clips: str
    quick: bool
    seeds: int
    reference_steps: int
    steps: Mapping[str, int] = dataclasses.field(default_factory=dict)
    milliseconds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    eval_data: str = ""
    most: int | None = None

    def runs(self) -> list[tuple[str, int]]:
        """Every (recipe, seed), in the order in which they are run."""
        return [(name, seed) for seed in range(self.seeds) for name in self.steps]


def choose(names: Sequence[str] | None) -> tuple[str, ...]:
    """The recipes of these names in the order of `RECIPES`, all of them if there are none.

    Raises:
        UserError: no recipe is called so.
    """
    for name in names or ():
        if name not in RECIPES:
            raise UserError(f"--only: unknown recipe {name!r}: choose from {', '.join(RECIPES)}")
    return tuple(name for name in RECIPES if not names or name in names)


def config_path(root: Path, name: str) -> Path:
    """The file of a recipe, below the root of the repository."""
    return root / "configs" / f"{name}.py"


def equal_time(milliseconds: Mapping[str, float], reference_steps: int) -> dict[str, int]:
    """The steps of each recipe that take as long as `reference_steps` of the reference.

    Args:
        milliseconds: of a step of each recipe, `REFERENCE` among them.
        reference_steps: of the reference.

    Returns:
        Numbers of at least 1, by recipe.
    """
    budget = reference_steps * milliseconds[REFERENCE]
    return {name: max(1, round(budget / one)) for name, one in milliseconds.items()}


def time_steps(root: Path, names: Sequence[str], quick: bool) -> dict[str, float]:
    """Times a training step of each recipe and of the reference, in turn, on one device.

    A process of its own does it: one that has touched an accelerator keeps it, or most of its
    memory, to its end, and the runs that follow need it.

    Args:
        root: of the repository.
        names: of the recipes.
        quick: few repetitions.

    Returns:
        Median milliseconds of a step, by recipe.

    Raises:
        UserError: the process was killed.
    """
    with processes.pool(1, _start) as pool:
        return pool.submit(_time_here, root, names, quick).result()


def _start() -> None:
    memory.keep()
    program_cache.use()


def _time_here(root: Path, names: Sequence[str], quick: bool) -> dict[str, float]:
    mesh = fsdp.make_mesh(jax.devices()[:1])
    timed = {}
    for name in dict.fromkeys((*names, REFERENCE)):
        made = runpy.run_path(str(config_path(root, name)))["get_config"](VARIANT)
        recipe = config.read(made)
        timed[name, 1] = (1, bare.Bare(recipe, mesh).take)
    measured = measure("time a step", timed, QUICK_REPETITIONS if quick else REPETITIONS)
    return {name: value["1"] for name, value in measured.items()}
