"""The plot of the shortcut test."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loev_jax import picture

_TITLES = {
    "accuracy": "told from untouched: accuracy",
    "r2": "how much it was changed: R²",
}
_CHANCE = {"accuracy": 0.5, "r2": 0.0}
_KINDS = {"stretch": "C0", "shift": "C1"}


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Draws accuracy and R², two bars for each method, with a line at chance.

    Args:
        result: of `loev_jax.benchmark.shortcut.run`.
        path: of the PNG; it is written at once or not at all.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for kind in _KINDS for name in result[kind]))[::-1]
    figure = Figure(figsize=(11, 1.2 + 0.36 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (measure, title) in zip(
        figure.subplots(1, 2, sharey=True), _TITLES.items(), strict=True
    ):
        for offset, (kind, colour) in zip((0.2, -0.2), _KINDS.items(), strict=True):
            places = [place for place, name in enumerate(names) if name in result[kind]]
            rows = [result[kind][names[place]] for place in places]
            axes.barh(
                [place + offset for place in places],
                [row[measure] - _CHANCE[measure] for row in rows],
                height=0.38,
                left=_CHANCE[measure],
                xerr=[row["error"] for row in rows] if measure == "accuracy" else None,
                color=colour,
                label=kind,
                error_kw={"elinewidth": 1},
            )
        axes.axvline(_CHANCE[measure], color="0.3", linewidth=1)
        axes.set_xlim(right=1.0)
        axes.set_yticks(range(len(names)), names)
        axes.set_title(title, fontsize=10)
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(fontsize=8, loc="lower right")
    picture.write(figure, path)
