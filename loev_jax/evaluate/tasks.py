"""The tasks of the eval job, by name."""

from __future__ import annotations

from collections.abc import Sequence

from loev_jax.errors import UserError
from loev_jax.evaluate.crossmodal import ByScore, ByWords
from loev_jax.evaluate.equivariance import Equivariance
from loev_jax.evaluate.evaluator import Evaluator
from loev_jax.evaluate.humming import Humming
from loev_jax.evaluate.invariance import Invariance
from loev_jax.evaluate.prediction import Prediction
from loev_jax.evaluate.probes import PROBES, own, with_mlp
from loev_jax.evaluate.retrieval import Retrieval


def evaluators(columns: Sequence[str]) -> tuple[dict[str, Evaluator], dict[str, Evaluator]]:
    """The tasks of a data set by name: those done by default, and those done where they are named.

    Args:
        columns: its labels.
    """
    probes = (*PROBES, *own(columns))
    usual: tuple[Evaluator, ...] = (
        *probes, Retrieval(), Equivariance(), Invariance(), Prediction()
    )  # fmt: skip
    rest: tuple[Evaluator, ...] = (*with_mlp(probes), Humming(), ByScore(), ByWords())
    return {one.name: one for one in usual}, {one.name: one for one in rest}


def choose(names: Sequence[str] | None, columns: Sequence[str]) -> dict[str, Evaluator]:
    """The tasks of these names; without names those done by default.

    Args:
        names: as the user gives them.
        columns: labels of the data set.

    Raises:
        UserError: no task is called so.
    """
    usual, rest = evaluators(columns)
    known = usual | rest
    for name in names or ():
        if name not in known:
            raise UserError(f"--tasks: unknown task {name!r}: choose from {', '.join(known)}")
    return {name: known[name] for name in names} if names else usual
