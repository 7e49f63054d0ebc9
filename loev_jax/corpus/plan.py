"""Which piece each clip of the corpus plays, and which split it belongs to."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterator
from concurrent import futures

import numpy as np

from loev_jax.corpus import scores
from loev_jax.corpus.score import RejectedError, Score
from loev_jax.data import processes
from loev_jax.errors import UserError

SPLITS = ("train", "validation", "test")
_TENTHS = {"train": 7, "validation": 1, "test": 2}
FEWEST_CLIPS = 10
_BATCH = 32  # pieces read ahead


@dataclasses.dataclass(frozen=True)
class Clip:
    """One clip of the corpus.

    Attributes:
      number: its place in the corpus, from 0; with the seed, all that its performance depends on.
      split: one of `SPLITS`.
      piece: the id of the piece that it plays.
    """

    number: int
    split: str
    piece: str


@dataclasses.dataclass(frozen=True)
class Plan:
    """Every clip of a corpus, and what was read to choose them.

    Attributes:
      seed: the corpus's seed.
      clips: the clips by number; those of a split follow each other.
      read: how many pieces were read.
      kept: how many of them the corpus uses.
      skipped: the ids of the pieces that were not usable, by reason.
    """

    seed: int
    clips: tuple[Clip, ...]
    read: int
    kept: int
    skipped: dict[str, list[str]]

    def save(self, path: pathlib.Path) -> None:
        """Writes the plan as JSON."""
        path.write_text(json.dumps(dataclasses.asdict(self)), encoding="utf-8")


def load(path: pathlib.Path) -> Plan:
    """Reads what `Plan.save` wrote."""
    fields = json.loads(path.read_text(encoding="utf-8"))
    return Plan(**fields | {"clips": tuple(Clip(**clip) for clip in fields["clips"])})


def split_of(family: str) -> str:
    """Returns the split of a family of pieces: the same for every seed and size of corpus.

    A corpus of one seed may therefore be tested with an encoder trained on that of another.
    """
    tenth = int.from_bytes(hashlib.sha256(family.encode()).digest()[:8], "big") % 10
    if tenth < _TENTHS["train"]:
        return "train"
    return "validation" if tenth < _TENTHS["train"] + _TENTHS["validation"] else "test"


def sizes(clips: int) -> dict[str, int]:
    """Returns how many of `clips` clips each split has: 70, 10 and 20 %.

    Raises:
      UserError: there are too few for three splits.
    """
    if clips < FEWEST_CLIPS:
        raise UserError(f"clips={clips}: a corpus needs at least {FEWEST_CLIPS} clips")
    validation, test = round(clips * 0.1), round(clips * 0.2)
    return {"train": clips - validation - test, "validation": validation, "test": test}


def _try_load(piece: str) -> Score | str:
    """Returns the score of `piece`, or why it is not usable."""
    try:
        return scores.load(piece)
    except RejectedError as reason:
        return str(reason)


def _read(pieces: list[str]) -> Iterator[tuple[str, Score | str]]:
    """Reads pieces in their order, some ahead: most of the work is another program's."""
    with futures.ThreadPoolExecutor(processes.available_cpus()) as pool:
        for start in range(0, len(pieces), _BATCH):
            batch = pieces[start : start + _BATCH]
            yield from zip(batch, pool.map(_try_load, batch), strict=True)


def make(clips: int, seed: int) -> Plan:
    """Chooses the pieces of a corpus.

    Pieces are read in an order that the seed gives, until every split has as many as it has
    clips; a small corpus therefore reads few. Where the pieces of a split run out they are played
    again, differently.

    Args:
      clips: the number of clips, at least `FEWEST_CLIPS`.
      seed: the corpus's seed, >= 0.

    Raises:
      UserError: too few clips, a negative seed, or no scores.
    """
    if seed < 0:
        raise UserError(f"seed={seed}: the seed of a corpus must be 0 or more")
    wanted = sizes(clips)
    sources = scores.sources()
    chosen: dict[str, list[str]] = {split: [] for split in SPLITS}
    skipped: dict[str, list[str]] = {}
    read = 0
    order = np.random.default_rng(seed).permutation(len(sources))
    for piece, score in _read([sources[index].piece for index in order]):
        read += 1
        if isinstance(score, str):
            skipped.setdefault(score, []).append(piece)
            continue
        split = split_of(score.family)
        if len(chosen[split]) < wanted[split]:
            chosen[split].append(piece)
        if all(len(chosen[split]) == wanted[split] for split in SPLITS):
            break
    for split in SPLITS:
        if not chosen[split]:
            raise UserError(f"seed={seed}: no piece for the {split} split; use another seed")
    pieces = [
        (split, chosen[split][place % len(chosen[split])])
        for split in SPLITS
        for place in range(wanted[split])
    ]
    return Plan(
        seed=seed,
        clips=tuple(Clip(number, *entry) for number, entry in enumerate(pieces)),
        read=read,
        kept=sum(len(found) for found in chosen.values()),
        skipped={reason: sorted(found) for reason, found in sorted(skipped.items())},
    )
