"""Plots of the benchmarks, written at once or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loev_jax import picture
from loev_jax.benchmark import methods, tape
from loev_jax.benchmark.peers import VARIANTS
from loev_jax.benchmark.speed_peers import LIBRARIES

_OURS = {methods.ANALYSIS: "C0", methods.WAVEFORM: "C2"}
_OTHERS = ("C1", "C3", "C4", "C5")


def fidelity(result: Mapping[str, Any], path: Path) -> None:
    """Draws correlation against rate and shift, a line for each method and none for variants.

    What no change gives lies far below all others and is told by the title instead.

    Args:
        result: of `loev_jax.benchmark.fidelity.run`.
        path: of the PNG.
    """
    figure = _figure(11, 7.5)
    axes = figure.subplots(2, 2, sharey="row")
    titles = {"scores": "scores, rendered anew", "tones": "tones, in closed form"}
    labels = {"rate": "rate", "semitones": "semitones"}
    for row, (material, title) in enumerate(titles.items()):
        for column, (axis, label) in enumerate(labels.items()):
            panel, others = axes[row][column], iter(_OTHERS)
            for name, means in result[f"{material}_by_{axis}"].items():
                if name not in VARIANTS and name != methods.UNCHANGED:
                    _line(panel, name, means, others)
            panel.set_xlabel(label)
            unchanged = result[material][methods.UNCHANGED]["correlation"]
            panel.set_title(f"{title} (no change: {unchanged:.2f})", fontsize=10)
            panel.grid(alpha=0.3)
            panel.spines[["top", "right"]].set_visible(False)
        axes[row][0].set_ylabel("correlation of log-mels with the truth")
    handles, names = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=9)
    picture.write(figure, path)


def speed(result: Mapping[str, Any], path: Path) -> None:
    """Draws milliseconds per view, a bar for each method, ours in blue.

    Args:
        result: of `loev_jax.benchmark.speed.run`.
        path: of the PNG.
    """
    stated = str(result["stated"])
    rows = {name: values[stated] for name, values in result["milliseconds"].items()}
    figure = _figure(9, 1.2 + 0.3 * len(rows))
    panel = figure.subplots()
    names = list(rows)[::-1]
    colours = ["C1" if name.startswith(tuple(LIBRARIES)) else "C0" for name in names]
    bars = panel.barh(names, [rows[name] for name in names], color=colours)
    panel.bar_label(bars, [f"{rows[name]:.2f}" for name in names], fontsize=8, padding=2)
    panel.set_xscale("log")
    panel.margins(x=0.15)
    panel.set_xlabel(f"milliseconds a view of 3 s, batches of {stated}")
    panel.spines[["top", "right"]].set_visible(False)
    picture.write(figure, path)


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _line(panel: Any, name: str, means: Mapping[str, float], others: Any) -> None:
    """One method's line: ours solid, peers dashed, the control dotted."""
    if name in _OURS:
        style: dict[str, Any] = {"color": _OURS[name], "linewidth": 2.0}
    elif name == tape.NAME:
        style = {"color": "0.4", "linestyle": ":"}
    else:
        style = {"color": next(others), "linestyle": "--"}
    x = [float(value) for value in means]
    label = methods.LABELS.get(name, name)
    panel.plot(x, list(means.values()), marker=".", label=label, **style)
