"""The corpus as a data set: labels, bytes, kills, full disks."""

import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds

from loev_jax.corpus import builder, performance, plan, rendering, scores, shards
from loev_jax.data import processes
from loev_jax.data.records import open_split
from loev_jax.errors import UserError

CLIPS = 12


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setattr(shards, "_CLIPS_PER_SHARD", 3)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A corpus of `CLIPS` clips, rendered in this process without interruption."""
    out = tmp_path_factory.mktemp("corpus") / "data"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "_CLIPS_PER_SHARD", 3)
        report = builder.prepare(out, clips=CLIPS, seed=5, workers=1)
    return out, report


def digests(directory):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.iterdir()
        if "array_record" in path.name
    }


def records(directory):
    splits = tfds.builder_from_directory(directory).as_data_source()
    return {split: list(source) for split, source in splits.items()}


def command(out, workers):
    code = (
        "import pathlib, sys\n"
        "from loev_jax.corpus import builder, shards\n"
        "if __name__ == '__main__':\n"
        "    shards._CLIPS_PER_SHARD = 3\n"
        "    out = pathlib.Path(sys.argv[1])\n"
        f"    builder.prepare(out, clips={CLIPS}, seed=5, workers={workers})\n"
    )
    return [sys.executable, "-c", code, str(out)]


def wait_for(condition, process=None):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        assert process is None or process.poll() is None, "the process ended too soon"
        time.sleep(0.01)


def test_records_carry_the_labels_of_what_was_played(corpus):
    out, report = corpus
    found = records(out)
    assert {split: len(rows) for split, rows in found.items()} == report.splits
    assert report.splits == {"train": 9, "validation": 1, "test": 2}
    rows = [row for split in plan.SPLITS for row in found[split]]
    for number, row in enumerate(rows):
        assert set(row) == {
            "audio", "id", "piece", "tempo", "key", "metre", "instrument", "collection",
        }  # fmt: skip
        played = performance.draw(5, number)
        score = scores.load(row["piece"].decode())
        assert row["id"] == b"clip-%06d" % number
        assert row["audio"].dtype == np.int16
        np.testing.assert_array_equal(row["audio"], rendering.render(score, played))
        assert row["tempo"] == np.float32(played.tempo)
        assert row["key"] // 12 == score.key // 12
        assert (row["key"] - score.key - played.transposition) % 12 == 0
        assert row["metre"].decode() == score.metre
        assert row["instrument"].decode() == played.family
        assert row["collection"].decode() == score.collection


def test_report_stands_in_the_corpus(corpus):
    out, report = corpus
    assert json.loads((out / "report.json").read_text()) == json.loads(json.dumps(report.__dict__))
    assert sum(report.instruments.values()) == sum(report.collections.values()) == CLIPS
    assert report.read >= report.kept + sum(len(found) for found in report.skipped.values())
    assert not out.with_name("data.partial").exists()
    assert "12 clips" in str(report)


def test_the_length_of_the_clips_is_known_without_reading_one(corpus):
    found = records(corpus[0])
    for split in plan.SPLITS:
        shortest = open_split(corpus[0], split).shortest
        assert shortest.samples == min(len(row["audio"]) for row in found[split]) == 480_000
        assert shortest.id in {row["id"].decode() for row in found[split]}


def test_tfds_itself_makes_the_same_records(corpus, tmp_path):
    out, _ = corpus
    theirs = builder.LoevCorpus(clips=CLIPS, seed=5, data_dir=tmp_path)
    theirs.download_and_prepare()
    ours = records(out)
    for split, source in theirs.as_data_source().items():
        assert len(source) == len(ours[split])
        for left, right in zip(source, ours[split], strict=True):
            np.testing.assert_array_equal(left.pop("audio"), right.pop("audio"))
            assert left == right


def test_two_processes_write_the_same_bytes(corpus, tmp_path):
    # A subprocess, for the processes that it spawns must find the small shards in __main__.
    subprocess.run(command(tmp_path / "data", 2), check=True, capture_output=True)
    assert len(digests(tmp_path / "data")) == 5
    assert digests(tmp_path / "data") == digests(corpus[0])


def test_another_seed_is_another_corpus(corpus, tmp_path):
    builder.prepare(tmp_path / "data", clips=10, seed=6, workers=1)
    ours = {row["piece"] for rows in records(corpus[0]).values() for row in rows}
    theirs = {row["piece"] for rows in records(tmp_path / "data").values() for row in rows}
    assert len(ours & theirs) < 3


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_killed_run_is_taken_up_and_ends_with_the_same_bytes(corpus, tmp_path, workers):
    out, partial = tmp_path / "data", tmp_path / "data.partial"
    process = subprocess.Popen(command(out, workers), stderr=subprocess.DEVNULL)
    wait_for(lambda: list(partial.glob("*array_record*")), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    before = {path: path.stat().st_mtime_ns for path in partial.glob("*array_record*")}
    assert 0 < len(before) < 5
    # Workers without a parent end by themselves, perhaps after one more shard.
    with pytest.raises(UserError, match="seed=5, not 6"):
        builder.prepare(out, clips=CLIPS, seed=6, workers=1)
    builder.prepare(out, clips=CLIPS, seed=5, workers=1)
    assert digests(out) == digests(corpus[0])
    for path, modified in before.items():
        assert (out / path.name).stat().st_mtime_ns == modified


def test_workers_end_with_the_process_that_started_them(tmp_path):
    process = subprocess.Popen(command(tmp_path / "data", 2), stderr=subprocess.DEVNULL)
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        process.kill()
        pytest.skip("this kernel does not list children")

    def workers():
        return [
            int(child)
            for child in children.read_text().split()
            if b"spawn_main" in pathlib.Path(f"/proc/{child}/cmdline").read_bytes()
        ]

    wait_for(lambda: len(workers()) == 2, process)
    found = workers()
    process.kill()
    process.wait()

    def gone(pid):
        try:
            return pathlib.Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] == "Z"
        except OSError:
            return True

    wait_for(lambda: all(gone(pid) for pid in found))


def test_finished_corpus_is_reused_untouched(corpus):
    out, report = corpus
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert builder.prepare(out, clips=CLIPS, seed=5) == report
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clips": CLIPS, "seed": 6}, "seed=5, not 6"),
        ({"clips": CLIPS + 1, "seed": 5}, "clips=12, not 13"),
    ],
)
def test_another_corpus_in_the_way_is_refused(corpus, arguments, message):
    with pytest.raises(UserError, match=message):
        builder.prepare(corpus[0], **arguments)


def test_what_is_not_a_corpus_is_left_alone(tmp_path):
    (tmp_path / "song.wav").write_bytes(b"mine")
    for out in (tmp_path, tmp_path / "song.wav", tmp_path / "song.wav" / "data"):
        with pytest.raises(UserError, match=r"song\.wav|not a corpus"):
            builder.prepare(out, clips=10)
    assert [path.name for path in tmp_path.iterdir()] == ["song.wav"]


@pytest.mark.parametrize("arguments", [{"clips": 9}, {"seed": -1}, {"workers": 0}])
def test_arguments_out_of_range_are_named(tmp_path, arguments):
    (name,) = arguments
    with pytest.raises(UserError, match=f"{name}={arguments[name]}"):
        builder.prepare(tmp_path / "data", **{"clips": 10, **arguments})


def test_two_runs_on_one_directory_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_PATIENCE_SECONDS", 0.0)
    (tmp_path / "data.partial").mkdir()
    with (
        builder._locked(tmp_path / "data.partial"),
        pytest.raises(UserError, match="another process"),
    ):
        builder.prepare(tmp_path / "data", clips=10)


def test_a_lock_that_is_let_go_soon_is_waited_for(tmp_path):
    first, released = builder._locked(tmp_path), threading.Event()
    first.__enter__()

    def release():
        released.set()
        first.__exit__(None, None, None)

    timer = threading.Timer(0.3, release)
    timer.start()
    with builder._locked(tmp_path):
        assert released.is_set()
    timer.join()


def test_too_small_a_disk_is_told_before_the_work_begins(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=9_000_000))
    needed = 10 * shards.RECORD_BYTES + builder._SPARE_BYTES
    with pytest.raises(UserError, match=r"data\.partial is full") as caught:
        builder.prepare(tmp_path / "data", clips=10, workers=1)
    assert f"{needed:,} bytes more" in str(caught.value)
    assert "9,000,000 are free" in str(caught.value)


def test_disk_that_fills_up_is_told_and_the_next_run_goes_on(corpus, tmp_path, monkeypatch):
    from array_record.python import array_record_module

    class FullDisk(array_record_module.ArrayRecordWriter):
        written = 0

        def write(self, record):
            FullDisk.written += len(record)
            return super().write(record)

        def close(self):
            super().close()
            if FullDisk.written > 4_000_000:
                raise RuntimeError("write() failed: No space left on device; writing x")

    with monkeypatch.context() as patch:
        patch.setattr(array_record_module, "ArrayRecordWriter", FullDisk)
        with pytest.raises(UserError, match=r"data\.partial is full.*again") as caught:
            builder.prepare(tmp_path / "data", clips=CLIPS, seed=5, workers=1)
    missing = (CLIPS - 3) * shards.RECORD_BYTES + builder._SPARE_BYTES
    assert f"{missing:,} bytes" in str(caught.value)
    assert len(list((tmp_path / "data.partial").glob("*array_record*"))) == 1
    assert not list((tmp_path / "data.partial" / "work").glob(f"*.{os.getpid()}"))
    builder.prepare(tmp_path / "data", clips=CLIPS, seed=5, workers=1)
    assert digests(tmp_path / "data") == digests(corpus[0])


def test_clips_that_cannot_be_rendered_are_listed(tmp_path, monkeypatch):
    honest = rendering.render

    def render(score, played):
        if played == performance.draw(5, 1):
            raise rendering.SilentError("the rendering is silent")
        return honest(score, played)

    monkeypatch.setattr(rendering, "render", render)
    report = builder.prepare(tmp_path / "data", clips=10, seed=5, workers=1)
    assert list(report.failed) == ["clip-000001"]
    assert "silent" in report.failed["clip-000001"]
    ids = [row["id"] for row in records(tmp_path / "data")["train"]]
    assert b"clip-000000" in ids
    assert b"clip-000001" not in ids
    assert report.splits["train"] == len(ids) == 6
