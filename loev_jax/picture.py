"""A picture in a file, written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from loev_jax import atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG.

    Args:
        figure: with a canvas.
        path: of the file; what was there stays until all is written.
    """
    with atomic.replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=110)
