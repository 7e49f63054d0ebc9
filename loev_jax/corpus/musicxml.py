"""Reads the notes of a four-part chorale from MusicXML, all that the corpus needs of the format.

music21's converter reads the same files, at a third of a second each; the tests compare the two.
"""

from __future__ import annotations

import io
import zipfile
from xml.etree import ElementTree

import numpy as np

from loev_jax.corpus.score import METRES, STEPS, RejectedError, Score, Source

_VOICES = ("Soprano", "Alto", "Tenor", "Bass")
_INCIPIT_NOTES = 7  # about one phrase of a hymn


def _parse(source: Source) -> ElementTree.Element:
    """Returns the root of a plain (.xml) or zipped (.mxl) MusicXML file."""
    try:
        data = source.path.read_bytes()
        if source.path.suffix == ".mxl":
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                name = next(
                    name
                    for name in archive.namelist()
                    if not name.startswith("META-INF") and name.endswith(("xml", "mxl"))
                )
                data = archive.read(name)
        return ElementTree.fromstring(data)
    except (OSError, StopIteration, zipfile.BadZipFile, ElementTree.ParseError) as error:
        raise RejectedError("its MusicXML cannot be read") from error


def _four_parts(root: ElementTree.Element) -> list[ElementTree.Element]:
    """Returns the parts of soprano, alto, tenor and bass, whatever else plays with them."""
    identifiers: dict[str, str] = {}
    for entry in root.iter("score-part"):
        words = (entry.findtext("part-name") or "").split()
        if words and words[0] in _VOICES:
            if words[0] in identifiers:
                raise RejectedError("it is not in four parts")
            identifiers[words[0]] = entry.get("id") or ""
    if len(identifiers) != len(_VOICES):
        raise RejectedError("it is not in four parts")
    parts = {part.get("id"): part for part in root.iter("part")}
    return [parts[identifiers[voice]] for voice in _VOICES]


def _number(element: ElementTree.Element, tag: str) -> float:
    """Returns the number in the child `tag`, 0 if there is none."""
    return float(element.findtext(tag) or 0.0)


def _read_part(part: ElementTree.Element) -> tuple[list[tuple[float, float, int]], float]:
    """Reads one part once through, without its repeats.

    Returns:
      The notes (onset and duration in quarter notes, MIDI pitch), tied ones joined; and the
      length of the first bar in quarter notes.
    """
    notes: list[tuple[float, float, int]] = []
    divisions, clock, first_bar = 1.0, 0.0, None
    for measure in part.iter("measure"):
        start = end = clock
        for element in measure:
            divisions = _number(element, "divisions") or divisions
            length = _number(element, "duration") / divisions
            if element.tag == "backup":
                clock -= length
            elif element.tag == "forward":
                clock += length
            elif element.tag == "note" and element.find("grace") is None:
                onset = clock
                if element.find("chord") is not None:
                    onset = notes[-1][0]
                else:
                    clock += length
                pitch = element.find("pitch")
                if pitch is not None:
                    number = round(
                        12 * (_number(pitch, "octave") + 1)
                        + STEPS[pitch.findtext("step") or "C"]
                        + _number(pitch, "alter")
                    )
                    tied = any(tie.get("type") == "stop" for tie in element.iter("tie"))
                    if tied and notes and notes[-1][2] == number:
                        before = notes[-1]
                        notes[-1] = (before[0], before[1] + length, number)
                    else:
                        notes.append((onset, length, number))
            end = max(end, clock)
        clock = end
        if first_bar is None:
            first_bar = end - start
    return notes, first_bar or 0.0


def _signature(parts: list[ElementTree.Element]) -> tuple[int, str]:
    """Returns the key (0-23) and the metre, if the piece keeps to one of each.

    The mode is read from the soprano alone: where it says minor, the files often leave the other
    parts at the format's default, major.
    """
    fifths = {key.findtext("fifths") for part in parts for key in part.iter("key")}
    modes = {key.findtext("mode") for key in parts[0].iter("key")}
    metres = {
        f"{time.findtext('beats')}/{time.findtext('beat-type')}"
        for part in parts
        for time in part.iter("time")
    }
    if len(fifths) != 1 or len(modes) != 1 or not modes <= {"major", "minor"}:
        raise RejectedError("its key changes, or is neither major nor minor")
    if len(metres) != 1 or not metres <= set(METRES):
        raise RejectedError("its metre changes, or is not one of " + ", ".join(METRES))
    tonic = 7 * int(fifths.pop() or 0)
    return (tonic % 12 if modes == {"major"} else (tonic + 9) % 12 + 12), metres.pop()


def read_chorale(source: Source) -> Score:
    """Reads a chorale's four vocal parts.

    Raises:
      RejectedError: it cannot be read, has other than four vocal parts, or its key or
        metre changes.
    """
    parts = _four_parts(_parse(source))
    key, metre = _signature(parts)
    quarters_per_beat, beats_per_bar = METRES[metre]
    rows: list[tuple[float, float, int, int]] = []
    first_bar = 0.0
    for voice, part in enumerate(parts):
        notes, first_bar = _read_part(part)
        rows += [(onset, length, pitch, voice) for onset, length, pitch in notes if length > 0]
    if not rows:
        raise RejectedError("it has no notes")
    rows.sort(key=lambda row: (row[0], row[3]))
    onset, length, pitch, voices = (np.asarray(column) for column in zip(*rows, strict=True))
    melody = pitch[voices == 0][:_INCIPIT_NOTES]
    return Score(
        piece=source.piece,
        collection=source.collection,
        family="chorale " + " ".join(str(step) for step in np.diff(melody)),
        onset=onset / quarters_per_beat,
        duration=length / quarters_per_beat,
        pitch=pitch,
        voice=voices,
        key=key,
        metre=metre,
        pickup=(first_bar / quarters_per_beat) % beats_per_bar,
    )
