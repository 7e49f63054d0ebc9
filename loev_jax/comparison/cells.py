"""Cells of the tables of a comparison: means over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from loev_jax.evaluate.report import number


def mean_and_deviation(values: Sequence[float | None]) -> str:
    """Mean ± standard deviation; the mean alone of one value, a dash where one is missing."""
    there = [value for value in values if value is not None]
    if not there or len(there) < len(values):
        return "-"
    mean = number(statistics.fmean(there))
    return f"{mean} ± {number(statistics.stdev(there))}" if len(there) > 1 else mean


def mean_ends(intervals: Sequence[Sequence[float] | None]) -> str:
    """Both ends of an interval, as ".20 to .30"; a dash for none."""
    there = [one for one in intervals if one is not None]
    if not there:
        return "-"
    return " to ".join(number(statistics.fmean(ends)) for ends in zip(*there, strict=True))


def difference(cells: Sequence[Sequence[float]]) -> str:
    """As "+.034 (-.012 to +.071)"; a dash for none."""
    if not cells:
        return "-"
    value, low, high = (statistics.fmean(several) for several in zip(*cells, strict=True))
    return between(value, low, high, sign="+")


def between(value: float, low: float, high: float, sign: str = "") -> str:
    """A figure and its interval, as ".534 (.488 to .571)"; with `sign` "+", as differences are."""
    value_, low_, high_ = (thousandths(one, sign) for one in (value, low, high))
    return f"{value_} ({low_} to {high_})"


def thousandths(value: float, sign: str = "") -> str:
    """Three decimals without the zero before the point."""
    text = f"{value:{sign}.3f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text
