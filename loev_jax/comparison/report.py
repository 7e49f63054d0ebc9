"""How a comparison is shown: tables of means and spreads over seeds, and a plot of every run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from loev_jax import picture, table
from loev_jax.comparison import curves, paired
from loev_jax.comparison.cells import difference, mean_and_deviation, mean_ends
from loev_jax.comparison.plan import RECIPES
from loev_jax.comparison.runs import BASELINES, Results
from loev_jax.evaluate import matrices
from loev_jax.evaluate.report import SCORES, SEARCHES, WORDS, chance
from loev_jax.evaluate.results import INTERVALS

COLUMNS = {
    "tempo_acc1": "tempo Acc1",
    "tempo_acc2": "tempo Acc2",
    "key_weighted": "key, weighted",
    "instrument_accuracy": "instrument",
    "neighbour_tempo": "neighbour's tempo",
    "neighbour_key": "neighbour's key",
    "time_stretch_r2": "R² of the stretch",
    "pitch_shift_r2": "R² of the shift",
    "humming_mrr": "humming, MRR",
}
"""Columns of the first table, by metric."""

BOUNDED = {name: title for name, title in COLUMNS.items() if name != "humming_mrr"}
"""Those of them whose intervals stand in the second; that of humming stands beside searches."""

PAIRED = {
    name: COLUMNS[name]
    for name in ("tempo_acc1", "tempo_acc2", "key_weighted", "instrument_accuracy")
}
"""Those whose differences from the baseline have a table."""

COMPARED = (*PAIRED, *curves.METRICS)
"""All whose differences from the baseline are measured."""

PROBES = {
    "tempo_r2": "tempo R²",
    "key_accuracy": "key, accuracy",
    "metre_accuracy": "metre",
    "collection_accuracy": "collection",
}
"""Columns of a further table."""

COPIES = {
    **{f"same_clip_{name.lower().replace('@', '')}": f"the same clip moved, {name}"
       for name in ("R@1", "R@5", "R@10", "MRR")},
    "copies_time_stretch_mrr": "nearest tempo among copies, MRR",
    "copies_pitch_shift_mrr": "nearest pitch among copies, MRR",
}  # fmt: skip
"""Columns of another, of copies of a clip that are stretched and shifted."""

PREDICTED = {
    f"predicted_{way}_{metric}": f"{way}, {title}"
    for way in ("forth", "back")
    for metric, title in (
        ("mrr", "MRR"),
        ("h1", "H@1"),
        ("h5", "H@5"),
        ("h10", "H@10"),
        ("time_stretch_pre", "PRE, octaves"),
        ("pitch_shift_pre", "PRE, semitones"),
    )
}
"""Columns of another, of a view whose place is predicted."""

ALIKE = {
    f"invariance_{name}": title
    for name, title in (
        ("time_stretch", "stretch"),
        ("pitch_shift", "shift"),
        ("gain", "gain"),
        ("filter", "filter"),
        ("other", "another piece"),
    )
}
"""Columns of another, of the cosine of a clip and the same clip with one change."""

PANELS = (*COLUMNS, "collection_accuracy")
"""Of the plot."""

CLASSICAL = "librosa, Krumhansl"
"""The row of the estimators that learn nothing."""

Row = tuple[str, str, list[Mapping[str, float | None]]]
"""A recipe's name, a space, and its metrics in the run of each seed."""


def rows(results: Results) -> list[Row]:
    """The reference's baselines, then every recipe that has a finished run; by space."""
    found: list[Row] = []
    for called, name, section in results.sections(BASELINES):
        done = [run[section] for run in results.done(name) if run.get(section)]
        found += [(called, space, [one[space] for one in done]) for space in (done or [()])[0]]
    return found


def markdown(results: Results) -> str:
    """What was run, in how long, and the tables."""
    plan, found = results.plan, rows(results)
    unlearned: list[Row] = [(CLASSICAL, "-", [results.classical])] if results.classical else []
    blind: list[Row] = []
    if clips := results.candidates:
        searches = {name: chance(name, clips) for name in (*SEARCHES, *WORDS, *SCORES)}
        blind = [("chance", f"among {clips}", [searches])]
    done = sum(len(results.done(name)) for name in plan.steps)
    per_recipe = [
        [
            RECIPES[name],
            str(plan.steps[name]),
            f"{plan.milliseconds[name]:.0f}",
            ", ".join(_seconds(run) for run in results.done(name)),
        ]
        for name in plan.steps
    ]
    parts = [
        f"{done} of {len(plan.runs())} runs are done.",
        table.markdown(
            ["recipe", "steps", "ms a step, timed in turn", "s of training"], per_recipe
        ),
        _metrics(found, COLUMNS, unlearned),
        _intervals(results, BOUNDED),
        _differences(results, PAIRED),
        *(curves.markdown(results, name) for name in curves.TITLES),
        *(_differences(results, curves.columns(name)) for name in curves.TITLES),
        _metrics(found, PROBES),
        _disentanglement(results),
        _metrics(found, COPIES),
        _metrics(found, PREDICTED),
        _metrics(found, ALIKE),
        _metrics(found, SEARCHES, blind),
        _intervals(results, SEARCHES),
        _metrics(found, WORDS, blind),
        _metrics(found, SCORES, blind),
    ]
    return "\n\n".join(part for part in parts if part)


def _seconds(run: Mapping[str, Any]) -> str:
    seconds = run["seconds"].get("training")
    return "-" if seconds is None else f"{seconds:.0f}"


def _metrics(found: list[Row], columns: Mapping[str, str], above: Sequence[Row] = ()) -> str:
    """A table of the runs in which any of these metrics was asked for, below others; "" of none.

    A cell is of those in which its own was: searches are made with the first seed.
    """
    lines = []
    for recipe, space, runs in (*above, *found):
        asked = [one for one in runs if any(metric in one for metric in columns)]
        known = {metric: [one[metric] for one in asked if metric in one] for metric in columns}
        values = (mean_and_deviation(there) for there in known.values())
        if asked:
            lines.append([recipe, space, str(len(asked)), *values])
    if len(lines) <= len(above):
        return ""
    return table.markdown(["recipe", "space", "seeds", *columns.values()], lines)


def _intervals(results: Results, columns: Mapping[str, str]) -> str:
    """A table of the 95 % intervals that the choice of test clips leaves, "" without any.

    Each end is a mean over seeds.

    Seeds are evaluated on the same clips, so that more of them do not make an interval shorter.
    """
    lines = []
    known = results.classical_intervals
    if any(metric in known for metric in columns):
        ends = [mean_ends([known.get(metric)]) for metric in columns]
        lines.append([CLASSICAL, "-", "1", *ends])
    for title, name, section in results.sections():
        kept = INTERVALS[section]
        runs = [run[kept] for run in results.done(name) if run.get(kept)]
        for space in runs[0] if runs else ():
            asked = [one[space] for one in runs if any(metric in one[space] for metric in columns)]
            values = [mean_ends([one.get(metric) for one in asked]) for metric in columns]
            if asked:
                lines.append([title, space, str(len(asked)), *values])
    head = ["recipe", "space", "seeds", *(f"{title}, 95 %" for title in columns.values())]
    return table.markdown(head, lines) if lines else ""


def _differences(results: Results, columns: Mapping[str, str]) -> str:
    """A table of the differences from the baseline's best spaces, "" without any.

    A cell is a mean over seeds, also of both ends of the interval.
    """
    lines = []
    for name in results.plan.steps:
        seeds = list(results.differences.get(name, {}).values())
        for space in dict.fromkeys(space for one in seeds for space in one):
            there = [one[space] for one in seeds if any(m in one.get(space, {}) for m in columns)]
            values = [difference([c[m] for c in there if m in c]) for m in columns]
            if there:
                lines.append([RECIPES[name], space, str(len(there)), *values])
    best = f"minus {RECIPES[paired.BASELINE]}'s best, 95 %"
    head = ["recipe", "space", "seeds", *(f"{title} {best}" for title in columns.values())]
    return table.markdown(head, lines) if lines else ""


def _disentanglement(results: Results) -> str:
    """A table of the recipes with a head that keeps what another does not; "" without any."""
    lines = []
    for name in results.plan.steps:
        means = [there for run in results.done(name) if (there := matrices.disentanglement(run))]
        if means:
            kept, other = ([one[column] for one in means] for column in (0, 1))
            differences = [on - off for on, off in means]
            values = [mean_and_deviation(column) for column in (kept, other, differences)]
            lines.append([RECIPES[name], str(len(means)), *values])
    head = ["recipe", "seeds", "R² in heads that keep it", "in the others", "difference"]
    return table.markdown(head, lines) if lines else ""


def plot(results: Results, path: Path) -> None:
    """Draws a dot for every run: a panel for each metric, a line for each recipe, by space.

    Args:
        results: with at least one run.
        path: of the PNG, written at once or not at all.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = rows(results)
    recipes = list(dict.fromkeys(recipe for recipe, _, _ in found))
    spaces = list(dict.fromkeys(space for _, space, _ in found))
    figure = Figure(figsize=(15, 2.0 + 0.7 * len(recipes)), layout="constrained")
    FigureCanvasAgg(figure)
    titles = COLUMNS | PROBES
    panels = figure.subplots(2, len(PANELS) // 2, sharey=True)
    for axes, metric in zip(panels.flat, PANELS, strict=True):
        _dots(axes, metric, found, recipes, spaces)
        if metric in results.classical:
            axes.axvline(results.classical[metric], color="0.4", linestyle=":", linewidth=1.2)
        axes.set_title(titles[metric], fontsize=10)
        axes.set_yticks(range(len(recipes)), recipes, fontsize=8)
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0][0].invert_yaxis()
    handles, names = _legend(panels[0][0])
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=9)
    picture.write(figure, path)


def _dots(axes: Any, metric: str, found: list[Row], recipes: list[str], spaces: list[str]) -> None:
    """Every run's value in a panel, spaces one below another within a recipe's line."""
    for recipe, space, runs in found:
        place = recipes.index(recipe) + (spaces.index(space) - len(spaces) / 2) * 0.7 / len(spaces)
        there = [one[metric] for one in runs if one.get(metric) is not None]
        axes.plot(
            [max(0.0, value or 0.0) for value in there],
            [place] * len(there),
            ".",
            color=f"C{spaces.index(space)}",
            label=space,
        )


def _legend(axes: Any) -> tuple[list[Any], list[str]]:
    """One entry for each space."""
    by_name: dict[str, Callable[..., Any] | Any] = {}
    for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
        by_name.setdefault(name, handle)
    return list(by_name.values()), list(by_name)
