"""Arrays as pictures for a dashboard: log-mels of views, and which views a head finds alike."""

from __future__ import annotations

import numpy as np

_GAP = 4  # pixels between views
_LEAST = 384  # pixels along the side of a matrix: smaller ones are hard to see


def _coloured(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values from `low` to `high` as colours, [..., 3] uint8."""
    import matplotlib as mpl

    scaled = np.clip((values - low) / max(high - low, 1e-9), 0.0, 1.0)
    return mpl.colormaps["magma"](scaled, bytes=True)[..., :3]


def of_views(log_mels: np.ndarray) -> np.ndarray:
    """The views of some clips side by side, low bands at the bottom.

    Args:
        log_mels: [clips, views, frames, bands].

    Returns:
        [clips, bands, views * frames and the gaps between, 3] uint8; a clip is a picture, in which
        black is the lowest value of all and white the highest.
    """
    upright = np.flip(np.moveaxis(np.asarray(log_mels, np.float32), -1, -2), axis=-2)
    colours = _coloured(upright, float(upright.min()), float(upright.max()))
    gap = np.full((*colours.shape[:1], colours.shape[2], _GAP, 3), 255, np.uint8)
    columns = []
    for view in range(colours.shape[1]):
        columns += [gap, colours[:, view]]
    return np.concatenate(columns[1:], axis=2)


def of_similarities(cosines: np.ndarray) -> np.ndarray:
    """A matrix of cosines [rows, rows] in -1..1 as a picture, [side, side, 3] uint8."""
    times = -(-_LEAST // cosines.shape[0])
    return np.kron(_coloured(cosines, -1.0, 1.0), np.ones((times, times, 1), np.uint8))
