"""Learning curves: what the probes read of the same test clips when fewer clips are labelled.

Labels are what is scarce in music, and with many of them representations differ less
(docs/results.md).
"""

from __future__ import annotations

import dataclasses
import math
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from loev_jax import picture
from loev_jax.evaluate.evaluator import SPLITS
from loev_jax.evaluate.figures import Figure
from loev_jax.evaluate.probes import Probe, curve
from loev_jax.evaluate.results import CHECKPOINT, INTERVALS, RANDOM_INIT
from loev_jax.evaluate.spaces import Facts, Vectored

PARTS = (8, 4, 2)
"""Of the labelled pieces one in so many is kept; all of them are what the probe itself reads."""

_METRIC = re.compile(r"(.+)_1of(\d+)$")


@dataclasses.dataclass(frozen=True)
class LearningCurve:
    """A probe learned from a part of the labels: an `Evaluator`.

    Fewer pieces both fit the probe and pick its regularisation; the test clips are the same. The
    pieces of a smaller part are among those of a larger one, and the same in every evaluation.

    Attributes:
        probe: that is learned.
    """

    probe: Probe

    @property
    def name(self) -> str:
        """See `Evaluator`."""
        return curve(self.probe.name)

    def left_out(self, facts: Mapping[str, Facts]) -> list[str]:
        """See `Evaluator`."""
        if reasons := self.probe.left_out(facts):
            return reasons
        return [
            f"of 1/{part} of the labels: {reason}"
            for part in PARTS
            for reason in self.probe.left_out(_fewer(facts, _kept(facts, part)))
        ]

    def score(
        self,
        facts: Mapping[str, Facts],
        vectors: Mapping[str, Vectored],
        space: str,
        shuffle: np.random.Generator | None = None,
    ) -> dict[str, Figure]:
        """See `Evaluator`; metrics are those of the probe, such as `key_weighted_1of8`."""
        found: dict[str, Figure] = {}
        for part in PARTS:
            kept = _kept(facts, part)
            there = {
                split: Vectored({space: vectors[split].tracks[space][mine]}, clean={}, moved={})
                for split, mine in kept.items()
            }
            figures = self.probe.score(_fewer(facts, kept), there, space, shuffle)
            found |= {metric(name, part): figure for name, figure in figures.items()}
        return found


def metric(name: str, part: int) -> str:
    """What a probe's metric is called where one in so many labels are known; all of them for 1."""
    return f"{name}_1of{part}" if part > 1 else name


def measured(result: Mapping[str, Any], section: str = CHECKPOINT) -> list[str]:
    """Metrics of a result of which there is a learning curve, in the order that they were made."""
    there = dict.fromkeys(name for one in result.get(section, {}).values() for name in one)
    return list(dict.fromkeys(found[1] for name in there if (found := _METRIC.match(name))))


def _kept(facts: Mapping[str, Facts], part: int) -> dict[str, np.ndarray]:
    """Which clips of each split count, [clips] bool: all of the test split."""
    kept = {}
    for split in SPLITS:
        known = facts[split].pieces
        # Checksums of names are an order that no seed and no label has a say in.
        pieces = sorted(set(known.tolist()), key=lambda name: (zlib.crc32(name.encode()), name))
        most = len(pieces) if split == SPLITS[-1] else math.ceil(len(pieces) / part)
        kept[split] = np.isin(known, pieces[:most])
    return kept


def _fewer(facts: Mapping[str, Facts], kept: Mapping[str, np.ndarray]) -> dict[str, Facts]:
    """Facts of the clips that count, as far as a probe asks for them."""
    return {
        split: dataclasses.replace(
            facts[split],
            ids=facts[split].ids[mine],
            pieces=facts[split].pieces[mine],
            labels={name: values[mine] for name, values in facts[split].labels.items()},
        )
        for split, mine in kept.items()
    }


def plot(result: Mapping[str, Any], path: Path) -> None:
    """Draws a panel for each metric, a line for each space; writes them at once or not at all.

    Args:
        result: of one checkpoint; without a learning curve nothing is drawn.
        path: of the PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    metrics = measured(result)
    if not metrics:
        return
    rows = math.ceil(len(metrics) / 3)
    columns = math.ceil(len(metrics) / rows)
    figure = Canvas(figsize=(1.5 + 4.2 * columns, 0.9 + 3.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.flat[len(metrics) :]:
        axes.set_visible(False)
    for axes, name in zip(panels.flat, metrics, strict=False):
        for number, (space, values) in enumerate(result[CHECKPOINT].items()):
            ends = result.get(INTERVALS[CHECKPOINT], {}).get(space, {})
            draw_line(axes, name, values, ends, color=f"C{number}", label=space)
            random = result[RANDOM_INIT].get(space, {})
            draw_line(axes, name, random, {}, color=f"C{number}", linestyle=":")
        axes.set_title(name.replace("_", " "), fontsize=10)
    lines, names = panels[0][0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside right upper", fontsize=8)
    others = ", dotted random init" if result[RANDOM_INIT] else ""
    figure.suptitle(f"step {result['step']}: by the share of the labels{others}", fontsize=10)
    picture.write(figure, path)


def draw_line(
    axes: Any,
    name: str,
    values: Mapping[str, float | None],
    intervals: Mapping[str, Any],
    **style: Any,
) -> None:
    """Draws one learning curve, with its intervals where they are known.

    Args:
        axes: to draw on.
        name: of the metric with all labels.
        values: of one space by metric; where none is of this curve nothing is drawn.
        intervals: both ends by metric.
        style: of the line.
    """
    there = [
        (1 / part, value, *(intervals.get(called) or (value, value)))
        for part in (*PARTS, 1)
        if (value := values.get(called := metric(name, part))) is not None
    ]
    if not there:
        return
    shares, heights, low, high = (np.array(column, float) for column in zip(*there, strict=True))
    axes.plot(shares, heights, marker=".", **style)
    axes.fill_between(shares, low, high, color=style["color"], alpha=0.12, linewidth=0)
    axes.set_xscale("log", base=2)
    ticks = [*PARTS, 1]
    axes.set_xticks([1 / part for part in ticks], ["all" if p == 1 else f"1/{p}" for p in ticks])
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
