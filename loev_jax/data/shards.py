"""A group of audio files → one ArrayRecord shard, in a process of its own."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from array_record.python import array_record_module

from loev_jax.data import audio, processes, records
from loev_jax.data.progress import Progress


@dataclasses.dataclass(frozen=True)
class Job:
    """What a worker needs to write one shard.

    Attributes:
      target: the shard's path; `result` is read from beside it.
      audio: the folder of audio.
      files: paths relative to `audio`, with their labels.
      kinds: type of each label.
      clip_samples: length of a clip at 16 kHz.
      min_samples: least length of a file's last clip.
    """

    target: pathlib.Path
    audio: pathlib.Path
    files: Mapping[str, Mapping[str, float | str]]
    kinds: Mapping[str, type]
    clip_samples: int
    min_samples: int

    @property
    def result_path(self) -> pathlib.Path:
        """Exists if and only if the shard is complete."""
        return self.target.with_suffix(".json")


@dataclasses.dataclass
class Result:
    """What a finished shard holds.

    Attributes:
      clips: number of records.
      samples: their total length.
      bytes: their total size.
      shortest: id and length of the shortest clip; None without clips.
      skipped: (path, reason) of the files that are not in it.
    """

    clips: int = 0
    samples: int = 0
    bytes: int = 0
    shortest: tuple[str, int] | None = None
    skipped: list[tuple[str, str]] = dataclasses.field(default_factory=list)

    @classmethod
    def load(cls, job: Job) -> Result | None:
        """The result of a job that an earlier run finished, or None."""
        if not job.result_path.exists():
            return None
        state = json.loads(job.result_path.read_text())
        state["shortest"] = tuple(state["shortest"]) if state["shortest"] else None
        state["skipped"] = [tuple(pair) for pair in state["skipped"]]
        return cls(**state)


_files_done: Any = None  # multiprocessing.Value shared with the parent


def initialise(files_done: Any) -> None:
    """Prepares a worker process.

    Args:
      files_done: a `multiprocessing.Value` to count finished files in.
    """
    global _files_done
    _files_done = files_done
    # mpg123 writes notes on damaged mp3 files straight to the C library's stderr.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def write(job: Job) -> Result:
    """Writes one shard, atomically: an interrupted one leaves nothing that a later run reads.

    Raises:
      UserError: the disk is full.
    """
    result = Result()
    partial = job.target.with_suffix(f".{os.getpid()}.tmp")
    try:
        _write_records(job, partial, result)
        os.replace(partial, job.target)
        state = partial.with_suffix(".json-tmp")
        state.write_text(json.dumps(dataclasses.asdict(result)))
        os.replace(state, job.result_path)
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        processes.raise_if_disk_full(error, job.target.parent)
        raise
    return result


def run(jobs: Sequence[Job], workers: int | None) -> dict[pathlib.Path, Result]:
    """Does the jobs that no earlier run has done, and says on stderr how far it is.

    Args:
      jobs: all of them, with distinct targets.
      workers: number of processes; one per available CPU if None.

    Returns:
      The result of every job by its target.

    Raises:
      UserError: the disk is full, or a worker process was killed.
    """
    results = {job.target: done for job in jobs if (done := Result.load(job))}
    todo = [job for job in jobs if job.target not in results]
    total, left = (sum(len(job.files) for job in group) for group in (jobs, todo))
    progress = Progress("prepare", total, "files", done=total - left)
    if results:
        progress.say(f"going on: {total - left} of {total} files are done")
    for result in results.values():
        _say_skipped(progress, result)
    counter = processes.CONTEXT.Value("q", total - left)
    workers = max(1, min(workers or processes.available_cpus(), len(todo)))
    try:
        with processes.pool(workers, initialise, (counter,)) as pool:
            waiting = {pool.submit(write, job): job for job in todo}
            while waiting:
                finished, _ = concurrent.futures.wait(
                    waiting, timeout=0.25, return_when=concurrent.futures.FIRST_COMPLETED
                )
                for future in finished:
                    results[waiting.pop(future).target] = future.result()
                    _say_skipped(progress, future.result())
                progress.update(counter.value)
    finally:
        progress.close()
    return results


def _write_records(job: Job, path: pathlib.Path, result: Result) -> None:
    schema = records.features(job.kinds)
    writer = array_record_module.ArrayRecordWriter(os.fspath(path), records.SHARD_OPTIONS)
    try:
        for file, labels in job.files.items():
            name = os.fsencode(file).decode("utf-8", "replace")
            try:
                for start, clip in audio.segments(
                    job.audio / file,
                    clip_samples=job.clip_samples,
                    min_samples=job.min_samples,
                    spool_dir=os.fspath(path.parent),
                ):
                    clip_id = f"{name}#t={start / audio.SAMPLE_RATE:g}"
                    record = {records.AUDIO: clip, records.ID: clip_id, records.PIECE: name}
                    data = records.serialise(schema, {**record, **labels})
                    writer.write(data)
                    result.clips += 1
                    result.samples += len(clip)
                    result.bytes += len(data)
                    if result.shortest is None or len(clip) < result.shortest[1]:
                        result.shortest = (clip_id, len(clip))
            except audio.AudioError as error:
                result.skipped.append((name, str(error)))
            with _files_done.get_lock():
                _files_done.value += 1
    finally:
        writer.close()


def _say_skipped(progress: Progress, result: Result) -> None:
    for path, reason in result.skipped:
        progress.say(f"skipped {path}: {reason}")
