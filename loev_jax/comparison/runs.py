"""The runs of a comparison: each is trained and evaluated by the entry points, and kept for good.

All that is known lies in one file, so that a comparison can be stopped at any time, moved to
another machine, and gone on with.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from loev_jax import atomic
from loev_jax.comparison.plan import RECIPES, REFERENCE, VARIANT, Plan, config_path
from loev_jax.data import records
from loev_jax.errors import UserError
from loev_jax.evaluate import results
from loev_jax.evaluate.crossmodal import ByScore, ByWords
from loev_jax.evaluate.humming import Humming
from loev_jax.evaluate.probes import curve
from loev_jax.evaluate.results import CHECKPOINT, HEADS, INTERVALS, RANDOM_INIT, SHUFFLED
from loev_jax.evaluate.tasks import evaluators

FILE = "results.json"
DEARER = (Humming.name, ByScore.name, ByWords.name)
"""Tasks that are made for a comparison beside the default ones, with the first seed."""

CURVES = tuple(curve(name) for name in ("tempo", "key", "instrument"))
"""Learning curves that are made of every run of a comparison that is not quick."""

QUICK_SEGMENTS = 2
"""Of a clip, in a quick comparison: embedding takes a third of the time."""

BASELINES = {RANDOM_INIT: "random init", SHUFFLED: "shuffled labels"}
"""Sections beside that of the checkpoint, and what a table calls them."""

_SECTIONS = (
    CHECKPOINT,
    INTERVALS[CHECKPOINT],
    RANDOM_INIT,
    INTERVALS[RANDOM_INIT],
    SHUFFLED,
    HEADS,
)


@dataclasses.dataclass
class Results:
    """The plan and what has been measured so far.

    Attributes:
        plan: what is to be run.
        runs: for each "recipe/seed" the metrics of a finished run, by section ("spaces",
            "random_init", "shuffled_labels"), space and name, both ends of the 95 % intervals of
            the first two ("intervals", "random_init_intervals", which older runs lack), what its
            heads keep ("heads"), and the seconds that it took; those of a training that was resumed
            are not known.
        classical: metrics of the estimators that learn nothing, on the same test clips.
        classical_intervals: both ends of their 95 % intervals.
        candidates: test clips among which searches look; 0 where that is not known.
        differences: of each recipe and seed from the baseline, as `paired.differences` gives them.
    """

    plan: Plan
    runs: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    classical: dict[str, float] = dataclasses.field(default_factory=dict)
    classical_intervals: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    candidates: int = 0
    differences: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)

    def done(self, name: str) -> list[dict[str, Any]]:
        """The finished runs of a recipe, by seed."""
        keys = (key(name, seed) for seed in range(self.plan.seeds))
        return [self.runs[one] for one in keys if one in self.runs]

    def sections(self, baselines: Iterable[str] = (RANDOM_INIT,)) -> list[tuple[str, str, str]]:
        """What stands in a table, in order: a title, and the recipe and section that it is of.

        Args:
            baselines: of `BASELINES`, which are the reference's; then comes every recipe.
        """
        return [
            *((BASELINES[section], REFERENCE, section) for section in baselines),
            *((RECIPES[name], name, CHECKPOINT) for name in self.plan.steps),
        ]

    def missing(self) -> list[tuple[str, int]]:
        """The runs to be done, in order."""
        return [one for one in self.plan.runs() if key(*one) not in self.runs]


def key(name: str, seed: int) -> str:
    """What a run is called in the file."""
    return f"{name}/{seed}"


def read(directory: Path) -> Results | None:
    """What an earlier comparison left in a directory, if anything.

    Raises:
        UserError: the file is not what `write` leaves.
    """
    path = directory / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        sections = ("classical", "classical_intervals")
        return Results(
            Plan(**found["plan"]),
            dict(found["runs"]),
            **{name: dict(found[name]) for name in sections if name in found},
            candidates=int(found.get("candidates", 0)),
            differences=_by_seed(found.get("differences", {})),
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no comparison ({error!r}): remove it") from error


def _by_seed(differences: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Differences as they are kept now; older ones were means over seeds, and not all known."""
    return {
        name: {"0": known["spaces"]} if "spaces" in known else dict(known)
        for name, known in differences.items()
        if known.get("seeds", 1) == 1
    }


def write(directory: Path, results: Results) -> None:
    """Writes what is known, whole or not at all."""
    text = json.dumps(dataclasses.asdict(results), indent=1)
    with atomic.replacing(directory / FILE) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def evaluated(plan: Plan, name: str, seed: int, workdirs: Path) -> Path:
    """The directory that gets the evaluation of a run."""
    data = Path(plan.eval_data) if plan.eval_data else None
    return results.directory(_workdir(name, seed, workdirs), data)


def _workdir(name: str, seed: int, workdirs: Path) -> Path:
    return workdirs / f"{name}-{seed}"


def run(
    root: Path, plan: Plan, name: str, seed: int, workdirs: Path, *, dearer: bool
) -> dict[str, Any]:
    """Trains and evaluates one recipe with one seed; an interrupted training is resumed.

    Where the plan is quick, clips are heard in `QUICK_SEGMENTS` instead of as many as fit.

    Args:
        root: of the repository.
        plan: of the comparison.
        name: of the recipe.
        seed: of the run.
        workdirs: gets the run's directory.
        dearer: whether `DEARER` are made too.

    Returns:
        Its metrics, as in `Results.runs`.

    Raises:
        UserError: training or evaluation failed.
    """
    workdir, last = _workdir(name, seed, workdirs), plan.steps[name]
    begun = (workdir / "config.json").exists()
    start = time.monotonic()
    _call(
        root / "launch" / "train.py",
        f"--config={config_path(root, name)}:{VARIANT}",
        f"--workdir={workdir}",
        f"--config.seed={seed}",
        f"--config.data.path={plan.data}",
        f"--config.training.steps={last}",
    )
    trained = time.monotonic()
    columns = records.open_split(plan.eval_data or plan.data, "test").label_names
    tasks = (*evaluators(columns)[0], *(() if plan.quick else CURVES), *(DEARER if dearer else ()))
    _call(
        root / "launch" / "eval.py",
        f"--workdir={workdir}",
        "--step=last",
        f"--tasks={','.join(tasks)}",
        f"--baselines={name == REFERENCE}",  # the tables show that of the reference
        *([f"--segments={QUICK_SEGMENTS}"] if plan.quick else []),
        *([f"--clips={plan.most}"] if plan.most else []),
        *([f"--data={plan.eval_data}"] if plan.eval_data else []),
    )
    path = evaluated(plan, name, seed, workdirs) / f"{last}.json"
    result = json.loads(path.read_text(encoding="utf-8"))
    seconds = {"training": round(trained - start), "evaluation": round(time.monotonic() - trained)}
    if begun:
        del seconds["training"]  # an earlier call did a part of it
    sections: Mapping[str, Any] = {name: _rounded(result[name]) for name in _SECTIONS}
    return {"seconds": seconds, "steps": last, **sections}


def _call(script: Path, *arguments: str) -> None:
    """Runs an entry point, whose output goes where ours does. Raises UserError if it fails."""
    done = subprocess.run([sys.executable, str(script), *arguments], check=False, stdout=sys.stderr)
    if done.returncode:
        said = " ".join((script.name, *arguments))
        raise UserError(f"status {done.returncode} of {said}: mend it and run this again")


def _rounded(value: Any) -> Any:
    """Four decimals: the spread of seeds is in the second."""
    if isinstance(value, Mapping):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return round(value, 4) if isinstance(value, float) else value
