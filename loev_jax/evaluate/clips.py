"""What is heard of each clip: some segments of the training view's length, and a transformed pair.

Nothing is padded: a segment lies wholly within its clip, and the source of the transformed view is
long enough for the fastest stretch. A clip too short for a pair only lacks its pair; one shorter
than a segment is skipped and counted.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from loev_jax.augment.augmentations import SCALARS, Augmentations
from loev_jax.augment.chain import LogMelChain
from loev_jax.augment.differences import CLASSES
from loev_jax.augment.parameters import Parameters
from loev_jax.augment.spectral import PitchShift, TimeStretch
from loev_jax.augment.views import Views
from loev_jax.data import records

DIFFERENCES = ("time_stretch", "pitch_shift")
"""The augmentations in which the views of every pair differ."""

MEASURABLE: Mapping[str, tuple[str, ...]] = {
    **{name: (name,) for name in SCALARS if name not in ("mix", "mixup")},
    "filter": ("filter_kind", "filter_frequency"),
}
"""All augmentations in which they can, each with the parameters that are looked for. The others are
not measured so: mixing needs another clip, an echo or a room what came before the segment."""

DEFAULT_RANGES = Augmentations(
    time_stretch=TimeStretch(-0.32, 0.32),
    pitch_shift=PitchShift(-4.0, 4.0, step=1.0),
)
"""Drawn from where a recipe does not stretch or shift, so that every recipe can be compared: as the
`small` recipes do, by whole semitones, between which a moved clip has no key."""

PLACE = "place"
"""Of a draw: which segment of its clip it is of."""


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
        source: length of source that a transformed view reads, at least `segment`.
        segments: most segments of a clip; they are spread evenly from its start to its end.
    """

    segment: int
    source: int
    segments: int

    def starts(self, samples: int) -> np.ndarray:
        """First samples of the segments of a clip of `samples`, [0..segments] int."""
        count = min(self.segments, samples // self.segment)
        return np.round(np.linspace(0, samples - self.segment, count)).astype(int)

    def pairable(self, samples: int) -> int:
        """How many of `starts` leave room for a transformed view; they are the first ones."""
        return int(np.sum(self.starts(samples) + self.source <= samples))


def differing(kept: Collection[str]) -> tuple[str, ...]:
    """The augmentations in which the views of a pair differ, where heads keep these.

    They are `DIFFERENCES`, so that all recipes can be compared, and whatever else of `MEASURABLE` a
    head is made to keep.
    """
    return tuple(name for name in MEASURABLE if name in DIFFERENCES or name in kept)


def parameters(kept: Collection[str]) -> tuple[str, ...]:
    """The parameters that are looked for in the views of a pair, of all of `differing`."""
    return tuple(name for one in differing(kept) for name in MEASURABLE[one])


def columns(name: str, values: np.ndarray) -> np.ndarray:
    """How a parameter is told to a regression.

    Args:
        name: of the parameter.
        values: [...].

    Returns:
        [..., 1], or of a category [..., categories]: 1 in its own column, nowhere where it is 0.
    """
    if name in CLASSES:
        return (values[..., None] == np.arange(1, CLASSES[name])).astype(np.float64)
    return values[..., None]


def kept_by(heads: Mapping[str, Collection[str]]) -> set[str]:
    """The augmentations that some head keeps."""
    return {name for kept in heads.values() for name in kept}


def ranges(augmentations: Augmentations, kept: Collection[str] = ()) -> Augmentations:
    """What the changes of a pair are drawn from.

    Args:
        augmentations: the recipe's own, which are taken; `DEFAULT_RANGES` where it has none.
        kept: augmentations that heads keep.
    """
    return Augmentations(
        **{
            name: getattr(augmentations, name) or getattr(DEFAULT_RANGES, name)
            for name in differing(kept)
        }
    )


def chain(views: Views, spec: Augmentations) -> LogMelChain:
    """What makes log-mels of a recipe's views, in the analysis domain whatever the recipe's."""
    return LogMelChain(spec.transforms, views.frames, views.frontend, "analysis", 1.0)


def layout(views: Views, segments: int, kept: Collection[str] = ()) -> Layout:
    """The layout for a recipe's views, of which heads keep the augmentations `kept`."""
    segment = views.frontend.samples(views.frames)
    source = chain(views, ranges(views.augmentations, kept)).source_samples
    return Layout(segment, max(source, segment), segments)


def draw(
    augmentations: Augmentations, seed: int, clips: np.ndarray, kept: Collection[str] = ()
) -> dict[str, np.ndarray]:
    """Draws how each clip's transformed view differs; it always is transformed.

    Args:
        augmentations: the recipe's.
        seed: of the draw.
        clips: [n] numbers of the clips: a draw is a function of (seed, number).
        kept: augmentations that heads keep; the others' draws do not depend on them.

    Returns:
        Every parameter of `differing`, in its unit (`time_stretch` in octaves, `pitch_shift` in
        semitones), f32 [n], and `PLACE` in 0..1: which of the clip's segments it is.
    """
    spec = ranges(augmentations, kept)
    further = [name for name in spec.augmentations if name not in DIFFERENCES]
    names = (*DIFFERENCES, PLACE, *further)

    def one(number: jax.Array) -> Parameters:
        # A key of each depends on its place alone, not on how many there are.
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), number), len(names))
        values: Parameters = {}
        for name, key in zip(names, keys, strict=True):
            if name == PLACE:
                values[PLACE] = jax.random.uniform(key, ())
            else:
                values |= getattr(spec, name).values(key)
        return values

    return {name: np.asarray(v) for name, v in jax.vmap(one)(jnp.asarray(clips)).items()}


@dataclasses.dataclass(frozen=True)
class Batch:
    """Clips on their way to the device, at a static size.

    Attributes:
        arrays: `segments` int16 [clips, segments, samples], their `weight` f32 [clips, segments]
            (0 where there is none), `source` int16 [clips, source samples], `clean` int32 [clips]
            (the segment that starts where the source starts), and the parameters of the pairs'
            changes, f32 [clips].
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
        """The parameters that are looked for in the pairs, f32 [clips] each."""
        return {name: self.arrays[name] for name in parameters(MEASURABLE) if name in self.arrays}

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
        drawn: as `draw` returns it.
        size: clips in a batch.
        skipped: ids of clips that are too short are added to it.

    Yields:
        Batches of which the last may hold fewer clips.
    """
    changes = [name for name in drawn if name != PLACE]
    current, digest = _empty(where, size, changes), 0
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
        if pairable := where.pairable(len(audio)):
            clean = int(drawn[PLACE][number] * pairable)
            arrays["clean"][row] = clean
            arrays["source"][row] = audio[starts[clean] : starts[clean] + where.source]
        for name in changes:
            arrays[name][row] = drawn[name][number]
        digest = zlib.crc32(arrays["segments"][row], digest)
        current.paired.append(pairable > 0)
        current.clips.append({key: v for key, v in record.items() if key != records.AUDIO})
        if len(current.clips) == size:
            yield dataclasses.replace(current, digest=digest)
            current = _empty(where, size, changes)
    if current.clips:
        yield dataclasses.replace(current, digest=digest)


def _empty(where: Layout, size: int, changes: Sequence[str]) -> Batch:
    arrays: dict[str, np.ndarray] = {
        "segments": np.zeros((size, where.segments, where.segment), np.int16),
        "weight": np.zeros((size, where.segments), np.float32),
        "source": np.zeros((size, where.source), np.int16),
        "clean": np.zeros(size, np.int32),
    }
    arrays |= {name: np.zeros(size, np.float32) for name in changes}
    return Batch(arrays, [], [], 0)
