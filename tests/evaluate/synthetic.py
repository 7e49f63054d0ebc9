"""Embeddings whose content is known: spaces in which an attribute is, or is not, a direction."""

import numpy as np

from loev_jax.evaluate.spaces import Facts, Vectored

CLIPS = {"train": 300, "validation": 80, "test": 120}
SIZE = 24


def facts(seed=0, clips=CLIPS, labels=("tempo", "key", "metre", "instrument", "collection")):
    """Labels and differences drawn at random; two clips are of one piece."""
    rng = np.random.default_rng(seed)
    known = {}
    for split, count in clips.items():
        drawn = {
            "tempo": 2.0 ** rng.uniform(6, 7.5, count),
            "key": rng.integers(0, 24, count),
            "metre": rng.choice(["3/4", "4/4", "6/8"], count),
            "collection": rng.choice(["chorales", "tunes"], count),
            "instrument": rng.choice(["piano", "reed"], count),
        }
        known[split] = Facts(
            ids=np.array([f"{split}{n}" for n in range(count)]),
            pieces=np.array([f"{split}-{n // 2}" for n in range(count)]),
            labels={name: drawn[name] for name in labels},
            differences={
                "time_stretch": rng.uniform(-0.3, 0.3, count),
                "pitch_shift": rng.uniform(-4, 4, count),
            },
            paired=np.ones(count, bool),
            skipped=(),
            digest=0,
        )
    return known


def vectors(known, seed=1):
    """Three spaces: `tempo` and `key` hold their attribute and its change, `noise` holds nothing.

    Returns Vectored by split.
    """
    rng = np.random.default_rng(seed)
    octave, semitone = rng.normal(size=(2, SIZE))
    tonic = rng.normal(size=(24, SIZE))
    result = {}
    for split, one in known.items():
        count = len(one.ids)

        def noise(count=count):
            return 0.02 * rng.normal(size=(count, SIZE))

        stretch, shift = (one.differences[k][:, None] for k in ("time_stretch", "pitch_shift"))
        attribute = {"tempo": np.zeros((count, SIZE)), "key": np.zeros((count, SIZE))}
        if "tempo" in one.labels:
            attribute["tempo"] = np.log2(one.labels["tempo"] / 105)[:, None] * octave[None]
        if "key" in one.labels:
            attribute["key"] = tonic[one.labels["key"]]
        tracks = {name: space + noise() for name, space in attribute.items()}
        clean = {name: space + noise() for name, space in attribute.items()}
        change = {"tempo": stretch * octave[None], "key": shift * semitone[None]}
        moved = {name: clean[name] + change[name] + noise() for name in change}
        for part in (tracks, clean, moved):
            part["noise"] = rng.normal(size=(count, SIZE))
        result[split] = Vectored(tracks, clean, moved)
    return result
