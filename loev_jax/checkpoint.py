"""Checkpoints of a run: `DIR/checkpoints/<step>/`, written by Orbax.

A checkpoint has two items, so that evaluation and export read parameters only: `params`, and `rest`
(the step's number and the optimiser's state). A save that was killed leaves a temporary directory
that is never listed as a checkpoint and is removed when training starts again.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import orbax.checkpoint as ocp
from flax import nnx
from jax.sharding import Sharding

from loev_jax import model as models
from loev_jax.config import Recipe
from loev_jax.errors import UserError
from loev_jax.step import State

DIRECTORY = "checkpoints"
_ITEMS = ("params", "rest")


def _abstract(tree: Any, sharding: Sharding) -> Any:
    """Shapes and dtypes of `tree`, to be restored with `sharding`."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


class Checkpoints:
    """Saves and restores the states of one run; close it, or use it as a context manager."""

    def __init__(self, workdir: Path, keep: int) -> None:
        """Opens `workdir/checkpoints`, keeping the newest `keep` (0: all)."""
        self._manager = ocp.CheckpointManager(
            (Path(workdir) / DIRECTORY).absolute(),
            item_names=_ITEMS,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep or None, cleanup_tmp_directories=True
            ),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._manager.close()

    def save(self, step: int, state: State) -> None:
        """Saves in the background; a step that is there already is left as it is."""
        if step in self._manager.all_steps():
            return
        rest = {"step": state.step, "opt_state": state.opt_state}
        self._manager.save(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardSave(state.params), rest=ocp.args.StandardSave(rest)
            ),
        )

    def restore(self, step: int, like: State, sharding: Sharding) -> State:
        """The state saved at `step`, shaped as `like`, on whatever devices `sharding` names."""
        rest = {"step": like.step, "opt_state": like.opt_state}
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardRestore(_abstract(like.params, sharding)),
                rest=ocp.args.StandardRestore(_abstract(rest, sharding)),
            ),
        )
        return State(restored.rest["step"], restored.params, restored.rest["opt_state"])


def steps(workdir: Path) -> list[int]:
    """Steps of the complete checkpoints of a run, ascending; safe while it is training."""
    directory = Path(workdir) / DIRECTORY
    if not directory.is_dir():
        return []
    # Orbax renames a checkpoint to its bare number when it is whole.
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdigit())


def restore_model(workdir: Path, step: int, recipe: Recipe) -> models.Model:
    """The model saved at `step`, on this process's first device; nothing else is read.

    Raises:
        UserError: there is no such checkpoint, or it cannot be read.
    """
    path = Path(workdir).absolute() / DIRECTORY / str(step) / "params"
    if not path.is_dir():
        known = ", ".join(map(str, steps(workdir))) or "none"
        raise UserError(f"{workdir}: no checkpoint of step {step}; checkpoints: {known}")
    model = nnx.eval_shape(lambda: models.create(recipe.model, 0))
    graph, state = nnx.split(model)
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            params = checkpointer.restore(path, _abstract(nnx.to_pure_dict(state), sharding))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: cannot be restored ({error}); choose another step") from error
    return nnx.merge(graph, params)
