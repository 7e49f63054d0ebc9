"""A piece as somebody might hum it: its melody alone, by a voice, in a key and a tempo of its own.

A voice is a source rich in harmonics heard through closed lips: its partials fall by 12 dB an
octave and pass a nasal murmur's resonances (Fant 1960, *Acoustic Theory of Speech Production*).
What makes it human is drawn too: it glides from note to note, has a vibrato once a note is held,
is out of tune a little on each note and more and more as it goes, keeps no steady tempo, and
breathes. Everything is a function of (seed, number).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter1d

from loev_jax.corpus.rendering import SAMPLE_RATE
from loev_jax.corpus.score import Score

SLOWEST, FASTEST = 60.0, 140.0  # notated beats a minute
VOICES = {"low": 50.0, "high": 62.0}  # MIDI note about which the melody lies
NEAR = 0.08
"""Of a clip's tempo: within it a neighbour's counts as the same, and a hum's does not come."""

_TRIES = 100  # tempi, of which the first is taken that is near none
_HIGHEST_PARTIAL = 3_500.0  # Hz: above it a hum is silent
_RESONANCES = ((250.0, 90.0), (1_050.0, 220.0), (2_200.0, 320.0))  # frequency and width, Hz
_CONTROL = 100  # values a second of what moves slowly
_PEAK = 0.6


@dataclasses.dataclass(frozen=True)
class Played:
    """How a clip plays a piece.

    Attributes:
        tempo: in notated beats a minute.
        transposition: semitones from the score.
    """

    tempo: float
    transposition: int


@dataclasses.dataclass(frozen=True)
class Hum:
    """What was drawn for one hum.

    Attributes:
        tempo: mean, in notated beats a minute.
        transposition: semitones from the score, its octave included.
        start: beat of the piece at which it begins.
        voice: one of `VOICES`.
        vibrato: rate in Hz and depth in semitones.
        glide: seconds in which most of a step in pitch is done.
        seed: of its imperfections.
    """

    tempo: float
    transposition: int
    start: float
    voice: str
    vibrato: tuple[float, float]
    glide: float
    seed: int


def melody(score: Score) -> np.ndarray:
    """The highest note of the first voice at any time: onset, duration, pitch, [notes, 3]."""
    first = score.voice == 0
    rows = np.stack([score.onset[first], score.duration[first], score.pitch[first]], axis=1)
    rows = rows[np.lexsort((-rows[:, 2], rows[:, 0]))]
    rows = rows[np.concatenate([[True], np.diff(rows[:, 0]) > 1e-6])]
    ends = np.append(rows[1:, 0], np.inf)
    rows[:, 1] = np.minimum(rows[:, 1], ends - rows[:, 0])
    return rows


def draw(score: Score, clips: Sequence[Played], seed: int, number: int) -> Hum:
    """Draws how hum `number` of a set with `seed` goes, unlike these clips of its piece.

    It is in another key, at a tempo that is not `NEAR`, and, where one of `VOICES` can, more than
    six semitones away, nearer to another octave. A piece that is heard in every key, or at every
    tempo, is hummed in any.
    """
    random = np.random.default_rng([seed, number, 1])
    middle = float(np.median(melody(score)[:, 2]))
    within = [
        (voice, math.ceil(note - middle) + step)
        for voice, note in VOICES.items()
        for step in range(-6, 6)
    ]
    taken = [clip.transposition for clip in clips]
    keys = [one for one in within if all((one[1] - there) % 12 for there in taken)]
    octaves = [one for one in keys if all(abs(one[1] - there) > 6 for there in taken)]
    ways = octaves or keys or within
    voice, transposition = ways[random.integers(len(ways))]
    tempi = np.exp(random.uniform(np.log(SLOWEST), np.log(FASTEST), size=(_TRIES, 1)))
    known = np.array([[clip.tempo for clip in clips]])
    away = (np.abs(tempi - known) > NEAR * known).all(axis=1)
    bars = int(score.period // score.beats_per_bar)
    return Hum(
        tempo=float(tempi[away.argmax(), 0]),
        transposition=transposition,
        start=score.pickup + score.beats_per_bar * int(random.integers(max(1, bars // 2))),
        voice=voice,
        vibrato=(float(random.uniform(4.5, 6.5)), float(random.uniform(0.1, 0.5))),
        glide=float(random.uniform(0.03, 0.09)),
        seed=int(random.integers(2**32)),
    )


def pitch_and_loudness(score: Score, hum: Hum, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """The melody as the voice follows it.

    Returns:
        Pitch in MIDI notes and loudness in 0..1, `_CONTROL` values a second.
    """
    random = np.random.default_rng(hum.seed)
    steps = round(seconds * _CONTROL)
    drift = gaussian_filter1d(random.normal(size=steps), 2.0 * _CONTROL, mode="nearest")
    drift -= drift.mean()
    drift *= 0.07 / max(float(drift.std()), 1e-9)
    beat = hum.start + np.cumsum(hum.tempo / 60 / _CONTROL * np.exp(drift)) - 1e-9
    notes = melody(score)
    place = np.searchsorted(notes[:, 0], beat % score.period, side="right") - 1
    into = (beat % score.period - notes[place, 0]) / notes[place, 1]
    new = np.diff(place + len(notes) * np.floor(beat / score.period), prepend=-1) != 0
    count = np.cumsum(new)
    detuned = random.normal(0.0, 0.12, size=count[-1] + 1)[count]
    wander = np.cumsum(random.normal(size=steps)) * 0.3 / np.sqrt(10 * _CONTROL)
    pitch = notes[place, 2] + hum.transposition + detuned + wander * 0.3
    since = np.arange(steps) - np.maximum.accumulate(np.where(new, np.arange(steps), 0))
    smooth = gaussian_filter1d(pitch, hum.glide * _CONTROL, mode="nearest")
    held = np.clip((since / _CONTROL - 0.25) / 0.25, 0.0, 1.0)
    rate, depth = hum.vibrato
    smooth += held * depth * np.sin(2 * np.pi * rate * np.arange(steps) / _CONTROL)
    sounding = (into < 0.93) & (place >= 0)
    # A breath after some four seconds, where a note ends.
    last = 0
    for step in np.flatnonzero(new):
        if step - last > 4 * _CONTROL:
            sounding[max(0, step - _CONTROL // 4) : step] = False
            last = int(step)
    loudness = gaussian_filter1d(sounding.astype(float), 0.02 * _CONTROL, mode="nearest")
    swell = 1 - 0.2 * gaussian_filter1d(random.random(steps), 0.5 * _CONTROL, mode="nearest")
    return smooth, loudness * swell


def render(score: Score, hum: Hum, seconds: float) -> np.ndarray:
    """Hums a score.

    Returns:
        int16 [samples] at 16 kHz.
    """
    pitch, loudness = pitch_and_loudness(score, hum, seconds)
    samples = round(seconds * SAMPLE_RATE)
    fine = np.arange(samples) * (_CONTROL / SAMPLE_RATE)
    coarse = np.arange(len(pitch))
    frequency = 440.0 * np.exp2((pitch - 69.0) / 12.0)
    phase = 2 * np.pi * np.cumsum(np.interp(fine, coarse, frequency)) / SAMPLE_RATE
    # sin((n + 1) x) = 2 cos(x) sin(n x) - sin((n - 1) x): one sine and one cosine do for all.
    before, sine, twice = np.zeros(samples), np.sin(phase), 2 * np.cos(phase)
    audio = np.zeros(samples)
    for partial in range(1, int(_HIGHEST_PARTIAL / frequency.min()) + 1):
        audio += np.interp(fine, coarse, _response(partial * frequency) / partial**2) * sine
        before, sine = sine, twice * sine - before
    random = np.random.default_rng([hum.seed, 1])
    breath = gaussian_filter1d(random.normal(size=samples), 2.0)
    audio = np.interp(fine, coarse, loudness) * (audio / np.abs(audio).max() + 0.01 * breath)
    return np.round(_PEAK * 32767 * audio / np.abs(audio).max()).astype(np.int16)


def _response(frequency: np.ndarray) -> np.ndarray:
    """Of closed lips, each resonance with a gain of 1 far below it; silent above the highest."""
    gain = np.where(frequency < _HIGHEST_PARTIAL, 1.0, 0.0)
    for centre, width in _RESONANCES:
        gain *= centre**2 / np.hypot(centre**2 - frequency**2, width * frequency)
    return gain
