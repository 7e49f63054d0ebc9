import json
import shutil

import numpy as np
import pytest
import scipy.signal
import soundfile

from loev_jax.data import folder, records
from loev_jax.errors import UserError


def _prepare(audio, out, **kwargs):
    kwargs = {"clip_seconds": 1.0, "min_seconds": 0.5, "workers": 1} | kwargs
    return folder.prepare(audio, out, **kwargs)


def _content(directory):
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


@pytest.fixture
def music(tmp_path, write_tone):
    """Good files of four formats among bad ones."""
    root = tmp_path / "music"
    write_tone(root / "b" / "stereo.wav", rate=44100, seconds=2.6, hertz=(440.0, 440.0))
    write_tone(root / "a" / "low.flac", rate=8000, seconds=2.3, hertz=(300.0,))
    write_tone(root / "UPPER.OGG", rate=48000, seconds=1.0, hertz=(1000.0,), format="OGG")
    write_tone(root / "é.mp3", rate=44100, seconds=1.5, hertz=(600.0,))
    write_tone(root / "short.wav", seconds=0.4)
    noise = np.random.default_rng(0).standard_normal(16000 * 20) * 0.1
    soundfile.write(root / "cut.flac", noise, 16000)
    whole = (root / "cut.flac").read_bytes()
    (root / "cut.flac").write_bytes(whole[: len(whole) // 3])
    (root / "text.wav").write_text("not audio\n" * 9)
    (root / "empty.wav").touch()
    (root / "video.m4a").write_bytes(b"\0" * 99)
    (root / "._low.flac").write_bytes(b"\0" * 99)  # what macOS leaves beside each file
    (root / "notes.txt").write_text("not meant to be audio")
    (root / ".hidden").mkdir()
    write_tone(root / ".hidden" / "x.wav")
    return root


def test_good_files_become_clips_and_bad_ones_are_listed(tmp_path, music, capfd):
    report, existed = _prepare(music, tmp_path / "out")
    assert not existed
    split = records.open_split(tmp_path / "out", "train")
    lengths = {record["id"]: len(record["audio"]) for record in split}
    assert list(lengths) == [
        "UPPER.OGG#t=0",
        "a/low.flac#t=0",
        "a/low.flac#t=1",
        "b/stereo.wav#t=0",
        "b/stereo.wav#t=1",
        "b/stereo.wav#t=2",
        "é.mp3#t=0",
        "é.mp3#t=1",
    ]
    # The last 0.3 s of low.flac are below min_seconds; the last 0.6 s of stereo.wav are not.
    assert lengths["b/stereo.wav#t=2"] == pytest.approx(9600, abs=1)
    assert set(lengths.values()) - {16000} <= {*range(9599, 9602), *range(7999, 8002)}
    assert split.labels("piece").tolist()[1:4] == ["a/low.flac"] * 2 + ["b/stereo.wav"]
    assert split.shortest.samples == min(lengths.values())
    reasons = {
        "cut.flac": "unreadable",
        "empty.wav": "empty file",
        "short.wav": "too short",
        "text.wav": "unreadable",
        "video.m4a": "not supported",
    }
    assert {entry["path"] for entry in report.skipped} == set(reasons)
    assert all(reasons[entry["path"]] in entry["reason"] for entry in report.skipped)
    stderr = capfd.readouterr().err
    assert all(f"skipped {name}: " in stderr for name in reasons)
    stated = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (stated["files"], stated["clips"], len(stated["skipped"])) == (4, {"train": 8}, 5)
    assert stated["hours"] * 3600 == pytest.approx(sum(lengths.values()) / 16000)
    assert not (tmp_path / "out.partial").exists()


def test_the_audio_of_each_format_keeps_its_pitch(tmp_path, music):
    _prepare(music, tmp_path / "out")
    expected = {"UPPER.OGG": 1000, "a/low.flac": 300, "b/stereo.wav": 440, "é.mp3": 600}
    for record in records.open_split(tmp_path / "out", "train"):
        spectrum = np.abs(
            np.fft.rfft(record["audio"] * scipy.signal.windows.hann(len(record["audio"])))
        )
        peak = np.argmax(spectrum) * 16000 / len(record["audio"])
        assert peak == pytest.approx(expected[record["piece"]], abs=2.0)


def test_labels_become_features(tmp_path, music):
    (tmp_path / "l.csv").write_text("path,tempo,key\na/low.flac,90,C\nb/stereo.wav,120.5,G minor\n")
    report, _ = _prepare(music, tmp_path / "out", labels=tmp_path / "l.csv")
    split = records.open_split(tmp_path / "out", "train")
    tempo, key, piece = split.labels("tempo"), split.labels("key"), split.labels("piece")
    assert tempo.dtype == np.float32
    assert set(tempo[piece == "b/stereo.wav"]) == {120.5}
    assert set(key[piece == "a/low.flac"]) == {"C"}
    assert np.isnan(tempo[piece == "é.mp3"]).all()
    assert set(key[piece == "é.mp3"]) == {""}
    assert report.unlabelled == 6  # every file with a known ending but the two


def test_splits_that_a_data_set_comes_with_are_kept(tmp_path, music, capfd):
    """As those of GTZAN without its faulty files: what is in none of them is not used."""
    rows = ("a/low.flac,test,90", "b/stereo.wav,train,120", "é.mp3,validation,", "UPPER.OGG,,70")
    (tmp_path / "l.csv").write_text("\n".join(("path,split,tempo", *rows)) + "\n")
    report, _ = _prepare(music, tmp_path / "out", labels=tmp_path / "l.csv")
    for row in rows[:3]:
        piece, split, _ = row.split(",")
        there = records.open_split(tmp_path / "out", split)
        assert set(there.labels("piece")) == {piece}
        assert there.label_names == ("tempo",)
    reasons = {one["path"]: one["reason"] for one in report.skipped}
    assert reasons["UPPER.OGG"] == reasons["cut.flac"] == "the label file gives it no split"
    assert reasons["video.m4a"].startswith("format not supported")
    assert "skipped UPPER.OGG: the label file gives it no split" in capfd.readouterr().err
    assert _prepare(music, tmp_path / "out", labels=tmp_path / "l.csv")[1]  # it is there already
    (tmp_path / "l.csv").write_text("path,split,tempo\n" + rows[0].replace("test", "train") + "\n")
    with pytest.raises(UserError, match="holds another data set"):
        _prepare(music, tmp_path / "out", labels=tmp_path / "l.csv")
    (tmp_path / "l.csv").write_text("path,split,tempo\na/low.flac,,90\n")
    with pytest.raises(UserError, match="gives no file a split: write one of train"):
        _prepare(music, tmp_path / "none", labels=tmp_path / "l.csv")


@pytest.fixture
def many(tmp_path, write_tone):
    """Sixty one-second files: enough to be split, and several shards."""
    root = tmp_path / "many"
    for k in range(60):
        write_tone(root / f"{k:02d}.wav", rate=8000, seconds=1.0, hertz=(100.0 + 10 * k,))
    return root


def test_the_result_does_not_depend_on_the_number_of_workers(tmp_path, many):
    _prepare(many, tmp_path / "one", workers=1)
    _prepare(many, tmp_path / "two", workers=2)
    assert _content(tmp_path / "one") == _content(tmp_path / "two")
    pieces = {
        split: set(records.open_split(tmp_path / "one", split).labels("piece"))
        for split in ("train", "validation", "test")
    }
    assert sum(map(len, pieces.values())) == len(set.union(*pieces.values())) == 60
    assert all(
        folder.split_of(path, 60) == split for split, paths in pieces.items() for path in paths
    )


def test_splits_are_80_10_10_of_the_files_and_do_not_move_when_files_are_added():
    paths = [f"artist {k % 97}/song {k}.mp3" for k in range(5000)]
    drawn = [folder.split_of(path, 5000) for path in paths]
    for split, share in {"train": 0.8, "validation": 0.1, "test": 0.1}.items():
        deviation = np.sqrt(5000 * share * (1 - share))
        assert abs(drawn.count(split) - 5000 * share) < 4 * deviation
    assert drawn[:50] == [folder.split_of(path, 50) for path in paths[:50]]
    assert {folder.split_of(path, 49) for path in paths} == {"train"}


def test_a_second_run_does_nothing_and_a_different_one_is_refused(tmp_path, many):
    first, _ = _prepare(many, tmp_path / "out")
    before = _content(tmp_path / "out")
    again, existed = _prepare(many, tmp_path / "out", workers=2)
    assert existed
    assert again == first
    moved = tmp_path / "moved"
    shutil.copytree(many, moved)
    assert _prepare(moved, tmp_path / "out")[1]  # the same files elsewhere
    with pytest.raises(UserError, match=r"another data set \(clip_seconds was 1.0, is 0.9\)"):
        _prepare(many, tmp_path / "out", clip_seconds=0.9)
    (many / "00.wav").unlink()
    with pytest.raises(UserError, match=r"another data set \(files was 60, is 59"):
        _prepare(many, tmp_path / "out")
    assert _content(tmp_path / "out") == before


def test_a_run_that_fails_while_publishing_goes_on_from_there(tmp_path, many, monkeypatch, capfd):
    _prepare(many, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(records, "describe", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            _prepare(many, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    _prepare(many, tmp_path / "out")
    assert "going on: 60 of 60 files are done" in capfd.readouterr().err
    assert _content(tmp_path / "out") == _content(tmp_path / "whole")
    assert not (tmp_path / "out.partial").exists()


def test_unfinished_work_of_other_settings_is_kept(tmp_path, many, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(records, "describe", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            _prepare(many, tmp_path / "out")
    kept = sorted(path.name for path in (tmp_path / "out.partial" / "work").iterdir())
    with pytest.raises(UserError, match=r"unfinished work of another command \(min_seconds"):
        _prepare(many, tmp_path / "out", min_seconds=0.4)
    assert kept == sorted(path.name for path in (tmp_path / "out.partial" / "work").iterdir())


def test_two_runs_at_once_are_refused(tmp_path, many, monkeypatch):
    def run_again(*_):
        with pytest.raises(UserError, match="another run is preparing"):
            _prepare(many, tmp_path / "out")
        raise KeyboardInterrupt

    monkeypatch.setattr(records, "describe", run_again)
    with pytest.raises(KeyboardInterrupt):
        _prepare(many, tmp_path / "out")
