"""Checkpoints of a run: `DIR/checkpoints/<step>/`, written by Orbax.

A checkpoint has items, so that evaluation and export read parameters only: `params`, `rest`
(counts and the optimiser's state), where a run keeps one, `average`, the average of the parameters,
and `sums`, the fingerprint of every array: Orbax notices a file that is short or missing, but not a
bit that flipped within an array. A save that was killed leaves a temporary directory that is never
listed as a checkpoint and is removed when training starts again.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import orbax.checkpoint as ocp
from absl import logging
from flax import nnx
from jax.sharding import Sharding

from loev_jax import cluster, errors, fingerprint
from loev_jax import model as models
from loev_jax.config import Recipe
from loev_jax.errors import RunError, UserError
from loev_jax.losses import objective as objectives
from loev_jax.step import State

DIRECTORY = "checkpoints"
_SUMS = "sums"
_ITEMS = ("params", "rest", "average", _SUMS)


class DamagedError(Exception):
    """A checkpoint is not what was saved, or cannot be read."""


class SaveError(RunError):
    """A checkpoint could not be written.

    Attributes:
        what: was not saved, and why; the message also has what can be done.
    """

    def __init__(self, path: Path, reason: str) -> None:
        """Of the checkpoint at `path`, for a reason as of `errors.reason`."""
        self.what = f"{path}: not saved ({reason})"
        if reason in errors.FULL:
            remedy = "free some space"
        elif jax.process_count() == 1:
            remedy = "mend what it says"
        elif reason.startswith("JaxRuntimeError"):
            remedy = "one of the processes has probably died: see the output of all"
        else:
            remedy = "see the output of all processes"
        super().__init__(f"{self.what}; {remedy}, and run the same command to go on")


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
        self._workdir = Path(workdir)
        self._directory = (self._workdir / DIRECTORY).absolute()
        self._manager = ocp.CheckpointManager(
            self._directory,
            item_names=_ITEMS,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep or None,
                cleanup_tmp_directories=True,
                async_options=ocp.AsyncOptions(barrier_sync_fn=cluster.Rendezvous()),
            ),
        )
        self._writing: int | None = None
        self._failure: Exception | None = None  # of a save that did not even begin

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._manager.close()
        except Exception as failure:
            if error is None:
                raise self._failed(failure) from failure

    def save(self, step: int, state: State) -> None:
        """Saves in the background; a step that is there already is left as it is.

        Training is worth more than one of its checkpoints: where one cannot be written, that is
        logged, and the next is tried in its turn.
        """
        self._settle(step)
        if step in self._manager.all_steps():
            return
        parts = _items(state)
        sums = {name: fingerprint.of(item) for name, item in parts.items()}
        items: dict[str, Any] = {n: ocp.args.StandardSave(item) for n, item in parts.items()}
        items[_SUMS] = ocp.args.JsonSave(sums)
        self._writing = step
        try:
            self._manager.save(step, args=ocp.args.Composite(**items))
        except Exception as error:  # told like those in the background
            self._failure = error

    def give_up(self, step: int, error: Exception) -> None:
        """Takes note that what belongs before the checkpoint of `step` could not be written."""
        self._settle(step)
        self._writing, self._failure = step, error

    def _settle(self, step: int) -> None:
        """Waits for the save before that of `step`."""
        try:
            self.finish()
        except SaveError as error:
            logging.error("%s; training goes on and tries again at step %d", error.what, step)

    def finish(self) -> None:
        """Waits for what is being saved.

        Raises:
            SaveError: it could not be written.
        """
        failure, self._failure = self._failure, None
        if failure is None:
            try:
                self._manager.wait_until_finished()
            except Exception as error:  # TensorStore's, Orbax's, the system's
                failure = error
        if failure is not None:
            raise self._failed(failure) from failure
        self._make_room()
        self._writing = None

    def _failed(self, error: BaseException) -> SaveError:
        """What there is to say of a save that failed."""
        step, self._writing = self._writing, None
        self._make_room()
        return SaveError(self._directory / str(step), errors.reason(error))

    def _make_room(self) -> None:
        """Removes what saves that failed have left; only while nothing is being saved.

        Orbax's threads go on for a while after a failure, so it is done again after the next save.
        """
        if jax.process_index() == 0:
            for left in self._directory.glob("*.orbax-checkpoint-tmp*"):
                shutil.rmtree(left, ignore_errors=True)

    def restore(self, step: int, like: State) -> State:
        """The state saved at `step`, on whatever devices and in whatever shards `like` is.

        Args:
            step: of the checkpoint.
            like: a state, or what `loev_jax.step.abstract` says of one.

        Raises:
            DamagedError: it cannot be read, or is not what was saved.
        """
        wanted: dict[str, Any] = {
            name: ocp.args.StandardRestore(_abstract(item)) for name, item in _items(like).items()
        }
        if (self._directory / str(step) / _SUMS).is_dir():
            wanted[_SUMS] = ocp.args.JsonRestore()
        try:
            restored = self._manager.restore(step, args=ocp.args.Composite(**wanted))
        except Exception as error:  # each of its layers has errors of its own
            raise DamagedError(errors.reason(error)) from error
        state = State(params=restored.params, average=restored.get("average"), **restored.rest)
        for name, item in _items(state).items():
            _verify(item, restored.get(_SUMS), name)
        return state

    def newest(self, like: State) -> tuple[int, State] | None:
        """The newest state that is what was saved, and its step; None if nothing was saved yet.

        Newer checkpoints that are damaged are set aside as `<step>.damaged`, and that is logged.

        Raises:
            UserError: there are checkpoints, and all of them are damaged; they stay where they are.
        """
        damaged: dict[int, str] = {}
        present = steps(self._workdir)
        while (step := cluster.agreed(max(present, default=0))) > 0:
            present = [one for one in present if one < step]
            found, reason = None, ""
            logging.info("restoring step %d", step)
            try:
                found = self.restore(step, like)
            except DamagedError as error:
                reason = str(error)
            if not cluster.any_of(found is None):
                assert found is not None
                self._set_aside(damaged)
                return step, found
            damaged[step] = reason or "another process cannot read it"
        if not damaged:
            return None
        last, reason = max(damaged.items())
        raise UserError(
            f"{self._directory}: none of its {len(damaged)} checkpoints can be resumed from; step "
            f"{last}: {reason}; they stay as they are: bring one back from a copy, or train in "
            "another --workdir"
        )

    def _set_aside(self, damaged: Mapping[int, str]) -> None:
        for step, reason in damaged.items():
            path = self._directory / str(step)
            logging.error("%s: damaged (%s); kept as %s.damaged", path, reason, path.name)
            if jax.process_index() == 0:
                aside = path.with_name(f"{step}.damaged")
                shutil.rmtree(aside, ignore_errors=True)  # of the same step, from an earlier time
                path.rename(aside)
        if damaged:
            cluster.agreed(0)  # none goes on before it is done
            self._manager.reload()


def _verify(tree: Any, sums: Mapping[str, Any] | None, item: str) -> None:
    """Raises DamagedError where arrays are not those that were saved; older runs have no sums."""
    if sums is None:
        return
    if differing := fingerprint.differing(tree, sums.get(item, {})):
        raise DamagedError(f"{item}/{differing[0]} is not what was saved")


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
        UserError: there is no such checkpoint, it cannot be read or is not what was saved.
    """
    whole = Path(workdir).absolute() / DIRECTORY / str(step)
    item = "average" if recipe.optimizer.average_decay else "params"
    path = whole / item
    if not path.is_dir():
        known = ", ".join(map(str, steps(workdir))) or "none"
        raise UserError(f"{workdir}: no checkpoint of step {step}; checkpoints: {known}")
    model = nnx.eval_shape(lambda: models.create(recipe.model, 0))
    graph, state = nnx.split(model)
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    own = nnx.to_pure_dict(state) | objectives.initial_params(recipe.loss, recipe.model.projected)
    try:
        sums = None  # first: training may delete it all meanwhile
        if (whole / _SUMS).is_dir():
            with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as checkpointer:
                sums = checkpointer.restore(whole / _SUMS)
        with ocp.StandardCheckpointer() as checkpointer:
            params = checkpointer.restore(path, _abstract(own, sharding))
        _verify(params, sums, item)
    except Exception as error:
        raise UserError(f"{path}: cannot be restored ({error}); choose another step") from error
    return nnx.merge(graph, {name: params[name] for name in nnx.to_pure_dict(state)})
