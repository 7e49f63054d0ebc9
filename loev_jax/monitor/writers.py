"""Where a run's metrics go: CLU's writers (TensorBoard events, the log) and `metrics.jsonl`.

A full disk ends neither: what `metrics.jsonl` could not take is written when it can, and events,
which hold nothing else that is lasting, are given up.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from absl import logging

from loev_jax import errors
from loev_jax.errors import UserError

FILE = "metrics.jsonl"

# TensorFlow, which CLU imports, greets with several lines on stderr unless told not to.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


class Journal:
    """`metrics.jsonl`: one JSON object per logged step, each step once, whatever was killed."""

    def __init__(self, workdir: Path, first_step: int) -> None:
        """Opens the file of a run that goes on at `first_step`; later lines are cut off.

        Raises:
            UserError: it cannot be opened or cut.
        """
        self._path = Path(workdir) / FILE
        try:
            self._file = self._path.open("ab", buffering=0)
            self._file.truncate(self._size_before(first_step))  # which needs no room
        except OSError as error:
            raise UserError(
                f"{self._path}: cannot be written ({error.strerror}); make room for it, and run "
                "the same command to go on"
            ) from error
        self._unwritten = b""

    def _size_before(self, step: int) -> int:
        """Bytes of the lines that were there before a step was taken."""
        size = 0
        for line in self._path.read_bytes().splitlines(keepends=True):
            # The last may have been cut short by a kill.
            if not line.endswith(b"\n") or json.loads(line)["step"] >= step:
                break
            size += len(line)
        return size

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Appends the metrics of `step`; what is not finite becomes null, as JSON has it."""
        known = {name: value if math.isfinite(value) else None for name, value in values.items()}
        first = not self._unwritten
        self._unwritten += (json.dumps({"step": step} | known) + "\n").encode()
        try:
            self._flush()
        except OSError as error:
            if first:
                logging.error("%s: %s; its lines wait for room", self._path, error.strerror)

    def _flush(self) -> None:
        while self._unwritten:
            self._unwritten = self._unwritten[self._file.write(self._unwritten) :]

    def sync(self) -> None:
        """Makes sure that what was written survives a crash: call it before a checkpoint.

        Raises:
            OSError: not all of it is on the disk.
        """
        self._flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class Events:
    """CLU's default writer, which gives up rather than end a run; what it says is logged still."""

    def __init__(self, directory: Path, just_logging: bool) -> None:
        """Writes into `directory`; on all processes but the first it only logs."""
        from clu import metric_writers

        self._create = metric_writers.create_default_writer
        self._directory = directory
        self._attempt(lambda: self._open(just_logging))

    def _open(self, just_logging: bool) -> None:
        self._writer = self._create(str(self._directory), just_logging=just_logging)

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # of TensorFlow's own kinds, and of those of the system
            logging.error("%s: events end here (%s)", self._directory, errors.reason(error))
            self._writer = self._create(just_logging=True)

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Metrics after a step."""
        self._attempt(lambda: self._writer.write_scalars(step, scalars))

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Pictures after a step, each [number, height, width, 3] uint8."""
        self._attempt(lambda: self._writer.write_images(step, images))

    def write_audios(self, step: int, audios: Mapping[str, np.ndarray], sample_rate: int) -> None:
        """Sound after a step, each [number, samples, 1] f32 within -1..1."""
        self._attempt(lambda: self._writer.write_audios(step, audios, sample_rate=sample_rate))

    def flush(self) -> None:
        """Waits for what was written."""
        self._attempt(self._writer.flush)

    def close(self) -> None:
        """Ends the writer."""
        self._attempt(self._writer.close)
