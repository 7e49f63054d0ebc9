"""A folder of audio → a data set: in parallel, resumable, and never over anything that exists."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import pathlib
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import tensorflow_datasets as tfds

from loev_jax.data import labels as labels_lib
from loev_jax.data import processes, records, shards
from loev_jax.data.audio import EXTENSIONS, FOREIGN_EXTENSIONS, SAMPLE_RATE
from loev_jax.errors import UserError

SPLITS = dict(zip(labels_lib.SPLITS, (0.8, 0.1, 0.1), strict=True))
"""Shares of the files."""

MIN_FILES_TO_SPLIT = 50
"""A smaller folder is all `train`: a tenth of it would measure nothing."""

_NAME = "audio_folder"
_VERSION = "1.0.0"
_FILES_PER_SHARD = 8  # at least; what a kill costs each worker
_SHARDS = 256  # about at most, since a reader keeps every shard open


@dataclasses.dataclass(frozen=True)
class Report:
    """What a data set was made of; `report.json` holds the same.

    Attributes:
      clips: number of clips by split.
      files: number of audio files that were used.
      unlabelled: how many of the files found have no row in the label file, if there is one.
      hours: length of all clips.
      skipped: path and reason of each file that was not used.
      settings: what decides the content: the same settings give the same data set.
    """

    clips: Mapping[str, int]
    files: int
    unlabelled: int
    hours: float
    skipped: Sequence[Mapping[str, str]]
    settings: Mapping[str, Any]

    def __str__(self) -> str:
        splits = ", ".join(f"{split} {count}" for split, count in self.clips.items())
        return (
            f"{sum(self.clips.values())} clips ({splits}), {self.hours:.2f} h, "
            f"from {self.files} files; {len(self.skipped)} files skipped (see report.json)"
        )


def split_of(path: str, files: int) -> str:
    """The split of a file: a hash of its path draws train, validation or test, 80 : 10 : 10.

    Args:
      path: relative to the folder of audio.
      files: number of audio files in the folder; below `MIN_FILES_TO_SPLIT` all are `train`.
    """
    if files < MIN_FILES_TO_SPLIT:
        return "train"
    digest = hashlib.sha256(os.fsencode(labels_lib.normalise(path))).digest()
    draw = int.from_bytes(digest[:8], "big") / 2**64
    for split, share in SPLITS.items():
        if draw < share:
            return split
        draw -= share
    return "test"  # the shares' rounding


def prepare(
    audio: pathlib.Path,
    out: pathlib.Path,
    *,
    labels: pathlib.Path | None = None,
    label_columns: Sequence[str] | None = None,
    clip_seconds: float = 30.0,
    min_seconds: float = 10.0,
    workers: int | None = None,
) -> tuple[Report, bool]:
    """Cuts every audio file below a folder into clips and writes them as a data set.

    Work goes to `<out>.partial`, from which a run that was killed goes on; `out` appears at the
    end, by a rename. The result depends on the files and the settings, not on `workers`.

    Args:
      audio: the folder, searched to any depth; hidden files and linked folders are left out.
      out: directory of the data set; it must not exist, be empty, or hold this very data set.
      labels: a label file (see `labels.read`).
      label_columns: which of its columns to keep; None keeps all.
      clip_seconds: length of the consecutive clips.
      min_seconds: least length of a file and of its last clip.
      workers: number of processes; one per available CPU if None.

    Returns:
      The report, and whether the data set was there already.

    Raises:
      UserError: nothing to read, a bad label file, `out` holds something else, or the disk is full.
    """
    if not 0 < min_seconds <= clip_seconds:
        raise UserError(
            f"min_seconds={min_seconds:g} must be above 0 and at most clip_seconds={clip_seconds:g}"
        )
    files, foreign = _find(audio)
    table = labels_lib.Labels({}, {})
    if labels is not None:
        table = labels_lib.read(labels, audio, files, label_columns)
    elif label_columns is not None:
        raise UserError("--label_columns is given without --labels: name the label file as well")
    placed = _placed(files, table)
    if not placed:
        raise UserError(
            f"labels file {labels} gives no file a split: write one of "
            f"{', '.join(SPLITS)} in its column `split`, or remove the column"
        )
    settings = _settings(audio, files, table, clip_seconds, min_seconds)
    partial = out.absolute().with_name(out.absolute().name + ".partial")
    if existing := _existing(out, settings):
        shutil.rmtree(partial, ignore_errors=True)  # left if a run was killed right at its end
        return existing, True
    with _claim(partial, settings, out):
        jobs = _plan(partial, audio, placed, table, clip_seconds, min_seconds)
        everything = [job for group in jobs.values() for job in group]
        results = shards.run(everything, workers)
        unused = dict.fromkeys(foreign, "format not supported, convert it to flac")
        unused |= dict.fromkeys(files.keys() - placed.keys(), "the label file gives it no split")
        report = _report(jobs, results, unused, table, settings)
        if not sum(report.clips.values()):
            shutil.rmtree(partial)
            first = report.skipped[0]
            raise UserError(
                f"none of the {len(files)} audio files in {audio} can be used, see the lines "
                f"above; the first: {first['path']}: {first['reason']}"
            )
        try:
            _publish(partial / "dataset", jobs, results, table, report, out)
        except OSError as error:
            processes.raise_if_disk_full(error, partial)
            raise
    shutil.rmtree(partial, ignore_errors=True)
    return report, False


def _find(audio: pathlib.Path) -> tuple[dict[str, int], list[str]]:
    """Sizes of the audio files by relative path, sorted; and those of unsupported formats."""
    if not audio.is_dir():
        kind = "is not a folder" if audio.exists() else "does not exist"
        raise UserError(f"audio folder {audio} {kind}: correct --audio")
    files: dict[str, int] = {}
    foreign: list[str] = []
    for root, folders, names in os.walk(audio):
        folders[:] = [folder for folder in folders if not folder.startswith(".")]
        for name in names:
            path = pathlib.Path(root, name)
            suffix = path.suffix.lower()
            if name.startswith("."):  # such as macOS's ._song.mp3, which is no audio
                continue
            if suffix in EXTENSIONS:
                size = path.stat().st_size if path.exists() else 0
                files[path.relative_to(audio).as_posix()] = size
            elif suffix in FOREIGN_EXTENSIONS:
                foreign.append(path.relative_to(audio).as_posix())
    if not files:
        raise UserError(
            f"audio folder {audio} holds no audio file ({' '.join(EXTENSIONS)}): correct --audio"
        )
    return dict(sorted(files.items())), sorted(foreign)


def _settings(
    audio: pathlib.Path,
    files: Mapping[str, int],
    table: labels_lib.Labels,
    clip_seconds: float,
    min_seconds: float,
) -> dict[str, Any]:
    def digest(*content: Any) -> str:
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    kinds = {name: kind.__name__ for name, kind in table.kinds.items()}
    return {
        "version": _VERSION,
        "audio": os.fspath(audio.resolve()),
        "clip_seconds": clip_seconds,
        "min_seconds": min_seconds,
        "files": len(files),
        "files_sha256": digest(list(files.items())),
        "labels": kinds,
        "labels_sha256": digest(
            kinds,
            {path: dict(row) for path, row in table.rows.items()},
            *([] if table.splits is None else [dict(table.splits)]),
        ),
    }


def _existing(out: pathlib.Path, settings: Mapping[str, Any]) -> Report | None:
    """The report of the very data set that is asked for; raises if `out` holds anything else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    try:
        report = Report(**json.loads((out / "report.json").read_text()))
    except (OSError, ValueError, TypeError):
        raise UserError(
            f"--out={out} exists and is not a data set made from a folder: choose another --out"
        ) from None
    if difference := _difference(report.settings, settings):
        raise UserError(
            f"--out={out} holds another data set ({difference}): choose another --out, or delete it"
        )
    return report


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What differs between two settings; the folder's own place does not count."""
    changed = [key for key in new if key != "audio" and old.get(key) != new[key]]
    return ", ".join(f"{key} was {old.get(key)}, is {new[key]}" for key in changed[:2])


@contextmanager
def _claim(partial: pathlib.Path, settings: Mapping[str, Any], out: pathlib.Path) -> Iterator[None]:
    """Holds the directory of unfinished work, alone and for one group of settings."""
    try:
        (partial / "work").mkdir(parents=True, exist_ok=True)
        (partial / "dataset").mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"--out={out} cannot be written ({error}): choose another --out") from error
    with (partial / "settings.json").open("a+") as stream:
        processes.lock(stream, f"another run is preparing {out}: wait for it to end")
        stream.seek(0)
        text = stream.read()
        try:
            old = json.loads(text) if text else settings
        except ValueError:  # killed while writing it, so before any work
            old, text = settings, ""
        if difference := _difference(old, settings):
            raise UserError(
                f"{partial} holds the unfinished work of another command ({difference}): run that "
                "one again, choose another --out, or delete the directory"
            )
        if not text:
            stream.truncate(0)
            json.dump(settings, stream)
            stream.flush()
        for stale in (partial / "work").glob("*tmp*"):
            stale.unlink(missing_ok=True)
        yield


def _placed(files: Collection[str], table: labels_lib.Labels) -> dict[str, str]:
    """The split of each file that has one: by the label file, if it has a column of them."""
    if table.splits is None:
        return {path: split_of(path, len(files)) for path in files}
    theirs = {path: table.splits.get(labels_lib.normalise(path)) for path in files}
    return {path: split for path, split in theirs.items() if split is not None}


def _plan(
    partial: pathlib.Path,
    audio: pathlib.Path,
    placed: Mapping[str, str],
    table: labels_lib.Labels,
    clip_seconds: float,
    min_seconds: float,
) -> dict[str, list[shards.Job]]:
    """The shards of each split. It follows from the files and their splits, in any run."""
    size = max(_FILES_PER_SHARD, math.ceil(len(placed) / _SHARDS))
    jobs: dict[str, list[shards.Job]] = {}
    for split in SPLITS:
        members = [path for path, its in placed.items() if its == split]
        jobs[split] = [
            shards.Job(
                target=partial / "work" / f"{split}-{start // size:05d}.array_record",
                audio=audio,
                files={path: table.of(path) for path in members[start : start + size]},
                kinds=table.kinds,
                clip_samples=round(clip_seconds * SAMPLE_RATE),
                min_samples=round(min_seconds * SAMPLE_RATE),
            )
            for start in range(0, len(members), size)
        ]
    return jobs


def _report(
    jobs: Mapping[str, list[shards.Job]],
    results: Mapping[pathlib.Path, shards.Result],
    unused: Mapping[str, str],
    table: labels_lib.Labels,
    settings: Mapping[str, Any],
) -> Report:
    skipped = [pair for result in results.values() for pair in result.skipped]
    paths = [path for group in jobs.values() for job in group for path in job.files]
    for path, reason in sorted(unused.items()):
        print(f"skipped {path}: {reason}", file=sys.stderr)
    return Report(
        clips={
            split: count
            for split, group in jobs.items()
            if (count := sum(results[job.target].clips for job in group))
        },
        files=len(paths) - len(skipped),
        unlabelled=sum(labels_lib.normalise(path) not in table.rows for path in paths)
        if table.rows
        else 0,
        hours=sum(result.samples for result in results.values()) / SAMPLE_RATE / 3600,
        skipped=[
            {"path": path, "reason": reason} for path, reason in sorted([*skipped, *unused.items()])
        ],
        settings=settings,
    )


def _publish(
    directory: pathlib.Path,
    jobs: Mapping[str, list[shards.Job]],
    results: Mapping[pathlib.Path, shards.Result],
    table: labels_lib.Labels,
    report: Report,
    out: pathlib.Path,
) -> None:
    """Names the shards as TFDS does, describes them, and moves the whole to `out`."""
    splits, shortest = [], {}
    for split in report.clips:
        filled = [job for job in jobs[split] if results[job.target].clips]
        template = tfds.core.ShardedFileTemplate(
            data_dir=directory, dataset_name=_NAME, split=split, filetype_suffix="array_record"
        )
        for index, job in enumerate(filled):
            path = template.sharded_filepath(shard_index=index, num_shards=len(filled))
            if job.target.exists():  # or a run killed at this very point has renamed it
                os.replace(job.target, path)
        lengths = [results[job.target].clips for job in filled]
        size = sum(results[job.target].bytes for job in filled)
        splits.append(
            tfds.core.SplitInfo(
                name=split, shard_lengths=lengths, num_bytes=size, filename_template=template
            )
        )
        known = [clip for job in filled if (clip := results[job.target].shortest)]
        shortest[split] = min(known, key=lambda clip: clip[1])
    records.describe(directory, _NAME, _VERSION, table.kinds, splits, shortest)
    (directory / "report.json").write_text(json.dumps(dataclasses.asdict(report), indent=1) + "\n")
    try:
        os.rename(directory, out)
    except OSError as error:
        raise UserError(f"--out={out} cannot be created ({error}): choose another --out") from error
