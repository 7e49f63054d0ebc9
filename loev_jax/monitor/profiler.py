"""Profiles of a run on demand: `touch WORKDIR/PROFILE` has the next steps traced.

A trace shows, operation by operation, what device and host did (in TensorBoard with the xprof
plugin, or in Perfetto); beside it lies what the device's memory holds (`memory.prof`, for pprof).
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import jax
from absl import logging

from loev_jax import errors
from loev_jax.errors import UserError

REQUEST = "PROFILE"
DIRECTORY = "profile"
STEPS = 5
_EVERY_SECONDS = 1.0  # looking for a file costs a round trip where the disk is a network's


def serve(port: int) -> None:
    """Listens for requests to trace this process, as long as it lives.

    Raises:
        UserError: there is no such port, or it is taken.
    """
    with socket.socket() as attempt:
        try:
            attempt.bind(("", port))
        except (OSError, OverflowError) as error:
            raise UserError(
                f"--profiler_port={port}: cannot listen there ({error}); choose another"
            ) from error
    jax.profiler.start_server(port)


class Profiler:
    """Traces the devices of process 0 when a file asks for it."""

    def __init__(self, workdir: Path) -> None:
        """Looks for the request in `workdir`."""
        self._request = workdir / REQUEST
        self._directory = workdir / DIRECTORY
        self._elsewhere = jax.process_index() != 0
        self._looked = -_EVERY_SECONDS
        self._last: int | None = None  # step after which a trace under way ends

    def before(self, step: int) -> None:
        """To be called before a step is started."""
        if self._elsewhere or self._last is not None:
            return
        if time.monotonic() - self._looked < _EVERY_SECONDS:
            return
        self._looked = time.monotonic()
        try:
            text = self._request.read_text().strip()
            self._request.unlink()
        except FileNotFoundError:
            return
        number = max(1, int(text)) if text.isdecimal() else STEPS
        if self._did(lambda: jax.profiler.start_trace(str(self._directory))):
            self._last = step + number - 1
            logging.info("profile: tracing steps %d to %d", step, self._last)

    def after(self, step: int, result: object) -> None:
        """To be called after a step was started; where it is the last, waits for its result."""
        if step == self._last:
            jax.block_until_ready(result)
            self.close()

    def close(self) -> None:
        """Ends a trace that is under way."""
        if self._last is None:
            return
        self._last = None
        memory = self._directory / "memory.prof"
        if self._did(jax.profiler.stop_trace) and self._did(
            lambda: jax.profiler.save_device_memory_profile(str(memory))
        ):
            logging.info("profile: %s; memory: %s", self._directory, memory)

    def _did(self, work: Callable[[], None]) -> bool:
        """Whether a part of a profile could be made: a full disk, or another trace, ends no run."""
        try:
            work()
        except Exception as error:  # of JAX, of the system
            logging.error("%s: no profile (%s)", self._directory, errors.reason(error))
            return False
        return True
