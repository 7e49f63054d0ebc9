"""How fast a run goes: seconds of its steps, what they wait for, how much of its chips they use."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import jax
import numpy as np
from flax import nnx

from loev_jax import model as models
from loev_jax.config import Recipe

# Dense bf16 FLOP/s of a device, as its maker states it.
_PEAK = {
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
    "NVIDIA A100": 312e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA L4": 121e12,
    "Tesla T4": 65e12,
    "Tesla V100": 125e12,
}

T = TypeVar("T")


def peak(kind: str) -> float | None:
    """Dense bf16 FLOP/s of a kind of device, `jax.Device.device_kind`; None if it is not known."""
    if kind in _PEAK:
        return _PEAK[kind]
    longer = [name for name in _PEAK if kind.startswith((f"{name} ", f"{name}-"))]
    return _PEAK[max(longer, key=len)] if longer and not kind.startswith("TPU") else None


def flops_of_view(recipe: Recipe) -> float:
    """FLOPs that training takes for a view in the model: forward, and twice that backward.

    Those of convolutions and matrix products. What is computed again to save memory does not count,
    nor do augmentation, front end and losses (Chowdhery et al. 2022, arXiv 2204.02311, appendix B).
    """
    graph, state = nnx.split(nnx.eval_shape(lambda: models.create(recipe.model, 0)))
    view = jax.ShapeDtypeStruct((1, recipe.views.frames, recipe.model.bands), np.float32)
    # Not the compiler's own count: not every platform has one, and training must not end for it.
    traced = jax.make_jaxpr(lambda state, mel: nnx.merge(graph, state)(mel))(state, view)
    return 3.0 * _operations(traced.jaxpr)


def _operations(jaxpr: Any) -> float:
    """Multiplications and additions of convolutions and matrix products, those within included."""
    total = 0.0
    for equation in jaxpr.eqns:
        size = float(np.prod(equation.outvars[0].aval.shape)) if equation.outvars else 0.0
        name, parameters = equation.primitive.name, equation.params
        if name == "conv_general_dilated":
            kernel = equation.invars[1].aval
            total += (
                2 * size * kernel.size / kernel.shape[parameters["dimension_numbers"].rhs_spec[0]]
            )
        elif name == "dot_general":
            (contracted, _), _ = parameters["dimension_numbers"]
            total += (
                2 * size * float(np.prod([equation.invars[0].aval.shape[at] for at in contracted]))
            )
        elif name == "cond":  # one of them runs, such as the form that is fast on a platform
            total += max(_operations(branch.jaxpr) for branch in parameters["branches"])
        else:
            inner = [value for value in parameters.values() if hasattr(value, "eqns")]
            total += parameters.get("length", 1) * sum(map(_operations, inner))
    return total


def _when_ready(result: Any) -> float:
    """Waits for what a device computes; the time when it was there."""
    jax.block_until_ready(result)
    return time.monotonic()


class Pace:
    """Takes the times of a loop, and tells of those since it was last asked.

    The loop leaves one step to the device while it prepares the next, so that neither waits for the
    other. A thread waits for the results and notes when each was there: the device waits for data
    only from then on, whatever the host does before.
    """

    def __init__(self, recipe: Recipe, devices: int) -> None:
        """Of a recipe on so many devices."""
        self._views = recipe.training.clips * recipe.views.number / devices
        kind = jax.devices()[0].device_kind
        self._peak = peak(kind)
        self._flops = flops_of_view(recipe) if self._peak else 0.0
        self._watch = ThreadPoolExecutor(1, "pace")
        self._before: Future[float] | None = None
        self._fetching = (0.0, 0.0)  # when the newest batch was asked for, and when it was there
        self._ended: float | None = None
        self._seconds: list[float] = []
        self._waited = 0.0

    def next_of(self, batches: Iterator[T]) -> T:
        """The next batch; when it was asked for and when it came is remembered."""
        began = time.monotonic()
        batch = next(batches)
        self._fetching = (began, time.monotonic())
        return batch

    def step(self, result: Any) -> None:
        """Takes note of a step that was started, and waits for the one before it."""
        if self._before is not None:
            ended = self._before.result()
            if self._ended is not None:  # the first was compiled: it says nothing of the others
                self._seconds.append(ended - self._ended)
                asked, came = self._fetching
                self._waited += max(0.0, came - max(asked, ended))
            self._ended = ended
        self._before = self._watch.submit(_when_ready, result)

    def close(self) -> None:
        """Ends the thread."""
        self._watch.shutdown()

    def told(self) -> dict[str, float]:
        """What there is to tell since it was last asked, by name; nothing where nothing was timed.

        "pace/step_seconds" at the median, the 95th percentile and the longest,
        "pace/data_wait" as a share of the time, "pace/views_per_second_per_device", and "pace/mfu",
        the share of a device's bf16 peak that the model takes, where that is known.
        """
        seconds, waited = np.array(self._seconds), self._waited
        self._seconds, self._waited = [], 0.0
        if not len(seconds):
            return {}
        total = float(seconds.sum())
        rate = self._views * len(seconds) / total
        found = {
            "pace/step_seconds_p50": float(np.percentile(seconds, 50)),
            "pace/step_seconds_p95": float(np.percentile(seconds, 95)),
            "pace/step_seconds_max": float(seconds.max()),
            "pace/data_wait": waited / total,
            "pace/views_per_second_per_device": rate,
        }
        return found | ({"pace/mfu": rate * self._flops / self._peak} if self._peak else {})
