"""Labels of a data set as targets; a clip whose label is missing or makes no sense has none.

A data set of a user's own may write labels in other ways than the built-in corpus: numbers or text,
NaN or the empty text for a missing one.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from loev_jax.evaluate.metrics import KEYS

Kind = Literal["tempo", "key", "class", "number"]
"""What a label is, and so how it is read and scored."""

MOST_CLASSES = 50
"""More whole numbers than these are an amount, not names."""


def kind(values: np.ndarray) -> Kind:
    """Tells a class from a number, as far as the values show it: [n].

    Text is a class, and so are whole numbers of which there are not more than `MOST_CLASSES`.
    """
    if not np.issubdtype(values.dtype, np.floating):
        return "class"
    known = np.unique(values[np.isfinite(values)])
    return "class" if len(known) <= MOST_CLASSES and (known % 1 == 0).all() else "number"


def _number(value: Any) -> float:
    try:
        return float(value)
    except ValueError:
        return float("nan")


def tempi(values: np.ndarray) -> np.ndarray:
    """Tempi in BPM, [n] → [n] f64; NaN for none."""
    found = numbers(values)
    return np.where(found > 0, found, np.nan)


def numbers(values: np.ndarray) -> np.ndarray:
    """Amounts of any sign, [n] → [n] f64; NaN for none."""
    found = np.array([_number(value) for value in values], dtype=np.float64)
    return np.where(np.isfinite(found), found, np.nan)


def _key(value: Any) -> float:
    import mir_eval.key

    number = _number(value)
    if number in range(KEYS):
        return number
    try:
        mir_eval.key.validate_key(str(value))
        tonic, mode = mir_eval.key.split_key_string(str(value))
    except ValueError:
        return float("nan")
    return tonic + 12.0 * (mode == "minor") if mode in ("major", "minor") else float("nan")


def keys(values: np.ndarray) -> np.ndarray:
    """Keys, by number (0-23) or as mir_eval writes them ("Eb minor"), [n] → [n] f64; NaN for none.

    Modes other than major and minor have no number.
    """
    return np.array([_key(value) for value in values], dtype=np.float64)


def classes(values: np.ndarray) -> np.ndarray:
    """Classes as text, [n] → [n] str; the empty text for none."""
    if np.issubdtype(values.dtype, np.floating):
        return np.array([f"{value:g}" if np.isfinite(value) else "" for value in values], dtype=str)
    return values.astype(str)


def present(targets: np.ndarray) -> np.ndarray:
    """Which of some targets are there, [n] → [n] bool."""
    return targets != "" if targets.dtype.kind == "U" else np.isfinite(targets)
