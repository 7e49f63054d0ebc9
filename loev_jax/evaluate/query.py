"""Music like a recording, a score or some words: the clips that a space of a run finds nearest."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from loev_jax import checkpoint, run_config
from loev_jax.corpus import roll
from loev_jax.corpus.key_finding import key_name
from loev_jax.data import audio, records
from loev_jax.errors import UserError
from loev_jax.evaluate import captions, labels
from loev_jax.evaluate.clips import Source
from loev_jax.evaluate.crossmodal import Wording, rolls, scored, told
from loev_jax.evaluate.evaluator import SPLITS
from loev_jax.evaluate.features import Parts
from loev_jax.evaluate.job import say
from loev_jax.evaluate.retrieval import cosines
from loev_jax.evaluate.settings import SEGMENTS
from loev_jax.evaluate.spaces import Embedder, Facts, Vectors
from loev_jax.evaluate.towers import match
from loev_jax.evaluate.unions import Mix, with_unions
from loev_jax.table import markdown


class Recording:
    """A file as a split of one clip: what the embedder needs of one."""

    name = "recording"
    label_names: Sequence[str] = ()

    def __init__(self, path: Path) -> None:
        """Decodes the file, to 16 kHz and one channel.

        Raises:
            UserError: there is no such file, or it cannot be read.
        """
        self.path = path
        try:
            self._audio = np.concatenate([audio.to_int16(block) for block in audio.blocks(path)])
        except (OSError, audio.AudioError, ValueError) as error:
            raise UserError(f"--audio={path}: {error}") from error

    def check(self, shortest: float) -> None:
        """Raises UserError if it is shorter than `shortest` seconds."""
        seconds = len(self._audio) / audio.SAMPLE_RATE
        if seconds < shortest:
            raise UserError(
                f"--audio={self.path}: {seconds:.1f} s are too short, a view of this run is "
                f"{shortest:.1f} s"
            )

    def __len__(self) -> int:
        return 1

    def __getitem__(self, number: int) -> dict[str, Any]:
        return {records.AUDIO: self._audio, records.ID: str(self.path), records.PIECE: ""}


class Labelled(Protocol):
    """What `Facts` and `Labels` both know about the clips of a split."""

    @property
    def pieces(self) -> np.ndarray:
        """[clips] str."""

    @property
    def labels(self) -> dict[str, np.ndarray]:
        """By name, [clips]."""


@dataclasses.dataclass(frozen=True)
class Labels:
    """Pieces and labels of a split, before anything is embedded."""

    pieces: np.ndarray
    labels: dict[str, np.ndarray]

    @classmethod
    def read(cls, split: records.Split) -> Labels:
        """Reads the split once."""
        return cls(split.labels(records.PIECE), {n: split.labels(n) for n in split.label_names})


@dataclasses.dataclass(frozen=True)
class Words:
    """What is looked for in plain words, such as "fast fiddle tune in D minor"."""

    text: str

    def check(self, train: Labelled, validation: Labelled) -> None:
        """Tells the words that no caption of the train split has.

        Raises:
            UserError: the clips have no label that captions speak of, or no word is known.
        """
        if not all(told(split.labels)[1] for split in (train, validation)):
            raise UserError("--text: the run's data set has no clip with a tempo or a key")
        if unknown := self._wording(train, validation).vocabulary.check(self.text):
            say(f"no caption has {', '.join(map(repr, unknown))}: passed over")

    def pairs(self, train: Facts, validation: Facts) -> Parts:
        """Captions of the clips that an adapter learns from, and the words asked for."""
        wording = self._wording(train, validation)
        return Parts(wording.train, wording.validation, wording.vocabulary.count([self.text]))

    def _wording(self, train: Labelled, validation: Labelled) -> Wording:
        return Wording.draw(captions.known(train.labels), captions.known(validation.labels))


@dataclasses.dataclass(frozen=True)
class Score:
    """A piece as notes, such as `roll.read_midi` reads."""

    notes: roll.Notes

    def check(self, train: Labelled, validation: Labelled) -> None:
        """Raises UserError if the clips have no scores."""
        if not all(scored(split.pieces, split.labels) for split in (train, validation)):
            raise UserError("--score: only a run on the built-in corpus knows scores to learn from")

    def pairs(self, train: Facts, validation: Facts) -> Parts:
        """Scores of the clips that an adapter learns from, and the one asked for."""
        learned, validated = rolls(train), rolls(validation)
        assert learned is not None  # of both, as `check` has seen
        assert validated is not None
        return Parts(learned[None], validated, roll.describe([self.notes]))


def search(
    workdir: Path,
    asked: Recording | Words | Score,
    *,
    space: str,
    data: Path | None,
    split: str,
    top: int,
) -> str:
    """Embeds a split with the last checkpoint of a run, and lists what is nearest to something.

    A recording is compared in the space itself. For words and scores an adapter is trained first,
    in seconds, on the run's own train split.

    Args:
        workdir: of the run.
        asked: what to look for.
        space: of the model, or a weighted sum of some, as `Mix.parse` reads them.
        data: the data set to look in; the run's own if None.
        split: of it.
        top: how many clips to list.

    Returns:
        A Markdown table: cosine, id, piece and labels, nearest first.

    Raises:
        UserError: there is no checkpoint or no such space, the recording is too short, or the run's
            data set has not what an adapter learns from.
    """
    if top < 1:
        raise UserError(f"--top={top}: give a number of at least 1")
    recipe = run_config.load(workdir)
    present = checkpoint.steps(workdir)
    if not present:
        raise UserError(f"{workdir} has no checkpoint yet: train first")
    mix = Mix.parse(space)
    heads = recipe.model.projected
    if not isinstance(asked, Recording):
        asked.check(
            *(Labels.read(records.open_split(recipe.data.path, name)) for name in SPLITS[:2])
        )
    model = checkpoint.restore_model(workdir, present[-1], recipe)
    embedder = Embedder(recipe.views, model, SEGMENTS)
    if isinstance(asked, Recording):
        asked.check(embedder.layout.segment / recipe.views.frontend.sample_rate)

    def embed(source: Source, number: int) -> tuple[Facts, Vectors]:
        facts, (found,) = embedder.embed([model], source, number=number, seed=recipe.seed)
        return facts, found.tracks

    gallery = records.open_split(str(data or recipe.data.path), split)
    facts, there = embed(gallery, 0)

    def of(vectors: Vectors) -> np.ndarray:
        every = with_unions(there, vectors, heads)
        for name, _ in mix.weights:
            if name not in every:
                raise UserError(f"--space={space}: no space {name!r}; there are {', '.join(every)}")
        return mix.of(every)

    if isinstance(asked, Recording):
        alike = cosines(of(embed(asked, 1)[1]), of(there))[0]
    else:
        of(there)  # a space that does not exist is told before minutes are spent
        train, validation = (
            embed(records.open_split(recipe.data.path, name), number)
            for number, name in enumerate(SPLITS[:2], start=1)
        )
        pairs = asked.pairs(train[0], validation[0])
        alike = match(Parts(of(train[1]), of(validation[1]), of(there)), pairs)[0]
    return _table(facts, alike, top)


def _table(facts: Facts, alike: np.ndarray, top: int) -> str:
    """The clips that are most alike, with their labels."""
    rows = []
    for at in np.argsort(-alike, kind="stable")[:top]:
        known = (shown(name, values[at]) for name, values in facts.labels.items())
        rows.append([f"{alike[at]:.3f}", facts.ids[at], facts.pieces[at], *known])
    return markdown(["cosine", "id", "piece", *facts.labels], rows)


def shown(name: str, value: Any) -> str:
    """A label as it is listed: a key that is a number (0-23) by its name, other text as it is."""
    if isinstance(value, str):
        return str(value)
    if name == "key" and np.isfinite(number := labels.keys(np.array([value]))[0]):
        return key_name(int(number))
    return f"{value:.4g}" if isinstance(value, np.floating) else str(value)
