"""The shards of the corpus: the unit that is rendered by one process and kept after a kill."""

from __future__ import annotations

import dataclasses
import errno
import json
import multiprocessing
import os
import pathlib
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent import futures

from loev_jax.corpus import plan as plans
from loev_jax.errors import UserError

DATASET = "loev_corpus"
RECORD_BYTES = 960_400  # of a clip: 480 000 int16 samples, the labels and the file's overhead
_CLIPS_PER_SHARD = 24
# One record a group and no compression: noise-like PCM does not shrink, and reading is three
# times as fast.
_WRITER_OPTIONS = "group_size:1,uncompressed"


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
      OSError: it cannot be written; with `errno.ENOSPC` if the disk is full.
    """
    from array_record.python import array_record_module

    from loev_jax.corpus import records

    features = records.features()
    unfinished = work / f"{shard.name}.{os.getpid()}"
    failed: dict[str, str] = {}
    instruments: Counter[str] = Counter()
    collections: Counter[str] = Counter()
    examples = size = 0
    try:
        writer = array_record_module.ArrayRecordWriter(os.fspath(unfinished), _WRITER_OPTIONS)
        for clip in shard.clips:
            try:
                example = records.example(clip, shard.seed)
            except (ValueError, RuntimeError) as error:
                failed[records.identifier(clip)] = f"{clip.piece}: {error}"
                continue
            record = records.serialize(features, example)
            writer.write(record)
            examples, size = examples + 1, size + len(record)
            instruments[example["instrument"]] += 1
            collections[example["collection"]] += 1
        writer.close()
        written = Written(examples, size, failed, dict(instruments), dict(collections))
        unfinished.with_suffix(".json").write_text(
            json.dumps(dataclasses.asdict(written)), encoding="utf-8"
        )
        unfinished.with_suffix(".json").replace(work / f"{shard.name}.json")
        unfinished.replace(partial / shard.name)
    except RuntimeError as error:  # the writer is C++ and knows no OSError
        unfinished.unlink(missing_ok=True)
        code = errno.ENOSPC if "No space left" in str(error) else errno.EIO
        raise OSError(code, str(error), os.fspath(partial / shard.name)) from error
    except OSError:
        unfinished.unlink(missing_ok=True)
        unfinished.with_suffix(".json").unlink(missing_ok=True)
        raise
    return written


def _end_with_parent() -> None:
    """Ends this worker when the process that started it is gone, be it by SIGKILL."""

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def write_all(
    shards: list[Shard], partial: pathlib.Path, work: pathlib.Path, workers: int
) -> Iterator[tuple[Shard, Written]]:
    """Writes shards in `workers` processes, yielding each as it is finished.

    Raises:
      OSError: as for `write`.
      UserError: a process died.
    """
    if workers == 1:
        for shard in shards:
            yield shard, write(shard, partial, work)
        return
    # Spawned, not forked: the caller may run the threads of JAX or TensorFlow.
    with futures.ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _end_with_parent
    ) as pool:
        running = {pool.submit(write, shard, partial, work): shard for shard in shards}
        try:
            for future in futures.as_completed(running):
                yield running[future], future.result()
        except futures.process.BrokenProcessPool as error:
            raise UserError(
                f"{partial}: a rendering process died, perhaps for want of memory; run the same "
                "command again, with fewer workers, what is rendered is kept"
            ) from error
        finally:
            for future in running:
                future.cancel()
