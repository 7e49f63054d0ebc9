import os
import pathlib
import signal
import subprocess
import sys
import time

import entry_point
import numpy as np
import pytest
import soundfile

from loev_jax.data import pipeline, records

SCRIPT = os.fspath(entry_point.ROOT / "launch" / "prepare_data.py")


def _run(*arguments, cwd):
    return entry_point.run(SCRIPT, *arguments, cwd=cwd)


def _listing(directory):
    return sorted(os.fspath(path) for path in directory.rglob("*"))


@pytest.fixture
def music(tmp_path):
    root = tmp_path / "music"
    root.mkdir()
    rng = np.random.default_rng(0)
    for k in range(3):
        soundfile.write(root / f"{k}.wav", rng.standard_normal(16000 * 2) * 0.1, 16000)
    (tmp_path / "labels.csv").write_text("path,tempo,key\n0.wav,90,C\n1.wav,100,D\n")
    return root


OPTIONS = ("--source=folder", "--audio=music", "--out=out", "--clip_seconds=1", "--min_seconds=0.5")


def test_a_folder_becomes_a_data_set_once(tmp_path, music):
    (music / "bad.wav").write_text("words")
    first = _run(*OPTIONS, "--labels=labels.csv", "--label_columns=tempo", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "6 clips (train 6)" in first.stdout
    assert "1 files skipped" in first.stdout
    assert first.stderr.splitlines() == ["skipped bad.wav: unreadable (Format not recognised)"]
    split = records.open_split(tmp_path / "out", "train")
    assert split.label_names == ("tempo",)
    assert len(split) == 6
    before = _listing(tmp_path)
    again = _run(*OPTIONS, "--labels=labels.csv", "--label_columns=tempo", cwd=tmp_path)
    assert again.returncode == 0
    assert "already prepared, nothing to do" in again.stdout
    assert again.stderr == ""
    assert _listing(tmp_path) == before


@pytest.mark.parametrize(
    ("change", "arguments", "needle"),
    [
        (None, ["--source=corpis", "--out=out"], "<corpus|folder>"),
        (None, ["--source=folder", "--audio=music"], "--out"),
        (None, ["--source=folder", "--out=out"], "needs --audio=DIR"),
        (None, ["--source=corpus", "--audio=music", "--out=out"], "--audio belongs to --source=fo"),
        (None, [*OPTIONS, "--clips=5"], "--clips belongs to --source=corpus"),
        (None, [*OPTIONS, "--workers=0"], "workers"),
        (None, [*OPTIONS, "--min_seconds=2"], "min_seconds=2 must be above 0 and at most"),
        (None, [*OPTIONS, "--audio=absent"], "audio folder absent does not exist"),
        (None, [*OPTIONS, "--audio=labels.csv"], "is not a folder"),
        ("empty", [*OPTIONS, "--audio=empty"], "audio folder empty holds no audio file"),
        (None, [*OPTIONS, "--label_columns=key"], "without --labels"),
        (None, [*OPTIONS, "--labels=absent.csv"], "labels file absent.csv does not exist"),
        (None, [*OPTIONS, "--labels=labels.csv", "--label_columns=key,mood"], "no column 'mood'"),
        ("file,key\n0.wav,C\n", [*OPTIONS, "--labels=labels.csv"], "no column 'path'"),
        ("path,key\n9.wav,C\n", [*OPTIONS, "--labels=labels.csv"], "'9.wav' is missing in music"),
        ("path,key\n0.wav,C\n0.wav,C\n", [*OPTIONS, "--labels=labels.csv"], "has a row already"),
        ("taken", OPTIONS, "--out=out exists and is not a data set made from a folder"),
    ],
)
def test_bad_input_is_one_line_and_status_2(tmp_path, music, change, arguments, needle):
    if change == "empty":
        (tmp_path / "empty").mkdir()
    elif change == "taken":
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "thesis.tex").write_text("precious")
    elif change is not None:
        (tmp_path / "labels.csv").write_text(change)
    before = _listing(tmp_path)
    result = _run(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert needle in line
    assert result.stdout == ""
    assert _listing(tmp_path) == before


def test_a_folder_without_a_usable_file_leaves_nothing(tmp_path):
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "a.wav").write_text("words")
    (tmp_path / "music" / "b.wav").touch()
    result = _run(*OPTIONS, cwd=tmp_path)
    assert result.returncode == 2
    lines = result.stderr.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    assert "none of the 2 audio files in music can be used" in lines[-1]
    assert lines[:-1] == [
        "skipped a.wav: unreadable (Format not recognised)",
        "skipped b.wav: empty file",
    ]
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.partial").exists()


def test_the_corpus_is_rendered_once_and_feeds_the_pipeline(tmp_path):
    arguments = ("--source=corpus", "--out=corpus", "--clips=10", "--seed=3")
    first = _run(*arguments, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "10 clips" in first.stdout
    split = records.open_split(tmp_path / "corpus", "train")
    assert {"tempo", "key", "metre", "instrument", "collection"} <= set(split.label_names)
    assert ((split.labels("tempo") >= 60) & (split.labels("tempo") <= 200)).all()
    batch = next(
        pipeline.batches(
            split, seed=0, batch_size=4, window_samples=80_000, threads=1, prefetch=1, start_step=9
        )
    )
    assert batch["audio"].shape == (4, 80_000)
    assert batch["example"].tolist() == [36, 37, 38, 39]
    again = _run(*arguments, cwd=tmp_path)
    assert "already prepared, nothing to do" in again.stdout
    other = _run(*arguments, "--clips=11", cwd=tmp_path)
    assert other.returncode == 2
    assert len(other.stderr.splitlines()) == 1


def _poll(condition, process=None):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None
        time.sleep(0.001)


def _children(pid):
    tasks = pathlib.Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def _alive(pid):
    stat = pathlib.Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_stopped(tmp_path, music):
    source = tmp_path / "long.wav"
    soundfile.write(source, np.random.default_rng(0).standard_normal(22050 * 40) * 0.1, 22050)
    for k in range(48):
        os.link(source, music / f"long {k:02d}.wav")
    assert _run(*OPTIONS, "--out=whole", cwd=tmp_path).returncode == 0
    work = tmp_path / "out.partial" / "work"

    process = subprocess.Popen([sys.executable, SCRIPT, *OPTIONS, "--workers=1"], cwd=tmp_path)
    _poll(lambda: any(work.glob("*.json")), process)
    workers = _children(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out").exists()
    # Orphaned workers end too, rather than go on or wait for ever.
    _poll(lambda: not any(map(_alive, workers)))
    done = {path.name: path.stat().st_mtime_ns for path in work.glob("*.array_record")}
    assert 1 <= len(done) < 7

    second = _run(*OPTIONS, cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert "going on: " in second.stderr
    times = {path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*array_record*")}
    assert times >= set(done.values())  # the finished shards were kept as they were
    assert not (tmp_path / "out.partial").exists()
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "out").iterdir())
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
