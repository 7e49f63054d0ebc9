"""The three-head contrastive loss, forward and backward, beside two formulations in PyTorch.

The rows are LooC views of random vectors: a quarter as many clips, a tempo and a pitch head. One
formulation takes the cosine of every pair by `cosine_similarity` over [N, N, d], as the published
code does; the other one matrix product. All get the same numbers and must give the same loss.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from loev_jax import fsdp, step
from loev_jax.benchmark import peers
from loev_jax.benchmark.timing import grown, measure, peak_megabytes
from loev_jax.data import processes
from loev_jax.errors import UserError
from loev_jax.losses import global_batch, objective
from loev_jax.losses.objective import Loss

ROWS, SIZE, VIEWS = 1024, 128, 4
REPETITIONS = 20
HEADS = {"tempo": ("time_stretch",), "pitch": ("pitch_shift",)}
NAMES = ("invariant", *HEADS)
SPEC = Loss()

OURS, MATMUL, COSINE = "loev_jax", "PyTorch, matmul", "PyTorch, [N, N, d] cosine"
METHODS = (OURS, MATMUL, COSINE)

Once = Callable[[], float]
"""One forward and backward pass; returns the loss."""


def run(out: Path, quick: bool) -> dict[str, Any]:
    """Times and weighs every formulation.

    Args:
        out: not used, there is no plot.
        quick: few rows, once.

    Returns:
        `milliseconds` and `peak_megabytes` by method; `cosine_over_ours` and `matmul_over_ours`,
        how many times longer each takes; `left_out`: what is not installed.

    Raises:
        UserError: two formulations do not agree.
    """
    del out
    rows, repetitions = (64, 1) if quick else (ROWS, REPETITIONS)
    torch = peers.installed("torch")
    methods = METHODS if torch else (OURS,)
    timed: dict[tuple[str, int], tuple[int, Once]] = {
        (method, rows): (1, make(method, rows)) for method in methods
    }
    values = {method: once() for (method, _), (_, once) in timed.items()}
    for method, value in values.items():
        if abs(value - values[OURS]) > 1e-4 * abs(value):
            raise UserError(f"losses: {method} gives {value}, {OURS} {values[OURS]}")
    milliseconds = measure("losses", timed, repetitions, once=(COSINE,))
    flat = {method: value[str(rows)] for method, value in milliseconds.items()}
    result: dict[str, Any] = {"rows": rows, "size": SIZE, "heads": len(NAMES)}
    if torch:
        result |= {
            "cosine_over_ours": flat[COSINE] / flat[OURS],
            "matmul_over_ours": flat[MATMUL] / flat[OURS],
        }
    peak = {method: peak_megabytes(__name__, method, rows) for method in methods}
    left_out = {} if torch else {"PyTorch": "torch is not installed"}
    return result | {"milliseconds": flat, "peak_megabytes": peak, "left_out": left_out}


def drawn(rows: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:
    """Projections by head [rows, size], parameters [rows] and the clip of each row."""
    random, clips = np.random.default_rng(0), rows // VIEWS
    query, other = random.uniform(-0.3, 0.3, (2, clips)), random.uniform(-0.3, 0.3, (2, clips))
    last = random.uniform(-0.3, 0.3, (2, clips))
    # The query; what shares its tempo; what shares its pitch; what shares nothing.
    stretch = np.stack([query[0], query[0], other[0], last[0]], axis=1)
    shift = 12 * np.stack([query[1], other[1], query[1], last[1]], axis=1)
    parameters = {"time_stretch": stretch, "pitch_shift": shift}
    return (
        {name: random.standard_normal((rows, SIZE)).astype(np.float32) for name in NAMES},
        {name: value.astype(np.float32).reshape(-1) for name, value in parameters.items()},
        np.repeat(np.arange(clips), VIEWS),
    )


def make(method: str, rows: int) -> Once:
    """One forward and backward pass of a method, compiled where it can be."""
    return _ours(rows) if method == OURS else _torch(rows, cosine=method == COSINE)


def _ours(rows: int) -> Once:
    projections, parameters, clips = drawn(rows)
    mesh = fsdp.make_mesh(jax.devices()[:1])
    temperatures = objective.temperatures_of(SPEC, NAMES, {})

    def local(projections: Any, parameters: Any, clips: jax.Array) -> Any:
        def loss(projections: Mapping[str, jax.Array]) -> jax.Array:
            batch = global_batch.gather(
                projections, parameters, tuple(parameters), clips, fsdp.AXES
            )
            each = objective.contrast(SPEC, HEADS, batch, fsdp.AXES, temperatures)
            return jnp.mean(jnp.stack(list(each.values())))

        value, gradient = jax.value_and_grad(loss)(projections)
        return jax.lax.psum(value, fsdp.AXES), gradient

    split = PartitionSpec(fsdp.AXES)
    function = jax.jit(
        jax.shard_map(
            local,
            mesh=mesh,
            in_specs=(split, split, split),
            out_specs=(PartitionSpec(), split),
        )
    )
    arguments = jax.device_put((projections, parameters, clips), step.split_over(mesh))
    compiled = function.lower(*arguments).compile()
    return lambda: float(jax.block_until_ready(compiled(*arguments))[0])


def _torch(rows: int, *, cosine: bool) -> Once:
    import torch
    from torch.nn import functional

    torch.set_num_threads(processes.available_cpus())
    projections, parameters, clips = drawn(rows)
    spaces = {name: torch.tensor(value, requires_grad=True) for name, value in projections.items()}
    itself = np.eye(rows, dtype=bool)
    siblings = (clips[:, None] == clips[None]) & ~itself
    masks = {}
    for name in NAMES:
        positive = siblings
        for one in HEADS.get(name, ()):
            apart = np.abs(parameters[one][:, None] - parameters[one][None])
            positive = positive & (apart <= getattr(SPEC.tolerance, one))
        masks[name] = torch.tensor(positive)
    diagonal = torch.tensor(itself)

    def head(space: Any, positive: Any) -> Any:
        if cosine:
            similarity = functional.cosine_similarity(space[:, None], space[None], dim=-1)
        else:
            unit = functional.normalize(space, dim=-1)
            similarity = unit @ unit.T
        similarity = similarity / SPEC.temperature
        others = similarity.masked_fill(diagonal, -torch.inf)
        log_ratio = similarity - torch.logsumexp(others, dim=1, keepdim=True)
        count = positive.sum(dim=1)
        total = torch.where(positive, log_ratio, 0.0).sum(dim=1)
        return (-total / count.clamp(min=1)).sum() / (count > 0).sum().clamp(min=1)

    def once() -> float:
        for space in spaces.values():
            space.grad = None
        loss = torch.stack([head(space, masks[name]) for name, space in spaces.items()]).mean()
        loss.backward()
        return float(loss)

    return once


if __name__ == "__main__":
    print(grown(make(*json.loads(sys.argv[1]))))
