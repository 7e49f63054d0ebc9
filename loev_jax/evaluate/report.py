"""How results are shown: a table, a plot, TensorBoard events."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from loev_jax import picture
from loev_jax.evaluate import confusions, learning_curves, matrices
from loev_jax.evaluate.changes import MEASURABLE, quantities
from loev_jax.evaluate.crossmodal import ByScore, ByWords
from loev_jax.evaluate.equivariance import Equivariance
from loev_jax.evaluate.humming import Humming
from loev_jax.evaluate.invariance import Invariance
from loev_jax.evaluate.prediction import Prediction
from loev_jax.evaluate.probes import METRICS, PROBES
from loev_jax.evaluate.results import CHECKPOINT, INTERVALS, PIECES, RANDOM_INIT, SHUFFLED
from loev_jax.evaluate.retrieval import Retrieval
from loev_jax.evaluate.splits import TEST, VALIDATION, WHOLE
from loev_jax.table import markdown

_FURTHER = {
    name: name.replace("_", " ") for name in quantities(MEASURABLE) if name not in quantities(())
}

COLUMNS = {
    "neighbour_tempo": "neighbour within 8 % of the tempo",
    "neighbour_key": "neighbour's key, weighted",
    "key_weighted": "linear key, weighted",
    "tempo_r2": "linear tempo R²",
    "tempo_acc1": "tempo Acc1",
    "tempo_acc2": "tempo Acc2",
    "metre_accuracy": "metre",
    "instrument_accuracy": "instrument",
    "collection_accuracy": "collection",
    "time_stretch_r2": "R² of the stretch",
    "pitch_shift_r2": "R² of the shift",
    **{f"{name}_r2": f"R² of the {title}" for name, title in _FURTHER.items()},
}
"""Columns of the table, by metric; one without a number is left out."""

UNLABELLED = {
    "same_clip_mrr": "the same clip moved, MRR",
    "copies_time_stretch_mrr": "nearest tempo among copies, MRR",
    "copies_pitch_shift_mrr": "nearest pitch among copies, MRR",
    **{f"copies_{n}_mrr": f"nearest {title} among copies, MRR" for n, title in _FURTHER.items()},
}
"""Further columns, where neither tempo nor key was read."""

SEARCHES = {
    "text_to_audio_mrr": "words to audio, MRR",
    "text_from_audio_mrr": "audio to words, MRR",
    "text_tempo": "first ten for a tempo",
    "text_key": "first ten for a key",
    "score_to_audio_mrr": "score to audio, MRR",
    "score_from_audio_mrr": "audio to score, MRR",
    "humming_mrr": "humming, MRR",
    "humming_h10": "humming, first ten",
}
"""Columns of a second table, where these tasks were asked for."""

WORDS, SCORES = (
    {
        f"{task}_{way}_audio_r{k}": f"{title}, R@{k}"
        for way, title in (("to", f"{what} to audio"), ("from", f"audio to {what}"))
        for k in (1, 5, 10)
    }
    for task, what in ((ByWords.name, "words"), (ByScore.name, "score"))
)
"""Columns of a third and a fourth."""

PANELS = ("neighbour_tempo", "neighbour_key", "tempo_r2", "key_weighted", "time_stretch_r2",
          "pitch_shift_r2")  # fmt: skip
"""Metrics of the plot, one panel each."""

_BUILT_IN = (*(one.name for one in PROBES), Retrieval.name, Equivariance.name, Invariance.name,
             Prediction.name, Humming.name, ByScore.name, ByWords.name)  # fmt: skip

_SCORED = {VALIDATION: "other validation", WHOLE: "other"}
"""What a result calls the clips that figures are of, where they are not the test split."""

_ROWS = {CHECKPOINT: "{}", RANDOM_INIT: "random init, {}", SHUFFLED: "shuffled labels, {}"}


def number(value: float | None) -> str:
    """Two decimals without the zero before the point, as in the literature; a dash for none."""
    if value is None or value != value:
        return "-"
    value = round(value, 2) + 0.0  # -0.0 becomes 0.0
    return f"{value:.2f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.2f}"


def chance(metric: str, candidates: int, right: int = 1) -> float | None:
    """The mean over all orders of so many candidates; None of what is no rank.

    Args:
        metric: of `SEARCHES`, `WORDS` or `SCORES`.
        candidates: at least 1.
        right: how many of them; the first of them counts, and the others are not in its way.
    """
    first = re.search(r"_(?:mrr|[rh](\d+))$", metric)
    if first is None:
        return None
    wrong = candidates - right
    before = np.arange(wrong + 1)  # wrong ones that come before the first right one
    none_right = np.cumprod(np.append(1.0, (wrong - before[:-1]) / (candidates - before[:-1])))
    chances = none_right * right / (candidates - before)
    worth = 1 / (1 + before) if first[1] is None else before < int(first[1])
    return float(chances @ worth)


def _by_chance(metric: str, counts: Mapping[str, Any]) -> float | None:
    """`chance` among some clips. A hum may find any clip of its piece, other searches their own."""
    clips = counts["clips"]
    # Results from before it was counted have clips of a piece each, but for few.
    pieces = counts.get(PIECES, {"1": clips}) if metric.startswith(Humming.name) else {"1": 1}
    found = [(chance(metric, clips, int(right)), number) for right, number in pieces.items()]
    values = [value * number for value, number in found if value is not None]
    return sum(values) / sum(pieces.values()) if values else None


def _further(result: Mapping[str, Any]) -> list[str]:
    """Metrics of tasks that have no column of their own: of a user's labels, and of MLP probes."""
    tasks = [name for name in result["tasks"] if name not in _BUILT_IN]
    metrics = dict.fromkeys(name for one in result[CHECKPOINT].values() for name in one)
    theirs = {f"{task}_{metric}" for task in tasks for metric in METRICS}
    return [name for name in metrics if name in theirs]


def table(result: Mapping[str, Any]) -> str:
    """The result of one checkpoint as a Markdown table: its spaces, then the baselines.

    Searches have tables of their own; "" where there is nothing else.
    """
    there = {name for metrics in result[CHECKPOINT].values() for name in metrics}
    columns = {name: title for name, title in COLUMNS.items() if name in there}
    if not any(name in there for name in ("tempo_r2", "key_weighted")):
        columns |= {name: title for name, title in UNLABELLED.items() if name in there}
    columns |= {name: name.replace("_", " ") for name in _further(result)}
    return markdown(["space", *columns.values()], _rows(result, columns)) if columns else ""


def searches(result: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    """A table of what was searched for, by metric, below what chance finds; "" without any."""
    there = {name for metrics in result[CHECKPOINT].values() for name in metrics}
    columns = {name: title for name, title in titles.items() if name in there}
    if not columns:
        return ""
    counts = result["counts"][TEST]
    label = f"chance among {counts['clips']}"
    by_chance = [label, *(number(_by_chance(name, counts)) for name in columns)]
    return markdown(["space", *columns.values()], [by_chance, *_rows(result, columns)])


def curves(result: Mapping[str, Any]) -> list[str]:
    """A table for each metric of which there is a learning curve, by the share of the labels."""
    tables = []
    for name in learning_curves.measured(result):
        parts = {part: learning_curves.metric(name, part) for part in (*learning_curves.PARTS, 1)}
        shares = ("all labels" if part == 1 else f"1/{part} of the labels" for part in parts)
        head = [f"{name.replace('_', ' ')}, space", *shares]
        tables.append(markdown(head, _rows(result, parts.values())))
    return tables


def _rows(result: Mapping[str, Any], columns: Iterable[str]) -> list[list[str]]:
    """The cells of every space and baseline."""
    rows: list[list[str]] = []
    for section, label in _ROWS.items():
        rows += [
            [label.format(space), *(number(metrics.get(name)) for name in columns)]
            for space, metrics in result[section].items()
        ]
    return rows


def summary(result: Mapping[str, Any], run: str) -> str:
    """The tables below a line that says what they are of."""
    called = {TEST: _SCORED.get(result["settings"].get("split"), TEST)}
    counts = ", ".join(
        f"{one['clips']} {called.get(split, split)}" for split, one in result["counts"].items()
    )
    searched = (searches(result, one) for one in (SEARCHES, WORDS, SCORES))
    tables = (table(result), *curves(result), *searched)
    lines = "\n\n".join(
        (f"{run}, step {result['step']} ({counts} clips)", *(one for one in tables if one))
    )
    if (found := matrices.disentanglement(result)) is not None:
        on, off = map(number, found)
        lines += f"\n\nR² of the change in the heads that keep it {on}, in the others {off}"
        if (untrained := matrices.disentanglement(result, RANDOM_INIT)) is not None:
            on, off = map(number, untrained)
            lines += f"; of random init {on} and {off}"
    return lines


def plot(result: Mapping[str, Any], path: Path) -> None:
    """Draws bars per space, beside random init's if known; writes them at once or not at all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    spaces, beside = list(result[CHECKPOINT]), bool(result[RANDOM_INIT])
    bars_of = [(-0.2, CHECKPOINT, "C0"), (0.2, RANDOM_INIT, "0.75")]
    figure = Figure(figsize=(12, 6.5), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, metric in zip(figure.subplots(2, 3).flat, PANELS, strict=True):
        for offset, section, colour in bars_of if beside else bars_of[:1]:
            values = [result[section].get(space, {}).get(metric) for space in spaces]
            heights = [0.0 if value is None else max(value, 0.0) for value in values]
            places = [place + offset for place in range(len(spaces))]
            bars = axes.bar(places, heights, width=0.4, color=colour)
            _whiskers(axes, result.get(INTERVALS[section], {}), metric, spaces, places)
            axes.bar_label(bars, [number(value) for value in values], fontsize=7, padding=1)
            for space, place in zip(spaces, places, strict=True):
                if (shuffled := result[SHUFFLED].get(space, {}).get(metric)) is not None:
                    ends = (max(shuffled, 0.0), place - 0.2, place + 0.2)
                    axes.hlines(*ends, color="C3", linestyle=":", linewidth=1.2)
        axes.set_title(COLUMNS[metric], fontsize=10)
        axes.set_xticks(range(len(spaces)), spaces, rotation=30, ha="right", fontsize=8)
        axes.set_ylim(0.0, 1.08)
        axes.spines[["top", "right"]].set_visible(False)
    others = ", grey random init, dotted shuffled labels" if beside else ""
    figure.suptitle(f"step {result['step']}: blue the checkpoint{others}, with 95 % intervals")
    picture.write(figure, path)


def _whiskers(
    axes: Any, intervals: Mapping[str, Any], metric: str, spaces: list[str], places: list[float]
) -> None:
    """The confidence intervals of bars, where they are known."""
    for space, place in zip(spaces, places, strict=True):
        low, high = intervals.get(space, {}).get(metric, (None, None))
        if low is not None and high is not None:
            axes.vlines(place, max(low, 0.0), max(high, 0.0), color="black", linewidth=0.8)


def events(result: Mapping[str, Any], path: Path) -> None:
    """Writes a result as TensorBoard events, `space/metric`, at once or not at all.

    Args:
        result: of one checkpoint.
        path: of a file for this checkpoint alone, so that what is written anew stands once.
    """
    # TensorFlow only writes a file here: it need not tell what else it could do.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    from clu import metric_writers

    scalars = {
        "/".join([*([] if section == CHECKPOINT else [section]), space, metric]): value
        for section in (CHECKPOINT, RANDOM_INIT, SHUFFLED)
        for space, metrics in result[section].items()
        for metric, value in metrics.items()
        if value is not None
    }
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # what a killed process left
    writer = metric_writers.SummaryWriter(os.fspath(partial))
    writer.write_scalars(result["step"], scalars)
    writer.close()
    (file,) = partial.iterdir()  # TensorFlow chooses its name
    os.replace(file, path)
    partial.rmdir()


SHOWN: dict[str, tuple[Callable[[Mapping[str, Any], Path], None], str]] = {
    "plot": (plot, "{step}.png"),
    "matrices": (matrices.plot, "{step}_matrices.png"),
    "confusions": (confusions.plot, "{step}_confusions.png"),
    "curves": (learning_curves.plot, "{step}_curves.png"),
    "events": (events, "events.out.tfevents.{step:012d}"),
}
"""What is made of a result: by name, what makes it and its file."""
