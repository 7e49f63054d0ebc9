"""`benchmarks.json`, one object per benchmark, and how a result is printed."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loev_jax import atomic, table
from loev_jax.data import processes
from loev_jax.errors import UserError

FILE = "benchmarks.json"
_PACKAGES = ("jax", "jaxlib", "librosa", "pedalboard", "python-stretch", "audiomentations",
             "torch-audiomentations", "torch", "mule-torch")  # fmt: skip


def environment() -> dict[str, Any]:
    """What a figure depends on beside the code: processor, cores, Python, packages."""
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "machine": platform.machine(),
        "cores": processes.available_cpus(),
        "python": platform.python_version(),
        "packages": packages,
    }


def read(directory: Path) -> dict[str, Any]:
    """The results of earlier runs in a directory, by benchmark.

    Raises:
        UserError: the file is not what `write` leaves.
    """
    path = directory / FILE
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}): remove it") from error
    if not isinstance(results, dict):
        raise UserError(f"{path} does not hold results by benchmark: remove it")
    return results


def write(directory: Path, name: str, result: Mapping[str, Any]) -> None:
    """Adds a benchmark's result to those in a directory, whole or not at all."""
    results = read(directory) | {name: {**result, "environment": environment()}}
    text = json.dumps(results, indent=2, ensure_ascii=False)
    with atomic.replacing(directory / FILE) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def markdown(result: Mapping[str, Any]) -> str:
    """A result as Markdown tables: its numbers first, then each of its mappings on its own.

    A mapping of mappings becomes a table with a row for each of the outer names and a column for
    each of the inner ones; deeper ones are left out, they are for plots.
    """
    plain = {name: value for name, value in result.items() if not isinstance(value, Mapping)}
    blocks = [_table(["", "value"], [[name, value] for name, value in plain.items()])]
    for name, value in result.items():
        if isinstance(value, Mapping) and value:
            blocks.append(f"### {name}\n\n{_nested(value)}")
    return "\n\n".join(block for block in blocks if block)


def _nested(value: Mapping[str, Any]) -> str:
    if not all(isinstance(one, Mapping) for one in value.values()):
        return _table(["", "value"], [[name, one] for name, one in value.items()])
    columns = list(dict.fromkeys(column for row in value.values() for column in row))
    return _table(
        ["", *columns],
        [[name, *(row.get(column) for column in columns)] for name, row in value.items()],
    )


def _table(head: list[str], rows: list[list[Any]]) -> str:
    if not rows:
        return ""
    return table.markdown(head, [[_cell(one) for one in row] for row in rows])


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
