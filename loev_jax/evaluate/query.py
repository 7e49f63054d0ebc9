"""Music like a recording: the clips of a data set that a space of a run finds nearest to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loev_jax import checkpoint, config
from loev_jax.data import audio, records
from loev_jax.errors import UserError
from loev_jax.evaluate.job import SEGMENTS
from loev_jax.evaluate.retrieval import cosines
from loev_jax.evaluate.spaces import Embedder, Mix, Vectors, with_unions


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

    def __len__(self) -> int:
        return 1

    def __getitem__(self, number: int) -> dict[str, Any]:
        return {records.AUDIO: self._audio, records.ID: str(self.path), records.PIECE: ""}


def search(
    workdir: Path, recording: Recording, *, space: str, data: Path | None, split: str, top: int
) -> str:
    """Embeds a recording and a split with the last checkpoint of a run, and lists what is nearest.

    Args:
        workdir: of the run.
        recording: to look for.
        space: of the model, or a weighted sum of some, as `Mix.parse` reads them.
        data: the data set to look in; the run's own if None.
        split: of it.
        top: how many clips to list.

    Returns:
        A Markdown table: cosine, id, piece and labels, nearest first.

    Raises:
        UserError: there is no checkpoint or no such space, or the recording is too short.
    """
    if top < 1:
        raise UserError(f"--top={top}: give a number of at least 1")
    recipe = config.load(workdir)
    present = checkpoint.steps(workdir)
    if not present:
        raise UserError(f"{workdir} has no checkpoint yet: train first")
    mix = Mix.parse(space)
    heads = recipe.model.projected
    model = checkpoint.restore_model(workdir, present[-1], recipe)
    embedder = Embedder(recipe.views, model, SEGMENTS)
    shortest = embedder.layout.segment / recipe.views.frontend.sample_rate
    seconds = len(recording[0][records.AUDIO]) / audio.SAMPLE_RATE
    if seconds < shortest:
        raise UserError(
            f"--audio={recording.path}: {seconds:.1f} s are too short, a view of this run is "
            f"{shortest:.1f} s"
        )
    gallery = records.open_split(str(data or recipe.data.path), split)
    facts, (there,) = embedder.embed([model], gallery, number=0, seed=recipe.seed)
    _, (here,) = embedder.embed([model], recording, number=1, seed=recipe.seed)

    def of(vectors: Vectors) -> np.ndarray:
        every = with_unions(there.tracks, vectors, heads)
        for name, _ in mix.weights:
            if name not in every:
                raise UserError(f"--space={space}: no space {name!r}; there are {', '.join(every)}")
        return mix.of(every)

    alike = cosines(of(here.tracks), of(there.tracks))[0]
    rows = [["cosine", "id", "piece", *facts.labels]]
    for at in np.argsort(-alike, kind="stable")[:top]:
        labels = (_short(values[at]) for values in facts.labels.values())
        rows.append([f"{alike[at]:.3f}", facts.ids[at], facts.pieces[at], *labels])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rows.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    )


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, np.floating) else str(value)
