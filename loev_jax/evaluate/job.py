"""The eval job: every checkpoint of a run that has no result yet, oldest first."""

from __future__ import annotations

import dataclasses
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loev_jax import checkpoint, config
from loev_jax import model as models
from loev_jax.data import records
from loev_jax.errors import UserError
from loev_jax.evaluate import baseline, crossmodal, humming, matrices, report, results, sweep
from loev_jax.evaluate import tasks as known_tasks
from loev_jax.evaluate.crossmodal import ByScore
from loev_jax.evaluate.evaluator import SPLITS
from loev_jax.evaluate.figures import Figure
from loev_jax.evaluate.humming import HUMS, Humming
from loev_jax.evaluate.spaces import (
    ALL,
    HEADS,
    Embedder,
    Facts,
    Mix,
    Vectored,
    Vectors,
    with_unions,
)
from loev_jax.model import ENCODER

DIRECTORY = "eval"
DONE = "DONE"
SEGMENTS = 6
_POLL_SECONDS = 2.0


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a result depends on besides the checkpoint.

    Attributes:
        clips: at most so many of each split; None for all.
        segments: most segments of a clip.
        mix: further spaces, weighted sums of the others, as `Mix.parse` reads them.
        baselines: whether random init and shuffled labels are evaluated too.
    """

    clips: int | None = None
    segments: int = SEGMENTS
    mix: Sequence[str] = ()
    baselines: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "mix", [str(Mix.parse(text)) for text in self.mix])
        for name, flag in (("clips", self.clips), ("segments", self.segments)):
            if flag is not None and flag < 1:
                raise UserError(f"--{name}={flag}: give a number of at least 1")


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
        """Opens the data set; reads no record yet.

        Args:
            workdir: of the run.
            tasks: by name; None for those done by default.
            settings: of every result.
            data: a data set to evaluate on instead of the run's own; its results go to
                `eval_NAME/`, by the name of its directory.

        Raises:
            UserError: `workdir` holds no run, its data set cannot be opened, or a task is unknown.
        """
        self.workdir = workdir
        self.directory = workdir / (f"{DIRECTORY}_{data.resolve().name}" if data else DIRECTORY)
        self.settings = settings
        self.failed = False
        self.latest: dict[str, Any] | None = None
        self._recipe = recipe = config.load(workdir)
        self._data = str(data or recipe.data.path)
        try:
            self._splits = {split: records.open_split(self._data, split) for split in SPLITS}
        except UserError as error:
            raise UserError(
                f"{error}; evaluation needs the splits {', '.join(SPLITS)}, which a folder has "
                "from 50 audio files on"
            ) from error
        self.tasks = known_tasks.choose(tasks, self._splits["train"].label_names)
        asked = Humming.name in self.tasks
        self._hums = humming.of(self._splits["test"], recipe.seed) if asked else None
        self._mixes = [Mix.parse(text) for text in settings.mix]
        known = (*recipe.model.spaces, *([HEADS] if recipe.model.heads else []), ALL)
        for mix in self._mixes:
            for name, _ in mix.weights:
                if name not in known:
                    raise UserError(
                        f"--mix={mix}: no space is called {name!r}; there are {', '.join(known)}"
                    )
        self._random = models.create(recipe.model, recipe.seed)
        self._embedder = Embedder(recipe.views, self._random, settings.segments)
        self._baseline: dict[str, Vectored] | None = None
        self._baseline_key = ""
        self._baseline_scores: dict[str, dict[str, Mapping[str, Figure]]] = {}
        self._given_up: set[int] = set()
        self._known_rolls: dict[int, np.ndarray | None] = {}

    def path(self, step: int) -> Path:
        """Where the result of a checkpoint is written."""
        return self.directory / f"{step}.json"

    def result(self, step: int) -> dict[str, Any] | None:
        """The result of a checkpoint, if there is one. Raises as `results.read` does."""
        return results.read(self.path(step), dataclasses.asdict(self.settings))

    def missing(self, step: int) -> tuple[str, ...]:
        """The tasks without a result at a checkpoint; those that failed before have none."""
        if step in self._given_up:
            return ()
        done = (self.result(step) or {}).get("tasks", ())
        return tuple(name for name in self.tasks if name not in done)

    def todo(self) -> list[int]:
        """The checkpoints that are there and lack a result, oldest first."""
        return [step for step in checkpoint.steps(self.workdir) if self.missing(step)]

    def evaluate(self, step: int) -> None:
        """Evaluates one checkpoint and writes its result.

        A task that fails is reported and leaves the others alone; `failed` tells that one did. A
        checkpoint that training deletes meanwhile is passed over.
        """
        start = time.monotonic()
        model = self._restore(step)
        if model is None:
            return
        tasks = self.missing(step)
        result = self.result(step) or results.blank(
            step,
            self._data,
            dataclasses.asdict(self.settings),
            self._recipe.model.heads,
        )
        facts, here, random = self._embed(model)
        self._note_counts(result, facts)
        result["seconds"]["embedding"] = round(time.monotonic() - start, 1)
        for name in tasks:
            began = time.monotonic()
            if self._attempt(result, name, self._score, result, name, facts, here, random):
                result["tasks"].append(name)
            result["seconds"][name] = round(time.monotonic() - began, 1)
        picture = self.directory / f"{step}.png"
        self._attempt(result, "plot", report.plot, result, picture)
        picture = self.directory / f"{step}_matrices.png"
        self._attempt(result, "matrices", matrices.plot, result, picture)
        self._attempt(result, "events", report.events, result, self.directory)
        result["seconds"]["total"] = round(time.monotonic() - start, 1)
        results.write(self.path(step), result)
        self._given_up |= {step} if result["failed"] else set()
        self.latest = result
        say(f"step {step}: evaluated in {result['seconds']['total']:.0f} s, {self.path(step)}")

    def _restore(self, step: int) -> models.Model | None:
        try:
            return checkpoint.restore_model(self.workdir, step, self._recipe)
        except Exception as error:
            self._given_up.add(step)
            if step not in checkpoint.steps(self.workdir):
                say(f"step {step}: passed over, training has deleted the checkpoint")
                return None
            if not isinstance(error, UserError):
                raise
            say(f"step {step}: failed, {error}")
            self.failed = True
            return None

    def _embed(
        self, model: models.Model
    ) -> tuple[dict[str, Facts], dict[str, Vectored], dict[str, Vectored]]:
        """Facts, where the checkpoint puts the clips, and where the random-init model does.

        The last is empty without baselines.
        """
        self.directory.mkdir(exist_ok=True)
        recipe = self._recipe
        heads = recipe.model.projected
        if not self.settings.baselines:
            facts, spaces = self._embed_with([model])
            return facts, _complete(spaces[0], heads, self._mixes), {}
        settings = (
            f"{recipe.model}\n{recipe.views}\n{recipe.seed}\n"
            f"{self.settings.clips} clips, {self.settings.segments} segments\n"
            f"{sweep.VIEWS} views of {sweep.CLIPS}"
        )
        if self._baseline is None and (kept := baseline.load(self.directory)):
            self._baseline_key, self._baseline = kept
        usable = self._baseline_key.startswith(settings + "\n")
        facts, spaces = self._embed_with([model] if usable else [model, self._random])
        key = baseline.key_of(settings, facts)
        if key != self._baseline_key:
            random = spaces[1] if not usable else self._embed_with([self._random])[1][0]
            baseline.save(self.directory, key, random)
            self._baseline_key, self._baseline = key, random
            self._baseline_scores.clear()
        assert self._baseline is not None
        return (
            facts,
            _complete(spaces[0], heads, self._mixes),
            _complete(self._baseline, heads, self._mixes),
        )

    def _embed_with(
        self, these: list[models.Model]
    ) -> tuple[dict[str, Facts], list[dict[str, Vectored]]]:
        facts: dict[str, Facts] = {}
        spaces: list[dict[str, Vectored]] = [{} for _ in these]
        for number, (name, split) in enumerate(self._splits.items()):
            facts[name], found = self._embedder.embed(
                these, split, number=number, seed=self._recipe.seed, most=self.settings.clips
            )
            swept: list[Vectors] = [{} for _ in these]
            if name == SPLITS[-1]:
                known, swept = self._embedder.sweep(
                    these, split, number=number, seed=self._recipe.seed, most=self.settings.clips
                )
                facts[name] = dataclasses.replace(facts[name], swept=known)
            for one, vectors, views in zip(spaces, found, swept, strict=True):
                one[name] = dataclasses.replace(vectors, swept=views)
            if ByScore.name in self.tasks:
                facts[name] = dataclasses.replace(facts[name], rolls=self._rolls(facts[name]))
        if self._hums is not None:
            facts[HUMS], found = self._embedder.embed(
                these, self._hums, number=len(SPLITS), seed=self._recipe.seed
            )
            for one, vectors in zip(spaces, found, strict=True):
                one[HUMS] = vectors
        return facts, spaces

    def _rolls(self, facts: Facts) -> np.ndarray | None:
        """Of the clips' scores, which are read once for all checkpoints."""
        key = facts.digest
        if key not in self._known_rolls:
            self._known_rolls[key] = crossmodal.rolls(facts)
        return self._known_rolls[key]

    def _score(
        self,
        result: dict[str, Any],
        name: str,
        facts: Mapping[str, Facts],
        here: Mapping[str, Vectored],
        random: Mapping[str, Vectored],
    ) -> None:
        """Adds a task's numbers to a result, by section, space and metric."""
        evaluator, spaces = self.tasks[name], list(here["train"].tracks)
        for space in spaces:
            if not all(np.isfinite(one.tracks[space]).all() for one in here.values()):
                raise FloatingPointError(f"space {space!r} is not finite: training has diverged")
        for reason in (reasons := evaluator.left_out(facts)):
            say(f"step {result['step']}: {name}: left out, {reason}")
        found: dict[str, dict[str, Mapping[str, Figure]]] = {
            results.CHECKPOINT: {space: evaluator.score(facts, here, space) for space in spaces}
        }
        if self.settings.baselines:
            if name not in self._baseline_scores:
                self._baseline_scores[name] = {
                    space: evaluator.score(facts, random, space) for space in spaces
                }
            shuffle = np.random.default_rng(self._recipe.seed)
            found[results.RANDOM_INIT] = self._baseline_scores[name]
            found[results.SHUFFLED] = {ENCODER: evaluator.score(facts, here, ENCODER, shuffle)}
        for section, by_space in found.items():
            for space, metrics in by_space.items():
                result[section].setdefault(space, {}).update(metrics)
                if section == results.CHECKPOINT:
                    ends = {k: list(v.interval) for k, v in metrics.items()}
                    result.setdefault(results.INTERVALS, {}).setdefault(space, {}).update(ends)
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
            pairs = len(next(iter(one.differences.values())))
            skipped = len(one.skipped)
            result["counts"][split] = {"clips": len(one.ids), "pairs": pairs, "skipped": skipped}
            if skipped:
                say(
                    f"{split}: skipped {skipped} clips shorter than a view, such as "
                    f"{one.skipped[0]}"
                )


def _complete(
    spaces: Mapping[str, Vectored], heads: Sequence[str], mixes: Sequence[Mix]
) -> dict[str, Vectored]:
    """Adds the spaces made of several to every split, standardised by the train split."""
    train = spaces["train"].tracks

    def unions(vectors: Vectors) -> Vectors:
        return with_unions(train, vectors, heads, mixes)

    return {
        split: Vectored(*map(unions, (one.tracks, one.clean, one.moved, one.swept)))
        for split, one in spaces.items()
    }


def run(
    workdir: Path,
    tasks: Sequence[str] | None,
    settings: Settings,
    step: str | None,
    watch: bool,
    data: Path | None = None,
) -> bool:
    """Evaluates what `step` and `watch` ask for, and prints the table of the last one.

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
    else:
        job = Job(workdir, tasks, settings, data)
        present = checkpoint.steps(workdir)
        if not present:
            raise UserError(f"{workdir} has no checkpoint yet: train first, or give --watch")
        wanted = present if step is None else [_step(step, present, workdir)]
        for one in wanted:
            if job.missing(one):
                job.evaluate(one)
        job.latest = job.latest or job.result(wanted[-1])
    if job.latest is not None:
        of = f" on {data}" if data else ""
        print(report.summary(job.latest, f"{workdir}{of}"))
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
    if not (workdir / config.FILE).exists():
        say(f"{workdir}: waiting for training to begin")
    while not (workdir / config.FILE).exists():
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
