"""What figures would be of other test clips: the bootstrap's values, kept beside a result.

Every evaluation draws the same clips again and again, so that figures of two runs on the same test
split can be compared clip by clip: by the interval of their difference, not by whether theirs
overlap, which two runs that err on the same clips can do and yet differ for sure.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from loev_jax.evaluate.figures import Figure

FILE = "{step}_resamples.npz"

Resamples = dict[str, dict[str, np.ndarray]]
"""By space and metric, the figure of each resample of the test split, f32 [resamples]."""

_NAMES, _VALUES = "names/", "values/"


def add(path: Path, found: Mapping[str, Mapping[str, Figure]]) -> None:
    """Adds figures to a file, or begins it; it is written whole or not at all.

    Args:
        path: of the file.
        found: by space and metric.
    """
    known = read(path)
    for space, metrics in found.items():
        mine = known.setdefault(space, {})
        mine |= {name: figure.resampled for name, figure in metrics.items()}
    arrays: dict[str, Any] = {}
    for space, values in known.items():
        if values:
            arrays[_NAMES + space] = np.array(list(values))
            arrays[_VALUES + space] = np.stack(list(values.values())).astype(np.float32)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    os.replace(partial, path)


def read(path: Path) -> Resamples:
    """What a file holds; nothing where there is none that can be read."""
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            return {
                (space := name.removeprefix(_NAMES)): dict(
                    zip(arrays[name].tolist(), arrays[_VALUES + space], strict=True)
                )
                for name in arrays.files
                if name.startswith(_NAMES)
            }
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return {}
