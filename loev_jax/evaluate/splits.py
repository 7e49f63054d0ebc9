"""The three splits of an evaluation, and what tells them from those of another data set."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from loev_jax.data import records
from loev_jax.errors import UserError
from loev_jax.evaluate import clips
from loev_jax.evaluate.clips import Source
from loev_jax.evaluate.evaluator import SPLITS

TRAIN, VALIDATION, TEST = SPLITS

WHOLE = "all"
"""Of another data set all clips, whatever its splits: what is read is then learned on the run's."""

SCORED = (TEST, VALIDATION, WHOLE)
"""What figures can be of."""


class Half:
    """Every other piece of a split, with all its clips: a `Source`."""

    def __init__(self, split: records.Split, first: int) -> None:
        """Reads the split once.

        Args:
            split: to take pieces of, in the order of their names.
            first: 0 or 1, the piece to begin with.
        """
        pieces = split.labels(records.PIECE)
        self.path = split.path
        self.name = split.name
        self.label_names: Sequence[str] = split.label_names
        self._split = split
        self._numbers = np.flatnonzero(np.isin(pieces, np.unique(pieces)[first::2]))

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return self._split[int(self._numbers[number])]


def open_all(path: str, scored: str) -> dict[str, Source]:
    """What stands for each of `SPLITS`.

    Args:
        path: of the data set.
        scored: the split that figures are of. If it is `validation`, that of the data set is
            divided by piece: one half picks the regularisation and the other is scored, and what
            the data set calls `test` is not opened.

    Raises:
        UserError: a split is missing or damaged, or cannot be divided.
    """
    names = SPLITS if scored == TEST else SPLITS[:2]
    try:
        there: dict[str, Any] = {name: records.open_split(path, name) for name in names}
    except records.NoSplitError as error:
        raise UserError(
            f"{error}; evaluation needs the splits {', '.join(names)}, which a folder has from 50 "
            f"audio files on; with --split={WHOLE} one is enough, and what is read is learned on "
            "the run's own data"
        ) from error
    if scored == TEST:
        return there
    first, second = (Half(there[VALIDATION], number) for number in (0, 1))
    if not len(second):
        raise UserError(
            f"--split={scored}: the split {VALIDATION!r} of {path} has one piece, and is to be "
            "divided by piece: add music to it"
        )
    return {TRAIN: there[TRAIN], VALIDATION: first, TEST: second}


def transfer(path: str, own: str) -> dict[str, Source]:
    """What stands for each of `SPLITS` where figures are of all clips of other music.

    Args:
        path: of its data set.
        own: of that which the run was trained on, where probes are fitted and picked.

    Raises:
        UserError: a data set cannot be opened, or the run knows music of the other's.
    """
    fitted = {name: records.open_split(own, name) for name in (TRAIN, VALIDATION)}
    scored = records.open_split(path, WHOLE)
    seen = {name for one in fitted.values() for clip in one for name in _music(clip)}
    known = sorted({one[records.PIECE] for one in scored if not seen.isdisjoint(_music(one))})
    if known:
        raise UserError(
            f"--split={WHOLE}: {len(known)} pieces of {path} are, by their name or their very "
            "audio, among those that the run was trained on or would be read with, such as "
            f"{str(known[0])!r}: give --data with other music, under names of its own"
        )
    return {**fitted, TEST: scored}


def _music(clip: Mapping[str, Any]) -> tuple[str, bytes]:
    """What a clip is known by: its piece, and its audio, which is the same under another name."""
    return clip[records.PIECE], hashlib.blake2b(clip[records.AUDIO], digest_size=16).digest()


def digest(splits: Mapping[str, Source], most: int | None) -> str:
    """A checksum of all that is known of the clips that are evaluated, their audio too.

    It does not depend on where the data set lies, so that a run may be moved with its data.

    Args:
        splits: by name.
        most: at most so many clips of each.

    Returns:
        Eight hexadecimal digits.
    """
    total = 0
    for name, split in splits.items():
        for number in clips.choose(len(split), most):
            record = split[int(number)]
            told = sorted(
                (key, str(value)) for key, value in record.items() if key != records.AUDIO
            )
            total = zlib.crc32(f"{name} {told}".encode(), total)
            total = zlib.crc32(record[records.AUDIO], total)
    return f"{total:08x}"
