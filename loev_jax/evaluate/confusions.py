"""How often what was read as what: the tables behind figures, and their picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loev_jax import picture
from loev_jax.corpus.key_finding import key_name
from loev_jax.evaluate.results import CONFUSIONS

BINS = 16
"""Of numbers, from the least to the greatest true one."""

MOST = 40
"""Classes of a table; with more it could not be seen."""

# Major, then minor, both along the circle of fifths: the keys that are often taken for each other
# are neighbours.
_BY_FIFTHS = tuple(7 * place % 12 + mode for mode in (0, 12) for place in range(12))


@dataclasses.dataclass(frozen=True)
class Confusion:
    """How many test clips of each truth were read as what.

    Attributes:
        names: of the classes, or the middles of bins.
        counts: [truths, readings] int, both in the order of `names`; clips are counted once for
            each reading of them.
    """

    names: tuple[str, ...]
    counts: np.ndarray

    def to_json(self) -> dict[str, Any]:
        """As it stands in a result."""
        return {"names": list(self.names), "counts": self.counts.tolist()}


def of_classes(
    truth: np.ndarray, read: np.ndarray, name: Callable[[Any], str] = str
) -> Confusion | None:
    """Counts classes, all that are there.

    Args:
        truth: [clips].
        read: [readings, clips].
        name: of a class.

    Returns:
        The classes in their order; None of more than `MOST`.
    """
    return _counted(truth, read, np.unique(np.concatenate([truth, read.ravel()])), name)


def of_keys(truth: np.ndarray, read: np.ndarray) -> Confusion:
    """Counts keys (0-23), [clips] and [readings, clips], along the circle of fifths."""
    found = _counted(truth, read, np.array(_BY_FIFTHS), key_name)
    assert found is not None
    return found


def _counted(
    truth: np.ndarray, read: np.ndarray, classes: np.ndarray, name: Callable[[Any], str]
) -> Confusion | None:
    if len(classes) > MOST:
        return None
    truths, readings = truth[:, None] == classes, read[..., None] == classes
    counts = np.einsum("ct,rcs->ts", truths.astype(int), readings.astype(int))
    return Confusion(tuple(name(one) for one in classes.tolist()), counts)


def of_numbers(
    truth: np.ndarray, read: np.ndarray, name: Callable[[float], str] = "{:.2g}".format
) -> Confusion:
    """Counts numbers in `BINS` bins; what is read beyond the truths counts in the outermost.

    Args:
        truth: [clips].
        read: [readings, clips].
        name: of the middle of a bin.
    """
    edges = np.linspace(truth.min(), truth.max(), BINS + 1)
    middles = (edges[1:] + edges[:-1]) / 2
    place = [np.searchsorted(edges[1:-1], each, side="right") for each in (truth, read)]
    found = _counted(place[0], place[1], np.arange(BINS), lambda at: name(float(middles[at])))
    assert found is not None
    return found


def plot(result: Mapping[str, Any], path: Path) -> None:
    """Draws a row for each figure that has a table, a panel for each space.

    Of each truth, the share that was read as what. Written at once or not at all; nothing where
    there are no tables.

    Args:
        result: of one checkpoint.
        path: of the PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tables = result.get(CONFUSIONS, {})
    metrics = list(dict.fromkeys(metric for one in tables.values() for metric in one))
    if not metrics:
        return
    size = (1.5 + 2.2 * len(tables), 0.5 + 2.2 * len(metrics))
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(metrics), len(tables), squeeze=False)
    for row, metric in zip(panels, metrics, strict=True):
        for axes, (space, by_metric) in zip(row, tables.items(), strict=True):
            if metric in by_metric:
                _panel(axes, by_metric[metric], axes is row[0])
                axes.set_title(f"{metric.rsplit('_', 1)[0].replace('_', ' ')}, {space}", fontsize=8)
            else:
                axes.set_axis_off()
    figure.suptitle(
        f"step {result['step']}: read as (across, in the order of down) of each truth (down), dark "
        "for all",
        fontsize=10,
    )
    picture.write(figure, path)


def _panel(axes: Any, table: Mapping[str, Any], first: bool) -> None:
    counts = np.array(table["counts"], float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    axes.imshow(shares, vmin=0.0, vmax=1.0, cmap="Greys", interpolation="nearest")
    places, names = _ticks(table["names"]) if first else ([], [])
    axes.set_xticks([])  # in the order of y: drawing ticks at every panel takes as long as all else
    axes.set_yticks(places, names, fontsize=5)


def _ticks(names: Sequence[str]) -> tuple[list[int], list[str]]:
    """The places that are named, not more than can be read."""
    step = -(-len(names) // 24)
    return list(range(0, len(names), step)), list(names[::step])
