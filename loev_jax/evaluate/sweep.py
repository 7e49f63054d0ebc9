"""Further views of some test clips: many changed as pairs are, and one for each change alone.

All views of a clip read the same stretch of it. The first is the clip as it is; `VIEWS` differ in
tempo and key, and what else heads keep, at once; in each of the rest one augmentation is applied
and nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from loev_jax.augment.augmentations import Augmentations
from loev_jax.augment.chain import LogMelChain
from loev_jax.augment.parameters import Parameters
from loev_jax.augment.views import Views
from loev_jax.data import records
from loev_jax.evaluate import changes, clips
from loev_jax.evaluate.clips import Source

VIEWS = 15
"""Views of a clip that are stretched, shifted and so on at once, beside the one that is not."""

CLIPS = 200
"""Most clips of the test split that are swept."""

_SEED = 1  # beside the draws of the pairs


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What is known about the views.

    Attributes:
        pieces: [clips] str.
        parameters: `time_stretch` (octaves), `pitch_shift` (semitones) and what else pairs differ
            in, of the first 1 + `VIEWS` views, the first of which is 0, [clips, 1 + VIEWS].
        alone: the augmentations of the views after those, in their order.
        changed: whether what was drawn for those views is a change at all, [clips, alone] bool: of
            whole semitones some are none.
    """

    pieces: np.ndarray
    parameters: dict[str, np.ndarray]
    alone: tuple[str, ...]
    changed: np.ndarray


def measured(augmentations: Augmentations) -> Augmentations:
    """The recipe's, and stretch and shift in any case; all but mixing, which needs another clip."""
    both = changes.ranges(augmentations)
    return dataclasses.replace(
        augmentations,
        time_stretch=both.time_stretch,
        pitch_shift=both.pitch_shift,
        mix=None,
        mixup=None,
        order="given",
        one_of=(),
        shared=(),
    )


def chain(views: Views) -> LogMelChain:
    """What makes the log-mel of a view, in the analysis domain whatever the recipe's."""
    return clips.chain(views, measured(views.augmentations))


def draw(
    augmentations: Augmentations, seed: int, numbers: np.ndarray, kept: Collection[str] = ()
) -> dict[str, np.ndarray]:
    """Draws the views of some clips; what is not changed in a view is 0.

    Args:
        augmentations: the recipe's.
        seed: of the draw.
        numbers: [clips] of the clips: a draw is a function of (seed, number).
        kept: augmentations that heads keep.

    Returns:
        Every parameter, f32 [clips, 1 + VIEWS + augmentations measured].
    """
    spec = measured(augmentations)
    transforms = {name: getattr(spec, name) for name in spec.augmentations}
    differing = changes.differing(kept)

    def one(number: jax.Array) -> Parameters:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), _SEED), number)
        every, rest = jax.random.split(key)
        nothing = {
            parameter: jnp.zeros(())
            for parameters in spec.augmentations.values()
            for parameter in parameters
        }
        views = [nothing]
        for view in range(VIEWS):
            keys = jax.random.split(jax.random.fold_in(every, view), len(differing))
            views.append(dict(nothing))
            for name, key in zip(differing, keys, strict=True):
                views[-1] |= changes.values(transforms[name], key)
        for place, transform in enumerate(transforms.values()):
            views.append(nothing | transform.values(jax.random.fold_in(rest, place)))
        return {name: jnp.stack([jnp.float32(view[name]) for view in views]) for name in nothing}

    drawn = jax.vmap(one)(jnp.asarray(numbers))
    return {name: np.asarray(value) for name, value in drawn.items()}


def middles(
    split: Source, numbers: Iterable[int], samples: int, size: int
) -> Iterator[tuple[np.ndarray, list[int], list[str]]]:
    """The middle of some clips, in batches of a static size; the last is filled with zeros.

    Args:
        split: has the clips.
        numbers: of the clips.
        samples: to take of each; shorter clips are left out.
        size: clips in a batch.

    Yields:
        int16 [size, samples], and of the clips in it their numbers and pieces.
    """
    batch = np.zeros((size, samples), np.int16)
    kept: list[int] = []
    pieces: list[str] = []
    for number in numbers:
        record = split[number]
        audio = record[records.AUDIO]
        if len(audio) < samples:
            continue
        start = (len(audio) - samples) // 2
        batch[len(kept)] = audio[start : start + samples]
        kept.append(number)
        pieces.append(record[records.PIECE])
        if len(kept) == size:
            yield batch, kept, pieces
            batch, kept, pieces = np.zeros((size, samples), np.int16), [], []
    if kept:
        yield batch, kept, pieces
