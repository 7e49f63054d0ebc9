"""Music of decaying harmonics, whose stretched and shifted versions are known in closed form.

A note that begins at t0 is env(t - t0) · Σ_h a_h · sin(2π·h·f·(t - t0) + φ_h). Stretched by a rate
and shifted by a ratio it is env(rate · (t - t0/rate)) · Σ_h a_h · sin(2π·h·f·ratio·(t - t0/rate) +
φ_h): times scale, envelopes with them, frequencies scale on their own. Where a score that is played
faster keeps its attacks and releases, this is what a perfect time stretch of the sound would be.
"""

from __future__ import annotations

import dataclasses

import numpy as np

SAMPLE_RATE = 16_000
SECONDS = 18.0

_HARMONICS = 8
_HIGHEST_HZ = 6_000.0  # four semitones up it still lies below half the sample rate
_ATTACK_SECONDS = 0.01
_LOWEST_NOTE, _HIGHEST_NOTE = 45, 84  # MIDI
_PEAK = 0.7
_AUDIBLE = 9.2  # time constants until a note has decayed by 80 dB


@dataclasses.dataclass(frozen=True)
class Tones:
    """Notes, at rate 1 and without a shift.

    Attributes:
        onset: [N] seconds.
        frequency: [N] fundamental in Hz.
        decay: [N] seconds in which the amplitude falls to 1/e.
        amplitude: [N, H] of each harmonic; 0 where it would be too high.
        phase: [N, H] of each harmonic, radians.
        gain: what every rendering is multiplied by.
    """

    onset: np.ndarray
    frequency: np.ndarray
    decay: np.ndarray
    amplitude: np.ndarray
    phase: np.ndarray
    gain: float = 1.0


def draw(seed: int, number: int) -> Tones:
    """Draws notes and chords, a function of (seed, number) alone. At rate 1 their peak is .7."""
    random = np.random.default_rng([seed, number])
    gaps = random.choice([0.125, 0.25, 0.25, 0.5], 300) * random.uniform(0.7, 1.4)
    times = np.cumsum(gaps) - gaps[0]
    times = times[times < SECONDS]
    onset = np.repeat(times, random.integers(1, 4, len(times)))
    notes = len(onset)
    frequency = 440.0 * 2 ** ((random.integers(_LOWEST_NOTE, _HIGHEST_NOTE + 1, notes) - 69) / 12)
    harmonic = np.arange(1, _HARMONICS + 1)
    slope = random.uniform(0.7, 2.0)
    audible = frequency[:, None] * harmonic <= _HIGHEST_HZ
    loudness = random.uniform(0.4, 1.0, (notes, 1))
    tones = Tones(
        onset=onset,
        frequency=frequency,
        decay=random.uniform(0.1, 0.5, notes),
        amplitude=loudness * audible * harmonic.astype(np.float64) ** -slope,
        phase=random.uniform(0, 2 * np.pi, (notes, _HARMONICS)),
    )
    return dataclasses.replace(tones, gain=_PEAK / float(np.abs(render(tones)).max()))


def render(tones: Tones, rate: float = 1.0, semitones: float = 0.0) -> np.ndarray:
    """Synthesises the notes, `rate` times faster and `semitones` higher, both real.

    Returns:
        f32 [18 s / rate at 16 kHz]. The gain is the same at any rate and shift.

    Raises:
        ValueError: the rate is not positive, or a harmonic would exceed half the sample rate.
    """
    if not rate > 0:
        raise ValueError(f"rate={rate} must be positive")
    ratio = 2.0 ** (semitones / 12)
    if ratio * _HIGHEST_HZ >= SAMPLE_RATE / 2:
        raise ValueError(f"semitones={semitones}: harmonics would exceed {SAMPLE_RATE / 2} Hz")
    samples = round(SECONDS / rate * SAMPLE_RATE)
    audio = np.zeros(samples)
    weights = tones.amplitude * np.exp(1j * tones.phase)
    for note in range(len(tones.onset)):
        first = int(np.ceil(tones.onset[note] / rate * SAMPLE_RATE))
        last = min(samples, first + int(_AUDIBLE * tones.decay[note] / rate * SAMPLE_RATE))
        time = np.arange(first, last) / SAMPLE_RATE - tones.onset[note] / rate
        envelope = np.minimum(rate * time / _ATTACK_SECONDS, 1.0) * np.exp(
            -rate * time / tones.decay[note]
        )
        # Σ a·sin(h·x + φ) is the imaginary part of a polynomial in exp(i·x).
        turn = np.exp(2j * np.pi * ratio * tones.frequency[note] * time)
        waves = np.zeros_like(turn)
        for weight in weights[note, ::-1]:
            waves = (waves + weight) * turn
        audio[first:last] += envelope * waves.imag
    return (audio * tones.gain).astype(np.float32)
