"""The compiled training step with nothing around it: one batch of noise that is on the device."""

from __future__ import annotations

from typing import Any

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


class Bare:
    """A recipe's step, compiled here and once, with the state that it takes on and its batch."""

    def __init__(self, recipe: Recipe, mesh: Mesh) -> None:
        self._batch, self._state = batch(recipe, mesh), steps.init(recipe, mesh)
        jitted: Any = steps.make(recipe, mesh)
        self._program = jitted.lower(self._state, self._batch).compile()

    @property
    def working_bytes(self) -> int:
        """What a step holds beside the state and the clips, by the compiler's account."""
        return int(self._program.memory_analysis().temp_size_in_bytes)

    def take(self, number: int = 1) -> None:
        """Takes `number` steps, to their end."""
        for _ in range(number):
            self._state, _ = self._program(self._state, self._batch)
        jax.block_until_ready(self._state)
