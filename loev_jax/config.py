"""Configuration: what a user writes becomes one checked, frozen `Recipe`.

A config is an `ml_collections.ConfigDict` with the sections of `default()`. It is read here, at the
edge, and nowhere else: the rest of the package takes the frozen dataclasses that hold the defaults.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from flax import nnx
from ml_collections import ConfigDict

from loev_jax import model as models
from loev_jax.augment import differences
from loev_jax.augment.augmentations import PARAMETERS_OF, SCALARS, Augmentations
from loev_jax.augment.differences import Coordinate
from loev_jax.augment.spectral import Filter, Gain, PitchShift, TimeStretch
from loev_jax.augment.views import Views
from loev_jax.data.audio import SAMPLE_RATE
from loev_jax.encoders.encoder import SETTINGS as ENCODERS
from loev_jax.errors import UserError
from loev_jax.frontend import LogMel
from loev_jax.heads import INVARIANT, Projection
from loev_jax.losses.objective import Loss
from loev_jax.model import ENCODER, ModelSpec
from loev_jax.optimizer import Optimizer
from loev_jax.sections import build, convert


@dataclasses.dataclass(frozen=True)
class Data:
    """Where clips come from.

    Attributes:
        path: a data set that `launch/prepare_data.py` wrote.
        split: the split to train on.
        threads: that read records.
        prefetch: batches kept ready.
    """

    path: str = "data/corpus"
    split: str = "train"
    threads: int = 4
    prefetch: int = 4

    def __post_init__(self) -> None:
        if min(self.threads, self.prefetch) < 0:
            raise ValueError(f"threads={self.threads}, prefetch={self.prefetch} must be 0 or more")


@dataclasses.dataclass(frozen=True)
class Start:
    """What a run's parameters start from, where they are not drawn (`loev_jax.warm_start`).

    Attributes:
        path: of another run, an exported model, or a safetensors file of one or of MULE; "" draws
            all.
        step: of the other run; 0 takes its last checkpoint.
    """

    path: str = ""
    step: int = 0

    def __post_init__(self) -> None:
        if self.step < 0:
            raise ValueError(f"step={self.step} must be 0 or more")


@dataclasses.dataclass(frozen=True)
class Training:
    """How long a run is, and what it leaves on the way.

    Attributes:
        clips: in the global batch; each has several views.
        micro_batches: in which each device works through its clips, with the gradient of the whole
            batch (GradCache): less memory, for one more forward pass where it is more than 1.
        fsdp: devices that hold the parameters and the optimiser's state together, each a share; 1
            has all of them on every device.
        steps: in the whole run.
        log_every: steps from one line of metrics to the next.
        inspect_every: steps from one look at some views, and at where the spaces put them, to the
            next (pictures, sound, rank and uniformity, see docs/dashboard.md); 0 never looks.
        checkpoint_every: steps from one checkpoint to the next; the last step always has one.
        keep_checkpoints: how many of the newest are kept; 0 keeps all.
    """

    clips: int = 640
    micro_batches: int = 1
    fsdp: int = 1
    steps: int = 200_000
    log_every: int = 100
    inspect_every: int = 2_000
    checkpoint_every: int = 2_000
    keep_checkpoints: int = 5

    def __post_init__(self) -> None:
        for name in ("clips", "micro_batches", "fsdp", "steps", "log_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be 1 or more")
        for name in ("keep_checkpoints", "inspect_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must be 0 or more")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A whole run: everything that a config says, checked."""

    seed: int
    data: Data
    views: Views
    model: ModelSpec
    loss: Loss
    optimizer: Optimizer
    training: Training
    start: Start = Start()


_SECTIONS = {
    "data": Data,
    "frontend": LogMel,
    "augment": Augmentations,
    "views": Views,
    "encoder": ENCODERS["cnn"],
    "projection": Projection,
    "loss": Loss,
    "optimizer": Optimizer,
    "training": Training,
    "start": Start,
}
# What a config has beside its sections.
_PLAIN = ("seed", "heads", "branched")
# Fields of `Views` that other sections give.
_DERIVED = ("frontend", "augmentations", "kept")


def check_file(given: str) -> None:
    """Raises UserError where what `--config` was given, FILE or FILE:VARIANT, is no file."""
    path, _, _ = given.partition(":")
    if not Path(path).is_file():
        raise UserError(f"--config: {path}: no such file; choose one of configs/")


def default() -> ConfigDict:
    """The defaults: the published augmentations, batch and schedule, and no variant head.

    Where they leave the published recipe: LooC views instead of two independent ones, every
    augmentation always applied, positives by tolerance, linear heads with a norm and biases, the
    translation loss, mel bands that end at 6.3 kHz (above, a shift down by four semitones leaves
    bands empty, from which a network could read the shift), and an analysis window whose length is
    drawn for each view: with a fixed one the rate can be read from the texture of noise
    (docs/shortcuts.md).
    """
    sections: dict[str, Any] = {"seed": 0, "heads": {}, "branched": False}
    for name, cls in _SECTIONS.items():
        fields = [field for field in dataclasses.fields(cls) if field.name not in _DERIVED]
        values = {field.name: _plain(_default_of(field)) for field in fields}
        sections[name] = values
    sections["frontend"]["fmax"] = 6_300.0
    sections["views"]["window_scale"] = (0.72, 1.36)
    for published in (TimeStretch(), PitchShift(), Gain(), Filter()):
        sections["augment"][published.NAME] = _plain(published)
    return ConfigDict(sections)


def _default_of(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _plain(value: Any) -> Any:
    # `is_dataclass` is true of classes too, and none is a default.
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value  # type: ignore[arg-type]


def _heads(section: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """`heads` of a config: for each name, one augmentation or several."""
    result = {}
    for name, value in section.items():
        kept = (value,) if isinstance(value, str) else tuple(value)
        if name in (ENCODER, INVARIANT, "heads", "all"):
            raise UserError(f"config.heads.{name}: the name is taken; choose another")
        unknown = [one for one in kept if one not in PARAMETERS_OF]
        if unknown or not kept:
            known = ", ".join(PARAMETERS_OF)
            raise UserError(f"config.heads.{name}: {value!r} is no augmentation; known: {known}")
        result[name] = kept
    return result


def _encoder(section: Mapping[str, Any]) -> Any:
    """Settings of the encoder that a config names."""
    name = section.get("name", "cnn")
    if name not in ENCODERS:
        known = ", ".join(ENCODERS)
        raise UserError(f"config.encoder.name: {name!r} is no encoder; known: {known}")
    return build(ENCODERS[name], section, "encoder")


def read(config: ConfigDict | Mapping[str, Any]) -> Recipe:
    """Checks a config and makes a recipe of it.

    Args:
        config: sections as in `default()`; those left out keep their defaults.

    Raises:
        UserError: one line that names the field, its value and what is allowed.
    """
    sections = config.to_dict() if isinstance(config, ConfigDict) else dict(config)
    unknown = [name for name in sections if name not in (*_SECTIONS, *_PLAIN)]
    if unknown:
        known = ", ".join((*_PLAIN, *_SECTIONS))
        raise UserError(f"config.{unknown[0]}: unknown section; known: {known}")
    part = {name: sections.get(name, {}) for name in _SECTIONS}
    heads = _heads(sections.get("heads", {}))
    augmentations = build(Augmentations, part["augment"], "augment")
    for head, kept in heads.items():
        for one in kept:
            if getattr(augmentations, one) is None:
                raise UserError(
                    f"config.heads.{head}: {one} is never applied; set config.augment.{one}"
                )
    mel = build(LogMel, part["frontend"], "frontend")
    if mel.sample_rate != SAMPLE_RATE:
        raise UserError(
            f"config.frontend.sample_rate: {mel.sample_rate}, but every data set is made at "
            f"{SAMPLE_RATE} Hz; leave it out"
        )
    views = build(Views, part["views"], "views", frontend=mel, augmentations=augmentations,
                  kept=tuple(heads.values()))  # fmt: skip
    loss = build(Loss, part["loss"], "loss")
    pairs, readouts = _coordinates(augmentations, heads, loss)
    model = ModelSpec(
        bands=mel.bands,
        frame_rate=mel.sample_rate / mel.hop,
        heads=heads,
        readouts=readouts,
        encoder=_encoder(part["encoder"]),
        projection=build(Projection, part["projection"], "projection"),
        readout_space=loss.readout_space,
        branched=convert(bool, sections.get("branched", False), "branched"),
        pairs=pairs,
        reads=loss.parameter > 0,
        moves=loss.embedding > 0,
    )
    recipe = Recipe(
        seed=convert(int, sections.get("seed", 0), "seed"),
        data=build(Data, part["data"], "data"),
        views=views,
        model=model,
        loss=loss,
        optimizer=build(Optimizer, part["optimizer"], "optimizer"),
        training=build(Training, part["training"], "training"),
        start=build(Start, part["start"], "start"),
    )
    _check_together(recipe)
    return recipe


Coordinates = dict[str, tuple[Coordinate, ...]]


def _coordinates(
    augmentations: Augmentations, heads: Mapping[str, tuple[str, ...]], loss: Loss
) -> tuple[Coordinates, Coordinates]:
    """What the equivariance losses predict of pairs and what they read out linearly, by head."""
    for name in loss.periods:
        if name not in SCALARS:
            raise UserError(f"config.loss.periods.{name}: not one of {', '.join(SCALARS)}")
    pairs: Coordinates = {}
    readouts: Coordinates = {}
    try:
        for head, kept in heads.items():
            if loss.parameter > 0 or loss.embedding > 0:
                pairs[head] = differences.coordinates(augmentations, kept, loss.periods)
            # Only parameters drawn from a range can be followed by a linear readout.
            if loss.translation > 0 and (scalars := [name for name in kept if name in SCALARS]):
                readouts[head] = tuple(
                    differences.scalar(augmentations, name, loss.periods) for name in scalars
                )
    except ValueError as error:
        raise UserError(f"config.heads: {error}") from error
    return pairs, readouts


def of_heads(
    variant: Iterable[str], temperature: float
) -> dict[str, tuple[tuple[str, ...], float]]:
    """Fields of `loss` that are set for single heads.

    Args:
        variant: names of the heads beside the invariant one.
        temperature: of all heads.

    Returns:
        By field the heads that it may name, and what holds for one that it does not name.
    """
    some = tuple(variant)
    every = (INVARIANT, *some)
    return {
        "weights": (every, 1.0),
        "equivariance_weights": (some, 1.0),
        "temperatures": (every, temperature),
    }


def _check_together(recipe: Recipe) -> None:
    """Checks what sections only show together. Raises UserError as `read` does."""
    heads, loss = (INVARIANT, *recipe.model.heads), recipe.loss
    for field, (those, unsaid) in of_heads(recipe.model.heads, loss.temperature).items():
        for head, value in getattr(loss, field).items():
            # Of a head that is not there, what says no more than its absence does is let pass: a
            # config of a user's own may have replaced heads that a preset names.
            if head not in those and value != unsaid:
                known = ", ".join(those) or "none"
                raise UserError(f"config.loss.{field}.{head}: no such head; heads: {known}")
    if loss.contrast > 0 and not any(loss.weights.get(head, 1.0) > 0 for head in heads):
        raise UserError("config.loss.weights: all are 0; leave one head a weight")
    if loss.contrast == 0 and not (recipe.model.readouts or recipe.model.pairs):
        raise UserError(
            "config.loss.contrast: 0 and no equivariance loss; nothing would be learned"
        )
    augmentations = recipe.views.augmentations
    for head, kept in recipe.model.heads.items():
        always = [one for one in kept if getattr(augmentations, one).probability == 1]
        if loss.positives == "unaugmented" and always:
            raise UserError(
                f"config.heads.{head}: {always[0]} is applied to every view, so none is a positive "
                f"of config.loss.positives=unaugmented; set config.augment.{always[0]}.probability"
            )
    try:
        nnx.eval_shape(lambda: models.create(recipe.model, 0))
    except ValueError as error:
        raise UserError(f"config: {error}") from error
