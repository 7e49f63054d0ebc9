"""The eval job: every checkpoint of a run that has no result yet, oldest first."""

from __future__ import annotations

import dataclasses
import functools
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loev_jax import checkpoint, run_config
from loev_jax import model as models
from loev_jax.data import processes
from loev_jax.errors import UserError
from loev_jax.evaluate import labels, report, resamples, results, splits
from loev_jax.evaluate import tasks as known_tasks
from loev_jax.evaluate.embedding import Embedding
from loev_jax.evaluate.figures import Figure
from loev_jax.evaluate.settings import Settings
from loev_jax.evaluate.spaces import Facts, Vectored

DONE = "DONE"
_POLL_SECONDS = 2.0


def say(line: str) -> None:
    """One line on stderr: stdout is for the table."""
    print(line, file=sys.stderr, flush=True)


class Job:
    """Evaluates the checkpoints of one run; embeds each once, for all tasks."""

    def __init__(
        self,
        workdir: Path,
        tasks: Sequence[str] | None,
        settings: Settings,
        data: Path | None = None,
    ) -> None:
        """Opens the data set.

        Args:
            workdir: of the run.
            tasks: by name; None for those done by default.
            settings: of every result.
            data: a data set to evaluate on instead of the run's own; its results go to
                `eval_NAME/`, by the name of its directory. Figures of the validation split go to
                `validation/` within, those of all its clips to `all/`.

        Raises:
            UserError: `workdir` holds no run, its data set cannot be opened, or a task is unknown.
        """
        self.workdir = workdir
        self.directory = results.directory(workdir, data, settings.split)
        self.settings = settings
        self.failed = False
        self._recipe = recipe = run_config.load(workdir)
        self._data = str(data or recipe.data.path)
        self._splits = (
            splits.transfer(self._data, recipe.data.path)
            if settings.split == splits.WHOLE
            else splits.open_all(self._data, settings.split)
        )
        self.tasks = known_tasks.choose(
            tasks, self._splits[splits.TRAIN].label_names, labels.kinds(settings.kinds)
        )
        self._embedding = Embedding(recipe, self._splits, settings, self.tasks, self.directory)
        self._baseline_scores: dict[tuple[str, str], dict[str, Mapping[str, Figure]]] = {}
        self._given_up: set[int] = set()

    def path(self, step: int) -> Path:
        """Where the result of a checkpoint is written."""
        return self.directory / f"{step}.json"

    def result(self, step: int) -> dict[str, Any] | None:
        """The result of a checkpoint, if there is one.

        Raises:
            UserError: it cannot be read, or is of other settings or of another data set.
        """
        result = results.read(self.path(step), dataclasses.asdict(self.settings))
        if result is not None:
            results.check_data(self.path(step), result, self._data, self._digest)
        return result

    @functools.cached_property
    def _digest(self) -> str:
        """Of the clips, which are read for it: a tenth of the time that it takes to embed them."""
        return splits.digest(self._splits, self.settings.clips)

    def left(self, step: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What is to be done of a checkpoint: tasks, and names of what is shown of its result.

        Tasks are those without a result. Shown anew is all of a result that gets more, else what
        failed or was removed. Nothing that this job has failed at is tried again.
        """
        if step in self._given_up:
            return (), ()
        result = self.result(step) or {}
        tasks = tuple(name for name in self.tasks if name not in result.get("tasks", ()))
        if tasks:
            return tasks, tuple(report.SHOWN)
        return (), tuple(
            name
            for name, (_, file) in report.SHOWN.items()
            if name in result["failed"]
            or (name in result.get(results.SHOWN, ()) and not self._file(step, file).exists())
        )

    def _file(self, step: int, name: str) -> Path:
        return self.directory / name.format(step=step)

    def todo(self) -> list[int]:
        """The checkpoints that are there and lack a result or a picture of it, oldest first."""
        return [step for step in checkpoint.steps(self.workdir) if any(self.left(step))]

    def evaluate(self, step: int) -> None:
        """Does what is missing of one checkpoint, and writes its result.

        A task that fails is reported and leaves the others alone; `failed` tells that one did. A
        checkpoint that training deletes meanwhile is passed over. Where another process is
        evaluating into the same directory, it is waited for; what it did is not done again.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / ".lock").open("w") as lock:
            processes.lock_when_free(
                lock,
                lambda: say(f"{self.directory}: another process is evaluating into it; waiting"),
            )
            tasks, pictures = self.left(step)
            if tasks or pictures:
                self._evaluate(step, tasks, pictures)

    def _evaluate(self, step: int, tasks: Sequence[str], pictures: Sequence[str]) -> None:
        result = self._scored(step, tasks) if tasks else self.result(step)
        if result is None:
            return
        shown = set(result.get(results.SHOWN, ()))
        for name in pictures:
            draw, file = report.SHOWN[name]
            path = self._file(step, file)
            well = self._attempt(result, name, draw, result, path)
            shown = shown | {name} if well and path.exists() else shown - {name}
        result[results.SHOWN] = sorted(shown)
        results.write(self.path(step), result)
        self._given_up |= {step} if result["failed"] else set()
        if tasks:
            seconds = result["seconds"]["total"]
            say(f"step {step}: evaluated in {seconds:.0f} s, {self.path(step)}")
        else:
            say(f"step {step}: drawn again, {self.path(step)}")

    def _scored(self, step: int, tasks: Sequence[str]) -> dict[str, Any] | None:
        """The result of a checkpoint with these tasks done; None where it cannot be read."""
        start = time.monotonic()
        model = self._restore(step)
        if model is None:
            return None
        result = self.result(step)
        if result is None:
            self._file(step, resamples.FILE).unlink(missing_ok=True)  # of a result that was removed
            result = results.blank(
                step,
                self._data,
                self._digest,
                dataclasses.asdict(self.settings),
                self._recipe.model.heads,
            )
        result[results.DIGEST] = self._digest
        facts, here, random = self._embedding.of(model)
        self._note_counts(result, facts)
        result["seconds"]["embedding"] = round(time.monotonic() - start, 1)
        embedded = (facts, here, random, _not_finite(here))
        for name in tasks:
            began = time.monotonic()
            if self._attempt(result, name, self._score, result, name, *embedded):
                result["tasks"].append(name)
            result["seconds"][name] = round(time.monotonic() - began, 1)
        result["seconds"]["total"] = round(time.monotonic() - start, 1)
        return result

    def _restore(self, step: int) -> models.Model | None:
        try:
            return checkpoint.restore_model(self.workdir, step, self._recipe)
        except Exception as error:
            self._given_up.add(step)
            if self._goes(step):
                say(f"step {step}: passed over, training has deleted the checkpoint")
                return None
            if not isinstance(error, UserError):
                raise
            say(f"step {step}: failed, {error}")
            self.failed = True
            return None

    def _goes(self, step: int) -> bool:
        """Whether training deletes a checkpoint: its directory goes last, a moment after files."""
        deadline = time.monotonic() + _POLL_SECONDS
        while (there := step in checkpoint.steps(self.workdir)) and time.monotonic() < deadline:
            time.sleep(0.05)
        return not there

    def _score(
        self,
        result: dict[str, Any],
        name: str,
        facts: Mapping[str, Facts],
        here: Mapping[str, Vectored],
        random: Mapping[str, Vectored],
        diverged: str | None,
    ) -> None:
        """Adds a task's numbers to a result, by section, space and metric."""
        if name in self._embedding.failed:
            raise self._embedding.failed[name]
        evaluator, spaces = self.tasks[name], list(here[splits.TRAIN].tracks)
        seed = self._recipe.seed
        if diverged is not None:
            raise FloatingPointError(f"space {diverged!r} is not finite: training has diverged")
        for reason in (reasons := evaluator.left_out(facts)):
            say(f"step {result['step']}: {name}: left out, {reason}")
        found: dict[str, dict[str, Mapping[str, Figure]]] = {
            results.CHECKPOINT: {space: evaluator.score(facts, here, space) for space in spaces}
        }
        if self.settings.baselines:
            untrained = (name, self._embedding.baseline_key)
            if untrained not in self._baseline_scores:
                self._baseline_scores[untrained] = {
                    space: evaluator.score(facts, random, space) for space in spaces
                }
            found[results.RANDOM_INIT] = self._baseline_scores[untrained]
            found[results.SHUFFLED] = {  # by the same order in every space
                space: evaluator.score(facts, here, space, np.random.default_rng(seed))
                for space in spaces
            }
        resamples.add(self._file(result["step"], resamples.FILE), found[results.CHECKPOINT])
        for section, by_space in found.items():
            for space, metrics in by_space.items():
                result[section].setdefault(space, {}).update(metrics)
                ends = {metric: list(figure.interval) for metric, figure in metrics.items()}
                intervals = result.setdefault(results.INTERVALS[section], {})
                intervals.setdefault(space, {}).update(ends)
        for space, metrics in found[results.CHECKPOINT].items():
            behind = result.setdefault(results.CONFUSIONS, {}).setdefault(space, {})
            behind |= {
                metric: figure.confusion.to_json()
                for metric, figure in metrics.items()
                if figure.confusion is not None
            }
        if reasons:
            result["left_out"][name] = reasons

    def _attempt(
        self, result: dict[str, Any], name: str, work: Callable[..., None], *arguments: Any
    ) -> bool:
        """Does one part of an evaluation; whether it went well."""
        result["failed"].pop(name, None)
        try:
            work(*arguments)
        except Exception as error:  # whatever one part does, the others go on
            traceback.print_exc()
            say(f"step {result['step']}: {name} failed ({type(error).__name__}: {error})")
            result["failed"][name] = f"{type(error).__name__}: {error}"
            self.failed = True
            return False
        return True

    def _note_counts(self, result: dict[str, Any], facts: Mapping[str, Facts]) -> None:
        for split, one in facts.items():
            skipped = len(one.skipped)
            counts: dict[str, Any] = {"clips": len(one.ids), "pairs": one.pairs, "skipped": skipped}
            of_piece = np.unique(one.pieces, return_counts=True)[1]
            sizes, pieces = np.unique(of_piece, return_counts=True)
            counts[results.PIECES] = dict(zip(map(str, sizes), map(int, pieces), strict=True))
            result["counts"][split] = counts
            if skipped:
                say(
                    f"{split}: skipped {skipped} clips shorter than a view, such as "
                    f"{one.skipped[0]}"
                )


def _not_finite(here: Mapping[str, Vectored]) -> str | None:
    """A space in which some vector is not finite."""
    parts = (
        part for one in here.values() for part in (one.tracks, one.clean, one.moved, one.swept)
    )
    found = (space for part in parts for space, rows in part.items() if not np.isfinite(rows).all())
    return next(found, None)


def run(
    workdir: Path,
    tasks: Sequence[str] | None,
    settings: Settings,
    step: str | None,
    watch: bool,
    data: Path | None = None,
) -> bool:
    """Evaluates what `step` and `watch` ask for, and prints the table of the last of them.

    Args:
        workdir: of the run.
        tasks: to do by name; None for those done by default.
        settings: of every result.
        step: a number, "last", or None for every checkpoint without a result.
        watch: go on until the run has written `DONE` and every checkpoint has a result.
        data: a data set to evaluate on instead of the run's own.

    Returns:
        Whether every task of every checkpoint went well.

    Raises:
        UserError: there is nothing to evaluate, or what is there cannot be used.
    """
    if watch:
        if step is not None:
            raise UserError(f"--step={step}: --watch evaluates every checkpoint, leave --step out")
        job = _watch(workdir, tasks, settings, data)
        wanted = checkpoint.steps(workdir)
    else:
        job = Job(workdir, tasks, settings, data)
        present = checkpoint.steps(workdir)
        if not present:
            raise UserError(f"{workdir} has no checkpoint yet: train first, or give --watch")
        wanted = present if step is None else [_step(step, present, workdir)]
        for one in wanted:
            if any(job.left(one)):
                job.evaluate(one)
    there = (found for one in reversed(wanted) if (found := job.result(one)) is not None)
    if (last := next(there, None)) is not None:
        of = f" on {data}" if data else ""
        print(report.summary(last, f"{workdir}{of}"))
    return not job.failed


def _step(step: str, present: list[int], workdir: Path) -> int:
    if step == "last":
        return present[-1]
    if not step.isdigit() or int(step) not in present:
        known = ", ".join(map(str, present))
        raise UserError(f"--step={step}: {workdir} has the checkpoints {known}; or give `last`")
    return int(step)


def _watch(
    workdir: Path, tasks: Sequence[str] | None, settings: Settings, data: Path | None
) -> Job:
    if not (workdir / run_config.FILE).exists():
        say(f"{workdir}: waiting for training to begin")
    while not (workdir / run_config.FILE).exists():
        time.sleep(_POLL_SECONDS)
    job = Job(workdir, tasks, settings, data)
    while True:
        done = (workdir / DONE).exists()  # read first: what is listed after it is complete
        if todo := job.todo():
            job.evaluate(todo[0])
        elif done:
            return job
        else:
            time.sleep(_POLL_SECONDS)
