"""The shards of the corpus: the unit that is rendered by one process and kept after a kill."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections import Counter
from collections.abc import Iterator
from concurrent import futures

from loev_jax.corpus import plan as plans
from loev_jax.data import processes

DATASET = "loev_corpus"
RECORD_BYTES = 960_400  # of a clip: 480 000 int16 samples, the labels and the file's overhead
_CLIPS_PER_SHARD = 24


@dataclasses.dataclass(frozen=True)
class Shard:
    """Some clips of one split, in one ArrayRecord file.

    Attributes:
      name: the file's name, as TFDS expects it.
      seed: the corpus's seed.
      clips: the clips, in the order of their numbers.
    """

    name: str
    seed: int
    clips: tuple[plans.Clip, ...]


@dataclasses.dataclass(frozen=True)
class Written:
    """What was written to a shard.

    Attributes:
      examples: the number of records.
      bytes: their serialised size.
      failed: what went wrong, by record id, for the clips that could not be rendered.
      instruments: the number of records of each instrument family.
      collections: the number of records of each collection.
    """

    examples: int
    bytes: int
    failed: dict[str, str]
    instruments: dict[str, int]
    collections: dict[str, int]


def divide(plan: plans.Plan) -> dict[str, list[Shard]]:
    """Divides each split of a plan into shards, as evenly as can be."""
    shards: dict[str, list[Shard]] = {}
    for split in plans.SPLITS:
        clips = [clip for clip in plan.clips if clip.split == split]
        count = -(-len(clips) // _CLIPS_PER_SHARD)
        shards[split] = [
            Shard(
                name=f"{DATASET}-{split}.array_record-{index:05d}-of-{count:05d}",
                seed=plan.seed,
                clips=tuple(clips[index * len(clips) // count : (index + 1) * len(clips) // count]),
            )
            for index in range(count)
        ]
    return shards


def read_written(shard: Shard, partial: pathlib.Path, work: pathlib.Path) -> Written | None:
    """Returns what a finished shard holds, or None if it is not finished."""
    if not (partial / shard.name).exists():
        return None
    return Written(**json.loads((work / f"{shard.name}.json").read_text(encoding="utf-8")))


def write(shard: Shard, partial: pathlib.Path, work: pathlib.Path) -> Written:
    """Renders a shard into `partial`, where it appears only when it is complete.

    Args:
      shard: what to render.
      partial: the directory of the finished shards.
      work: a directory on the same file system, for unfinished files and `Written` as JSON.

    Raises:
      OSError, RuntimeError: it cannot be written.
    """
    from array_record.python import array_record_module

    from loev_jax.corpus import records
    from loev_jax.data.records import SHARD_OPTIONS, serialise

    features = records.features()
    unfinished = work / f"{shard.name}.{os.getpid()}"
    summary = work / f"{shard.name}.json.{os.getpid()}"
    failed: dict[str, str] = {}
    instruments: Counter[str] = Counter()
    collections: Counter[str] = Counter()
    examples = size = 0
    try:
        writer = array_record_module.ArrayRecordWriter(os.fspath(unfinished), SHARD_OPTIONS)
        for clip in shard.clips:
            try:
                example = records.example(clip, shard.seed)
            except (ValueError, RuntimeError) as error:
                failed[records.identifier(clip)] = f"{clip.piece}: {error}"
                continue
            record = serialise(features, example)
            writer.write(record)
            examples, size = examples + 1, size + len(record)
            instruments[example["instrument"]] += 1
            collections[example["collection"]] += 1
        writer.close()
        written = Written(examples, size, failed, dict(instruments), dict(collections))
        summary.write_text(json.dumps(dataclasses.asdict(written)), encoding="utf-8")
        summary.replace(work / f"{shard.name}.json")
        unfinished.replace(partial / shard.name)
    except (OSError, RuntimeError):  # the writer is C++ and knows no OSError
        unfinished.unlink(missing_ok=True)
        summary.unlink(missing_ok=True)
        raise
    return written


def write_all(
    shards: list[Shard], partial: pathlib.Path, work: pathlib.Path, workers: int
) -> Iterator[tuple[Shard, Written]]:
    """Writes shards in `workers` processes, yielding each as it is finished.

    Raises:
      OSError, RuntimeError: as for `write`.
      UserError: a process was killed.
    """
    if workers == 1:
        for shard in shards:
            yield shard, write(shard, partial, work)
        return
    with processes.pool(workers) as pool:
        running = {pool.submit(write, shard, partial, work): shard for shard in shards}
        for future in futures.as_completed(running):
            yield running[future], future.result()
