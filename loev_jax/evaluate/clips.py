"""What is heard of each clip: some segments of the training view's length, and a transformed pair.

Nothing is padded: a segment lies wholly within its clip, and the source of the transformed view is
long enough for the fastest stretch. A view that is played backwards is read from the end of its
source: at the slower rates it is of the end of the segment and of what follows. A clip too short
for a pair only lacks its pair; one shorter than a segment is skipped and counted.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from loev_jax.augment.augmentations import Augmentations
from loev_jax.augment.chain import LogMelChain
from loev_jax.augment.views import Views
from loev_jax.data import records
from loev_jax.evaluate import changes
from loev_jax.evaluate.changes import PLACE


class Source(Protocol):
    """What clips come from: a `records.Split`, or what is like one."""

    @property
    def name(self) -> str:
        """As the progress calls it."""

    @property
    def path(self) -> Any:
        """Of the data set."""

    @property
    def label_names(self) -> Sequence[str]:
        """What a record has beside audio, id and piece."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> dict[str, Any]:
        """A record."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where segments lie.

    Attributes:
        segment: length of a segment in samples, that of a training view.
        source: length of source that a transformed view reads, at least `lead + segment`.
        segments: most segments of a clip; they are spread evenly from its start, or `lead`, to its
            end.
        lead: how much of the source lies before the segment: echoes and rooms are of what was.
    """

    segment: int
    source: int
    segments: int
    lead: int = 0

    def starts(self, samples: int) -> np.ndarray:
        """First samples of the segments of a clip of `samples`, [0..segments] int.

        Where a view is of what was before it, no segment begins before there is that much.
        """
        last = samples - self.segment
        first = max(0, min(self.lead, last))
        count = min(self.segments, (samples - first) // self.segment)
        return np.round(np.linspace(first, last, count)).astype(int)

    def pairable(self, samples: int) -> np.ndarray:
        """Which of `starts` leave room for a transformed view, [0..segments] int, ascending."""
        sources = self.starts(samples) - self.lead
        return np.flatnonzero((sources >= 0) & (sources + self.source <= samples))


def chain(views: Views, spec: Augmentations) -> LogMelChain:
    """What makes log-mels of a recipe's views, in the analysis domain whatever the recipe's."""
    return LogMelChain(spec.transforms, views.frames, views.frontend, "analysis", 1.0)


def layout(views: Views, segments: int, kept: Collection[str] = ()) -> Layout:
    """The layout for a recipe's views, of which heads keep the augmentations `kept`."""
    segment = views.frontend.samples(views.frames)
    pair = chain(views, changes.ranges(views.augmentations, kept))
    lead = pair.history
    return Layout(segment, max(pair.source_samples, lead + segment), segments, lead)


@dataclasses.dataclass(frozen=True)
class Batch:
    """Clips on their way to the device, at a static size.

    Attributes:
        arrays: `segments` int16 [clips, segments, samples], their `weight` f32 [clips, segments]
            (0 where there is none), `source` int16 [clips, source samples], `clean` int32 [clips]
            (the segment that starts after the source's lead), and the parameters of the pairs'
            changes, [clips].
        clips: the records without their audio; fewer than the batch holds at its end.
        paired: of each of `clips`, whether it has a pair.
        digest: CRC-32 of all segments so far.
    """

    arrays: dict[str, np.ndarray]
    clips: list[dict[str, Any]]
    paired: list[bool]
    digest: int

    @property
    def differences(self) -> dict[str, np.ndarray]:
        """The parameters that are looked for in the pairs, [clips] each."""
        known = changes.parameters(changes.MEASURABLE)
        return {name: self.arrays[name] for name in known if name in self.arrays}

    def without_audio(self) -> Batch:
        """What remains to be known once the device has the audio."""
        return dataclasses.replace(self, arrays=self.differences)


def choose(total: int, most: int | None) -> np.ndarray:
    """Which clips of a split to use: all, or `most` spread evenly, [n] ascending numbers."""
    if most is None or most >= total:
        return np.arange(total)
    return np.linspace(0, total - 1, most).round().astype(int)


def batches(
    clips: Iterable[Mapping[str, Any]],
    where: Layout,
    drawn: Mapping[str, np.ndarray],
    size: int,
    skipped: list[str],
) -> Iterator[Batch]:
    """Cuts clips and gathers them in batches of a static size; the last one is filled with zeros.

    Args:
        clips: records, in the order of `drawn`.
        where: segments lie.
        drawn: as `changes.draw` returns it.
        size: clips in a batch.
        skipped: ids of clips that are too short are added to it.

    Yields:
        Batches of which the last may hold fewer clips.
    """
    changed = {name: values for name, values in drawn.items() if name != PLACE}
    current, digest = _empty(where, size, changed), 0
    for number, record in enumerate(clips):
        audio = record[records.AUDIO]
        starts = where.starts(len(audio))
        if not len(starts):
            skipped.append(record[records.ID])
            continue
        row, arrays = len(current.clips), current.arrays
        for column, start in enumerate(starts):
            arrays["segments"][row, column] = audio[start : start + where.segment]
        arrays["weight"][row, : len(starts)] = 1.0 / len(starts)
        pairable = where.pairable(len(audio))
        if len(pairable):
            clean = pairable[int(drawn[PLACE][number] * len(pairable))]
            source = starts[clean] - where.lead
            arrays["clean"][row] = clean
            arrays["source"][row] = audio[source : source + where.source]
        for name, values in changed.items():
            arrays[name][row] = values[number]
        digest = zlib.crc32(arrays["segments"][row], digest)
        current.paired.append(len(pairable) > 0)
        current.clips.append({key: v for key, v in record.items() if key != records.AUDIO})
        if len(current.clips) == size:
            yield dataclasses.replace(current, digest=digest)
            current = _empty(where, size, changed)
    if current.clips:
        yield dataclasses.replace(current, digest=digest)


def _empty(where: Layout, size: int, changed: Mapping[str, np.ndarray]) -> Batch:
    arrays: dict[str, np.ndarray] = {
        "segments": np.zeros((size, where.segments, where.segment), np.int16),
        "weight": np.zeros((size, where.segments), np.float32),
        "source": np.zeros((size, where.source), np.int16),
        "clean": np.zeros(size, np.int32),
    }
    arrays |= {name: np.zeros(size, values.dtype) for name, values in changed.items()}
    return Batch(arrays, [], [], 0)
