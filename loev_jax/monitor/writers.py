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
from typing import Any

import numpy as np
from absl import logging

from loev_jax import errors

FILE = "metrics.jsonl"

# TensorFlow, which CLU imports, greets with several lines on stderr unless told not to.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


class Journal:
    """`metrics.jsonl`: one JSON object per logged step, each step once, whatever was killed."""

    def __init__(self, workdir: Path, first_step: int) -> None:
        """Opens the file of a run that goes on at `first_step`; later lines are taken back."""
        self._path = Path(workdir) / FILE
        kept = [line for line in self._lines() if line["step"] < first_step]
        partial = self._path.with_suffix(".partial")
        partial.write_text("".join(json.dumps(line) + "\n" for line in kept))
        partial.replace(self._path)
        self._file = self._path.open("ab", buffering=0)
        self._unwritten = b""

    def _lines(self) -> list[dict[str, Any]]:
        lines = []
        for text in self._path.read_text().splitlines() if self._path.exists() else []:
            try:
                lines.append(json.loads(text))
            except ValueError:
                break  # the run was killed within this line
        return lines

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
        self._writer = self._create(str(directory), just_logging=just_logging)

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
