"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a name beside `path` to write to, which becomes `path` when all went well.

    What was at `path` stays until then, and for good if writing fails; what was written so far is
    removed, but by a process that is killed.

    Args:
        path: of the file.

    Yields:
        The path to write to, in the same directory and hidden.

    Raises:
        OSError: the file cannot be renamed.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
