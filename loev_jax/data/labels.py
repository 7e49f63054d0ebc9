"""`labels.csv`: what the user knows about the files of a folder."""

from __future__ import annotations

import csv
import dataclasses
import math
import os
import pathlib
import posixpath
import unicodedata
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from loev_jax.data.records import RESERVED
from loev_jax.errors import UserError

SPLITS = ("train", "validation", "test")
"""What a file can be used for."""

_PATH = "path"
_SPLIT = "split"
_FLOAT32_WHOLE = 2**24  # beyond it float32 skips whole numbers


@dataclasses.dataclass(frozen=True)
class Labels:
    """Labels of a folder's files.

    Attributes:
      kinds: np.float32 or str by label.
      rows: the values by the file's normalised path; a file without a row has missing values.
      splits: the split of each file that has one, by normalised path; None without such a column.
    """

    kinds: Mapping[str, type]
    rows: Mapping[str, Mapping[str, float | str]]
    splits: Mapping[str, str] | None = None

    def of(self, path: str) -> Mapping[str, float | str]:
        """The labels of a file: NaN and the empty text stand for missing ones."""
        missing = {name: "" if kind is str else math.nan for name, kind in self.kinds.items()}
        return self.rows.get(normalise(path), missing)


def normalise(path: str) -> str:
    """One spelling per file: no `./`, and composed accents (macOS stores them decomposed)."""
    return unicodedata.normalize("NFC", posixpath.normpath(path))


def read(
    file: pathlib.Path, audio: pathlib.Path, paths: Collection[str], columns: Sequence[str] | None
) -> Labels:
    """Reads and checks a label file.

    A column is numeric (float32) if each of its values is empty or a number, and whole numbers are
    small enough for float32 to hold; any other column is text. A column `split` is no label: it
    tells which files are to train on, to validate and to test, and an empty one is of none of them.

    Args:
      file: CSV in UTF-8 with a header; its column `path` is relative to `audio`.
      audio: the folder of audio, for messages.
      paths: the files found in it, relative to it.
      columns: the columns to keep; all of them if None.

    Returns:
      The labels.

    Raises:
      UserError: the file is missing or malformed, lacks `path` or one of `columns`, or has a row
        that repeats a file, names one that is not there, or an unknown split.
    """
    header, rows = _parse(file)
    names = _choose(file, header, columns)
    known = {normalise(path) for path in paths}
    values: dict[str, list[str]] = {}
    splits: dict[str, str] | None = {} if _SPLIT in header else None
    for line, row in rows:
        path = normalise(row[header.index(_PATH)])
        if path not in known:
            why = "not an audio file" if (audio / path).exists() else "missing"
            raise UserError(
                f"{file} line {line}: {path!r} is {why} in {audio}: correct the path or remove "
                "the row"
            )
        if path in values:
            raise UserError(f"{file} line {line}: {path!r} has a row already: remove one of them")
        values[path] = [row[header.index(name)].strip() for name in names]
        if splits is not None and (split := row[header.index(_SPLIT)].strip()):
            if split not in SPLITS:
                raise UserError(
                    f"{file} line {line}: unknown split {split!r}: write one of "
                    f"{', '.join(SPLITS)}, or leave it empty"
                )
            splits[path] = split
    kinds = {
        name: np.float32 if _numeric([row[k] for row in values.values()]) else str
        for k, name in enumerate(names)
    }
    return Labels(
        kinds,
        {
            path: {
                name: value if kinds[name] is str else float(value or "nan")
                for name, value in zip(names, row, strict=True)
            }
            for path, row in values.items()
        },
        splits,
    )


def _parse(file: pathlib.Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    if not file.is_file():
        raise UserError(f"labels file {os.fspath(file)} does not exist: correct --labels")
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            lines = [(reader.line_num, row) for row in reader if row]
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(
            f"labels file {file} is not a CSV in UTF-8 ({error}): save it so"
        ) from error
    if not lines:
        raise UserError(f"labels file {file} is empty: its first line names the columns")
    header = [name.strip() for name in lines[0][1]]
    for line, row in lines[1:]:
        if len(row) != len(header):
            raise UserError(
                f"{file} line {line}: {len(row)} fields, but the header names {len(header)}: "
                "quote fields that hold a comma"
            )
    return header, lines[1:]


def _choose(file: pathlib.Path, header: list[str], columns: Sequence[str] | None) -> list[str]:
    if _PATH not in header:
        raise UserError(
            f"labels file {file} has no column {_PATH!r} (it has {', '.join(header)}): add one "
            "with the files' paths relative to --audio"
        )
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        raise UserError(f"labels file {file} has column {repeated[0]!r} twice: rename one")
    present = [name for name in header if name not in (_PATH, _SPLIT)]
    for name in columns or ():
        if name not in present:
            raise UserError(
                f"labels file {file} has no column {name!r}, named in --label_columns: choose from "
                f"{', '.join(present)}"
            )
    names = list(dict.fromkeys(present if columns is None else columns))
    for name in names:
        if name in RESERVED or not name.isidentifier():
            raise UserError(
                f"labels file {file}: column {name!r} cannot name a label: use letters, digits and "
                f"underscores, and none of {', '.join(RESERVED)}"
            )
    return names


def _numeric(values: Sequence[str]) -> bool:
    try:
        numbers = [float(value) for value in values if value]
    except ValueError:
        return False
    finite = [number for number in numbers if math.isfinite(number)]
    whole = bool(finite) and all(number.is_integer() for number in finite)
    limit = _FLOAT32_WHOLE if whole else float(np.finfo(np.float32).max)
    return bool(finite) and max(map(abs, finite)) <= limit and not any(map(math.isinf, numbers))
