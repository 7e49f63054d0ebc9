"""What each space keeps and what it ignores: spaces by augmentations, as numbers and a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from loev_jax import picture
from loev_jax.evaluate.changes import MEASURABLE, kept_by, quantities
from loev_jax.evaluate.invariance import Invariance
from loev_jax.evaluate.results import CHECKPOINT, HEADS
from loev_jax.heads import INVARIANT


def equivariance(
    result: Mapping[str, Any], section: str = CHECKPOINT
) -> tuple[list[str], np.ndarray]:
    """R² of each parameter's difference from each space, [spaces, parameters], and their names."""
    # Older results have no such setting, and runs of a comparison no settings of their own.
    asked = result.get("settings", {}).get("changes", ())
    names = list(quantities(kept_by(result.get(HEADS, {})) | {*asked}))
    return names, _matrix(result[section], [f"{name}_r2" for name in names])


def invariance(result: Mapping[str, Any]) -> tuple[list[str], np.ndarray]:
    """Mean cosine with each single change, from each space, [spaces, changes], and their names."""
    start = f"{Invariance.name}_"
    metrics = dict.fromkeys(name for one in result[CHECKPOINT].values() for name in one)
    names = [name.removeprefix(start) for name in metrics if name.startswith(start)]
    return names, _matrix(result[CHECKPOINT], [start + name for name in names])


def _matrix(spaces: Mapping[str, Any], metrics: list[str]) -> np.ndarray:
    rows = [
        [np.nan if (value := one.get(name)) is None else value for name in metrics]
        for one in spaces.values()
    ]
    return np.array(rows, float).reshape(len(rows), len(metrics))


def disentanglement(
    result: Mapping[str, Any], section: str = CHECKPOINT
) -> tuple[float, float] | None:
    """Mean R² of what the heads keep, and of what they do not keep but another does.

    The invariant head keeps nothing, so all that is read from it is of the second kind.

    Args:
        result: of an evaluation.
        section: of it, that of the checkpoint or of random init.

    Returns:
        The means on and off the diagonal of heads by parameters; None where either has nothing.
    """
    heads = {
        name: {one for augmentation in kept for one in MEASURABLE.get(augmentation, ())}
        for name, kept in {INVARIANT: (), **result.get(HEADS, {})}.items()
    }
    kept_by_any = set().union(*heads.values())
    names, table = equivariance(result, section)
    spaces = list(result[section])
    on: list[float] = []
    off: list[float] = []
    for head, kept in heads.items():
        if head not in spaces:
            continue
        for name, value in zip(names, table[spaces.index(head)], strict=True):
            if name in kept_by_any and np.isfinite(value):
                (on if name in kept else off).append(float(value))
    return (float(np.mean(on)), float(np.mean(off))) if on and off else None


def plot(result: Mapping[str, Any], path: Path) -> None:
    """Draws both matrices, and writes them at once or not at all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [
        ("R² of the change", *equivariance(result)),
        ("cosine after the change", *invariance(result)),
    ]
    shown = [one for one in shown if one[1] and np.isfinite(one[2]).any()]
    if not shown:
        return
    spaces = list(result[CHECKPOINT])
    widths = [len(names) for _, names, _ in shown]
    figure = Figure(
        figsize=(3.5 + 0.9 * sum(widths), 1.8 + 0.4 * len(spaces)), layout="constrained"
    )
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(shown), squeeze=False, width_ratios=widths)[0]
    for axes, (title, names, table) in zip(panels, shown, strict=True):
        axes.imshow(table, vmin=0.0, vmax=1.0, cmap="viridis", aspect="auto")
        for (row, column), value in np.ndenumerate(table):
            text = "-" if np.isnan(value) else f"{value:.2f}"
            colour = "black" if value > 0.6 else "white"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
        labels = [name.replace("_", " ") for name in names]
        axes.set_xticks(range(len(names)), labels, rotation=30, ha="right", fontsize=8)
        axes.set_yticks(range(len(spaces)), spaces, fontsize=8)
        axes.set_title(title, fontsize=10)
    picture.write(figure, path)
