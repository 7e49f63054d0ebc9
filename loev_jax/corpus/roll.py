"""A score as a piano roll, and what an adapter needs to know of one."""

from __future__ import annotations

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from loev_jax.corpus.score import Score
from loev_jax.encoders.cnn import modulation
from loev_jax.errors import UserError

SECONDS = 30.0
RATE = 25
"""Frames of a roll in a second."""

PITCHES = 128
_CYCLES = np.geomspace(0.5, 8.0, 48) / RATE  # of a frame; the last is 8 a second
_COARSE = _CYCLES[::2]
_WINDOW = 5 * RATE  # frames whose modulation is taken at once
_BATCH = 64


@dataclasses.dataclass(frozen=True)
class Notes:
    """Notes in seconds, in any order.

    Attributes:
        onset: [n] from the beginning, from 0.
        duration: [n] positive.
        pitch: [n] MIDI note numbers.
        period: after so many seconds the piece starts again.
    """

    onset: np.ndarray
    duration: np.ndarray
    pitch: np.ndarray
    period: float


def perform(score: Score, tempo: float, key: int) -> Notes:
    """A score as it is written, at a tempo and in a key.

    Args:
        score: any.
        tempo: in notated beats a minute, positive.
        key: 0-23, of the score's mode; the notes move by at most six semitones.
    """
    second = 60.0 / tempo
    pitch = score.pitch + score.steps_to(key)
    return Notes(score.onset * second, score.duration * second, pitch, score.period * second)


def read_midi(path: pathlib.Path) -> Notes:
    """The notes of a MIDI file, without drums.

    Raises:
        UserError: there is no such file, it is not MIDI, or it has no notes.
    """
    import symusic

    try:
        midi = symusic.Score.from_midi(path.read_bytes()).to("second")
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"--score={path}: not a MIDI file that can be read ({error})") from error
    found = [
        (note.start, note.duration, note.pitch)
        for track in midi.tracks
        if not track.is_drum
        for note in track.notes
        if note.duration > 0
    ]
    if not found:
        raise UserError(f"--score={path}: no notes; give a MIDI file with some that are not drums")
    onset, duration, pitch = np.array(found, np.float64).T
    return Notes(onset, duration, pitch.astype(int), float((onset + duration).max()))


def piano_roll(notes: Notes) -> tuple[np.ndarray, np.ndarray]:
    """Draws notes in time, from the first one on and over again until `SECONDS` are full.

    Returns:
        How long each pitch sounds within each frame, in frames, and how many notes begin there:
        [`SECONDS` x `RATE`, 128] f32 each.
    """
    frames = round(SECONDS * RATE)
    sounding, onsets = np.zeros((2, frames, PITCHES), np.float32)
    begin = notes.onset - notes.onset.min()
    period = max(notes.period, 1.0 / RATE)
    for time in np.arange(0.0, SECONDS, period):
        first = (begin + time) * RATE
        last = np.minimum((begin + time + notes.duration) * RATE, frames)
        for start, end, pitch in zip(first, last, notes.pitch, strict=True):
            if start >= frames:
                continue
            onsets[int(start), pitch] += 1
            edges = np.arange(int(start), int(np.ceil(end)))
            sounding[edges, pitch] += np.minimum(edges + 1, end) - np.maximum(edges, start)
    return sounding, onsets


@jax.jit
def _pool(sounding: jax.Array, onsets: jax.Array) -> jax.Array:
    """Rolls [batch, frames, 128] f32 → what `describe` returns of each."""
    classes = jnp.pad(sounding, ((0, 0), (0, 0), (0, -PITCHES % 12)))
    classes = classes.reshape(*classes.shape[:2], -1, 12).sum(axis=2)

    def share(amounts: jax.Array) -> jax.Array:
        total = jnp.sum(amounts, axis=1)
        return jnp.sqrt(total / jnp.maximum(jnp.sum(total, axis=1, keepdims=True), 1e-6))

    def rhythm(curves: jax.Array, cycles: np.ndarray) -> jax.Array:
        # Over the whole roll the peaks would be narrower than the frequencies are apart.
        windows = curves.reshape(-1, _WINDOW, curves.shape[2])
        each = modulation(windows, cycles)
        return jnp.mean(each.reshape(len(curves), -1, *each.shape[1:]), axis=1)

    beats = rhythm(jnp.sum(onsets, axis=2, keepdims=True), _CYCLES)
    turns = rhythm(classes, _COARSE)
    parts = (share(sounding), share(classes), jnp.log1p(10 * beats), jnp.log1p(10 * turns))
    return jnp.concatenate([part.reshape(len(sounding), -1) for part in parts], axis=1)


def describe(rolls: list[Notes]) -> np.ndarray:
    """What is kept of piano rolls: how much each pitch and pitch class sounds, and the rhythm.

    The rhythm is the modulation in time of all onsets (48 frequencies from 0.5 to 8 Hz) and of each
    pitch class (24 of them), over windows of 5 s: a tempo moves it along the frequencies, as in the
    `cnn` encoder.

    Returns:
        [rolls, 476] f32.
    """
    found = []
    for start in range(0, len(rolls), _BATCH):
        some = [piano_roll(notes) for notes in rolls[start : start + _BATCH]]
        blank = (np.zeros_like(some[0][0]),) * 2
        drawn = [*some, *[blank] * (_BATCH - len(some))]  # one shape, one program
        sounding, onsets = (np.stack(part) for part in zip(*drawn, strict=True))
        found.append(np.asarray(_pool(sounding, onsets))[: len(some)])
    return np.concatenate(found)
