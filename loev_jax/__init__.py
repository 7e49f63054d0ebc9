"""Music encoders that keep what you choose: LOEV and LOEV++ pretraining in JAX."""

from __future__ import annotations

import typing
from pathlib import Path

if typing.TYPE_CHECKING:
    from loev_jax.embedder import Embedder

__version__ = "0.1.0"


def load(path: str | Path, step: int | None = None) -> Embedder:
    """Loads a model that embeds audio.

    Args:
        path: what `launch/export.py` wrote, or a --workdir of `launch/train.py`.
        step: of the checkpoint in a --workdir, the last one if None. An exported model has one
            step only.

    Raises:
        loev_jax.errors.UserError: there is no such model or step, or it cannot be read.
    """
    from loev_jax import embedder  # JAX takes seconds to import
    from loev_jax.errors import UserError

    path = Path(path).expanduser()
    if (path / embedder.ARTIFACT).exists() or (path / embedder.PARAMETERS).exists():
        return embedder.load(path, step)
    if (path / embedder.CARD).exists():
        from loev_jax import export  # a training run needs flax and orbax, an exported model not

        return export.embedder(path, step)
    raise UserError(
        f"{path}: no model; give what launch/export.py wrote, or the --workdir of a training run"
    )
