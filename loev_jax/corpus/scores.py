"""The scores of the built-in corpus: tunes and chorales that music21 ships.

Ryan's Mammoth Collection, O'Neill's Music of Ireland and Aird's Airs are ABC files, Bach's chorales
MusicXML. music21 itself is never imported: its files are read where they were installed.
"""

from __future__ import annotations

import functools
import importlib.util
import pathlib
import re

import numpy as np

from loev_jax.corpus import abc, key_finding, musicxml
from loev_jax.corpus.score import RejectedError, Score, Source
from loev_jax.errors import UserError

ABC_COLLECTIONS = ("ryansMammoth", "oneills1850", "airdsAirs")
CHORALES = "bach"
COLLECTIONS = (*ABC_COLLECTIONS, CHORALES)

_SHORTEST_BARS = 4


@functools.cache
def sources() -> tuple[Source, ...]:
    """Returns every piece of the four collections, in an order that never changes.

    Raises:
      UserError: music21 or one of the collections is not installed.
    """
    spec = importlib.util.find_spec("music21")
    if spec is None or spec.origin is None:
        raise UserError("music21 is not installed, it brings the scores: pip install music21")
    root = pathlib.Path(spec.origin).parent / "corpus"
    found: list[Source] = []
    for collection in ABC_COLLECTIONS:
        for path in sorted((root / collection).glob("*.abc")):
            tunes = re.split(r"(?m)^(?=X:)", path.read_text(encoding="utf-8", errors="replace"))
            for place, text in enumerate(tunes[1:], start=1):
                piece = f"{collection}/{path.stem}" + (f"#{place}" if len(tunes) > 2 else "")
                found.append(Source(piece, collection, path, text))
    for path in sorted((root / CHORALES).iterdir()):
        if path.suffix in (".mxl", ".xml"):
            found.append(Source(f"{CHORALES}/{path.stem}", CHORALES, path))
    missing = set(COLLECTIONS) - {source.collection for source in found}
    if missing:
        raise UserError(
            f"{root}: no scores of {', '.join(sorted(missing))}; install music21 with its corpus"
        )
    return tuple(found)


@functools.cache
def _by_piece() -> dict[str, Source]:
    return {source.piece: source for source in sources()}


def load(piece: str) -> Score:
    """Reads the piece with id `piece`.

    Raises:
      RejectedError: it cannot be read, its key or metre changes or is not one of ours, it is
        shorter than four bars, or Krumhansl's algorithm hears another key than the notated one.
    """
    source = _by_piece()[piece]
    read = musicxml.read_chorale if source.collection == CHORALES else abc.read_tune
    score = read(source)
    end = float((score.onset + score.duration).max())
    if end - score.pickup < _SHORTEST_BARS * score.beats_per_bar:
        raise RejectedError(f"shorter than {_SHORTEST_BARS} bars")
    weights = np.bincount(score.pitch % 12, weights=score.duration, minlength=12)
    if key_finding.find_key(weights) != score.key:
        raise RejectedError("the notes are in another key than the notated one")
    return score
