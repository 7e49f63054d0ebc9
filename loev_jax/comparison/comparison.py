"""A comparison from its plan to its tables; run again, it goes on where it was."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import logging

from loev_jax import atomic
from loev_jax.comparison import classical, curves, paired, report, runs
from loev_jax.comparison import plan as plans
from loev_jax.comparison.plan import Plan
from loev_jax.comparison.runs import Results
from loev_jax.data import processes, records
from loev_jax.errors import UserError
from loev_jax.evaluate import splits
from loev_jax.evaluate.clips import Source, choose

QUICK_CLIPS = 800
"""Of a split, in a quick comparison."""

TABLES = "tables.md"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a comparison is asked for.

    Attributes:
        data: path of the data set to train on.
        only: recipes by name; None for all.
        seeds: of each recipe.
        steps: of the reference; the others get as many as take equally long.
        quick: time the steps in a hurry, hear fewer clips and less of each, and leave out the
            searches by hum, score and words, which are otherwise made with the first seed of each
            recipe: they take as long as the rest.
        eval_data: path of another data set to evaluate on; "" for none.
    """

    data: str
    only: Sequence[str] | None
    seeds: int
    steps: int
    quick: bool
    eval_data: str = ""

    @property
    def scored(self) -> str:
        """The data set that figures are of."""
        return self.eval_data or self.data


def run(root: Path, out: Path, workdirs: Path, settings: Settings) -> None:
    """Runs what is missing, one run after another, and shows the results.

    The plan is made once: steps are timed when the comparison begins, and a later call takes the
    plan that it finds, with more seeds and other recipes where it asks for them.

    Args:
        root: of the repository.
        out: gets `results.json`, `results.png`, `curves.png` and `TABLES`.
        workdirs: gets the runs.
        settings: what is asked for.

    Raises:
        UserError: there is no such recipe, no data set, another plan in `out`, another process that
            fills it, or a run failed.
    """
    names = plans.choose(settings.only)
    paths = dict.fromkeys((settings.data, settings.scored))  # opened before minutes are spent
    opened = {path: splits.open_all(path, splits.TEST) for path in paths}
    try:
        for directory in (out, workdirs):
            directory.mkdir(parents=True, exist_ok=True)
        file = (out / ".lock").open("w")
    except OSError as error:
        raise UserError(
            f"{error.filename}: cannot be written ({error.strerror}); give another --out or "
            "--workdirs"
        ) from error
    with file as lock:
        # Each writes all that it knows: of two, the last would leave nothing of the other's runs.
        processes.lock(lock, f"--out={out}: another process is comparing there; wait for it")
        _fill(root, out, workdirs, settings, names, opened)
    show(out)


def _fill(
    root: Path,
    out: Path,
    workdirs: Path,
    settings: Settings,
    names: Sequence[str],
    opened: Mapping[str, Mapping[str, Source]],
) -> None:
    """Runs what is missing of the recipes `names`. The data sets are `opened`, by path."""
    clips = "+".join(splits.digest(one, None) for one in opened.values())
    results = _planned(root, names, settings, clips, out)
    heard = choose(len(opened[settings.scored][splits.TEST]), results.plan.most)
    results.candidates = len(heard)
    if not results.classical_intervals:  # older comparisons have none, and another hop
        scores = classical.measure(records.open_split(settings.scored, splits.TEST), heard)
        results.classical = {name: float(score) for name, score in scores.items()}
        results.classical_intervals = {name: list(one.interval) for name, one in scores.items()}
    _keep(out, results, workdirs)
    todo = [(name, seed) for name, seed in results.missing() if name in names]
    for number, (name, seed) in enumerate(todo):
        logging.info(
            "run %d of %d: %s, seed %d, %d steps%s",
            number + 1, len(todo), name, seed, results.plan.steps[name],
            _eta(results, todo[number:]),
        )  # fmt: skip
        results.runs[runs.key(name, seed)] = runs.run(
            root,
            results.plan,
            name,
            seed,
            workdirs,
            dearer=not settings.quick and seed == 0,
        )
        _keep(out, results, workdirs)


def _keep(out: Path, results: Results, workdirs: Path) -> None:
    """Writes what is known, with the differences that the runs so far tell."""
    results.differences = paired.differences(results, workdirs, report.COMPARED)
    runs.write(out, results)


def show(out: Path) -> None:
    """Prints the tables of what `out` holds, leaves them in `TABLES` there, and draws its plot.

    Raises:
        UserError: there is nothing.
    """
    results = runs.read(out)
    if results is None or not results.runs:
        raise UserError(f"--out={out}: no finished run in {runs.FILE}; leave --report out")
    tables = report.markdown(results)
    print(tables, flush=True)
    with atomic.replacing(out / TABLES) as partial:
        partial.write_text(f"# Tables of this comparison\n\n{tables}\n", encoding="utf-8")
    report.plot(results, out / "results.png")
    curves.plot(results, out / "curves.png")


def _planned(
    root: Path, names: Sequence[str], settings: Settings, clips: str, out: Path
) -> Results:
    """The results so far under a plan that has the recipes and seeds asked for.

    Raises:
        UserError: the results so far are not comparable with what is asked for.
    """
    found = runs.read(out)
    most = QUICK_CLIPS if settings.quick else None
    begun = Plan(settings.data, clips, settings.quick, 0, settings.steps, most=most)
    known = found.plan if found else begun
    if known.clips != clips:
        asked, theirs = (
            f"--data={one.data}" + (f" --eval_data={one.eval_data}" if one.eval_data else "")
            for one in (settings, known)
        )
        raise UserError(
            f"{asked}: {out / runs.FILE} is of other clips, those of {theirs}; go on with these, "
            "or give another --out"
        )
    for flag, mine, there in (
        ("steps", settings.steps, known.reference_steps),
        ("quick", settings.quick, known.quick),
    ):
        if mine != there:
            raise UserError(
                f"--{flag}={mine}: {out / runs.FILE} has a plan with {flag} {there}; go on with "
                "that, or give another --out"
            )
    milliseconds = dict(known.milliseconds)
    if new := [name for name in names if name not in milliseconds]:
        timed = plans.time_steps(root, new, settings.quick)
        # On another day the machine may be slower: the reference, timed again, tells by how much.
        pace = milliseconds.get(plans.REFERENCE, timed[plans.REFERENCE]) / timed[plans.REFERENCE]
        milliseconds = {name: round(one * pace, 1) for name, one in timed.items()} | milliseconds
    by_recipe = plans.equal_time(milliseconds, settings.steps)
    steps = {
        name: by_recipe[name] for name in plans.RECIPES if name in names or name in known.steps
    }
    seeds = max(settings.seeds, known.seeds)
    plan = dataclasses.replace(
        known,
        data=settings.data,
        eval_data=settings.eval_data,
        seeds=seeds,
        steps=steps,
        milliseconds=milliseconds,
    )
    return dataclasses.replace(found, plan=plan) if found else Results(plan)


def _eta(results: Results, todo: Sequence[tuple[str, int]]) -> str:
    """How long the runs that are left take, if as long as those before; "" without any."""
    if not results.runs:
        return ""
    took = [sum(one["seconds"].values()) for one in results.runs.values()]
    minutes = sum(took) / len(took) * len(todo) / 60
    return f", ETA of all {minutes:.0f} min"
