"""Compiled programs kept on disk: what was compiled once starts in seconds the next time."""

from __future__ import annotations

import contextlib
import os
import zlib
from pathlib import Path

import jax

# Less is compiled sooner than it is found and read.
_WORTHWHILE_SECONDS = 0.5
_CHECKED = "checked"  # a file as old as the last look for damage
_ZLIB = b"\x78"  # what such data begin with; JAX takes zstandard where that is installed


def use() -> Path | None:
    """Keeps what this process compiles, and finds what others have; call it before compiling.

    The directory is `$JAX_COMPILATION_CACHE_DIR`, or `loev_jax` in `$XDG_CACHE_HOME` or `~/.cache`.
    `JAX_ENABLE_COMPILATION_CACHE=false` keeps nothing. A program is found by what it is, by the
    versions of JAX and XLA and by the device, so there is nothing to clear when something changes;
    the directory can be deleted at any time. What a killed process left half written is removed.

    Returns:
        The directory; None where nothing is kept, as where it cannot be written.
    """
    options = jax.config.values
    if not options["jax_enable_compilation_cache"]:
        return None
    given = options["jax_compilation_cache_dir"]
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    directory = Path(given or f"{home}/loev_jax/programs").expanduser()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        usable = os.access(directory, os.W_OK)
    except (OSError, RuntimeError):  # the latter: there is no home
        usable = False
    if not usable:
        jax.config.update("jax_enable_compilation_cache", False)
        return None
    _remove_damaged(directory)
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _WORTHWHILE_SECONDS)
    return directory


def _remove_damaged(directory: Path) -> None:
    """Removes what was half written: JAX would never use it, and never replace it either.

    Of a program that another process is just writing that one keeps its own copy.
    """
    checked = directory / _CHECKED
    since = checked.stat().st_mtime if checked.exists() else 0.0
    with contextlib.suppress(PermissionError):  # another user's: more is looked at than need be
        checked.touch()
    for entry in directory.glob("*-cache"):
        # Another process may be first, and another user's file may be out of reach.
        with contextlib.suppress(FileNotFoundError, PermissionError):
            if entry.stat().st_mtime >= since and _is_cut_short(entry.read_bytes()):
                entry.unlink()


def _is_cut_short(packed: bytes) -> bool:
    if packed and packed[:1] != _ZLIB:
        return False
    try:
        zlib.decompress(packed)
    except zlib.error:
        return True
    return False
