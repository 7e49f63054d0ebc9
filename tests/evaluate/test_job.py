import functools
import json
import shutil
import threading
import time

import numpy as np
import pytest
import tiny_music
import tiny_run

from loev_jax.errors import UserError
from loev_jax.evaluate import baseline, job, probes, results, spaces, tasks


@pytest.fixture(autouse=True)
def _batches_of_a_tiny_data_set_are_small(monkeypatch):
    monkeypatch.setattr(job, "Embedder", functools.partial(spaces.Embedder, views_per_device=7))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_music.write(tmp_path_factory.mktemp("job") / "data")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data):
    workdir = tmp_path_factory.mktemp("job") / "run"
    tiny_run.write(workdir, steps=(1, 2))
    config = json.loads((workdir / "config.json").read_text())
    config["data"]["path"] = str(data)
    (workdir / "config.json").write_text(json.dumps(config))
    return workdir


@pytest.fixture
def workdir(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def read(workdir, step):
    return json.loads((workdir / "eval" / f"{step}.json").read_text())


SIDES = ("clean", "moved")
UNLABELLED = {
    *("same_clip_r1", "same_clip_r5", "same_clip_r10", "same_clip_mrr"),
    *("time_stretch_r2", "pitch_shift_r2"),
    *(f"invariance_{name}" for name in ("time_stretch", "pitch_shift", "gain", "filter", "other")),
    *(f"predicted_{way}_{metric}" for way in ("forth", "back")
      for metric in ("mrr", "h1", "h5", "h10", "time_stretch_pre", "pitch_shift_pre")),
}  # fmt: skip


def test_every_checkpoint_gets_a_result_once(workdir, capsys):
    assert job.run(workdir, None, job.Settings(), None, watch=False)
    first, second = read(workdir, 1), read(workdir, 2)
    assert first["tasks"] == [
        *("tempo", "key", "metre", "instrument", "collection", "retrieval", "equivariance"),
        *("invariance", "prediction"),
    ]
    assert list(first["spaces"]) == ["encoder", "invariant", "pitch", "tempo", "heads", "all"]
    assert first["random_init"] == second["random_init"]
    assert first["spaces"] != second["spaces"]
    for section in (first["spaces"], first["random_init"], first["shuffled_labels"]):
        for metrics in section.values():
            assert set(metrics) == {
                *("tempo_r2", "tempo_acc1", "tempo_acc2", "key_weighted", "key_accuracy"),
                *("metre_accuracy", "instrument_accuracy", "collection_accuracy"),
                *("neighbour_tempo", "neighbour_key"),
                *(f"neighbour_key_{a}_{b}" for a in SIDES for b in SIDES),
                *(f"neighbour_tempo_{a}_{b}_acc{n}" for a in SIDES for b in SIDES for n in (1, 2)),
                *UNLABELLED,
            }
    for space, metrics in first["spaces"].items():
        for name, value in metrics.items():
            low, high = first["intervals"][space][name]
            assert value is None or low <= value <= high, (space, name)
    assert first["counts"]["test"] == {"clips": 12, "pairs": 12, "skipped": 0}
    assert {"1.png", "2.png", baseline.FILE} <= {p.name for p in (workdir / "eval").iterdir()}
    table = capsys.readouterr().out
    assert "step 2 (24 train, 8 validation, 12 test clips)" in table

    before = {p.name: p.stat().st_mtime_ns for p in (workdir / "eval").iterdir()}
    assert job.run(workdir, None, job.Settings(), None, watch=False)
    assert {p.name: p.stat().st_mtime_ns for p in (workdir / "eval").iterdir()} == before
    assert capsys.readouterr().out == table


def test_random_init_is_embedded_once_and_again_where_the_data_changed(workdir, monkeypatch, data):
    embedded = []
    embed = spaces.Embedder.embed

    def counted(self, models, *args, **kwargs):
        embedded.append(len(models))
        return embed(self, models, *args, **kwargs)

    monkeypatch.setattr(spaces.Embedder, "embed", counted)
    job.run(workdir, ("equivariance",), job.Settings(), "1", watch=False)
    job.run(workdir, ("equivariance",), job.Settings(), "2", watch=False)
    assert embedded == [2, 2, 2, 1, 1, 1]
    reference = read(workdir, 2)["random_init"]

    key, vectors = baseline.load(workdir / "eval")
    other = workdir.parent / "other"
    tiny_music.write(other, lengths={"train3": 1.5})
    config = json.loads((workdir / "config.json").read_text())
    config["data"]["path"] = str(other)
    (workdir / "config.json").write_text(json.dumps(config))
    (workdir / "eval" / "2.json").unlink()
    embedded.clear()
    job.run(workdir, ("equivariance",), job.Settings(), "2", watch=False)
    assert embedded == [1, 1, 1, 1, 1, 1]  # the digest tells, once the audio was read
    changed, _ = baseline.load(workdir / "eval")
    assert changed != key
    assert read(workdir, 2)["random_init"] != reference
    assert set(vectors) == {"train", "validation", "test"}


def test_a_task_that_fails_is_reported_and_stops_no_other(workdir, monkeypatch, capsys):
    class Broken(probes.Probe):
        def score(self, *args):
            raise ZeroDivisionError("by design")

    tempo, key, *_ = probes.PROBES
    monkeypatch.setattr(tasks, "PROBES", (tempo, Broken(key.name, key.column, key.kind)))
    assert not job.run(workdir, ("tempo", "key", "retrieval"), job.Settings(), "1", watch=False)
    broken = read(workdir, 1)
    assert broken["failed"] == {"key": "ZeroDivisionError: by design"}
    assert broken["tasks"] == ["tempo", "retrieval"]
    assert "key failed (ZeroDivisionError: by design)" in capsys.readouterr().err

    assert not (workdir / "eval" / "2.json").exists()

    monkeypatch.undo()
    more = ("tempo", "key", "retrieval", "equivariance")
    assert job.run(workdir, more, job.Settings(), "1", watch=False)
    mended = read(workdir, 1)
    assert mended["failed"] == {}
    # Only what is missing is evaluated, and added to what was there.
    assert mended["tasks"] == ["tempo", "retrieval", "key", "equivariance"]
    for space, metrics in broken["spaces"].items():
        assert metrics.items() < mended["spaces"][space].items()


def test_a_diverged_model_fails_without_figures(workdir, monkeypatch):
    restore = job.checkpoint.restore_model

    def diverged(*args):
        model = restore(*args)
        model.encoder.branch.layers[0].norm.bias[...] = np.nan
        return model

    monkeypatch.setattr(job.checkpoint, "restore_model", diverged)
    assert not job.run(workdir, ("tempo",), job.Settings(), "1", watch=False)
    assert "not finite: training has diverged" in read(workdir, 1)["failed"]["tempo"]
    assert read(workdir, 1)["tasks"] == []


def test_data_without_labels_still_tells_equivariance(workdir, capsys):
    other = tiny_music.write(workdir.parent / "bare", labels={})
    config = json.loads((workdir / "config.json").read_text())
    config["data"]["path"] = str(other)
    (workdir / "config.json").write_text(json.dumps(config))
    assert job.run(workdir, None, job.Settings(clips=10, segments=1), "last", watch=False)
    result = read(workdir, 2)
    assert set(result["spaces"]["tempo"]) == UNLABELLED
    assert result["left_out"]["tempo"] == ["the data set has no label 'tempo'"]
    assert result["counts"]["train"]["clips"] == 10
    said = capsys.readouterr()
    assert "tempo: left out, the data set has no label 'tempo'" in said.err
    header = next(line for line in said.out.splitlines() if line.startswith("| space"))
    assert [cell.strip() for cell in header.split("|")[2:-1]] == [
        "R² of the stretch", "R² of the shift", "the same clip moved, MRR",
    ]  # fmt: skip


def test_checkpoints_that_are_damaged_or_deleted_stop_nothing(workdir, monkeypatch, capsys):
    shutil.rmtree(workdir / "checkpoints" / "1" / "params")
    restore = job.checkpoint.restore_model

    def late(directory, step, recipe):
        if step == 2:  # training deletes it between the listing and the reading
            shutil.rmtree(directory / "checkpoints" / "2")
        return restore(directory, step, recipe)

    monkeypatch.setattr(job.checkpoint, "restore_model", late)
    assert not job.run(workdir, ("equivariance",), job.Settings(), None, watch=False)
    told = capsys.readouterr().err
    assert "step 1: failed" in told
    assert "step 2: passed over" in told
    assert not list(workdir.glob("eval/*.json"))


def test_watching_waits_for_training_to_begin_and_to_end(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(job, "_POLL_SECONDS", 0.05)
    workdir, outcome = tmp_path / "run", []

    def watch():
        outcome.append(job.run(workdir, ("equivariance",), job.Settings(), None, watch=True))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    workdir.mkdir()
    shutil.copy(trained / "config.json", workdir)
    for step in ("1", "2"):
        # As Orbax does: written under another name, then renamed.
        partial = workdir / "checkpoints" / f"{step}.partial"
        shutil.copytree(trained / "checkpoints" / step, partial)
        partial.rename(workdir / "checkpoints" / step)
        _until(lambda path=workdir / "eval" / f"{step}.json": path.exists())
    assert watcher.is_alive()
    (workdir / "DONE").touch()
    watcher.join(300)
    assert outcome == [True]


def _until(condition, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_another_data_set_has_results_of_its_own(workdir, tmp_path, capsys):
    own = job.Job(workdir, None, job.Settings())
    other = tiny_music.write(tmp_path / "recordings", labels={})
    assert job.run(workdir, ("equivariance",), job.Settings(), "1", watch=False, data=other)
    assert f"{workdir} on {other}, step 1" in capsys.readouterr().out
    result = json.loads((workdir / "eval_recordings" / "1.json").read_text())
    assert result["data"] == str(other)
    assert "time_stretch_r2" in result["spaces"]["tempo"]
    assert own.todo() == [1, 2]  # nothing was said of its own data


def test_a_weighted_sum_of_spaces_is_a_space(workdir, capsys):
    settings = job.Settings(clips=8, mix=("tempo=2 + pitch",))
    assert job.run(workdir, ("retrieval",), settings, "1", watch=False)
    result = read(workdir, 1)
    assert list(result["spaces"])[-1] == "tempo=2+pitch=1"
    assert "tempo=2+pitch=1" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"1\.json was made with --mix=.*tempo=2\+pitch=1"):
        job.run(workdir, ("retrieval",), job.Settings(clips=8), "1", watch=False)
    with pytest.raises(UserError, match=r"--mix=chords=1: no space is called 'chords'; there are"):
        job.Job(workdir, None, job.Settings(mix=("chords",)))
    for text in ("", "tempo=-1", "tempo=x", "tempo=inf", "=2"):
        with pytest.raises(UserError, match="write spaces and weights so: pitch=2"):
            job.Settings(mix=(text,))


def test_results_of_other_settings_stop_the_job(workdir):
    job.run(workdir, ("equivariance",), job.Settings(clips=8), "1", watch=False)
    before = (workdir / "eval" / "1.json").read_bytes()
    with pytest.raises(UserError, match=r"1\.json was made with --clips=8, not all"):
        job.run(workdir, ("equivariance",), job.Settings(), "1", watch=False)
    assert (workdir / "eval" / "1.json").read_bytes() == before


def test_without_baselines_the_figures_are_the_same(workdir, capsys):
    settings = job.Settings(clips=16, baselines=False)
    assert job.run(workdir, ["tempo", "equivariance"], settings, "1", False)
    alone = read(workdir, 1)
    assert alone["random_init"] == alone["shuffled_labels"] == {}
    assert (workdir / "eval/1.png").exists()
    assert "random init" not in capsys.readouterr().out
    with pytest.raises(UserError, match=r"made with --baselines=false, not true: remove it, or"):
        job.run(workdir, ["tempo"], job.Settings(clips=16), "1", False)
    (workdir / "eval/1.json").unlink()
    assert job.run(workdir, ["tempo", "equivariance"], job.Settings(clips=16), "1", False)
    beside = read(workdir, 1)
    assert beside["random_init"].keys() == beside["spaces"].keys()
    assert alone["spaces"] == beside["spaces"]


def test_a_result_is_whole_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "3.json"
    monkeypatch.setattr(results.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("killed")))
    with pytest.raises(OSError, match="killed"):
        results.write(path, results.blank(3, "d", {}, {}))
    assert not path.exists()


def test_labels_of_ones_own_are_tasks(workdir, tmp_path, capsys):
    data = tiny_music.write(tmp_path / "data", labels={"mood": str, "energy": np.float32})
    config = json.loads((workdir / "config.json").read_text())
    config["data"]["path"] = str(data)
    (workdir / "config.json").write_text(json.dumps(config))
    assert job.run(workdir, None, job.Settings(), "1", watch=False)
    found = read(workdir, 1)
    assert {"mood", "energy"} <= set(found["tasks"])
    assert {"mood_accuracy", "energy_r2"} <= set(found["spaces"]["encoder"])
    assert "| mood accuracy |" in capsys.readouterr().out

    assert job.run(workdir, ("mood_mlp",), job.Settings(), "1", watch=False)
    assert "mood_mlp_accuracy" in read(workdir, 1)["spaces"]["encoder"]
    with pytest.raises(UserError, match=r"unknown task 'valence'.* energy, mood, retrieval"):
        job.run(workdir, ("valence",), job.Settings(), "1", watch=False)
