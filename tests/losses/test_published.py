"""Published mode as a config sets it: the published code's numbers, on any number of devices."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from loev_jax import config, fsdp
from loev_jax.losses import objective
from loev_jax.model import Outputs, Predicted

GOLDEN = Path(__file__).parent / "golden" / "ntxent.npz"
WEIGHTS = {"invariant": 1.0, "pitch": 2.0, "time": 0.5}


@functools.cache
def golden():
    with np.load(GOLDEN) as cases:
        return dict(cases)


def recipe(temperature, block_rows):
    """The published objective, with one weight for each head."""
    return config.read(
        {
            "heads": {"pitch": "pitch_shift", "time": "time_stretch"},
            "augment": {"pitch_shift": {"probability": 0.5}, "time_stretch": {"probability": 0.5}},
            "loss": {
                "temperature": temperature,
                "block_rows": block_rows,
                "form": "published",
                "reduction": "all_rows",
                "positives": "unaugmented",
                "translation": 0.0,
                "weights": WEIGHTS,
            },
        }
    )


def run(made, devices, projections, parameters, example):
    """Metrics of the global batch, and the gradient of the loss in every projection."""

    def local(projections, parameters, example):
        def loss(projections):
            outputs = Outputs({}, projections, {}, Predicted({}, {}, {}))
            temperatures = objective.temperatures_of(made.loss, made.model.projected, {})
            return objective.objective(
                made.loss, made.model, outputs, parameters, example, fsdp.AXES, temperatures
            )

        gradients, shares = jax.grad(loss, has_aux=True)(projections)
        return jax.lax.psum(shares, fsdp.AXES), gradients

    split, whole = PartitionSpec(fsdp.AXES), PartitionSpec()
    mesh = fsdp.make_mesh(jax.devices()[:devices])
    sharded = jax.shard_map(local, mesh=mesh, in_specs=split, out_specs=(whole, split))
    return jax.device_get(jax.jit(sharded)(projections, parameters, example))


# Cases of 4 x 2, 5 x 3 and 16 x 2 views, of several temperatures.
@pytest.mark.parametrize(
    ("case", "devices", "block_rows"),
    [(5, 1, 512), (5, 4, 512), (14, 2, 3), (29, 1, 4), (29, 5, 512), (46, 1, 512), (46, 8, 3)],
)
def test_the_config_of_published_mode_has_the_published_numbers(case, devices, block_rows):
    features, pitch, time, temperature, losses, wanted = (
        golden()[f"case{case:02d}_{name}"]
        for name in ("features", "augs_pitch", "augs_time", "temperature", "loss_f64", "grad_f64")
    )
    made = recipe(float(temperature), block_rows)
    heads = made.model.projected
    assert heads == tuple(WEIGHTS)
    with jax.enable_x64(True):
        applied = {"pitch_shift": pitch, "time_stretch": time}
        metrics, gradients = run(
            made,
            devices,
            dict(zip(heads, map(jnp.asarray, features), strict=True)),
            {name: jnp.asarray(value, jnp.float64) for name, value in applied.items()},
            jnp.arange(len(pitch)),
        )
    total = sum(WEIGHTS.values())
    for at, head in enumerate(heads):
        assert abs(metrics[f"contrastive/{head}"] - losses[at]) < 1e-9
        share = WEIGHTS[head] / total
        np.testing.assert_allclose(gradients[head], share * wanted[at], rtol=0, atol=1e-9)
    assert abs(metrics["loss"] - np.dot(list(WEIGHTS.values()), losses) / total) < 1e-9
