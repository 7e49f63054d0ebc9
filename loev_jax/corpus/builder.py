"""The built-in corpus as a TFDS data set, and `prepare`, which renders it in parallel.

`prepare` writes what `tfds.builder_from_directory` reads. TFDS's own `download_and_prepare` works
as well, in one process, not resumable, and with twice the disk.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from loev_jax import atomic
from loev_jax.corpus import plan as plans
from loev_jax.corpus import records, rendering, shards
from loev_jax.corpus import report as reports
from loev_jax.data import processes
from loev_jax.data import records as data_records
from loev_jax.data.progress import Progress
from loev_jax.errors import UserError

# Raise it whenever a clip of the same seed and number would sound different.
VERSION = "1.0.0"

_SPARE_BYTES = 32 * 2**20  # metadata, and room for the file system's own
_CLIPS_PER_WORKER = 48  # fewer are rendered sooner than another process is started


class LoevCorpus(tfds.core.GeneratorBasedBuilder):
    """Tunes and chorales played by random instruments, at a random tempo and in a random key."""

    VERSION = tfds.core.Version(VERSION)

    def __init__(self, *, clips: int = 2000, seed: int = 0, **kwargs: Any):
        """Takes the size and the seed of the corpus, and what any TFDS builder takes."""
        self._clips, self._seed = clips, seed
        super().__init__(**{"file_format": "array_record", **kwargs})

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=(
                "Bach chorales and fiddle tunes from music21's corpus, rendered with the "
                "TimGM6mb soundfont: 30 s at 16 kHz with tempo, key, metre and instrument."
            ),
            features=records.features(),
            homepage="https://www.music21.org",
            license="The scores are those that music21 distributes; the soundfont is GPL-2.0.",
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        del dl_manager
        plan = plans.make(self._clips, self._seed)
        return {
            split: self._generate_examples([clip for clip in plan.clips if clip.split == split])
            for split in plans.SPLITS
        }

    def _generate_examples(self, clips: list[plans.Clip]) -> Iterator[tuple[int, dict[str, Any]]]:
        for clip in clips:
            yield clip.number, records.example(clip, self._seed)


def _finished(out: pathlib.Path, request: dict[str, Any]) -> reports.Report | None:
    """Returns the report of the corpus at `out`, or None if nothing is there.

    Raises:
      UserError: what is there is not the corpus that is asked for.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    report = reports.read(out) if out.is_dir() else None
    if report is None:
        raise UserError(f"{out} exists and is not a corpus; choose another directory or move it")
    _compare(out, dataclasses.asdict(report), request)
    return report


def _compare(directory: pathlib.Path, found: dict[str, Any], request: dict[str, Any]) -> None:
    for name, value in request.items():
        if found.get(name) != value:
            raise UserError(
                f"{directory} holds a corpus with {name}={found.get(name)}, not {value}; "
                f"ask for {name}={found.get(name)}, choose another directory or move this one"
            )


@contextlib.contextmanager
def _locked(partial: pathlib.Path) -> Iterator[None]:
    """Holds `partial` for this process alone."""
    with (partial / ".lock").open("w") as lock:
        processes.lock(lock, f"{partial}: another process is rendering it; wait for it")
        yield


def _plan(work: pathlib.Path, clips: int, seed: int) -> plans.Plan:
    """Returns the plan, kept in `work` from one run to the next."""
    path = work / "plan.json"
    if not path.exists():
        with atomic.replacing(path) as unfinished:
            plans.make(clips, seed).save(unfinished)
    return plans.load(path)


def _render(
    by_split: dict[str, list[shards.Shard]], partial: pathlib.Path, work: pathlib.Path, workers: int
) -> dict[str, shards.Written]:
    """Renders the shards that are not there yet; returns what every shard holds, by its name."""
    every = [shard for split in by_split.values() for shard in split]
    written: dict[str, shards.Written] = {}
    for shard in every:
        found = shards.read_written(shard, partial, work)
        if found is not None:
            written[shard.name] = found
    missing = [shard for shard in every if shard.name not in written]

    def bytes_needed() -> int:
        clips = sum(len(shard.clips) for shard in missing if shard.name not in written)
        return clips * shards.RECORD_BYTES + _SPARE_BYTES

    if missing and shutil.disk_usage(partial).free < bytes_needed():
        raise processes.disk_full(partial, bytes_needed())
    total = sum(len(shard.clips) for shard in every)
    done = total - sum(len(shard.clips) for shard in missing)
    progress = Progress("render", total, "clips", done=done)
    try:
        for shard, result in shards.write_all(missing, partial, work, workers):
            written[shard.name] = result
            done += len(shard.clips)
            progress.update(done)
    except (OSError, RuntimeError) as error:
        processes.raise_if_disk_full(error, partial, bytes_needed())
        raise
    finally:
        progress.close()
    return written


def _shortest(
    by_split: dict[str, list[shards.Shard]], written: dict[str, shards.Written]
) -> dict[str, tuple[str, int]]:
    """Returns the id and the samples of a shortest clip by split; all are of one length."""
    shortest = {}
    for split, found in by_split.items():
        failed = {name for shard in found for name in written[shard.name].failed}
        names = (records.identifier(clip) for shard in found for clip in shard.clips)
        if rendered := next((name for name in names if name not in failed), None):
            shortest[split] = (rendered, rendering.SAMPLES)
    return shortest


def _write_metadata(
    partial: pathlib.Path,
    by_split: dict[str, list[shards.Shard]],
    written: dict[str, shards.Written],
    plan: plans.Plan,
) -> None:
    """Writes the JSON files of the data set, as TFDS does after its own writers."""
    builder = LoevCorpus(clips=len(plan.clips), seed=plan.seed, data_dir=partial)
    infos = []
    for split, found in by_split.items():
        template = tfds.core.ShardedFileTemplate(
            data_dir=partial,
            dataset_name=shards.DATASET,
            split=split,
            filetype_suffix="array_record",
        )
        infos.append(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[written[shard.name].examples for shard in found],
                num_bytes=sum(written[shard.name].bytes for shard in found),
                filename_template=template,
            )
        )
    builder.info.set_splits(tfds.core.splits.SplitDict(infos))
    builder.info.metadata.update(data_records.metadata(_shortest(by_split, written)))
    builder.info.write_to_directory(partial)


def _total(parts: list[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(sorted(total.items()))


def prepare(
    out: pathlib.Path, *, clips: int = 2000, seed: int = 0, workers: int | None = None
) -> reports.Report:
    """Renders the corpus to `out`, or finds it there.

    It grows in a directory beside `out`, `out` with ".partial" after its name, and is renamed when
    it is complete: an `out` that exists is whole. A run that was killed is taken up by the next
    one, at the shards (24 clips) that were not finished. The bytes of every file depend on `seed`
    and `clips` alone.

    Args:
      out: the directory of the data set, for `tfds.builder_from_directory`.
      clips: the number of 30 s clips, at least 10; about 0.96 MB each.
      seed: seeds the choice of the pieces and how they are played.
      workers: the number of processes; by default one a core, fewer for a small corpus.

    Returns:
      What was rendered, also for a corpus that was there already.

    Raises:
      UserError: `out` holds something else, the disk is full, another process is at work on it,
        or an argument is out of range.
    """
    begin = time.monotonic()
    request = {"version": VERSION, "clips": clips, "seed": seed}
    plans.sizes(clips)
    if workers is not None and workers < 1:
        raise UserError(f"workers={workers}: at least one process is needed")
    out = pathlib.Path(out).absolute()
    report = _finished(out, request)
    if report is not None:
        return report
    partial = out.with_name(out.name + ".partial")
    work = partial / "work"
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{work} cannot be made: {error.strerror}; choose another --out") from error
    with _locked(partial):
        report = _finished(out, request)  # another process may have finished it meanwhile
        if report is not None:
            shutil.rmtree(partial)
            return report
        report = reports.read(partial)
        if report is None:
            report = _build(partial, work, request, workers, begin)
        else:  # the last run was killed between its last two steps
            _compare(partial, dataclasses.asdict(report), request)
        shutil.rmtree(work, ignore_errors=True)
        (partial / ".lock").unlink()
        partial.rename(out)
    return report


def _build(
    partial: pathlib.Path,
    work: pathlib.Path,
    request: dict[str, Any],
    workers: int | None,
    begin: float,
) -> reports.Report:
    """Does all the work in `partial`, with `report.json` as its last file."""
    clips, seed = request["clips"], request["seed"]
    requested = work / "request.json"
    if requested.exists():
        _compare(partial, json.loads(requested.read_text(encoding="utf-8")), request)
    try:
        with atomic.replacing(requested) as unfinished:
            unfinished.write_text(json.dumps(request), encoding="utf-8")
        plan = _plan(work, clips, seed)
    except OSError as error:
        processes.raise_if_disk_full(error, partial, clips * shards.RECORD_BYTES + _SPARE_BYTES)
        raise
    by_split = shards.divide(plan)
    if workers is None:
        workers = max(1, min(processes.available_cpus(), clips // _CLIPS_PER_WORKER))
    written = _render(by_split, partial, work, workers)
    try:
        _write_metadata(partial, by_split, written, plan)
    except OSError as error:
        processes.raise_if_disk_full(error, partial, _SPARE_BYTES)
        raise
    report = reports.Report(
        **request,
        read=plan.read,
        kept=plan.kept,
        skipped=plan.skipped,
        failed={name: why for part in written.values() for name, why in part.failed.items()},
        splits={
            split: sum(written[shard.name].examples for shard in found)
            for split, found in by_split.items()
        },
        collections=_total([part.collections for part in written.values()]),
        instruments=_total([part.instruments for part in written.values()]),
        seconds=round(time.monotonic() - begin, 1),
    )
    unfinished = work / "report.json"
    unfinished.write_text(json.dumps(dataclasses.asdict(report), indent=2), encoding="utf-8")
    unfinished.replace(partial / "report.json")
    return report
