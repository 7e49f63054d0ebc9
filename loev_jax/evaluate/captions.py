"""Plain words about a clip, from a template grammar over its labels, and how words are counted.

"fast fiddle tune in D minor", "organ piece in 3/4 at 96 bpm": captions name some of what is known,
in words and orders that are drawn. A text becomes counts of its words and of pairs of neighbouring
words, and a number before "bpm" a place on the scale of tempi, so that 127 is near 128.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from loev_jax.errors import UserError
from loev_jax.evaluate import labels
from loev_jax.evaluate.metrics import KEYS

COLUMNS = ("tempo", "key", "metre", "instrument", "collection")
"""The labels that captions speak of; a data set needs a tempo or a key."""

SPEEDS = (
    (76.0, ("very slow", "largo")),
    (96.0, ("slow", "adagio")),
    (120.0, ("moderate", "andante")),
    (152.0, ("fast", "allegro")),
    (np.inf, ("very fast", "presto")),
)
"""Words for tempi up to so many BPM."""

_KINDS = {
    "ryansMammoth": ("fiddle tune", "american tune"),
    "oneills1850": ("irish tune",),
    "airdsAirs": ("scottish air", "air"),
    "bach": ("chorale", "bach chorale"),
}
_TONICS = (
    ("C",), ("C sharp", "Db"), ("D",), ("D sharp", "Eb"), ("E",), ("F",),
    ("F sharp", "Gb"), ("G",), ("G sharp", "Ab"), ("A",), ("A sharp", "Bb"), ("B",),
)  # fmt: skip
_SPELLINGS = {"#": " sharp", "♯": " sharp", "♭": "b", "flat": "b"}
_BINS = 12  # of an octave of tempo
_SLOWEST, _OCTAVES = 30.0, 4  # to 480 BPM
_COMMON = 2  # captions that a word must be in, to be known


@dataclasses.dataclass(frozen=True)
class Known:
    """What is known about one clip; None for what is not.

    Attributes:
        tempo: in BPM.
        key: 0-23.
        metre: such as "6/8".
        instrument: its name.
        collection: what stands for the genre.
    """

    tempo: float | None = None
    key: int | None = None
    metre: str | None = None
    instrument: str | None = None
    collection: str | None = None


def known(columns: Mapping[str, np.ndarray]) -> list[Known]:
    """What the labels of a data set say of its clips, [clips] by column."""
    parsed: dict[str, Sequence[Any]] = {}
    for name in COLUMNS:
        if name not in columns:
            continue
        values = columns[name]
        if name == "tempo":
            found = labels.tempi(values)
        elif name == "key":
            found = labels.keys(values)
        else:
            found = labels.classes(values)
        there = labels.present(found)
        of = {"tempo": float, "key": int}.get(name, str)
        parsed[name] = [
            of(value) if here else None for value, here in zip(found, there, strict=True)
        ]
    clips = len(next(iter(parsed.values()))) if parsed else 0
    return [Known(**{name: parsed[name][at] for name in parsed}) for at in range(clips)]


def speed(tempo: float) -> tuple[str, ...]:
    """The words for a tempo in BPM."""
    return next(words for most, words in SPEEDS if tempo < most)


def key_names(key: int) -> tuple[str, ...]:
    """How a key (0-23) may be written: "C sharp minor", "Db minor"."""
    mode = "major" if key < KEYS // 2 else "minor"
    return tuple(f"{tonic} {mode}" for tonic in _TONICS[key % (KEYS // 2)])


def caption(clip: Known, random: np.random.Generator) -> str:
    """Draws a caption: always something, each thing that is known with a chance of .7."""

    def one(words: Sequence[str]) -> str:
        return words[int(random.integers(len(words)))]

    named = [field.name for field in dataclasses.fields(clip)]
    told = {name for name in named if getattr(clip, name) is not None and random.random() < 0.7}
    if not told:
        told = {name for name in named if getattr(clip, name) is not None}
    before, after = [], []
    if "tempo" in told and clip.tempo is not None:
        if random.random() < 0.5:
            before.append(one(speed(clip.tempo)))
        else:
            after.append(one((f"at {clip.tempo:.0f} bpm", f"{clip.tempo:.0f} bpm")))
    if "instrument" in told and clip.instrument is not None:
        if random.random() < 0.5:
            before.append(clip.instrument)
        else:
            after.append(f"{one(('for', 'on', 'played by'))} {clip.instrument}")
    if "key" in told and clip.key is not None:
        after.append(f"in {one(key_names(clip.key))}")
    if "metre" in told and clip.metre is not None:
        after.append(f"in {clip.metre}")
    kind = one(("piece", "music", "tune"))
    if "collection" in told and clip.collection is not None:
        kind = one(_KINDS.get(clip.collection, (clip.collection,)))
    random.shuffle(after)
    return " ".join([*before, kind, *after])


def words(text: str) -> list[str]:
    """Words in lower case; "D#", "D♯" and "D sharp" are the same two, "Db" and "D flat" one."""
    text = text.strip()
    for spelling, plain in _SPELLINGS.items():
        text = re.sub(rf"(?i)\b([A-G])[ -]?{spelling}(?![a-z])", rf"\1{plain}", text)
    return re.findall(r"\d+/\d+|\d+(?:\.\d+)?|[^\W\d_]+(?:['-][^\W\d_]+)*", text.lower())


def _tempo(found: list[str]) -> float | None:
    """The number before "bpm", if it is a tempo on the scale."""
    for number, unit in itertools.pairwise(found):
        if unit == "bpm" and re.fullmatch(r"\d+(\.\d+)?", number):
            return float(np.clip(float(number), _SLOWEST, _SLOWEST * 2**_OCTAVES))
    return None


def _terms(found: list[str]) -> list[str]:
    """Words and pairs of them, without numbers."""
    plain = [word for word in found if not re.fullmatch(r"\d+(\.\d+)?", word)]
    return plain + [f"{one} {two}" for one, two in itertools.pairwise(plain)]


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Terms that captions have in common.

    Attributes:
        places: of each term among the counts.
    """

    places: Mapping[str, int]

    @classmethod
    def of(cls, captions: Sequence[str]) -> Vocabulary:
        """Terms in at least two of some captions."""
        seen = Counter(term for text in captions for term in set(_terms(words(text))))
        common = sorted(term for term, count in seen.items() if count >= _COMMON)
        return cls({term: place for place, term in enumerate(common)})

    def count(self, texts: Sequence[str]) -> np.ndarray:
        """Terms of each text by place, then its tempo: [texts, terms + bins] f32.

        A tempo is a bump on a scale of logarithms, a bin wide to either side; without one there is
        none.
        """
        scale = np.arange(_BINS * _OCTAVES + 1)
        rows = np.zeros((len(texts), len(self.places) + len(scale)), np.float32)
        for row, text in zip(rows, texts, strict=True):
            found = words(text)
            for term in _terms(found):
                if term in self.places:
                    row[self.places[term]] += 1
            if (tempo := _tempo(found)) is not None:
                at = np.log2(tempo / _SLOWEST) * _BINS
                row[len(self.places) :] = np.exp(-0.5 * np.square(scale - at))
        return rows

    def check(self, text: str) -> list[str]:
        """Words of a query that no caption has; a query is to have some that one has.

        Raises:
            UserError: not one word is known.
        """
        found = words(text)
        unknown = [w for w in found if w not in self.places and not w[0].isdigit()]
        if _tempo(found) is None and not any(term in self.places for term in _terms(found)):
            some = ", ".join(term for term in self.places if " " not in term)
            raise UserError(f"--text={text}: no word of it is known; captions are made of {some}")
        return unknown
