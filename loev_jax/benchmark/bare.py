"""The compiled training step with nothing around it: one batch of noise that is on the device."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh

from loev_jax import step as steps
from loev_jax.config import Recipe

_LEVEL = 3000  # of the noise, in steps of 16-bit audio: -21 dB


def batch(recipe: Recipe, mesh: Mesh) -> steps.Batch:
    """A step's clips, of the same noise each time."""
    clips, samples = recipe.training.clips, recipe.views.window_samples
    audio = np.random.default_rng(0).normal(0, _LEVEL, (clips, samples)).astype(np.int16)
    return steps.to_device(audio, np.arange(clips), mesh)


def stepper(recipe: Recipe, mesh: Mesh, given: steps.Batch, number: int = 1) -> Callable[[], None]:
    """What takes `number` steps with a batch, to their end; its first call compiles."""
    train_step, carried = steps.make(recipe, mesh), [steps.init(recipe, mesh)]

    def take() -> None:
        for _ in range(number):
            carried[0], _ = train_step(carried[0], given)
        jax.block_until_ready(carried[0])

    return take
