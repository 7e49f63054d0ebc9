"""The variants of every config in `configs/`: the full recipe, `small`, and other encoders."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from ml_collections import ConfigDict

from loev_jax import config
from loev_jax.encoders.encoder import SETTINGS as ENCODERS
from loev_jax.errors import UserError

# Rows (clips x views) of a step. Full: as published (MULE). Small: what two cores do in half a
# second. Both divide by 2, 3 and 4 views, so that every config sees equally many.
FULL_ROWS, SMALL_ROWS = 1920, 96

PAPER = "sf_nfnet_f0"
"""The paper's encoder, that of the full recipes; the small ones have `cnn`."""


def recipe(variant: str, heads: Mapping[str, str], *, branched: bool = False) -> ConfigDict:
    """The config of a variant.

    Args:
        variant: words with commas between them: "small" for two CPU cores (without it, the full
            recipe), the name of an encoder for another than the variant's own.
        heads: for each variant head, the augmentation it keeps; with none, views are drawn
            independently.
        branched: whether the encoder has a branch for every head (LOEV++).

    Raises:
        UserError: there is no such variant.
    """
    words = variant.split(",") if variant else []
    known = ("small", *ENCODERS)
    if unknown := [word for word in words if word not in known]:
        raise UserError(
            f"--config: unknown variant {unknown[0]!r}; known: {', '.join(known)}, or several with "
            "commas between them"
        )
    small, names = "small" in words, [word for word in words if word in ENCODERS]
    if names[1:]:
        raise UserError(f"--config: {' and '.join(names)} in one variant; name one encoder")
    settings = config.default()
    for name in names or ([] if small else [PAPER]):
        settings.encoder = ConfigDict(dataclasses.asdict(ENCODERS[name]()))
    settings.heads, settings.branched = ConfigDict(dict(heads)), branched
    views = len(heads) + 2
    if not heads:
        settings.views.construction = "independent"
        settings.views.count = views = 4 if small else 2
    settings.training.clips = (SMALL_ROWS if small else FULL_ROWS) // views
    _name_heads(settings)
    if small:
        _shrink(settings)
    return settings


def _name_heads(settings: ConfigDict) -> None:
    """Names every head where single ones can be set: a command line sets only what is there."""
    loss = settings.loss
    for field, (heads, unsaid) in config.of_heads(settings.heads, loss.temperature).items():
        loss[field] = ConfigDict(dict.fromkeys(heads, unsaid))
    # What is set for all heads holds for each, until that one is set.
    for head in loss.temperatures:
        loss.temperatures[head] = loss.get_oneway_ref("temperature")


def _shrink(settings: ConfigDict) -> None:
    """Fits a config to two CPU cores and a quarter of an hour."""
    settings.frontend.update(n_fft=2048, window=1408, hop=320, bands=128, fmin=30.0, fmax=6000.0)
    settings.augment.time_stretch.update(low=-0.32, high=0.32)  # rates 0.8 to 1.25
    settings.augment.pitch_shift.update(step=1.0)
    settings.augment.filter.update(probability=0.5)
    settings.views.update(seconds=5.0, spread_seconds=4.0)
    settings.encoder.compute_dtype = "float32"
    settings.loss.translation = 2.0
    # Tempo is shared by many clips: softer negatives leave them nearer (docs/design.md).
    tempo = [head for head, kept in settings.heads.items() if kept == "time_stretch"]
    settings.loss.temperatures.update(dict.fromkeys(tempo, 0.2))
    settings.optimizer.update(learning_rate=2e-3, warmup_steps=100, weight_decay=1e-2)
    settings.training.update(
        steps=1000, log_every=20, inspect_every=250, checkpoint_every=100, keep_checkpoints=3
    )
