"""The clips of an evaluation as every task needs them, for one checkpoint after another."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from loev_jax import model as models
from loev_jax.config import Recipe
from loev_jax.errors import UserError
from loev_jax.evaluate import baseline, crossmodal, humming, splits, sweep
from loev_jax.evaluate.changes import DIFFERENCES, kept_by, parameters
from loev_jax.evaluate.clips import Source
from loev_jax.evaluate.crossmodal import ByScore
from loev_jax.evaluate.humming import HUMS, Humming
from loev_jax.evaluate.settings import Settings
from loev_jax.evaluate.spaces import Embedder, Facts, Vectored, Vectors
from loev_jax.evaluate.unions import ALL, HEADS, Mix, with_unions


class Embedding:
    """Embeds each checkpoint once for all tasks, and the random-init model once for all of them.

    Attributes:
        baseline_key: what the embeddings of the random-init model depend on, once they are known.
        failed: why there is nothing to do a task with, by task: its hums or scores could not be
            made for the checkpoint that was embedded last.
    """

    def __init__(
        self,
        recipe: Recipe,
        clips: Mapping[str, Source],
        settings: Settings,
        tasks: Collection[str],
        directory: Path,
    ) -> None:
        """Embeds nothing yet.

        Args:
            recipe: of the run.
            clips: by split.
            settings: of the evaluation.
            tasks: that are asked for, by name: some need hums or scores.
            directory: keeps the embeddings of the random-init model; it exists by then.

        Raises:
            UserError: a mix is of a space that the model does not have, or a change is of an
                augmentation that the recipe does not have.
        """
        self._recipe = recipe
        self._splits = clips
        self._settings = settings
        self._tasks = tasks
        self._directory = directory
        self._mixes = [Mix.parse(text) for text in settings.mix]
        known = (*recipe.model.spaces, *([HEADS] if recipe.model.heads else []), ALL)
        for mix in self._mixes:
            for name, _ in mix.weights:
                if name not in known:
                    raise UserError(
                        f"--mix={mix}: no space is called {name!r}; there are {', '.join(known)}"
                    )
        for change in settings.changes:
            if change not in DIFFERENCES and getattr(recipe.views.augmentations, change) is None:
                raise UserError(
                    f"--changes={change}: the run never applied it, so that its range is unknown; "
                    "leave it out"
                )
        self._random = models.create(recipe.model, recipe.seed)
        self._embedder = Embedder(
            recipe.views, self._random, settings.segments, changed=settings.changes
        )
        self._baseline: dict[str, Vectored] | None = None
        self.baseline_key = ""
        self.failed: dict[str, Exception] = {}
        self._known_rolls: dict[int, np.ndarray | None] = {}

    def of(
        self, model: models.Model
    ) -> tuple[dict[str, Facts], dict[str, Vectored], dict[str, Vectored]]:
        """Facts, where a checkpoint puts the clips, and where the random-init model does.

        The last is empty without baselines.
        """
        recipe = self._recipe
        heads = recipe.model.projected
        self.failed = {}
        if not self._settings.baselines:
            facts, spaces = self._embed_with([model])
            return facts, _complete(spaces[0], heads, self._mixes), {}
        settings = (
            f"{recipe.model}\n{recipe.views}\n{recipe.seed}\n"
            f"{self._settings.clips} clips, {self._settings.segments} segments\n"
            f"{sweep.VIEWS} views of {sweep.CLIPS}, "
            f"{', '.join(parameters(kept_by(recipe.model.heads) | {*self._settings.changes}))}"
        )
        if self._baseline is None and (kept := baseline.load(self._directory)):
            self.baseline_key, self._baseline = kept
        usable = self.baseline_key.startswith(settings + "\n")
        facts, spaces = self._embed_with([model] if usable else [model, self._random])
        key = baseline.key_of(settings, facts)
        if key != self.baseline_key:
            random = spaces[1] if not usable else self._embed_with([self._random])[1][0]
            baseline.save(self._directory, key, random)
            self.baseline_key, self._baseline = key, random
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
                these, split, number=number, seed=self._recipe.seed, most=self._settings.clips
            )
            swept: list[Vectors] = [{} for _ in these]
            if name == splits.TEST:
                known, swept = self._embedder.sweep(
                    these, split, number=number, seed=self._recipe.seed, most=self._settings.clips
                )
                facts[name] = dataclasses.replace(facts[name], swept=known)
            for one, vectors, views in zip(spaces, found, swept, strict=True):
                one[name] = dataclasses.replace(vectors, swept=views)
            with self._made_for(ByScore.name) as wanted:
                if wanted:
                    facts[name] = dataclasses.replace(facts[name], rolls=self._rolls(facts[name]))
        with self._made_for(Humming.name) as wanted:
            # Of what is in the gallery: with `--clips`, or clips that are too short, not all.
            hums = humming.of(facts[splits.TEST], self._recipe.seed) if wanted else None
            if hums is not None:
                facts[HUMS], found = self._embedder.embed(
                    these, hums, number=len(self._splits), seed=self._recipe.seed
                )
                for one, vectors in zip(spaces, found, strict=True):
                    one[HUMS] = vectors
        return facts, spaces

    @contextlib.contextmanager
    def _made_for(self, task: str) -> Iterator[bool]:
        """Gives whether a task is asked for; what fails then is a failure of that task alone."""
        try:
            yield task in self._tasks
        except Exception as error:  # scores are read by others' parsers
            self.failed[task] = error

    def _rolls(self, facts: Facts) -> np.ndarray | None:
        """Of the clips' scores, which are read once for all checkpoints."""
        key = facts.digest
        if key not in self._known_rolls:
            self._known_rolls[key] = crossmodal.rolls(facts)
        return self._known_rolls[key]


def _complete(
    spaces: Mapping[str, Vectored], heads: Sequence[str], mixes: Sequence[Mix]
) -> dict[str, Vectored]:
    """Adds the spaces made of several to every split, standardised by the train split."""
    train = spaces[splits.TRAIN].tracks

    def unions(vectors: Vectors) -> Vectors:
        return with_unions(train, vectors, heads, mixes)

    return {
        split: Vectored(*map(unions, (one.tracks, one.clean, one.moved, one.swept)))
        for split, one in spaces.items()
    }
