import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loev_jax.data import pipeline, records
from loev_jax.errors import UserError

CLIPS, LENGTH, WINDOW = 23, 60, 40


@pytest.fixture(scope="module")
def split(tmp_path_factory, write_data_set):
    """Clip k is the ramp 100 k, 100 k + 1, ...: a window tells its clip and its offset."""
    clips = [
        {"audio": (100 * k + np.arange(LENGTH)).astype(np.int16), "id": str(k), "piece": str(k)}
        for k in range(CLIPS)
    ]
    path = write_data_set(
        tmp_path_factory.mktemp("set"), clips, shards=3, shortest={"train": ("0", LENGTH)}
    )
    return records.open_split(path, "train")


class Counting:
    """A split that counts the records read from it."""

    def __init__(self, split):
        self.reads = 0
        self._split = split

    def __getattr__(self, name):
        return getattr(self._split, name)

    def __len__(self):
        return len(self._split)

    def __getitem__(self, index):
        self.reads += 1
        return self._split[index]


def _take(split, count, *, seed=0, batch_size=8, window=WINDOW, threads=2, prefetch=2, **kwargs):
    iterator = pipeline.batches(
        split,
        seed=seed,
        batch_size=batch_size,
        window_samples=window,
        threads=threads,
        prefetch=prefetch,
        **kwargs,
    )
    return list(itertools.islice(iterator, count))


def _clips_of(batch):
    return (batch["audio"][:, 0] // 100).tolist()


def test_rows_are_windows_of_clips_with_their_global_number(split):
    batches = _take(split, 5, start_step=3)
    for step, batch in enumerate(batches, start=3):
        assert batch["audio"].shape == (8, WINDOW)
        assert batch["audio"].dtype == np.int16
        np.testing.assert_array_equal(batch["example"], step * 8 + np.arange(8))
        offsets = batch["audio"][:, 0] % 100
        assert ((offsets >= 0) & (offsets <= LENGTH - WINDOW)).all()
        ramp = batch["audio"][:, :1] + np.arange(WINDOW)[None, :]
        np.testing.assert_array_equal(batch["audio"], ramp)


@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**40),
    step=st.integers(0, 10**9),
    hosts=st.sampled_from([1, 2, 4]),
    threads=st.integers(0, 3),
)
def test_any_hosts_started_at_any_step_read_the_same_global_batch(
    split, seed, step, hosts, threads
):
    reference = _take(split, 3, seed=seed, start_step=step, threads=0)
    for late in (0, 1):
        shares = [
            _take(
                split,
                3 - late,
                seed=seed,
                start_step=step + late,
                process_index=host,
                process_count=hosts,
                threads=threads,
            )
            for host in range(hosts)
        ]
        for expected, *parts in zip(reference[late:], *shares, strict=True):
            for key in ("audio", "example"):
                whole = np.concatenate([part[key] for part in parts])
                np.testing.assert_array_equal(whole, expected[key])


def test_every_epoch_is_another_permutation(split):
    # One clip a step, so that no remainder is left out.
    order = [_clips_of(batch)[0] for batch in _take(split, 4 * CLIPS, batch_size=1)]
    epochs = [tuple(order[k : k + CLIPS]) for k in range(0, len(order), CLIPS)]
    assert all(sorted(epoch) == list(range(CLIPS)) for epoch in epochs)
    assert len(set(epochs)) == len(epochs)


def test_no_clip_stands_twice_in_a_batch_and_each_is_left_out_in_turn(split):
    batches = _take(split, 120)
    assert all(len(set(_clips_of(batch))) == 8 for batch in batches)
    counts = np.bincount([clip for batch in batches for clip in _clips_of(batch)])
    assert len(counts) == CLIPS
    # 60 epochs of 16 of 23 clips: binomial, mean 42, standard deviation 3.6.
    assert np.abs(counts - counts.mean()).max() < 5 * 3.6


def test_neighbouring_seeds_share_no_epoch(split):
    orders = []
    for seed in range(6):
        order = [_clips_of(batch)[0] for batch in _take(split, 3 * CLIPS, seed=seed, batch_size=1)]
        orders += [tuple(order[k : k + CLIPS]) for k in range(0, len(order), CLIPS)]
    assert len(set(orders)) == len(orders)


def test_windows_are_uniform_and_drawn_anew_each_epoch(split):
    offsets = np.concatenate([b["audio"][:, 0] % 100 for b in _take(split, 150)])
    counts = np.bincount(offsets, minlength=LENGTH - WINDOW + 1)
    assert len(counts) == LENGTH - WINDOW + 1
    expected = len(offsets) / len(counts)
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    assert chi_squared < 45.3  # 99.9 % quantile at 20 degrees of freedom


def test_a_window_as_long_as_the_clip_fits(split):
    assert (_take(split, 1, window=LENGTH)[0]["audio"][:, 0] % 100 == 0).all()


def test_a_late_start_reads_only_what_it_returns(split):
    counting = Counting(split)
    batch = _take(counting, 1, start_step=10**12, threads=0, prefetch=0)[0]
    assert batch["example"][0] == 8 * 10**12
    assert counting.reads == 8


def test_batches_are_read_ahead_in_the_background(split):
    counting = Counting(split)
    iterator = pipeline.batches(
        counting, seed=0, batch_size=8, window_samples=WINDOW, threads=2, prefetch=3
    )
    next(iterator)
    deadline = time.monotonic() + 30
    while counting.reads < 4 * 8 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert counting.reads == 4 * 8
    iterator.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 24}, "batch_size=24 .* with 23 clips: choose 1 to 23"),
        ({"batch_size": 0}, "batch_size=0 .* choose 1 to 23"),
        ({"process_count": 3}, "batch_size=8 is not a multiple of the 3 processes: choose 6"),
        ({"seed": -1}, "seed=-1"),
        ({"window": 61}, r"clip '0' of .* lasts 0\.00 s, .*larger --min_seconds"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_read(split, arguments, message):
    counting = Counting(split)
    with pytest.raises(UserError, match=message):
        _take(counting, 0, **arguments)
    assert counting.reads == 0


@pytest.mark.parametrize("threads", [0, 2])
def test_a_short_clip_that_no_one_announced_is_named_when_read(tmp_path, write_data_set, threads):
    clips = [{"audio": np.ones(n, np.int16), "id": f"clip{n}", "piece": "p"} for n in (48000, 8000)]
    split = records.open_split(write_data_set(tmp_path / "set", clips), "train")
    with pytest.raises(UserError, match=r"'clip8000' .* 0\.50 s, shorter than the 1\.00 s that"):
        _take(split, 1, batch_size=2, window=16000, threads=threads)
