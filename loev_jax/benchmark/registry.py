"""The benchmarks by name; each is a module with `run(out, quick)`, imported when it is run."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loev_jax.errors import UserError

BENCHMARKS: Mapping[str, str] = {
    "fidelity": "correlation of stretched and shifted log-mels with the truth, beside peers",
    "speed": "milliseconds a view, beside peers",
    "shortcut": "can a network tell that a view was stretched or shifted?",
    "pictures": "log-mels before and after each transform, for the documents",
    "losses": "the three-head contrastive loss, beside PyTorch",
    "encoders": "milliseconds a view of sf_nfnet_f0, beside mule-torch",
    "step": "where the time of a small training step goes",
    "loop": "what a run costs beside its steps: loop, checkpoints, start",
    "embedding": "seconds of audio that an exported model embeds in a second",
    "probes": "linear and MLP probes over a whole grid, beside scikit-learn's grid search",
    "scaling": "an estimate of the step of a chip among 4 and 256, by the TPU compiler's count",
    "cycles": "augmentation's share of a training step on a TPU, by its compiler's count",
}
"""What each measures. The name is that of its module in `loev_jax.benchmark`."""


def choose(names: list[str] | None) -> list[str]:
    """The benchmarks to run: `names`, or all.

    Raises:
        UserError: there is no benchmark of such a name.
    """
    for name in names or ():
        if name not in BENCHMARKS:
            raise UserError(f"--only={name}: no such benchmark; there are {', '.join(BENCHMARKS)}")
    return list(dict.fromkeys(names)) if names else list(BENCHMARKS)


def run(name: str, out: Path, quick: bool) -> dict[str, Any]:
    """Runs one benchmark.

    Args:
        name: of `BENCHMARKS`.
        out: an existing directory, for plots.
        quick: the least that shows that it works; figures mean nothing then.

    Returns:
        Its numbers, ready for JSON.
    """
    return importlib.import_module(f"loev_jax.benchmark.{name}").run(out, quick)
