"""Endless training batches whose content is a pure function of (seed, step, row).

Example number `e = step · batch_size + row` stands for one clip (a permutation of the split per
epoch) and one window of it (a draw keyed by the seed and e). Nothing else enters: not the number
of hosts, threads or devices, nor where a run was interrupted. So there is no iterator state to
save, and a run resumes at any step on any number of hosts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypedDict

import grain
import numpy as np

from loev_jax.data.audio import SAMPLE_RATE
from loev_jax.data.records import AUDIO, ID, Clip, Split
from loev_jax.errors import UserError


class Batch(TypedDict):
    """One host's rows of a global batch.

    Keys:
      audio: int16 [batch_size // process_count, window_samples].
      example: int64 [batch_size // process_count], the global example numbers.
    """

    audio: np.ndarray
    example: np.ndarray


def batches(
    split: Split,
    *,
    seed: int,
    batch_size: int,
    window_samples: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    threads: int,
    prefetch: int,
) -> Iterator[Batch]:
    """Endless batches from `start_step` on, read ahead in background threads.

    Each epoch is another permutation, of which the last len(split) mod batch_size clips are left
    out: no clip stands twice in a batch, where it would count as a negative of itself.

    Args:
      split: the clips.
      seed: of the order and of the windows, in [0, 2**63).
      batch_size: clips per step over all hosts.
      window_samples: length of the window cut from a clip, in samples at 16 kHz.
      start_step: the first step; starting late costs no more than starting at 0.
      process_index: this host; it reads rows [i·b, (i+1)·b) of the global batch, b its share.
      process_count: number of hosts.
      threads: threads that read, each a batch of its own; at most `prefetch` are busy.
      prefetch: batches kept ready; with 0 of either, the caller's thread reads.

    Returns:
      An iterator of `Batch`.

    Raises:
      UserError: batch_size exceeds the split or is not a multiple of process_count, seed is
        out of range, or a clip is shorter than the window (when the data set states its shortest
        clip; otherwise the iterator raises as it reads such a clip).
    """
    if batch_size < 1 or batch_size > len(split):
        raise UserError(
            f"batch_size={batch_size} does not fit split {split.name!r} of {split.path} with "
            f"{len(split)} clips: choose 1 to {len(split)}, or prepare more clips"
        )
    if batch_size % process_count:
        raise UserError(
            f"batch_size={batch_size} is not a multiple of the {process_count} processes: "
            f"choose {batch_size - batch_size % process_count or process_count}"
        )
    if not 0 <= seed < 2**63:
        raise UserError(f"seed={seed} is out of range: choose 0 to 2**63 - 1")
    if split.shortest is not None:
        _check_length(split.shortest, window_samples, split)

    def read(example: int, record: dict) -> Batch:
        audio = record[AUDIO]
        _check_length(Clip(record[ID], len(audio)), window_samples, split)
        rng = np.random.Generator(np.random.Philox(key=np.array([seed, example], np.uint64)))
        offset = rng.integers(len(audio) - window_samples + 1)
        return {
            "audio": audio[offset : offset + window_samples],
            "example": np.int64(example),  # type: ignore[typeddict-item]  # batched below
        }

    per_epoch = len(split) // batch_size * batch_size
    per_process = batch_size // process_count
    # Grain shuffles epoch n with seed + n: without a hash, neighbouring seeds share epochs.
    order_seed = int(np.random.SeedSequence(seed).generate_state(1)[0])
    dataset = (
        grain.MapDataset.source(split)
        .shuffle(order_seed)[:per_epoch]
        .repeat()
        .map_with_index(read)
        .batch(per_process, drop_remainder=True)
    )
    options = grain.ReadOptions(num_threads=min(threads, prefetch), prefetch_buffer_size=prefetch)
    first = start_step * process_count + process_index
    return iter(dataset[first::process_count].to_iter_dataset(options))


def _check_length(clip: Clip, window_samples: int, split: Split) -> None:
    if clip.samples < window_samples:
        raise UserError(
            f"clip {clip.id!r} of {split.path} lasts {clip.samples / SAMPLE_RATE:.2f} s, shorter "
            f"than the {window_samples / SAMPLE_RATE:.2f} s that a training window needs: shorten "
            "the window, or prepare the data set again with a larger --min_seconds"
        )
