"""A training directory as `launch/train.py` leaves it, with random parameters and no training."""

import json
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from loev_jax import checkpoint, fsdp, presets, run_config, step

HEADS = {"tempo": "time_stretch", "pitch": "pitch_shift"}


def write(
    workdir: Path,
    *,
    compute_dtype: str = "float32",
    steps: tuple[int, ...] = (1,),
    average_decay: float = 0.0,
    parameters: float | None = None,
    heads: Mapping[str, str] = HEADS,
    augment: Mapping[str, Mapping[str, float]] | None = None,
) -> None:
    """Makes `workdir`; the checkpoint of step n has parameters drawn with seed n, or all this.

    Their average, where there is one, is that of the first step: what the parameters were before.
    """
    settings = presets.recipe("small", heads)
    for name, section in (augment or {}).items():
        settings.augment[name] = dict(section)
    settings.frontend.update(n_fft=512, window=360, hop=200, bands=24)
    settings.views.seconds = 0.5
    settings.encoder.update(channels=(8, 8), kernels=(3, 3), strides=(2, 1), dilations=(1, 1))
    settings.encoder.update(branch_layers=1, rhythm_channels=2, rhythm_bands=4)
    settings.encoder.compute_dtype = compute_dtype
    settings.projection.update(hidden=(16,), outputs=6)
    settings.optimizer.average_decay = average_decay
    run_config.save(settings, workdir)
    recipe = run_config.load(workdir)
    state = jax.device_get(step.init(recipe, fsdp.make_mesh(jax.devices()[:1])))
    with checkpoint.Checkpoints(workdir, keep=0) as checkpoints:
        for number in steps:
            drawn = _drawn(state.params, number)
            if parameters is not None:
                drawn = jax.tree.map(lambda x: np.full_like(x, parameters), drawn)
            checkpoints.save(number, state._replace(params=drawn))


def heard_on(workdir, data):
    """Makes `data` the data set of a run."""
    config = json.loads((workdir / "config.json").read_text())
    config["data"]["path"] = str(data)
    (workdir / "config.json").write_text(json.dumps(config))


def _drawn(params, seed):
    """Every parameter random, the biases and scales that start at 0 and 1 too."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: x + 0.3 * rng.normal(size=x.shape).astype(x.dtype), params)
