"""MIDI to sound: the TimGM6mb soundfont, which pretty_midi brings, played by midirenderer."""

from __future__ import annotations

import functools
import importlib.util
import io
import pathlib
import wave

import numpy as np

from loev_jax.corpus import performance as performances
from loev_jax.corpus.scores import Score
from loev_jax.errors import UserError

SAMPLE_RATE = 16_000
SAMPLES = round(performances.SECONDS * SAMPLE_RATE)


class SilentError(ValueError):
    """The rendering holds no sound."""


@functools.cache
def _soundfont() -> bytes:
    """Returns the bytes of the soundfont, found without importing pretty_midi."""
    spec = importlib.util.find_spec("pretty_midi")
    path = pathlib.Path(spec.origin).parent / "TimGM6mb.sf2" if spec and spec.origin else None
    if path is None or not path.exists():
        raise UserError("the soundfont TimGM6mb.sf2 is missing: pip install pretty_midi==0.2.11")
    return path.read_bytes()


def render_midi(midi: bytes) -> np.ndarray:
    """Renders a standard MIDI file.

    Returns:
      float32 [samples] at 16 kHz: both channels of the renderer averaged, full scale 1.

    Raises:
      ValueError, RuntimeError: the renderer does not take the file.
    """
    import midirenderer
    import soxr

    with wave.open(io.BytesIO(midirenderer.render_wave_from(_soundfont(), midi))) as file:
        rate, channels = file.getframerate(), file.getnchannels()
        frames = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    audio = np.zeros(len(frames) // channels, np.float32)
    for channel in range(channels):  # several times as fast as a sum over the short axis
        audio += frames[channel::channels]  # whole numbers, so that their sum is exact
    audio *= np.float32(1 / (channels * 2**15))
    return soxr.resample(audio, rate, SAMPLE_RATE)


def render(score: Score, performance: performances.Performance) -> np.ndarray:
    """Renders a performance of a score.

    Returns:
      int16 [480 000]: 30 s at 16 kHz, with the peak that the performance asks for.

    Raises:
      ValueError, RuntimeError: the renderer does not take the file, or it holds no sound.
    """
    audio = render_midi(performances.to_midi(score, performance))[:SAMPLES]
    audio = np.pad(audio, (0, SAMPLES - len(audio)))
    peak = np.abs(audio).max()
    if peak < 1e-4:
        raise SilentError("the rendering is silent")
    return np.round(audio * (performance.peak / peak * 32767)).astype(np.int16)
