"""The exact answer to "stretch by rate, shift by semitones": the score played so.

A piece of the built-in corpus is rendered at (tempo, key) and at (tempo · rate, key + semitones):
the same instruments, velocities, place in the piece and notes, beat for beat from its beginning, so
that beat b lands at b · 60 / (tempo · rate) seconds. Drums do not transpose in a score, so there
are none; the bass does. Attacks, releases and vibrato keep their own time, as an instrument's do.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from loev_jax.corpus import performance as performances
from loev_jax.corpus import rendering, scores
from loev_jax.corpus.score import RejectedError, Score

SAMPLE_RATE = rendering.SAMPLE_RATE
SECONDS = performances.SECONDS

_QUIET = 0.01  # of the peak: a second that does not reach it is a rest


@dataclasses.dataclass(frozen=True)
class Piece:
    """A piece and how it is played.

    Attributes:
        number: its place in the list, from 0.
        score: its notes, in beats.
        performance: its instruments and tempo; no drums.
        gain: what every rendering of it is multiplied by.
    """

    number: int
    score: Score = dataclasses.field(repr=False)
    performance: performances.Performance
    gain: float

    @property
    def tempo(self) -> float:
        """Notated beats a minute at rate 1."""
        return self.performance.tempo


def pieces(count: int, seed: int) -> list[Piece]:
    """Chooses pieces of the built-in corpus and how they are played.

    Pieces that are silent for a second are left out: there is nothing to compare in a rest.

    Args:
        count: their number.
        seed: of the choice, >= 0; piece n of a seed is the same whatever the count.

    Raises:
        ValueError: the collections do not hold so many usable pieces.
        UserError: the scores or the soundfont are not installed.
    """
    sources = scores.sources()
    chosen: list[Piece] = []
    for index in np.random.default_rng(seed).permutation(len(sources)):
        if len(chosen) == count:
            break
        piece = _try_piece(len(chosen), sources[index].piece, seed)
        if piece is not None:
            chosen.append(piece)
    if len(chosen) < count:
        raise ValueError(f"count={count}: there are {len(chosen)} usable pieces only")
    return chosen


def render(piece: Piece, rate: float = 1.0, semitones: float = 0.0) -> np.ndarray:
    """Renders a piece at another tempo and in another key.

    Args:
        piece: one of `pieces`.
        rate: of its tempo.
        semitones: a whole number: a score has no other transpositions.

    Returns:
        f32 [30 s / rate at 16 kHz]. The gain is the same at any rate and shift, and nothing else
        is done about loudness; at rate 1 and shift 0 the peak lies between .5 and .95.

    Raises:
        ValueError: the rate is not positive, the shift is not whole, or a note leaves MIDI's range.
    """
    if not rate > 0:
        raise ValueError(f"rate={rate} must be positive")
    if semitones != int(semitones):
        raise ValueError(f"semitones={semitones} must be a whole number")
    samples = round(SECONDS / rate * SAMPLE_RATE)
    midi = _moved(performances.to_midi(piece.score, piece.performance), rate, int(semitones))
    audio = rendering.render_midi(midi)[:samples]
    return np.pad(audio, (0, samples - len(audio))) * np.float32(piece.gain)


def _try_piece(number: int, name: str, seed: int) -> Piece | None:
    """The piece of that name, or None if it is not usable."""
    try:
        score = scores.load(name)
    except RejectedError:
        return None
    performance = dataclasses.replace(performances.draw(seed, number), drums=0)
    piece = Piece(number, score, performance, gain=1.0)
    try:
        loudest = np.abs(render(piece)).reshape(-1, SAMPLE_RATE).max(axis=1)
    except (ValueError, RuntimeError):  # the renderer does not take some files
        return None
    peak = float(loudest.max())
    if loudest.min() <= _QUIET * peak:
        return None
    return dataclasses.replace(piece, gain=performance.peak / peak)


def _moved(midi: bytes, rate: float, semitones: int) -> bytes:
    """The same MIDI file at another tempo and in another key.

    The notes are those of the file itself, not those that the corpus would choose at that tempo:
    there short notes are left out, and the clip ends at another beat.
    """
    import symusic

    score = symusic.Score.from_midi(midi)
    for tempo in score.tempos:
        tempo.qpm = tempo.qpm * rate
    for track in score.tracks:
        for note in track.notes:
            pitch = note.pitch + semitones
            if not 0 <= pitch <= 127:
                raise ValueError(f"semitones={semitones} moves a note to {pitch}, out of 0..127")
            note.pitch = pitch
    return score.dumps_midi()
