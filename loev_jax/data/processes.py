"""Processes: how many, how they start and end, what one keeps to itself, what the user hears."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import multiprocessing
import os
import pathlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import IO, Any

from loev_jax.errors import UserError

# Spawned, not forked: threads of the libraries that the caller has loaded do not survive a fork.
CONTEXT = multiprocessing.get_context("spawn")
"""Of every worker; what workers share with the caller, such as a `Value`, is made by it."""


_PATIENCE_SECONDS = 3.0


def lock(file: IO[str], refusal: str) -> None:
    """Keeps an open file to this process; the lock goes with the process, however it ends.

    A child that a killed process was about to start holds the lock until it runs, so one that is
    held is asked for again for some seconds.

    Args:
      file: until it is closed.
      refusal: what the user is told when another process keeps it.

    Raises:
      UserError: `refusal`.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if time.monotonic() > deadline:
                raise UserError(refusal) from error
        else:
            return
        time.sleep(0.05)


def lock_when_free(file: IO[str], waiting: Callable[[], None]) -> None:
    """Keeps an open file to this process as `lock` does, whenever others let go of it.

    Args:
      file: until it is closed.
      waiting: called where another process keeps it, before it is waited for.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        waiting()
        fcntl.flock(file, fcntl.LOCK_EX)


def available_cpus() -> int:
    """The number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def pool(
    workers: int, initialiser: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()
) -> Iterator[ProcessPoolExecutor]:
    """A pool of worker processes, which end with the caller, however that ends.

    On leaving, work that has not begun is cancelled, and work that has is waited for.

    Args:
      workers: number of processes.
      initialiser: what each calls at its start.
      arguments: of `initialiser`.

    Raises:
      UserError: a worker was killed.
    """
    executor = ProcessPoolExecutor(workers, CONTEXT, _start, (initialiser, arguments))
    try:
        yield executor
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process was killed, perhaps for lack of memory: run the same command again "
            "with fewer --workers, it goes on where it stopped"
        ) from error
    finally:
        executor.shutdown(cancel_futures=True)


def _start(initialiser: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    # A parent that is killed cannot stop its workers, and they would wait for ever.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if initialiser is not None:
        initialiser(*arguments)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def disk_full(directory: pathlib.Path, needed: int | None = None) -> UserError:
    """What to raise when the disk is full.

    Args:
      directory: where nothing more can be written; it exists.
      needed: how many bytes more the work takes, if that is known.
    """
    figures = ""
    if needed is not None:
        free = shutil.disk_usage(directory).free
        figures = f" ({needed:,} bytes more are needed and {free:,} are free)"
    return UserError(
        f"the disk that holds {directory} is full{figures}: free some space and run the same "
        "command again, it goes on where it stopped"
    )


def raise_if_disk_full(
    error: Exception, directory: pathlib.Path, needed: int | None = None
) -> None:
    """Turns an error that says so, be it from a C++ library, into `disk_full`."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or "No space left" in str(error):
        raise disk_full(directory, needed) from error
