"""Reads a tune in ABC with the abc2midi that symusic brings."""

from __future__ import annotations

import hashlib
import os
import pathlib
import re
import subprocess
import tempfile

import numpy as np

from loev_jax.corpus.score import METRES, STEPS, RejectedError, Score, Source

_ACCIDENTALS = {"": 0, "#": 1, "b": -1}
# abc2midi gives this velocity to the first note of a bar and to no other.
_DOWNBEAT_VELOCITY = 105


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


def parse_key(field: str) -> int:
    """Returns the key (0-23) of an ABC field such as "G", "Em" or "E Minor".

    Raises:
      RejectedError: it is a church mode, or names no key.
    """
    match = re.fullmatch(r"([A-G])([#b]?)\s*(|maj|major|ion|ionian|m|min|minor)", field.strip())
    if match is None:
        match = re.fullmatch(r"([A-G])([#b]?)\s*(Maj|Major|Min|Minor|MIN|MAJ)", field.strip())
    if match is None:
        raise RejectedError("its key is neither major nor minor")
    tonic = (STEPS[match[1]] + _ACCIDENTALS[match[2]]) % 12
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


def read_tune(source: Source) -> Score:
    """Reads a tune.

    Raises:
      RejectedError: it cannot be read, or its key or metre changes or is not one of ours.
    """
    import symusic

    metre = _field(source.text, "M").replace(" ", "")
    metre = {"C": "4/4", "C|": "2/2"}.get(metre, metre)
    if metre not in METRES:
        raise RejectedError("its metre is not one of " + ", ".join(METRES))
    key = parse_key(_field(source.text, "K"))
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
