"""Compiled programs kept on disk: what was compiled once starts in seconds the next time."""

from __future__ import annotations

import os
from pathlib import Path

import jax

# Less is compiled sooner than it is found and read.
_WORTHWHILE_SECONDS = 0.5


def use() -> Path | None:
    """Keeps what this process compiles, and finds what others have; call it before compiling.

    The directory is `$JAX_COMPILATION_CACHE_DIR`, or `loev_jax` in `$XDG_CACHE_HOME` or `~/.cache`.
    `JAX_ENABLE_COMPILATION_CACHE=false` keeps nothing. A program is found by what it is, by the
    versions of JAX and XLA and by the device, so there is nothing to clear when something changes;
    the directory can be deleted at any time.

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
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _WORTHWHILE_SECONDS)
    return directory
