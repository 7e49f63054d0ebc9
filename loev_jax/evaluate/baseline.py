"""Embeddings of the random-init model, kept in the eval directory for every checkpoint."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from loev_jax import atomic
from loev_jax.evaluate.spaces import Facts, Vectored

FILE = "random_init.npz"
_PARTS = ("tracks", "clean", "moved", "swept")
_KEY = "key"


def key_of(settings: str, facts: Mapping[str, Facts]) -> str:
    """What embeddings depend on: the model and the views as `settings`, and the audio."""
    digests = (f"{split} {len(one.ids)} {one.digest:08x}" for split, one in facts.items())
    return "\n".join((settings, *digests))


def save(directory: Path, key: str, vectors: Mapping[str, Vectored]) -> None:
    """Writes the embeddings of every split, whole or not at all."""
    arrays: dict[str, Any] = {
        f"{split}/{part}/{space}": rows
        for split, one in vectors.items()
        for part in _PARTS
        for space, rows in getattr(one, part).items()
    }
    with atomic.replacing(directory / FILE) as partial, partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **{_KEY: np.array(key)}, **arrays)


def load(directory: Path) -> tuple[str, dict[str, Vectored]] | None:
    """What `save` wrote and its key, or None if there is nothing that can be read."""
    try:
        with (directory / FILE).open("rb") as file, np.load(file) as kept:
            arrays = {name: kept[name] for name in kept.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile):
        return None
    key = str(arrays.pop(_KEY, ""))
    vectors: dict[str, Vectored] = {}
    for name, rows in arrays.items():
        split, part, space = name.split("/", 2)
        vectors.setdefault(split, Vectored({}, {}, {}, {}))
        getattr(vectors[split], part)[space] = rows
    return key, vectors
