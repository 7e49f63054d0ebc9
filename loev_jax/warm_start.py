"""Parameters to start from: those of another run, of an exported model, or MULE's weights.

The encoder is taken whole, of the other model's settings or not at all; of what is above it, that
which both have in the same shapes, and the rest stays as it was drawn. A branch of LOEV++ starts
from the other model's branch of the same head, or else from that of its invariant head, or from its
only one; and the only one of LOEV from that of the invariant head.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from safetensors import SafetensorError

from loev_jax import checkpoint, run_config
from loev_jax.config import Recipe, Start
from loev_jax.embedder import PARAMETERS
from loev_jax.encoders import mule
from loev_jax.encoders.nfnet import Nfnet
from loev_jax.errors import UserError
from loev_jax.heads import INVARIANT
from loev_jax.model import ModelSpec

Flat = dict[str, np.ndarray]
"""Parameters by dotted name, such as `encoder.stem.layers.0.convolution.kernel`."""

_ENCODER = "encoder."
_BRANCH = "encoder.branch."


def flat(params: Mapping[str, Any]) -> Flat:
    """A tree of parameters by dotted name, on the host."""
    leaves = nnx.traversals.flatten_mapping(jax.device_get(params))
    return {_name(path): np.asarray(leaf) for path, leaf in leaves.items()}


def read(start: Start, recipe: Recipe) -> Flat:
    """What there is to start from.

    Args:
        start: its path: the directory of a run or of an exported model, or a safetensors file of
            such a model or in the layout of mule-torch.
        recipe: of the run that starts; an `sf_nfnet_f0` encoder can read mule-torch's layout.

    Raises:
        UserError: there is nothing that can be read.
    """
    path = Path(start.path)
    if (path / checkpoint.DIRECTORY).is_dir():
        step = start.step or max(checkpoint.steps(path), default=0)
        model = checkpoint.restore_model(path, step, run_config.load(path))
        return flat(nnx.to_pure_dict(nnx.state(model)))
    file = path / PARAMETERS if path.is_dir() else path
    try:
        from safetensors.numpy import load_file

        given = load_file(file)
        names = [name.removeprefix(mule.PREFIX) for name in given]
        encoder = recipe.model.encoder
        if isinstance(encoder, Nfnet) and any(name.startswith("slow_stem.") for name in names):
            return flat({"encoder": mule.imported(given, encoder)})
    except (OSError, ValueError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"config.start.path: {start.path!r}: {reason}; give a run, an exported model or a "
            "safetensors file"
        ) from error
    return given


def fit(spec: ModelSpec, params: Any, given: Flat, where: str) -> tuple[Flat, list[str]]:
    """Takes what fits of the given parameters.

    Args:
        spec: of the model that starts.
        params: its own, a tree of anything that has a shape and a dtype.
        given: parameters by name.
        where: they come from, for messages.

    Returns:
        What was taken, by name, in its own shapes and dtypes, and of what was not, what it belongs
        to, such as "heads.tempo".

    Raises:
        UserError: the encoder is another one, or of another size.
    """
    own = {_name(path): leaf for path, leaf in nnx.traversals.flatten_mapping(params).items()}
    given = given | _branches(spec, own, given)
    _check_encoder(own, given, where)
    parts: dict[str, list[str]] = {}
    for name in own:
        # A head is taken whole or not at all.
        part = _ENCODER if name.startswith(_ENCODER) else ".".join(name.split(".")[:2])
        parts.setdefault(part, []).append(name)
    fits = {
        part: all(name in given and given[name].shape == own[name].shape for name in names)
        for part, names in parts.items()
    }
    taken = {
        name: given[name].astype(own[name].dtype)
        for part, names in parts.items()
        for name in names
        if fits[part]
    }
    return taken, [part for part, fit in fits.items() if not fit]


def _name(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))


def _branches(spec: ModelSpec, own: Mapping[str, Any], given: Flat) -> Flat:
    """The given parameters of branches, one for each of the branches here."""
    # Branches lie in the order of the heads, which a config has by name.
    heads = {name.split(".")[1] for name in given if name.startswith("heads.")}
    order = [INVARIANT, *sorted(heads - {INVARIANT})]
    rows = [order.index(head) if head in order else 0 for head in spec.projected]
    result: Flat = {}
    for name, value in given.items():
        if name.startswith(_BRANCH) and name in own:
            # Of a single branch they have an axis less.
            several = value.ndim > len(own[name].shape) - spec.branched
            each = value if several else np.broadcast_to(value, (len(order), *value.shape))
            result[name] = each[rows] if spec.branched else each[0]
    return result


def _check_encoder(own: Mapping[str, Any], given: Flat, where: str) -> None:
    """Raises UserError where the given encoder is not of the settings of this one."""
    mine, theirs = ({name for name in names if name.startswith(_ENCODER)} for names in (own, given))
    problem = ""
    if not mine & theirs:
        raise UserError(f"config.start.path: {where}: has no parameter of this encoder")
    if missing := mine ^ theirs:
        name = min(missing)
        problem = f"{name} is not " + ("in it" if name in mine else "in the encoder here")
    for name in sorted(mine & theirs):
        if given[name].shape != own[name].shape:
            problem = f"{name} has the shape {given[name].shape}, here {own[name].shape}"
            break
    if problem:
        raise UserError(
            f"config.start.path: {where}: {problem}; use the config.encoder and config.frontend of "
            "the run that it comes from"
        )


def put(params: Any, taken: Flat) -> Any:
    """A tree of arrays with those that were taken, each where the one is that it replaces.

    Works for arrays of which this process holds a part.
    """

    def place(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        value = taken.get(_name(tuple(key.key for key in path)))
        if value is None:
            return leaf
        # Copies: a step consumes what it is given.
        return jax.make_array_from_callback(
            leaf.shape, leaf.sharding, lambda part: np.array(value[part])
        )

    return jax.tree_util.tree_map_with_path(place, params)
