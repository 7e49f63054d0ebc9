"""Several processes as one run: how they find each other, and agree on what to do."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

import jax
import numpy as np
from jax._src import distributed
from jax.experimental import multihost_utils

from loev_jax.errors import RunError, UserError

SILENCE_SECONDS = 30
"""A process not heard of for so long is taken for dead, and the others end."""


@dataclasses.dataclass(frozen=True)
class Cluster:
    """How this process finds the others of its run.

    Attributes:
        detect: whether JAX finds them by itself: on a TPU pod, in a SLURM job, in a GKE JobSet.
        coordinator: "HOST:PORT" of process 0, where they are given by hand.
        processes: how many there are.
        process: the number of this one, from 0 on.
    """

    detect: bool = False
    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None

    def __post_init__(self) -> None:
        given = {
            "--coordinator": self.coordinator,
            "--processes": self.processes,
            "--process": self.process,
        }
        missing = [flag for flag, value in given.items() if value is None]
        if missing and len(missing) < len(given):
            raise UserError(f"{missing[0]}: missing; {', '.join(given)} go together")
        if not missing and self.detect:
            raise UserError("--distributed: leave it out, or --coordinator and its like")
        if not missing and self.process not in range(self.processes or 0):
            raise UserError(f"--process={self.process}: not one of --processes={self.processes}")


def join(cluster: Cluster) -> None:
    """Makes this process one of its cluster's; to be called before JAX sees a device.

    Raises:
        UserError: there is no cluster to detect, or the others do not answer.
    """
    if not cluster.detect and cluster.coordinator is None:
        return
    try:
        jax.distributed.initialize(
            cluster.coordinator,
            cluster.processes,
            cluster.process,
            heartbeat_timeout_seconds=SILENCE_SECONDS,
            shutdown_timeout_seconds=SILENCE_SECONDS,
        )
    except ValueError as error:
        raise UserError(
            f"--distributed: JAX finds no TPU pod, SLURM job or GKE JobSet here ({error}); give "
            "--coordinator=HOST:PORT, --processes and --process"
        ) from error
    except RuntimeError as error:
        raise UserError(f"--coordinator={cluster.coordinator}: no answer ({error})") from error
    # Where another process dies, JAX's watch says so and aborts this one. absl would have the stack
    # of every thread follow, and nobody would find that line.
    signal.signal(signal.SIGABRT, signal.SIG_DFL)


@contextmanager
def together() -> Iterator[None]:
    """Ends this process, in one line, where it or another one of the run cannot do its part.

    The process ends at once: an orderly end would wait for the others, and then abort.
    """
    try:
        yield
    except (UserError, RunError) as error:
        if jax.process_count() == 1:
            raise
        _leave(2 if isinstance(error, UserError) else 1, f"error: {error}")
    except jax.errors.JaxRuntimeError:
        if jax.process_count() == 1:
            raise
        traceback.print_exc()
        _leave(
            1,
            "error: what the processes of this run compute together failed, so one of them has "
            "probably died: see the output of all, and run the same command on all to resume",
        )


def _leave(status: int, line: str) -> NoReturn:
    """Ends this process with a last line."""
    print(line, file=sys.stderr, flush=True)
    sys.stdout.flush()
    if jax.process_index() == 0:
        time.sleep(1)  # the others end with it: if they have something to say, let them
    os._exit(status)


def agreed(number: int) -> int:
    """The number that process 0 has, on all of them: a file system may tell each another story."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def any_of(flag: bool) -> bool:
    """Whether any process says so, on all of them."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.bool_(flag))))


_PART = "async_"  # in the keys at which Orbax waits for the parts of a checkpoint
_NUMBERS = itertools.count()


class Rendezvous:
    """A barrier for Orbax, at which a process whose part failed sets the others free.

    Orbax has all processes meet after their parts of a checkpoint are written, after it is whole,
    and, also where one failed, when they are done with it. With JAX's own barrier those that wait
    for the first would wait for one that has gone on to the last until their time is over: twenty
    minutes, and it waits for them. Here they all meet, and tell each other at which of them they
    are; those that still hope for the checkpoint then give it up.
    """

    def __init__(self) -> None:
        """Of all processes, which make as many of them in the same order."""
        self._name = f"loev_jax/rendezvous/{next(_NUMBERS)}"
        self._met = 0

    def __call__(self, *, key: str, timeout_ms: int) -> None:
        """Waits until all are at `key`.

        Raises:
            OSError: another process is beyond it: it could not do what was to be done before.
            JaxRuntimeError: one of them is not heard of any more, or the time is over.
        """
        if jax.process_count() == 1:
            return
        client: Any = distributed.global_state.client
        while True:
            self._met += 1
            here = f"{self._name}/{self._met}"
            client.key_value_set(f"{here}/{jax.process_index()}", key)
            client.wait_at_barrier(here, timeout_ms)
            told = client.key_value_dir_get(f"{here}/")
            if jax.process_index() == 0:  # of the one before, which nobody reads any more
                client.key_value_delete(f"{self._name}/{self._met - 1}")
            beyond = [int(name.rpartition("/")[2]) for name, at in told if at != key]
            if not beyond:
                return
            if _PART in key:
                raise OSError(f"process {min(beyond)} could not write its part")


def check_same(text: str, what: str) -> None:
    """Makes sure that all processes have the same text.

    Args:
        text: any.
        what: it is, for the message.

    Raises:
        UserError: this process has another one than process 0.
    """
    if jax.process_count() == 1:
        return
    mine = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)
    first = np.asarray(multihost_utils.broadcast_one_to_all(mine))
    # All learn of it, so that none waits for one that has ended.
    equal = multihost_utils.process_allgather(np.array_equal(mine, first))
    if not np.all(equal):
        others = ", ".join(str(number) for number in np.flatnonzero(~equal))
        raise UserError(f"{what} of process {others} differs from that of process 0")


class Stop:
    """Asks, once a step, whether a signal wants the run to save and leave."""

    def __init__(self) -> None:
        self._received: list[int] = []

    def receive(self, number: int) -> None:
        """Takes note of a signal."""
        self._received.append(number)

    def __call__(self, step: int) -> int:
        """The signal that all processes are to stop for after this step, 0 for none.

        Where there are several, a signal to one of them stops all at the same step: JAX listens for
        SIGTERM.
        """
        received = self._received[0] if self._received else 0
        if jax.process_count() == 1:
            return received
        stops = multihost_utils.reached_preemption_sync_point(step)
        return (received or signal.SIGTERM) if stops else 0


@contextmanager
def stop_on_signal() -> Iterator[Stop]:
    """Collects SIGTERM and SIGINT instead of dying, so that the run can save and leave."""
    stop = Stop()
    several = jax.process_count() > 1

    def receive(number: int, frame: FrameType | None) -> None:
        del frame
        stop.receive(number)
        if several:
            signal.raise_signal(signal.SIGTERM)  # JAX tells the others of this one alone

    numbers = [signal.SIGINT] if several else [signal.SIGINT, signal.SIGTERM]
    handlers = {number: signal.signal(number, receive) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
