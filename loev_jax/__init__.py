"""Music encoders that keep what you choose: LOEV and LOEV++ pretraining in JAX."""

from __future__ import annotations

import typing

if typing.TYPE_CHECKING:
    from pathlib import Path

    from loev_jax.embedder import Embedder

__version__ = "0.1.0"


def load(path: str | Path, step: int | None = None) -> Embedder:
    """Loads a model that embeds audio.

    Args:
        path: what `launch/export.py` wrote, or a --workdir of `launch/train.py`.
        step: of the checkpoint in a --workdir; the last one if None.

    Raises:
        loev_jax.errors.UserError: there is no such model or step, or it cannot be read.
    """
    from loev_jax import embedder  # JAX takes seconds to import

    return embedder.load(path, step)
