"""Log-mels made audible: what an encoder is given to hear, whichever way its views were made."""

from __future__ import annotations

import functools

import jax.numpy as jnp
import numpy as np

from loev_jax.frontend import LogMel, triangles

# With twice as many the log-mel of the sound is hardly nearer (its correlation with that which is
# given is .983 instead of .980), and the loop waits for all of them.
_ITERATIONS = 8
_SEED = 0


@functools.cache
def _weights(frontend: LogMel) -> np.ndarray:
    """Of each band in each bin, [bins, bands]."""
    edges = jnp.asarray(frontend.mel_edges)
    return np.asarray(triangles(edges, frontend.frequencies), np.float64)


def of_log_mel(frontend: LogMel, log_mel: np.ndarray) -> np.ndarray:
    """A waveform with about this log-mel: its power spectrum, and phases found by Griffin & Lim.

    The bins of a band share its power evenly, so it sounds as coarse as the bands are.

    Args:
        frontend: what made the log-mel.
        log_mel: [frames, bands].

    Returns:
        f32 [samples] within -1..1, `frontend.samples(frames)` of them.
    """
    import librosa

    power = (10.0 ** np.asarray(log_mel, np.float64) - 1.0) / frontend.scale
    weights = _weights(frontend)
    # Each bin has the mean of its bands, by their weight in it; a band's power is the sum of bins.
    per_bin = np.maximum(power, 0.0) / np.maximum(weights.sum(axis=0), 1e-9)
    shares = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
    magnitude = np.sqrt(shares @ per_bin.T).astype(np.float32)
    audio = librosa.griffinlim(
        magnitude,
        n_iter=_ITERATIONS,
        hop_length=frontend.hop,
        win_length=frontend.window,
        n_fft=frontend.n_fft,
        center=False,
        random_state=_SEED,
    )
    start = (frontend.n_fft - frontend.window) // 2  # librosa centres a window in its transform
    audio = audio[start : start + frontend.samples(log_mel.shape[0])]
    # The outer half windows are covered by but one frame, whose edge they are divided by.
    half = frontend.window // 2
    rise = np.clip(np.arange(len(audio)) / half - 0.5, 0.0, 1.0)
    audio = audio * rise * rise[::-1]
    return np.asarray(audio / max(1.0, float(np.abs(audio).max())), np.float32)
