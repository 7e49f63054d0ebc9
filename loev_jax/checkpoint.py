"""Checkpoints of a run: `DIR/checkpoints/<step>/`, written by Orbax.

A checkpoint has items, so that evaluation and export read parameters only: `params`, `rest`
(counts and the optimiser's state) and, where a run keeps one, `average`, the average of the
parameters. A save that was killed leaves a temporary directory that is never listed as a checkpoint
and is removed when training starts again.
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
from loev_jax.losses import objective as objectives
from loev_jax.step import State

DIRECTORY = "checkpoints"
_ITEMS = ("params", "rest", "average")


def _items(state: State) -> dict[str, Any]:
    """A state by item."""
    own = ("params", "average")
    rest = {name: value for name, value in state._asdict().items() if name not in own}
    items = {"params": state.params, "rest": rest}
    return items if state.average is None else items | {"average": state.average}


def _abstract(tree: Any, sharding: Sharding | None = None) -> Any:
    """Shapes and dtypes of `tree`, to be restored with `sharding`, by default its own."""

    def of(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding or leaf.sharding)

    return jax.tree.map(of, tree)


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
        items = {name: ocp.args.StandardSave(item) for name, item in _items(state).items()}
        self._manager.save(step, args=ocp.args.Composite(**items))

    def restore(self, step: int, like: State) -> State:
        """The state saved at `step`, on whatever devices and in whatever shards `like` is."""
        wanted = {
            name: ocp.args.StandardRestore(_abstract(item)) for name, item in _items(like).items()
        }
        restored = self._manager.restore(step, args=ocp.args.Composite(**wanted))
        return State(params=restored.params, average=restored.get("average"), **restored.rest)


def steps(workdir: Path) -> list[int]:
    """Steps of the complete checkpoints of a run, ascending; safe while it is training."""
    directory = Path(workdir) / DIRECTORY
    if not directory.is_dir():
        return []
    # Orbax renames a checkpoint to its bare number when it is whole.
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdigit())


def restore_model(workdir: Path, step: int, recipe: Recipe) -> models.Model:
    """The model saved at `step`, on this process's first device; nothing else is read.

    Where the run keeps an average of its parameters, the model has that.

    Raises:
        UserError: there is no such checkpoint, or it cannot be read.
    """
    path = Path(workdir).absolute() / DIRECTORY / str(step)
    path /= "average" if recipe.optimizer.average_decay else "params"
    if not path.is_dir():
        known = ", ".join(map(str, steps(workdir))) or "none"
        raise UserError(f"{workdir}: no checkpoint of step {step}; checkpoints: {known}")
    model = nnx.eval_shape(lambda: models.create(recipe.model, 0))
    graph, state = nnx.split(model)
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            own = nnx.to_pure_dict(state) | objectives.initial_params(
                recipe.loss, recipe.model.projected
            )
            params = checkpointer.restore(path, _abstract(own, sharding))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: cannot be restored ({error}); choose another step") from error
    return nnx.merge(graph, {name: params[name] for name in nnx.to_pure_dict(state)})
