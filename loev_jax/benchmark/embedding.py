"""How fast an exported model of the small recipe embeds: seconds of audio in a second."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

import loev_jax
from loev_jax import export, fsdp, presets, run_config
from loev_jax import step as steps
from loev_jax.benchmark.timing import measure
from loev_jax.checkpoint import Checkpoints
from loev_jax.embedder import Embedder

RATES = (16_000, 44_100)
"""Of the audio, in Hz: the model's own, and one that is resampled."""

SECONDS, QUICK_SECONDS = 600, 10
REPETITIONS = 5

HEADS = {"tempo": "time_stretch", "pitch": "pitch_shift"}


def run(out: Path, quick: bool) -> dict[str, Any]:
    """Embeds noise, one segment after the other, resampling included.

    Args:
        out: not used, there is no plot.
        quick: few seconds, once.

    Returns:
        `times_real_time` by rate of the audio, in Hz, and the `seconds` of it.
    """
    del out
    seconds = QUICK_SECONDS if quick else SECONDS
    with tempfile.TemporaryDirectory(prefix="loev_jax_embedding_") as place:
        model = _exported(Path(place))
    timed: dict[tuple[str, int], Any] = {}
    for rate in RATES:
        noise = np.random.default_rng(0).normal(0, 0.1, seconds * rate).astype(np.float32)
        timed[str(rate), seconds] = (seconds, _embedding(model, noise, rate))
    milliseconds = measure("embedding", timed, 1 if quick else REPETITIONS)
    return {
        "seconds": seconds,
        "times_real_time": {rate: 1000 / one[str(seconds)] for rate, one in milliseconds.items()},
    }


def _embedding(model: Embedder, audio: np.ndarray, rate: int) -> Any:
    return lambda: model.embed(audio, sample_rate=rate)


def _exported(place: Path) -> Embedder:
    """A model of `configs/loev_tempo_pitch.py:small`, drawn, not trained, by way of files."""
    workdir = place / "run"
    run_config.save(presets.recipe("small", HEADS), workdir)
    state = steps.init(run_config.load(workdir), fsdp.make_mesh(jax.devices()[:1]))
    with Checkpoints(workdir, keep=1) as checkpoints:
        checkpoints.save(1, state)
    export.save(workdir, None, place / "model")
    return loev_jax.load(place / "model")
