"""Labels of a data set as targets; a clip whose label is missing or makes no sense has none.

A data set of a user's own may write labels in other ways than the built-in corpus: numbers or text,
NaN or the empty text for a missing one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np

from loev_jax.errors import UserError
from loev_jax.evaluate.metrics import KEYS

Kind = Literal["tempo", "key", "class", "number", "tags"]
"""What a label is, and so how it is read and scored."""

SEPARATOR = "|"
"""Between the tags of one clip."""

MOST_CLASSES = 50
"""More whole numbers than these are an amount, not names."""


def kind(values: np.ndarray) -> Kind:
    """Tells a class from a number, as far as the values show it: [n].

    Text is a class, tags where any of it has a `SEPARATOR`. Whole numbers, stored as integers or
    not, of which there are not more than `MOST_CLASSES` are classes too.
    """
    if not np.issubdtype(values.dtype, np.number):
        return "tags" if any(SEPARATOR in str(value) for value in values) else "class"
    known = np.unique(values[np.isfinite(values)])
    return "class" if len(known) <= MOST_CLASSES and (known % 1 == 0).all() else "number"


def kinds(texts: Sequence[str]) -> dict[str, Kind]:
    """Reads kinds of labels such as "pitch:class".

    Raises:
        UserError: one is not written so.
    """
    found: dict[str, Kind] = {}
    known = {name: name for name in get_args(Kind)}
    for text in texts:
        column, _, name = text.partition(":")
        if not column or name not in known:
            raise UserError(
                f"--kinds={text}: write a label and its kind so: pitch:class; kinds are "
                f"{', '.join(known)}"
            )
        found[column] = known[name]
    return found


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
        # All digits that tell two numbers apart: six make one class of several long ones.
        texts = [
            np.format_float_positional(value, trim="-") if np.isfinite(value) else ""
            for value in values
        ]
        return np.array(texts, dtype=str)
    return values.astype(str)


def tagged(values: np.ndarray, tags: Sequence[str]) -> np.ndarray:
    """Which of some tags each clip has, [n] str → [n, tags] bool."""
    rows = [[tag in those for tag in tags] for those in map(_tags, values)]
    return np.array(rows, bool).reshape(len(values), len(tags))


def tags(values: np.ndarray) -> list[str]:
    """All tags of some clips, [n] str, in the order of the alphabet."""
    return sorted(set().union(*map(_tags, values)))


def _tags(value: str) -> set[str]:
    return {tag.strip() for tag in value.split(SEPARATOR)} - {""}


def present(targets: np.ndarray) -> np.ndarray:
    """Which of some targets are there, [n] → [n] bool."""
    return targets != "" if targets.dtype.kind == "U" else np.isfinite(targets)
