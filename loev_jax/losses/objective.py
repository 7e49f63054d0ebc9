"""The objective of a training step: every head's contrastive and equivariance loss, weighted."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from loev_jax.augment import differences
from loev_jax.augment.parameters import Parameters
from loev_jax.heads import INVARIANT
from loev_jax.losses import contrastive, equivariance, global_batch, masks
from loev_jax.losses.global_batch import Axis, GlobalBatch, Marks
from loev_jax.losses.masks import Tolerance
from loev_jax.model import ModelSpec, Outputs, normalise

PARAMS = "contrast"
"""Under this name a run's parameters hold the objective's own, where it has some."""

_EQUIVARIANCE = ("translation", "parameter", "embedding")


@dataclasses.dataclass(frozen=True)
class Loss:
    """Settings of the objective.

    Attributes:
        temperature: of the contrastive losses; where it starts if it is learned.
        temperatures: of single heads by name, where it is another.
        learn_temperature: whether the logarithm of each head's 1/temperature is a parameter, as in
            CLIP.
        temperature_range: the least and the greatest temperature that is learned (CLIP's).
        block_rows: the most rows a device contrasts at once with all columns: a larger batch takes
            memory for block_rows x all rows, and nothing is as large as all rows squared.
        form: "log_softmax", or "published": -log(ratio + 1e-6).
        reduction: mean over the rows with positives, or over "all_rows" (published).
        positives: what agrees, by "tolerance", or rows both "unaugmented" (published).
        tolerance: greatest difference at which two views agree.
        weights: of the heads' contrastive losses by name; a head not named weighs 1.
        contrast: weight of all of them together; 0 leaves equivariance alone.
        translation: weight of the translation loss: a linear readout of a variant head moves as its
            parameters do; 0 leaves it out, as it does the next two.
        parameter: weight of the parameter loss: the difference is read off a pair of views.
        embedding: weight of the embedding loss: one view moved by the difference is the other.
        embedding_form: "cosine", the distance from the other view; or "contrastive": nearer to it
            than to the rest of the global batch, at the head's temperature (EquiMod).
        equivariance_weights: of the heads in these three by name; a head not named weighs 1.
        periods: of parameters that are circular, in their unit, such as 12 semitones.
        readout_space: what the translation loss reads, the "encoder" or the "head".
    """

    temperature: float = 0.1
    temperatures: Mapping[str, float] = dataclasses.field(default_factory=dict)
    learn_temperature: bool = False
    temperature_range: tuple[float, float] = (0.01, 1.0)
    block_rows: int = 512
    form: contrastive.Form = "log_softmax"
    reduction: Literal["rows_with_positives", "all_rows"] = "rows_with_positives"
    positives: Literal["tolerance", "unaugmented"] = "tolerance"
    tolerance: Tolerance = Tolerance()
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    contrast: float = 1.0
    translation: float = 1.0
    parameter: float = 0.0
    embedding: float = 0.0
    embedding_form: Literal["cosine", "contrastive"] = "cosine"
    equivariance_weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    periods: Mapping[str, float] = dataclasses.field(default_factory=dict)
    readout_space: Literal["encoder", "head"] = "head"

    def __post_init__(self) -> None:
        low, high = self.temperature_range
        if not 0 < low < high:
            raise ValueError(f"temperature_range={(low, high)} must be positive and ascend")
        for temperature in (self.temperature, *self.temperatures.values()):
            if not temperature > 0:
                raise ValueError(f"temperature={temperature} must be positive")
            if self.learn_temperature and not low <= temperature <= high:
                raise ValueError(
                    f"temperature={temperature} is outside temperature_range={(low, high)}"
                )
        if self.block_rows < 1:
            raise ValueError(f"block_rows={self.block_rows} must be 1 or more")
        weights = {name: getattr(self, name) for name in ("contrast", *_EQUIVARIANCE)}
        for field in ("weights", "equivariance_weights"):
            weights |= {f"{field}.{head}": one for head, one in getattr(self, field).items()}
        for name, weight in weights.items():
            if not weight >= 0:
                raise ValueError(f"{name}={weight} must be 0 or more")
        if any(not period > 0 for period in self.periods.values()):
            raise ValueError(f"periods={dict(self.periods)} must be positive")


def initial_params(spec: Loss, heads: Sequence[str]) -> dict[str, dict[str, jax.Array]]:
    """The objective's own parameters: none, or the logarithm of each head's 1/temperature, f32."""
    if not spec.learn_temperature:
        return {}
    start = {head: spec.temperatures.get(head, spec.temperature) for head in heads}
    return {PARAMS: {head: jnp.asarray(-math.log(t), jnp.float32) for head, t in start.items()}}


def bounded(spec: Loss, params: dict[str, Any]) -> dict[str, Any]:
    """A run's parameters with the temperatures back in their range, after an update.

    The parameter itself is clipped, as CLIP's is: clipped in the loss only, it would have no
    gradient to return by.
    """
    if not spec.learn_temperature:
        return params
    low, high = (-math.log(bound) for bound in reversed(spec.temperature_range))
    return params | {
        PARAMS: {head: jnp.clip(scale, low, high) for head, scale in params[PARAMS].items()}
    }


Temperatures = Mapping[str, float | jax.Array]
"""Of each head by name, []."""


def temperatures_of(spec: Loss, heads: Sequence[str], params: Mapping[str, Any]) -> Temperatures:
    """The temperature of each head, as a run's parameters or the settings say."""
    if spec.learn_temperature:
        return {head: jnp.exp(-params[PARAMS][head]) for head in heads}
    return {head: spec.temperatures.get(head, spec.temperature) for head in heads}


def pairing(spec: Loss) -> contrastive.Pairing:
    """Which rows are themselves or positives of each other, from their `Marks`."""

    def pairs(rows: Marks, columns: Marks) -> contrastive.Pairs:
        itself = rows.number[:, None] == columns.number[None, :]
        siblings = masks.same_clip(rows.clip, columns.clip) & ~itself
        agreeing = masks.agree(
            rows.parameters, columns.parameters, tuple(rows.parameters), spec.tolerance,
            spec.positives, spec.periods,
        )  # fmt: skip
        return contrastive.Pairs(siblings & agreeing, itself)

    return pairs


def _row_losses(
    spec: Loss,
    batch: GlobalBatch,
    head: str,
    rows: jax.Array,
    marks: Marks,
    temperature: float | jax.Array,
) -> contrastive.RowLosses:
    """Contrasts unit vectors [n, d] with a head's columns, by the parameters in their marks."""
    return contrastive.row_losses_in_blocks(
        rows,
        batch.columns[head],
        marks,
        batch.column_marks.of(tuple(marks.parameters)),
        pairing(spec),
        temperature,
        spec.form,
        spec.block_rows,
    )


def _shares(
    spec: Loss, losses: Mapping[str, contrastive.RowLosses], axis: Axis
) -> dict[str, jax.Array]:
    """This device's share of the mean of each head's row losses, []; one collective for all."""
    counts = jax.lax.psum(jnp.stack([jnp.sum(of.counted) for of in losses.values()]), axis)
    devices = jax.lax.axis_size(axis)
    return {
        head: jnp.sum(of.loss)
        / contrastive.divisor(count, devices * of.loss.shape[0], spec.reduction)
        for (head, of), count in zip(losses.items(), counts, strict=True)
    }


def contrast(
    spec: Loss,
    heads: Mapping[str, tuple[str, ...]],
    batch: GlobalBatch,
    axis: Axis,
    temperatures: Temperatures,
) -> dict[str, jax.Array]:
    """This device's share of every head's contrastive loss; shares sum to the global loss.

    Args:
        spec: the objective.
        heads: for each variant head, the augmentations it keeps.
        batch: every head's rows, of this device and of all.
        axis: the mesh axis, or axes, over which the global batch is split.
        temperatures: of every head.

    Returns:
        By head, f32 [].
    """

    def losses(head: str) -> contrastive.RowLosses:
        marks = batch.row_marks.of(masks.parameters_of(heads.get(head, ())))
        return _row_losses(spec, batch, head, batch.rows[head], marks, temperatures[head])

    return _shares(spec, {head: losses(head) for head in (INVARIANT, *heads)}, axis)


def anticipate(
    spec: Loss,
    heads: Mapping[str, tuple[str, ...]],
    moved: Mapping[str, jax.Array],
    batch: GlobalBatch,
    axis: Axis,
    temperatures: Temperatures,
) -> dict[str, jax.Array]:
    """This device's share of the embedding loss in its contrastive form, of every variant head.

    EquiMod (Devillers & Lefort 2022, arXiv 2211.01244): the first view of a pair,
    moved by the pair's difference, is to be nearer to the second than to any other row. Views of
    the clip that agree with the second in what the head keeps are the same place to it, and
    positives too. The first view is left out: to stay is neither right nor wrong.

    Args:
        spec: the objective.
        heads: for each variant head, the augmentations it keeps.
        moved: by head, [clips, pairs, d] of this device, for `differences.pairs(views)`.
        batch: every head's rows, of this device clip by clip, and of all.
        axis: the mesh axis, or axes, over which the global batch is split.
        temperatures: of every head.

    Returns:
        By head, f32 [].
    """
    here = batch.row_marks

    def losses(head: str) -> contrastive.RowLosses:
        number = moved[head].shape[0]
        first, second = differences.pairs(here.clip.shape[0] // number)

        def of(views: np.ndarray, leaf: jax.Array) -> jax.Array:
            return leaf.reshape(number, -1)[:, views].reshape(-1)

        marks = Marks(
            of(first, here.number),
            of(second, here.clip),
            {name: of(second, here.parameters[name]) for name in masks.parameters_of(heads[head])},
        )
        rows = normalise(moved[head]).reshape(-1, moved[head].shape[-1])
        return _row_losses(spec, batch, head, rows, marks, temperatures[head])

    return _shares(spec, {head: losses(head) for head in moved}, axis)


def equivary(
    spec: Loss, model: ModelSpec, outputs: Outputs, parameters: Parameters, axis: Axis
) -> tuple[dict[str, dict[str, jax.Array]], dict[str, jax.Array]]:
    """This device's share of every equivariance loss of every variant head.

    Args:
        spec: the objective.
        model: says in which coordinates each head's views differ.
        outputs: the model's, of [clips * views] rows, clip by clip.
        parameters: applied, each [clips, views].
        axis: the mesh axis, or axes, over which clips are split.

    Returns:
        Losses by name and head, f32 []; and by "spread/NAME/HEAD" how far apart the predictions for
        the views of a clip are, f32 []: 0 is collapse. Of readouts and differences it is their
        standard deviation, in units in which the parameters range over -1 to 1; of vectors that
        were moved see `equivariance.spread`.
    """
    devices = jax.lax.axis_size(axis)
    losses: dict[str, dict[str, jax.Array]] = {}
    spreads: dict[str, jax.Array] = {}

    def add(name: str, head: str, loss: jax.Array, spread: jax.Array) -> None:
        losses.setdefault(name, {})[head] = jnp.mean(loss) / devices
        spreads[f"spread/{name}/{head}"] = jnp.mean(spread) / devices

    for head, readout in outputs.readouts.items():
        shape = next(iter(parameters.values())).shape
        read = readout.reshape(*shape, -1)
        loss = equivariance.translations(model.readouts[head], read, parameters)
        add("translation", head, loss, jnp.std(read, axis=1))
    predicted = outputs.predicted
    for head, difference in predicted.differences.items():
        loss = equivariance.parameter(model.pairs[head], difference, parameters)
        add("parameter", head, loss, jnp.std(difference, axis=1))
    for head, moved in predicted.moved.items():
        space = normalise(outputs.projections[head]).reshape(moved.shape[0], -1, moved.shape[-1])
        loss = equivariance.embedding(moved, space)
        add("embedding", head, loss, equivariance.spread(predicted.swept[head]))
    return losses, spreads


def _weighted_mean(losses: Mapping[str, jax.Array], weights: Mapping[str, float]) -> jax.Array:
    """Mean over heads, each with its weight or 1."""
    each = {head: weights.get(head, 1.0) for head in losses}
    total = jnp.sum(jnp.stack([each[head] * loss for head, loss in losses.items()]))
    return total / (sum(each.values()) or 1.0)


def _global_batch(
    model: ModelSpec, outputs: Outputs, parameters: Parameters, example: jax.Array, axis: Axis
) -> GlobalBatch:
    """The rows of every head, [clips * views] of this device, and all that they contrast with."""
    views = outputs.projections[INVARIANT].shape[0] // example.shape[0]
    compared = [masks.parameters_of(kept) for kept in model.heads.values()]
    return global_batch.gather(
        outputs.projections,
        {name: value.reshape(-1) for name, value in parameters.items()},
        tuple(dict.fromkeys(itertools.chain.from_iterable(compared))),
        jnp.repeat(example, views),
        axis,
    )


def objective(
    spec: Loss,
    model: ModelSpec,
    outputs: Outputs,
    parameters: Parameters,
    example: jax.Array,
    axis: Axis,
    temperatures: Temperatures,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """This device's share of the objective and of each of its parts.

        L = w_c · Σ_h w_h·L_h / Σ_h w_h + Σ_e w_e · Σ_k v_k·L_ek / Σ_k v_k

    with h over all heads, e over the equivariance losses and k over the variant heads.

    Args:
        spec: the objective.
        model: what the heads keep, and the coordinates in which their views differ.
        outputs: the model's, of [clips * views] rows, clip by clip.
        parameters: applied, each [clips, views].
        example: the global number of each clip, [clips].
        axis: the mesh axis, or axes, over which clips are split.
        temperatures: of every head's contrastive loss.

    Returns:
        The share of the loss, and the shares of "loss", "contrastive/HEAD", "translation/HEAD",
        "parameter/HEAD", "embedding/HEAD", and of the spreads of `equivary`.
    """
    losses, spreads = equivary(spec, model, outputs, parameters, axis)
    anticipates = spec.embedding_form == "contrastive" and "embedding" in losses
    if anticipates or spec.contrast > 0:
        batch = _global_batch(model, outputs, parameters, example, axis)
    if anticipates:
        losses["embedding"] = anticipate(
            spec, model.heads, outputs.predicted.moved, batch, axis, temperatures
        )
    weights = {name: getattr(spec, name) for name in losses}
    loss = sum(
        (weights[name] * _weighted_mean(by_head, spec.equivariance_weights)
         for name, by_head in losses.items()),
        start=jnp.zeros((), jnp.float32),
    )  # fmt: skip
    if spec.contrast > 0:
        losses["contrastive"] = contrast(spec, model.heads, batch, axis, temperatures)
        loss += spec.contrast * _weighted_mean(losses["contrastive"], spec.weights)
    parts = {
        f"{name}/{head}": value
        for name, by_head in losses.items()
        for head, value in by_head.items()
    }
    return loss, {"loss": loss} | parts | spreads
