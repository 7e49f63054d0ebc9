"""The scores of the built-in corpus: tunes and chorales that music21 ships, as notes in beats.

Ryan's Mammoth Collection, O'Neill's Music of Ireland and Aird's Airs are ABC files, which the
abc2midi that symusic brings turns into notes; Bach's chorales are MusicXML, read by
`loev_jax.corpus.musicxml`. music21 itself is never imported: its files are read where they were
installed.

The *notated beat* is the unit of every onset, duration and tempo here: the dotted quarter in 6/8,
9/8 and 12/8, the half note in cut time and 3/2, and the quarter note in 2/4, 3/4 and 4/4. Other
metres, of which the collections hold few, are left out.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.util
import os
import pathlib
import re
import subprocess
import tempfile

import numpy as np

from loev_jax.corpus import key_finding
from loev_jax.errors import UserError

ABC_COLLECTIONS = ("ryansMammoth", "oneills1850", "airdsAirs")
CHORALES = "bach"
COLLECTIONS = (*ABC_COLLECTIONS, CHORALES)

# Metre -> (quarter notes in a beat, beats in a bar).
METRES = {
    "2/4": (1.0, 2),
    "3/4": (1.0, 3),
    "4/4": (1.0, 4),
    "2/2": (2.0, 2),
    "3/2": (2.0, 3),
    "6/8": (1.5, 2),
    "9/8": (1.5, 3),
    "12/8": (1.5, 4),
}

_SHORTEST_BARS = 4
_TONICS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_ACCIDENTALS = {"": 0, "#": 1, "b": -1}
# abc2midi gives this velocity to the first note of a bar and to no other.
_DOWNBEAT_VELOCITY = 105


class RejectedError(Exception):
    """This piece is not for the corpus. The message is the reason, the same for all its kind."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a piece is found.

    Attributes:
      piece: its id, unique in the corpus: collection, file and the place in the file.
      collection: one of `COLLECTIONS`.
      path: the file.
      text: the tune in ABC; empty for a chorale, which is alone in its file.
    """

    piece: str
    collection: str
    path: pathlib.Path
    text: str = dataclasses.field(default="", repr=False)


@dataclasses.dataclass(frozen=True)
class Score:
    """A piece as notes, in notated beats, sorted by onset.

    Attributes:
      piece: the id of the piece.
      collection: one of `COLLECTIONS`.
      family: a name that versions of the same music share: the title of a tune, the first phrase
        of a chorale's melody. A family is never divided between splits.
      onset: [N] beats from the beginning of the piece, from 0.
      duration: [N] beats, > 0.
      pitch: [N] MIDI note numbers.
      voice: [N] 0 for a tune; 0-3 for a chorale's soprano, alto, tenor and bass.
      key: the notated key, 0-11 C to B major, 12-23 C to B minor.
      metre: one of `METRES`.
      pickup: beats before the first downbeat, in [0, beats in a bar).
    """

    piece: str
    collection: str
    family: str
    onset: np.ndarray
    duration: np.ndarray
    pitch: np.ndarray
    voice: np.ndarray
    key: int
    metre: str
    pickup: float

    @property
    def beats_per_bar(self) -> int:
        """Notated beats in a bar."""
        return METRES[self.metre][1]

    @property
    def period(self) -> float:
        """Beats after which the piece starts again: its length, filled up to whole bars."""
        end = float((self.onset + self.duration).max())
        return float(np.ceil(end / self.beats_per_bar - 1e-3)) * self.beats_per_bar


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
    if source.collection == CHORALES:
        from loev_jax.corpus import musicxml

        score = musicxml.read_chorale(source)
    else:
        score = _read_tune(source)
    end = float((score.onset + score.duration).max())
    if end - score.pickup < _SHORTEST_BARS * score.beats_per_bar:
        raise RejectedError(f"shorter than {_SHORTEST_BARS} bars")
    weights = np.bincount(score.pitch % 12, weights=score.duration, minlength=12)
    if key_finding.find_key(weights) != score.key:
        raise RejectedError("the notes are in another key than the notated one")
    return score


def _abc_to_midi(text: str) -> bytes | None:
    """Returns a tune as a MIDI file: repeats played, ornaments written out; None if it cannot be.

    symusic's own `from_abc` runs the same program, but on files in the common temporary directory
    whose names processes that run at the same time have in common: now and then it reads the tune
    of another process, or none.
    """
    import symusic  # noqa: F401  # sets the variable that names its program

    with tempfile.TemporaryDirectory() as directory:
        abc, midi = pathlib.Path(directory) / "tune.abc", pathlib.Path(directory) / "tune.mid"
        abc.write_text(text, encoding="utf-8")
        subprocess.run(
            [os.environ["SYMUSIC_ABC2MIDI"], abc, "-o", midi, "-NGUI", "-NCOM", "-silent"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,  # the program's exit status says nothing of the tune
        )
        return midi.read_bytes() if midi.exists() else None


def parse_abc_key(field: str) -> int:
    """Returns the key (0-23) of an ABC field such as "G", "Em" or "E Minor".

    Raises:
      RejectedError: it is a church mode, or names no key.
    """
    match = re.fullmatch(r"([A-G])([#b]?)\s*(|maj|major|ion|ionian|m|min|minor)", field.strip())
    if match is None:
        match = re.fullmatch(r"([A-G])([#b]?)\s*(Maj|Major|Min|Minor|MIN|MAJ)", field.strip())
    if match is None:
        raise RejectedError("its key is neither major nor minor")
    tonic = (_TONICS[match[1]] + _ACCIDENTALS[match[2]]) % 12
    minor = match[3].lower() in ("m", "min", "minor")
    return tonic + 12 * minor


def _field(text: str, name: str) -> str:
    """Returns the one value of an ABC field, without its comment.

    Raises:
      RejectedError: the tune lacks the field or changes it on the way.
    """
    values = [value.split("%")[0].strip() for value in re.findall(rf"(?m)^{name}:(.*)$", text)]
    values += re.findall(rf"\[{name}:([^\]]*)\]", text)
    if not values:
        raise RejectedError(f"it has no field {name}:")
    if len({value.strip() for value in values}) > 1:
        raise RejectedError(f"its field {name}: changes")
    return values[0]


def _title_family(text: str) -> str:
    """Returns the letters of the title without the name of its dance and without an article."""
    match = re.search(r"(?m)^T:(.*)$", text)
    title = match[1].split("--")[0].lower() if match else hashlib.sha256(text.encode()).hexdigest()
    words = re.findall(r"[a-z0-9]+", title.replace("'", ""))
    dances = {"reel", "jig", "hornpipe", "strathspey", "march", "the", "a", "an"}
    return "".join(word for word in words if word not in dances) or "".join(words)


def _read_tune(source: Source) -> Score:
    """Reads a tune in ABC."""
    import symusic

    metre = _field(source.text, "M").replace(" ", "")
    metre = {"C": "4/4", "C|": "2/2"}.get(metre, metre)
    if metre not in METRES:
        raise RejectedError("its metre is not one of " + ", ".join(METRES))
    key = parse_abc_key(_field(source.text, "K"))
    data = _abc_to_midi(source.text)
    if data is None:
        raise RejectedError("abc2midi cannot read it")
    midi = symusic.Score.from_midi(data)
    if not midi.tracks or len(midi.tracks[0].notes) == 0:
        raise RejectedError("it has no notes")
    quarters_per_beat, beats_per_bar = METRES[metre]
    ticks_per_beat = midi.tpq * quarters_per_beat
    notes = midi.tracks[0].notes.numpy()
    # The reader starts every note one tick late, to part it from the note before.
    onset = np.maximum(notes["time"].astype(np.float64) - 1, 0) / ticks_per_beat
    duration = (notes["duration"].astype(np.float64) + 1) / ticks_per_beat
    # The commonest place of the downbeat, to the grid of a 96th of a beat, which holds triplets.
    grid = np.round(onset[notes["velocity"] == _DOWNBEAT_VELOCITY] * 96) % (96 * beats_per_bar)
    phases, counts = np.unique(grid / 96, return_counts=True)
    order = np.argsort(onset, kind="stable")
    return Score(
        piece=source.piece,
        collection=source.collection,
        family=_title_family(source.text),
        onset=onset[order],
        duration=duration[order],
        pitch=notes["pitch"].astype(np.int64)[order],
        voice=np.zeros(len(order), np.int64),
        key=key,
        metre=metre,
        pickup=float(phases[np.argmax(counts)]) if len(phases) else 0.0,
    )
