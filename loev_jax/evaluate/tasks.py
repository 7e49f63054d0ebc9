"""The tasks of the eval job, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from loev_jax.errors import UserError
from loev_jax.evaluate import report
from loev_jax.evaluate.changes import MEASURABLE, quantities
from loev_jax.evaluate.crossmodal import ByScore, ByWords
from loev_jax.evaluate.equivariance import Equivariance
from loev_jax.evaluate.evaluator import Evaluator
from loev_jax.evaluate.humming import Humming
from loev_jax.evaluate.invariance import Invariance
from loev_jax.evaluate.labels import Kind
from loev_jax.evaluate.learning_curves import LearningCurve
from loev_jax.evaluate.prediction import Prediction
from loev_jax.evaluate.probes import PROBES, own, with_mlp
from loev_jax.evaluate.retrieval import Retrieval


def evaluators(
    columns: Sequence[str], kinds: Mapping[str, Kind] | None = None
) -> tuple[dict[str, Evaluator], dict[str, Evaluator]]:
    """The tasks of a data set by name: those done by default, and those done where they are named.

    Args:
        columns: its labels.
        kinds: of some labels of a user's own; that of the others is told from their values.

    Raises:
        UserError: a label of `kinds` is not one of them.
    """
    fixed = [one.column for one in PROBES]
    for column in kinds or ():
        if column not in columns or column in fixed:
            mine = ", ".join(one for one in columns if one not in fixed) or "none"
            raise UserError(f"--kinds={column}: no such label of the data set's own: it has {mine}")
    alone: tuple[Evaluator, ...] = (Retrieval(), Equivariance(), Invariance(), Prediction())
    dearer: tuple[Evaluator, ...] = (Humming(), ByScore(), ByWords())
    # R² of a label called as an augmentation would be that of the change.
    names = (one.name for one in (*alone, *dearer))
    taken = {*names, *report.SHOWN, *quantities(MEASURABLE)}
    probes = (*PROBES, *own(columns, taken, kinds))
    usual: tuple[Evaluator, ...] = (*probes, *alone)
    rest: tuple[Evaluator, ...] = (*with_mlp(probes), *map(LearningCurve, probes), *dearer)
    return {one.name: one for one in usual}, {one.name: one for one in rest}


def choose(
    names: Sequence[str] | None, columns: Sequence[str], kinds: Mapping[str, Kind] | None = None
) -> dict[str, Evaluator]:
    """The tasks of these names; without names those done by default.

    Args:
        names: as the user gives them.
        columns: labels of the data set.
        kinds: as for `evaluators`.

    Raises:
        UserError: no task or no label is called so.
    """
    usual, rest = evaluators(columns, kinds)
    known = usual | rest
    for name in names or ():
        if name not in known:
            raise UserError(f"--tasks: unknown task {name!r}: choose from {', '.join(known)}")
    return {name: known[name] for name in names} if names else usual
