"""How a score is played in one clip: instruments, tempo, transposition, accompaniment, drums.

Everything drawn is a function of (seed, clip) alone. The result is a MIDI file in memory whose
quarter note is the notated beat, so that the MIDI tempo is the tempo label.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from loev_jax.corpus.score import Score
from loev_jax.corpus.scores import CHORALES

SECONDS = 30.0
SLOWEST, FASTEST = 60.0, 200.0  # notated beats a minute
LOWEST_TRANSPOSITION, HIGHEST_TRANSPOSITION = -5, 6  # semitones: every key once

# General MIDI programs (from 0) that sound one clear pitch soon after the note begins, and whose
# release does not take the synthesiser long: its time is the number of voices that sound.
FAMILIES: dict[str, tuple[int, ...]] = {
    "piano": (0, 1, 4, 5, 6, 7),
    "chromatic percussion": (8, 11, 12),
    "organ": (16, 17, 19, 20, 21, 22, 23),
    "guitar": (24, 25, 26, 27, 28),
    "strings": (40, 41, 42, 45),
    "ensemble": (52, 53, 54),
    "brass": (56, 57, 58, 59, 61, 62, 63),
    "reed": (64, 65, 66, 67, 68, 69, 70, 71),
    "pipe": (72, 73, 74, 75, 76, 79),
    "synth lead": (80, 81, 82, 83, 85, 87),
}
_BASS_PROGRAMS = (32, 33, 34, 35)
# Octaves by which an instrument plays a tune below the fiddle it was written for.
_OCTAVES = {42: -1, 57: -1, 58: -2, 66: -1, 67: -1, 70: -1}

_TICKS_PER_BEAT = 960
_KICK, _SNARE, _CLOSED_HAT = 36, 38, 42
# Beats of the bar that the bass drum takes; the snare takes the others.
_KICK_BEATS = {2: (0,), 3: (0,), 4: (0, 2)}
_FAST = 120.0  # beats a minute from which the hi-hat leaves out what lies between the beats
_SHORTEST_SECONDS = 0.04  # what is left of a note that began before the clip, to be worth playing

_MAJOR_TRIADS = ((0, 4, 7), (5, 9, 0), (7, 11, 2), (9, 0, 4))  # I IV V vi
_MINOR_TRIADS = ((0, 3, 7), (5, 8, 0), (7, 11, 2), (10, 2, 5), (8, 0, 3))  # i iv V VII VI


@dataclasses.dataclass(frozen=True)
class Performance:
    """What was drawn for one clip.

    Attributes:
      tempo: notated beats a minute, 60-200.
      transposition: semitones, -5 to 6.
      family: the General MIDI family of the instruments that play the score.
      programs: [4] the program (0-127) of each voice.
      start: where in the piece the clip begins, as a share of its notes, in [0, 1).
      late: how much of that first note is over when the clip begins, in [0, 1).
      drums: the velocity of the drums, 0 for none.
      bass: the velocity of the bass, 0 for none.
      bass_program: its program.
      peak: the largest absolute sample of the clip, of full scale.
      velocity_seed: seeds the small differences between the notes' velocities.
    """

    tempo: float
    transposition: int
    family: str
    programs: tuple[int, ...]
    start: float
    late: float
    drums: int
    bass: int
    bass_program: int
    peak: float
    velocity_seed: int


@dataclasses.dataclass(frozen=True)
class Note:
    """A note of the clip.

    Attributes:
      onset: beats from the beginning of the clip.
      duration: beats, > 0.
      pitch: MIDI note number.
      velocity: 1-127.
    """

    onset: float
    duration: float
    pitch: int
    velocity: int


def draw(seed: int, clip: int) -> Performance:
    """Draws how clip number `clip` of the corpus with `seed` is played."""
    random = np.random.default_rng([seed, clip])
    family = str(random.choice(list(FAMILIES)))
    one_instrument = random.random() < 0.5
    programs = random.choice(FAMILIES[family], 4)
    with_drums, with_bass = random.random() < 0.5, random.random() < 0.5
    return Performance(
        tempo=float(np.exp(random.uniform(np.log(SLOWEST), np.log(FASTEST)))),
        transposition=int(random.integers(LOWEST_TRANSPOSITION, HIGHEST_TRANSPOSITION + 1)),
        family=family,
        programs=tuple(int(programs[0] if one_instrument else program) for program in programs),
        start=float(random.random()),
        late=float(random.random()),
        drums=int(random.integers(60, 111)) * with_drums,
        bass=int(random.integers(60, 101)) * with_bass,
        bass_program=int(random.choice(_BASS_PROGRAMS)),
        peak=float(random.uniform(0.5, 0.95)),
        velocity_seed=int(random.integers(2**32)),
    )


def _start_beat(score: Score, performance: Performance) -> float:
    """Returns the beat of the piece at which the clip begins: while a note sounds."""
    first = int(performance.start * len(score.onset))
    # Not to the note's end: what is left must be long enough to be heard.
    return float(score.onset[first] + 0.5 * performance.late * score.duration[first])


def melodic_notes(score: Score, performance: Performance) -> list[list[Note]]:
    """Returns the notes that the clip takes from the score, by voice: repeated, transposed, cut.

    The piece begins again after a whole number of bars, until the clip is full.
    """
    random = np.random.default_rng(performance.velocity_seed)
    beats = SECONDS * performance.tempo / 60
    shortest = _SHORTEST_SECONDS * performance.tempo / 60
    start, period = _start_beat(score, performance), score.period
    voices: list[list[Note]] = [[] for _ in range(int(score.voice.max()) + 1)]
    for round_ in range(int((start + beats) // period) + 1):
        onset = score.onset + round_ * period - start
        end = np.minimum(onset + score.duration, beats)
        onset = np.maximum(onset, 0.0)
        on_downbeat = np.isclose((onset + start - score.pickup) % score.beats_per_bar, 0, atol=0.01)
        velocity = 88 + 12 * on_downbeat + random.integers(-8, 9, len(onset))
        for index in np.flatnonzero(end - onset >= shortest):
            program = performance.programs[score.voice[index]]
            octaves = 0 if score.collection == CHORALES else _OCTAVES.get(program, 0)
            pitch = int(score.pitch[index]) + performance.transposition + 12 * octaves
            voices[score.voice[index]].append(
                Note(
                    float(onset[index]),
                    float(end[index] - onset[index]),
                    pitch,
                    int(velocity[index]),
                )
            )
    return voices


def _bars(score: Score, performance: Performance) -> np.ndarray:
    """Returns the first beat of every bar that the clip touches, in beats from its beginning."""
    start = _start_beat(score, performance)
    first = np.floor((start - score.pickup) / score.beats_per_bar) * score.beats_per_bar
    beats = SECONDS * performance.tempo / 60
    return np.arange(first + score.pickup - start, beats, score.beats_per_bar)


def bass_notes(score: Score, performance: Performance) -> list[Note]:
    """Returns a bass line: the root of the triad that holds most of each bar, at its beginning."""
    melody = [note for voice in melodic_notes(score, performance) for note in voice]
    onset = np.asarray([note.onset for note in melody])
    weight = np.asarray([note.duration for note in melody])
    beats = SECONDS * performance.tempo / 60
    tonic = (score.key + performance.transposition) % 12
    degree = (np.asarray([note.pitch for note in melody]) - tonic) % 12
    triads = _MAJOR_TRIADS if score.key < 12 else _MINOR_TRIADS
    line: list[Note] = []
    for bar in _bars(score, performance):
        inside = (onset >= bar - 0.01) & (onset < bar + score.beats_per_bar - 0.01)
        heard = np.bincount(degree[inside], weights=weight[inside], minlength=12)
        root = max(triads, key=lambda triad: heard[list(triad)].sum())[0]
        begin, end = max(float(bar), 0.0), min(float(bar) + score.beats_per_bar, beats)
        if end - begin > 0.1:
            pitch = 33 + (tonic + root - 33) % 12  # the octave from A1, 55 Hz
            line.append(Note(begin, 0.9 * (end - begin), int(pitch), performance.bass))
    return line


def drum_notes(score: Score, performance: Performance) -> list[Note]:
    """Returns bass drum and snare on the beats and a hi-hat that divides them as the metre does."""
    divisions = 3 if score.metre.endswith("/8") else 2
    steps = divisions if performance.tempo < _FAST else 1
    beats = SECONDS * performance.tempo / 60
    hits: list[Note] = []
    for bar in _bars(score, performance):
        for beat in range(score.beats_per_bar):
            drum = _KICK if beat in _KICK_BEATS[score.beats_per_bar] else _SNARE
            hits.append(Note(bar + beat, 0.2, drum, performance.drums))
            for step in range(steps):
                velocity = round(performance.drums * (0.8 if step == 0 else 0.6))
                hits.append(Note(bar + beat + step / divisions, 0.1, _CLOSED_HAT, velocity))
    return [hit for hit in hits if 0 <= hit.onset < beats - 0.1]


def to_midi(score: Score, performance: Performance) -> bytes:
    """Returns the clip as a standard MIDI file, a little longer than `SECONDS`."""
    import symusic

    midi = symusic.Score(_TICKS_PER_BEAT)
    midi.tempos.append(symusic.Tempo(0, qpm=performance.tempo))

    def add_track(notes: list[Note], program: int, is_drum: bool) -> None:
        track = symusic.Track(name="", program=program, is_drum=is_drum)
        for note in notes:
            time = round(note.onset * _TICKS_PER_BEAT)
            # One tick before the end, lest the same pitch is stopped after it began again.
            duration = max(round((note.onset + note.duration) * _TICKS_PER_BEAT) - time - 1, 1)
            track.notes.append(symusic.Note(time, duration, note.pitch, note.velocity))
        midi.tracks.append(track)

    for voice, notes in enumerate(melodic_notes(score, performance)):
        add_track(notes, performance.programs[voice], False)
    if performance.bass and score.collection != CHORALES:
        add_track(bass_notes(score, performance), performance.bass_program, False)
    if performance.drums:
        add_track(drum_notes(score, performance), 0, True)
    # The renderer stops at the last event: an inaudible note keeps it going past the clip's end.
    end = (SECONDS + 0.1) * performance.tempo / 60
    add_track([Note(end - 0.05, 0.05, 60, 1)], 0, False)
    return midi.dumps_midi()
