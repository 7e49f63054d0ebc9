"""The optimiser and its schedule, what decays, and the average of the parameters."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """Settings of the optimiser; the defaults are AdamW and the published schedule.

    Attributes:
        name: "adamw"; "lamb" (You et al. 2020, arXiv 1904.00962) or "lars" (You et al. 2017, arXiv
            1708.03888) for large batches; "sgd".
        learning_rate: at its peak.
        final_learning_rate: at the last step.
        warmup_steps: of linear growth from 0.
        schedule: after the warm-up: "cosine" or "linear" decay to the final rate, or "constant".
        weight_decay: kernels only, not biases, gains and scales; for "sgd" and "lars" it is part of
            the gradient (L2), for the others it is decoupled.
        beta1: decay of the first moment, of "adamw" and "lamb".
        beta2: decay of the second.
        momentum: of "sgd" and "lars".
        clip_norm: greatest global norm of the gradient; 0 leaves it as it is.
        average_decay: of the exponential moving average of the parameters, which is then what is
            evaluated and exported; 0 keeps none.
        most_skipped: steps in a row whose loss, gradient or update is not finite; each is skipped
            and counted, and one more stops the run.
    """

    name: Literal["adamw", "lamb", "lars", "sgd"] = "adamw"
    learning_rate: float = 1e-4
    final_learning_rate: float = 1e-6
    warmup_steps: int = 5_000
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    weight_decay: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.999
    momentum: float = 0.9
    clip_norm: float = 1.0
    average_decay: float = 0.0
    most_skipped: int = 10

    def __post_init__(self) -> None:
        if not self.learning_rate > 0 or self.warmup_steps < 0 or self.clip_norm < 0:
            raise ValueError(
                f"learning_rate={self.learning_rate} must be positive, "
                f"warmup_steps={self.warmup_steps} and clip_norm={self.clip_norm} 0 or more"
            )
        for name in ("beta1", "beta2", "momentum", "average_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be 0 or more and below 1")
        if self.weight_decay < 0 or self.most_skipped < 0:
            raise ValueError(
                f"weight_decay={self.weight_decay} and most_skipped={self.most_skipped} must be 0 "
                "or more"
            )


def schedule(spec: Optimizer, steps: int) -> optax.Schedule:
    """The learning rate at each of `steps` steps."""
    warmup = min(spec.warmup_steps, max(1, steps // 2))
    left = max(steps - warmup, 1)
    peak, final = spec.learning_rate, spec.final_learning_rate
    after = {
        "cosine": optax.cosine_decay_schedule(peak, left, alpha=final / peak),
        "linear": optax.linear_schedule(peak, final, left),
        "constant": optax.constant_schedule(peak),
    }[spec.schedule]
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])


def decayed(params: Any) -> Any:
    """Which parameters decay, as a tree of bools: kernels, not biases, gains and scales.

    By name and not by rank: the biases of an encoder's branches are stacked to matrices.
    """

    def is_kernel(path: tuple[Any, ...], leaf: jax.Array) -> bool:
        del leaf
        return path[-1].key == "kernel"

    return jax.tree_util.tree_map_with_path(is_kernel, params)


def create(spec: Optimizer, steps: int) -> optax.GradientTransformation:
    """The gradient transformation for a run of `steps` steps."""
    rate, decay = schedule(spec, steps), spec.weight_decay
    moments = {"b1": spec.beta1, "b2": spec.beta2}
    match spec.name:
        case "adamw":
            chosen = optax.adamw(rate, **moments, weight_decay=decay, mask=decayed)
        case "lamb":
            chosen = optax.lamb(rate, **moments, weight_decay=decay, mask=decayed)
        case "lars":
            chosen = optax.lars(
                rate,
                weight_decay=decay,
                weight_decay_mask=decayed,
                trust_ratio_mask=decayed,
                momentum=spec.momentum,
            )
        case "sgd":
            chosen = optax.chain(
                optax.add_decayed_weights(decay, decayed), optax.sgd(rate, spec.momentum or None)
            )
    return (
        optax.chain(optax.clip_by_global_norm(spec.clip_norm), chosen) if spec.clip_norm else chosen
    )


def averaged(spec: Optimizer, average: Any, params: Any, step: jax.Array) -> Any:
    """The moving average of the parameters after a step.

    Early on it is the mean of what there has been, so that it forgets the first, random parameters.

    Args:
        spec: `average_decay` above 0.
        average: before the step, a tree of f32.
        params: after it.
        step: number of steps before, [].
    """
    since = step.astype(jnp.float32)
    decay = jnp.minimum(spec.average_decay, (1.0 + since) / (10.0 + since))
    return jax.tree.map(lambda old, new: decay * old + (1.0 - decay) * new, average, params)
