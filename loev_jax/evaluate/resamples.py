"""What figures would be of other test clips: the bootstrap's values, kept beside a result.

Figures of the same clips are of the same resamples in every evaluation, so that those of two runs
can be subtracted resample by resample: the interval of their difference is then a paired one, which
two runs that err on the same clips make short. `Kept.draw` tells whether they are.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from loev_jax import atomic
from loev_jax.evaluate.figures import Figure

FILE = "{step}_resamples.npz"


class Kept(NamedTuple):
    """What is kept of a figure.

    Attributes:
        value: its own.
        draw: `Figure.draw`.
        resampled: `Figure.resampled`, f32.
    """

    value: float
    draw: int
    resampled: np.ndarray


def add(path: Path, found: Mapping[str, Mapping[str, Figure]]) -> None:
    """Adds figures to a file, or begins it; it is written whole or not at all.

    Args:
        path: of the file.
        found: by space and metric.
    """
    known = read(path)
    for space, metrics in found.items():
        known.setdefault(space, {}).update(
            {name: Kept(float(one), one.draw, one.resampled) for name, one in metrics.items()}
        )
    arrays: dict[str, Any] = {}
    for space, kept in known.items():
        if kept:
            values, draws, resampled = zip(*kept.values(), strict=True)
            arrays |= {
                f"metrics/{space}": np.array(list(kept)),
                f"value/{space}": np.array(values),
                f"draw/{space}": np.array(draws, np.int64),
                f"resampled/{space}": np.stack(resampled).astype(np.float32),
            }
    with atomic.replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read(path: Path) -> dict[str, dict[str, Kept]]:
    """What a file holds, by space and metric; nothing where there is none that can be read."""
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            spaces = [
                name.removeprefix("metrics/")
                for name in arrays.files
                if name.startswith("metrics/")
            ]
            return {
                space: {
                    name: Kept(float(value), int(draw), resampled)
                    for name, value, draw, resampled in zip(
                        arrays[f"metrics/{space}"].tolist(),
                        *(arrays[f"{part}/{space}"] for part in Kept._fields),
                        strict=True,
                    )
                }
                for space in spaces
            }
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return {}
