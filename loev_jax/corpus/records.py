"""What one record of the corpus holds, and how it is made from a clip of the plan."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from loev_jax.corpus import key_finding, performance, rendering, scores
from loev_jax.corpus.plan import Clip
from loev_jax.data import records

LABELS: dict[str, type] = {
    "tempo": np.float32,
    "key": np.int64,
    "metre": str,
    "instrument": str,
    "collection": str,
}
"""The type of each label."""


def features() -> tfds.features.FeaturesDict:
    """Returns the features of a record.

    `audio` int16 [480 000] (30 s, 16 kHz); `id`; `piece`; `tempo` in notated beats a minute;
    `key` 0-11 C to B major, 12-23 C to B minor, as it sounds; `metre` such as "6/8"; `instrument`,
    the General MIDI family; `collection`, one of `loev_jax.corpus.scores.COLLECTIONS`.
    """
    return records.features(LABELS)


def identifier(clip: Clip) -> str:
    """Returns the id of a clip's record, such as "clip-000042"."""
    return f"clip-{clip.number:06d}"


def example(clip: Clip, seed: int) -> dict[str, Any]:
    """Renders a clip of the corpus with `seed`; see `features` for what is returned.

    Raises:
      ValueError, RuntimeError: the renderer does not take the clip, or it is silent.
    """
    score = scores.load(clip.piece)
    played = performance.draw(seed, clip.number)
    return {
        records.AUDIO: rendering.render(score, played),
        records.ID: identifier(clip),
        records.PIECE: score.piece,
        "tempo": np.float32(played.tempo),
        "key": key_finding.transpose_key(score.key, played.transposition),
        "metre": score.metre,
        "instrument": played.family,
        "collection": score.collection,
    }
