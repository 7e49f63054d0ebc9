"""A picture in a file, written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG.

    Args:
        figure: with a canvas.
        path: of the file; what was there stays until all is written.
    """
    partial = path.with_name(f".{path.name}.partial")
    figure.savefig(partial, format="png", dpi=110)
    os.replace(partial, path)
