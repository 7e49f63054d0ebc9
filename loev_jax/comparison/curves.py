"""Learning curves of a comparison: how many labels each recipe needs for a figure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from loev_jax import picture, table
from loev_jax.comparison.cells import mean_and_deviation, mean_ends
from loev_jax.comparison.plan import RECIPES
from loev_jax.comparison.runs import BASELINES, Results
from loev_jax.evaluate import learning_curves
from loev_jax.evaluate.learning_curves import PARTS, metric
from loev_jax.evaluate.results import INTERVALS, RANDOM_INIT

TITLES = {
    "tempo_acc1": "tempo Acc1",
    "key_weighted": "key, weighted",
    "instrument_accuracy": "instrument",
}
"""What there are curves of, by metric."""

METRICS = tuple(metric(name, part) for name in TITLES for part in PARTS)
"""Of what is learned from a part of the labels."""


class Line(NamedTuple):
    """The learning curve of a space, means over seeds.

    Attributes:
        seeds: how many.
        values: by metric, of the parts and of all labels.
        ends: of their intervals.
        cells: of a table.
    """

    seeds: int
    values: dict[str, float]
    ends: dict[str, list[float]]
    cells: list[str]


def columns(name: str) -> dict[str, str]:
    """Columns of the learning curve of a metric, shares of the labels: titles by metric."""
    parts = {metric(name, part): f"{TITLES[name]}, 1/{part} of the labels" for part in PARTS}
    return parts | {name: f"{TITLES[name]}, all labels"}


def lines(results: Results, name: str) -> dict[str, dict[str, Line]]:
    """The learning curves of a metric where there are any, by recipe and space.

    Recipes are called by their titles; the first is the reference at random init.
    """
    found: dict[str, dict[str, Line]] = {}
    for title, recipe, section in results.sections():
        asked = [
            run for run in results.done(recipe) if name in learning_curves.measured(run, section)
        ]
        for space in asked[0][section] if asked else ():
            found.setdefault(title, {})[space] = _line(asked, section, space, name)
    return found


def _line(runs: Sequence[Mapping[str, Any]], section: str, space: str, name: str) -> Line:
    values: dict[str, float] = {}
    ends: dict[str, list[float]] = {}
    cells = []
    for one in columns(name):
        each = [run[section][space].get(one) for run in runs]
        both = [run.get(INTERVALS[section], {}).get(space, {}).get(one) for run in runs]
        if None not in each:
            values[one] = statistics.fmean(each)
        if None not in both:
            ends[one] = [statistics.fmean(end) for end in zip(*both, strict=True)]
        cells.append(mean_and_deviation(each) + (f" ({mean_ends(both)})" if one in ends else ""))
    return Line(len(runs), values, ends, cells)


def markdown(results: Results, name: str) -> str:
    """A table of the learning curves of a metric with their intervals, "" without any.

    A cell is a mean over seeds, also of both ends of the interval.
    """
    rows = [
        [recipe, space, str(line.seeds), *line.cells]
        for recipe, by_space in lines(results, name).items()
        for space, line in by_space.items()
    ]
    head = ["recipe", "space", "seeds", *columns(name).values()]
    return table.markdown(head, rows) if rows else ""


def plot(results: Results, path: Path) -> None:
    """Draws what each recipe's best space reads by the share of the labels, mean over seeds.

    A space is a recipe's best if it is with all labels. Where there is no learning curve, nothing
    is drawn.

    Args:
        results: of a comparison.
        path: of the PNG, written at once or not at all.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = {name: found for name in TITLES if (found := lines(results, name))}
    if not drawn:
        return
    figure = Figure(figsize=(1.0 + 4.6 * len(drawn), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels, titles = figure.subplots(1, len(drawn), squeeze=False)[0], list(RECIPES.values())
    for axes, (name, by_recipe) in zip(panels, drawn.items(), strict=True):
        for recipe, by_space in by_recipe.items():
            best = max(by_space, key=lambda space: by_space[space].values.get(name, 0.0))
            line, style = by_space[best], {"color": "0.5", "linestyle": ":"}
            if recipe != BASELINES[RANDOM_INIT]:
                style = {"color": f"C{titles.index(recipe)}"}
            label = f"{recipe}: {best}"
            learning_curves.draw_line(axes, name, line.values, line.ends, label=label, **style)
        axes.set_title(TITLES[name], fontsize=10)
        axes.set_xlabel("share of the labelled pieces", fontsize=9)
        axes.legend(fontsize=8, loc="lower right")
    picture.write(figure, path)
