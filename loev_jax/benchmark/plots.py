"""Plots of the benchmarks, written at once or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loev_jax.benchmark import methods
from loev_jax.benchmark.peers import VARIANTS

_OURS = {methods.ANALYSIS: "C0", methods.WAVEFORM: "C2"}
_OTHERS = ("C1", "C3", "C4", "C5")


def fidelity(result: Mapping[str, Any], path: Path) -> None:
    """Draws correlation against rate and shift, a line for each method and none for variants.

    Args:
        result: of `loev_jax.benchmark.fidelity.run`.
        path: of the PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2, sharey="row")
    titles = {"scores": "scores, rendered anew", "tones": "tones, in closed form"}
    labels = {"rate": "rate", "semitones": "semitones"}
    for row, (material, title) in enumerate(titles.items()):
        for column, (axis, label) in enumerate(labels.items()):
            panel, others = axes[row][column], iter(_OTHERS)
            for name, means in result[f"{material}_by_{axis}"].items():
                if name not in VARIANTS:
                    _line(panel, name, means, others)
            panel.set_xlabel(label)
            panel.set_title(f"{title}: by {label}", fontsize=10)
            panel.grid(alpha=0.3)
            panel.spines[["top", "right"]].set_visible(False)
        axes[row][0].set_ylabel("correlation of log-mels with the truth")
    axes[0][0].legend(fontsize=8)
    partial = path.with_name(f".{path.name}.partial")
    figure.savefig(partial, format="png", dpi=110)
    os.replace(partial, path)


def _line(panel: Any, name: str, means: Mapping[str, float], others: Any) -> None:
    """One method's line: ours solid, peers dashed, no change dotted and grey."""
    if name in _OURS:
        style: dict[str, Any] = {"color": _OURS[name], "linewidth": 2.0}
    elif name == methods.UNCHANGED:
        style = {"color": "0.6", "linestyle": ":"}
    else:
        style = {"color": next(others), "linestyle": "--"}
    x = [float(value) for value in means]
    label = methods.LABELS.get(name, name)
    panel.plot(x, list(means.values()), marker=".", label=label, **style)
