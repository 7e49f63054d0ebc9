import dataclasses
import functools
import json
import re
import shutil
import threading
import time

import numpy as np
import pytest
import tiny_music
import tiny_run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from loev_jax.errors import UserError
from loev_jax.evaluate import (
    baseline,
    embedding,
    humming,
    job,
    probes,
    report,
    results,
    spaces,
    tasks,
)
from loev_jax.evaluate.settings import Settings


@pytest.fixture(autouse=True)
def _batches_of_a_tiny_data_set_are_small(monkeypatch):
    monkeypatch.setattr(
        embedding, "Embedder", functools.partial(spaces.Embedder, views_per_device=7)
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_music.write(tmp_path_factory.mktemp("job") / "data")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data):
    workdir = tmp_path_factory.mktemp("job") / "run"
    tiny_run.write(workdir, steps=(1, 2))
    heard_on(workdir, data)
    return workdir


@pytest.fixture
def workdir(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def heard_on(workdir, data):
    """Makes `data` the run's own data set."""
    config = json.loads((workdir / "config.json").read_text())
    config["data"]["path"] = str(data)
    (workdir / "config.json").write_text(json.dumps(config))


def read(workdir, step):
    return json.loads((workdir / "eval" / f"{step}.json").read_text())


SIDES = ("clean", "moved")
UNLABELLED = {
    *("same_clip_r1", "same_clip_r5", "same_clip_r10", "same_clip_mrr"),
    *("time_stretch_r2", "pitch_shift_r2", "copies_time_stretch_mrr", "copies_pitch_shift_mrr"),
    *(f"invariance_{name}" for name in ("time_stretch", "pitch_shift", "gain", "filter", "other")),
    *(f"predicted_{way}_{metric}" for way in ("forth", "back")
      for metric in ("mrr", "h1", "h5", "h10", "time_stretch_pre", "pitch_shift_pre")),
}  # fmt: skip


def test_every_checkpoint_gets_a_result_once(workdir, capsys):
    assert job.run(workdir, None, Settings(), None, watch=False)
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
    for section in ("random_init", "shuffled_labels"):
        for space, metrics in first[section].items():
            ends = first[f"{section}_intervals"][space]
            assert ends.keys() == metrics.keys()
            low, high = ends["time_stretch_r2"]
            assert low <= metrics["time_stretch_r2"] <= high
    assert first["counts"]["test"] == {"clips": 12, "pairs": 12, "skipped": 0}
    assert {"1.png", "2.png", baseline.FILE} <= {p.name for p in (workdir / "eval").iterdir()}
    table = capsys.readouterr().out
    assert "step 2 (24 train, 8 validation, 12 test clips)" in table
    assert re.search(r"in the others \S+; of random init \S+ and \S+\n", table)

    before = {p.name: p.stat().st_mtime_ns for p in (workdir / "eval").iterdir()}
    assert job.run(workdir, None, Settings(), None, watch=False)
    assert {p.name: p.stat().st_mtime_ns for p in (workdir / "eval").iterdir()} == before
    assert capsys.readouterr().out == table


@pytest.mark.slow
def test_random_init_is_embedded_once_and_again_where_the_data_changed(workdir, monkeypatch, data):
    embedded = []
    embed = spaces.Embedder.embed

    def counted(self, models, *args, **kwargs):
        embedded.append(len(models))
        return embed(self, models, *args, **kwargs)

    monkeypatch.setattr(spaces.Embedder, "embed", counted)
    several = ("equivariance", "retrieval", "tempo")
    job.run(workdir, several, Settings(), "1", watch=False)
    job.run(workdir, several, Settings(), "2", watch=False)
    assert embedded == [2, 2, 2, 1, 1, 1]
    reference = read(workdir, 2)["random_init"]

    key, vectors = baseline.load(workdir / "eval")
    other = workdir.parent / "other"
    tiny_music.write(other, lengths={"train3": 1.5})
    heard_on(workdir, other)
    (workdir / "eval" / "2.json").unlink()
    embedded.clear()
    job.run(workdir, ("equivariance",), Settings(), "2", watch=False)
    assert embedded == [1, 1, 1, 1, 1, 1]  # the digest tells, once the audio was read
    changed, _ = baseline.load(workdir / "eval")
    assert changed != key
    assert read(workdir, 2)["random_init"] != reference
    assert set(vectors) == {"train", "validation", "test"}


@pytest.mark.slow
def test_a_task_that_fails_is_reported_and_stops_no_other(workdir, monkeypatch, capsys):
    class Broken(probes.Probe):
        def score(self, *args):
            raise ZeroDivisionError("by design")

    tempo, key, *_ = probes.PROBES
    monkeypatch.setattr(tasks, "PROBES", (tempo, Broken(key.name, key.column, key.kind)))
    assert not job.run(workdir, ("tempo", "key", "retrieval"), Settings(), "1", watch=False)
    broken = read(workdir, 1)
    assert broken["failed"] == {"key": "ZeroDivisionError: by design"}
    assert broken["tasks"] == ["tempo", "retrieval"]
    assert "key failed (ZeroDivisionError: by design)" in capsys.readouterr().err

    assert not (workdir / "eval" / "2.json").exists()

    monkeypatch.undo()
    more = ("tempo", "key", "retrieval", "equivariance")
    assert job.run(workdir, more, Settings(), "1", watch=False)
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
    assert not job.run(workdir, ("tempo",), Settings(), "1", watch=False)
    assert "not finite: training has diverged" in read(workdir, 1)["failed"]["tempo"]
    assert read(workdir, 1)["tasks"] == []


def test_data_without_labels_still_tells_equivariance(workdir, capsys):
    other = tiny_music.write(workdir.parent / "bare", labels={})
    heard_on(workdir, other)
    assert job.run(workdir, None, Settings(clips=10, segments=1), "last", watch=False)
    result = read(workdir, 2)
    assert set(result["spaces"]["tempo"]) == UNLABELLED
    assert result["left_out"]["tempo"] == ["the data set has no label 'tempo'"]
    assert result["counts"]["train"]["clips"] == 10
    said = capsys.readouterr()
    assert "tempo: left out, the data set has no label 'tempo'" in said.err
    header = next(line for line in said.out.splitlines() if line.startswith("| space"))
    assert [cell.strip() for cell in header.split("|")[2:-1]] == [
        "R² of the stretch", "R² of the shift", "the same clip moved, MRR",
        "nearest tempo among copies, MRR", "nearest pitch among copies, MRR",
    ]  # fmt: skip


def test_checkpoints_that_are_damaged_or_deleted_stop_nothing(workdir, monkeypatch, capsys):
    shutil.rmtree(workdir / "checkpoints" / "1" / "params")
    restore = job.checkpoint.restore_model

    def late(directory, step, recipe):
        if step == 2:  # training deletes it between the listing and the reading
            shutil.rmtree(directory / "checkpoints" / "2")
        return restore(directory, step, recipe)

    monkeypatch.setattr(job.checkpoint, "restore_model", late)
    assert not job.run(workdir, ("equivariance",), Settings(), None, watch=False)
    told = capsys.readouterr().err
    assert "step 1: failed" in told
    assert "step 2: passed over" in told
    assert not list(workdir.glob("eval/*.json"))


def test_watching_waits_for_training_to_begin_and_to_end(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(job, "_POLL_SECONDS", 0.05)
    workdir, outcome = tmp_path / "run", []

    def watch():
        outcome.append(job.run(workdir, ("equivariance",), Settings(), None, watch=True))

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
    own = job.Job(workdir, None, Settings())
    other = tiny_music.write(tmp_path / "recordings", labels={})
    assert job.run(workdir, ("equivariance",), Settings(), "1", watch=False, data=other)
    assert f"{workdir} on {other}, step 1" in capsys.readouterr().out
    result = json.loads((workdir / "eval_recordings" / "1.json").read_text())
    assert result["data"] == str(other)
    assert "time_stretch_r2" in result["spaces"]["tempo"]
    assert own.todo() == [1, 2]  # nothing was said of its own data


def test_results_of_another_data_set_are_refused(workdir, tmp_path):
    """By what is heard: a data set may have moved, and others may lie where it lay."""

    def evaluate(data=None):
        asked = ("equivariance",)
        return job.run(workdir, asked, Settings(baselines=False), "1", watch=False, data=data)

    first = tiny_music.write(tmp_path / "a" / "recordings")
    assert evaluate(first)
    result = workdir / "eval_recordings" / "1.json"
    before = result.read_bytes(), result.stat().st_mtime_ns
    second = tiny_music.write(tmp_path / "b" / "recordings", lengths={"train3": 1.9})
    refusal = rf"1\.json was made of the data set {first}, not of {second}: remove it, or name"
    with pytest.raises(UserError, match=refusal):
        evaluate(second)
    (tmp_path / "c").mkdir()
    first.rename(tmp_path / "c" / "recordings")
    assert evaluate(tmp_path / "c" / "recordings")
    assert (result.read_bytes(), result.stat().st_mtime_ns) == before

    labels = {"energy": np.float32}
    assert tiny_music.write(tmp_path / "a" / "recordings", labels=labels) == first
    with pytest.raises(UserError, match=rf"made of {first} when its clips or labels were others"):
        evaluate(first)

    # Results from before there were checksums are of the data set that they name.
    older = json.loads(result.read_text())
    del older["digest"]
    result.write_text(json.dumps(older))
    assert evaluate(first)
    with pytest.raises(UserError, match="was made of the data set"):
        evaluate(second)

    heard_on(workdir, first)
    shutil.copytree(workdir / "eval_recordings", workdir / "eval")
    assert evaluate()
    heard_on(workdir, second)
    with pytest.raises(UserError, match="was made of the data set"):
        evaluate()


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A data set whose pieces have a score."""
    known = tiny_music.pieces(22)
    return tiny_music.write(tmp_path_factory.mktemp("job") / "scored", known=known)


def test_hums_scores_and_words_are_evaluated(workdir, scored, monkeypatch):
    """Of fewer clips: hums are then of the pieces that can be found among them."""
    looked = []
    ranks = humming.first_ranks

    def spied(similarity, wanted, there):
        looked.append((set(wanted), set(there)))
        return ranks(similarity, wanted, there)

    monkeypatch.setattr(humming, "first_ranks", spied)
    heard_on(workdir, scored)
    asked = ("humming", "score", "text")
    assert job.run(workdir, asked, Settings(clips=5, segments=2), "1", watch=False)
    result = read(workdir, 1)
    assert result["tasks"] == list(asked)
    assert result["left_out"] == {}
    assert result["counts"]["hums"] == {"clips": 5, "pairs": 5, "skipped": 0}
    assert looked
    for wanted, there in looked:
        assert len(there) == 5  # of six
        assert wanted == there
    ways = [f"{task}_{way}_audio" for task in ("score", "text") for way in ("to", "from")]
    metrics = {
        *("humming_mrr", "humming_h10", "text_tempo", "text_key"),
        *(f"{way}_{metric}" for way in ways for metric in ("r1", "r5", "r10", "mrr")),
    }
    assert list(result["spaces"]) == ["encoder", "invariant", "pitch", "tempo", "heads", "all"]
    for section in ("spaces", "random_init", "shuffled_labels"):
        for space, found in result[section].items():
            assert set(found) == metrics, (section, space)
            assert all(0 <= value <= 1 for value in found.values())


def points(directory):
    """How often each scalar was written at each step."""
    events = EventAccumulator(str(directory), size_guidance={"tensors": 0})
    events.Reload()
    return {
        name: sorted(event.step for event in events.Tensors(name))
        for name in events.Tags()["tensors"]
    }


def test_what_is_shown_of_a_result_is_made_once_and_again_where_it_failed(workdir, monkeypatch):
    settings = Settings(clips=8, baselines=False)

    def evaluate(*asked):
        return job.run(workdir, asked, settings, "1", watch=False)

    def killed(*_):
        raise KeyboardInterrupt

    def broken(*_):
        raise OSError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(results, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            evaluate("equivariance")
    assert points(workdir / "eval")["encoder/time_stretch_r2"] == [1]
    assert not (workdir / "eval" / "1.json").exists()

    with monkeypatch.context() as patch:
        for name in ("plot", "matrices"):
            patch.setitem(report.SHOWN, name, (broken, report.SHOWN[name][1]))
        (workdir / "eval" / "1.png").unlink()
        assert not evaluate("equivariance")
        assert set(read(workdir, 1)["failed"]) == {"plot", "matrices"}
        assert not evaluate("equivariance")  # it still fails
        assert not (workdir / "eval" / "1.png").exists()

    with monkeypatch.context() as patch:
        patch.setattr(spaces.Embedder, "embed", broken)  # nothing needs to be embedded for it
        assert evaluate("equivariance")
        assert read(workdir, 1)["failed"] == {}
        assert (workdir / "eval" / "1.png").exists()
        (workdir / "eval" / "1_matrices.png").unlink()
        assert job.Job(workdir, ("equivariance",), settings).todo() == [1, 2]
        assert evaluate("equivariance")
        assert (workdir / "eval" / "1_matrices.png").exists()

    once = points(workdir / "eval")
    assert evaluate("equivariance", "retrieval")
    twice = points(workdir / "eval")
    assert twice.keys() > once.keys()
    assert set(map(tuple, twice.values())) == {(1,)}


def test_figures_to_choose_by_are_of_the_other_half_of_validation(workdir, tmp_path, capsys):
    """The test split may be missing, and the results of both never meet."""
    data = tiny_music.write(tmp_path / "data", {"train": 24, "validation": 22})
    heard_on(workdir, data)
    settings = Settings(split="validation", baselines=False)
    assert job.run(workdir, ("tempo", "retrieval", "invariance"), settings, "1", watch=False)
    assert "step 1 (24 train, 12 validation, 10 other validation clips)" in capsys.readouterr().out
    assert [path.name for path in (workdir / "eval").iterdir()] == ["validation"]
    result = read(workdir, "validation/1")
    assert result["settings"]["split"] == "validation"
    assert result["tasks"] == ["tempo", "retrieval", "invariance"]
    one = job.Job(workdir, None, settings)
    tuned, figures = (
        [one._splits[split][at] for at in range(len(one._splits[split]))]
        for split in ("validation", "test")
    )
    ids = [clip["id"] for clip in tuned + figures]
    assert sorted(ids) == sorted(f"validation{number}" for number in range(22))
    assert not {clip["piece"] for clip in tuned} & {clip["piece"] for clip in figures}
    assert len(one._splits["train"]) == 24
    assert one.todo() == [1, 2]  # other tasks are missing
    with pytest.raises(UserError, match="no split 'test'"):
        job.Job(workdir, None, Settings())
    shutil.copytree(workdir / "eval" / "validation", workdir / "eval", dirs_exist_ok=True)
    heard_on(workdir, tiny_music.write(tmp_path / "whole"))
    with pytest.raises(UserError, match=r"made with --split=validation, not test: remove it"):
        job.run(workdir, ("tempo",), Settings(baselines=False), "1", watch=False)
    with pytest.raises(UserError, match="--split=train: choose from test, validation"):
        Settings(split="train")
    single = tiny_music.write(tmp_path / "single", {"train": 24, "validation": 2})
    heard_on(workdir, single)
    with pytest.raises(UserError, match="has one piece, and is to be divided by piece: add music"):
        job.Job(workdir, None, settings)


def test_the_table_is_of_the_last_checkpoint_asked_for(workdir, monkeypatch, capsys):
    """Not of the one that was evaluated last."""
    evaluated = []

    def blank(self, step):
        evaluated.append(step)
        settings = dataclasses.asdict(self.settings)
        done = results.blank(step, self._data, self._digest, settings, {}) | {"tasks": ["tempo"]}
        self.directory.mkdir(exist_ok=True)
        results.write(self.path(step), done)

    monkeypatch.setattr(job.Job, "evaluate", blank)
    for step in ("2", None):
        assert job.run(workdir, ("tempo",), Settings(), step, watch=False)
    assert evaluated == [2, 1]
    assert "step 1 " not in capsys.readouterr().out


def test_a_weighted_sum_of_spaces_is_a_space(workdir, capsys):
    settings = Settings(clips=8, mix=("tempo=2 + pitch",))
    assert job.run(workdir, ("retrieval",), settings, "1", watch=False)
    result = read(workdir, 1)
    assert list(result["spaces"])[-1] == "tempo=2+pitch=1"
    assert "tempo=2+pitch=1" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"1\.json was made with --mix=.*tempo=2\+pitch=1"):
        job.run(workdir, ("retrieval",), Settings(clips=8), "1", watch=False)
    with pytest.raises(UserError, match=r"--mix=chords=1: no space is called 'chords'; there are"):
        job.Job(workdir, None, Settings(mix=("chords",)))
    for text in ("", "tempo=-1", "tempo=x", "tempo=inf", "=2"):
        with pytest.raises(UserError, match="write spaces and weights so: pitch=2"):
            Settings(mix=(text,))


def test_results_of_other_settings_stop_the_job(workdir):
    job.run(workdir, ("equivariance",), Settings(clips=8), "1", watch=False)
    before = (workdir / "eval" / "1.json").read_bytes()
    with pytest.raises(UserError, match=r"1\.json was made with --clips=8, not all"):
        job.run(workdir, ("equivariance",), Settings(), "1", watch=False)
    assert (workdir / "eval" / "1.json").read_bytes() == before


@pytest.mark.slow
def test_without_baselines_the_figures_are_the_same(workdir, capsys):
    settings = Settings(clips=16, baselines=False)
    assert job.run(workdir, ["tempo", "equivariance"], settings, "1", False)
    alone = read(workdir, 1)
    assert alone["random_init"] == alone["shuffled_labels"] == {}
    assert (workdir / "eval/1.png").exists()
    assert "random init" not in capsys.readouterr().out
    with pytest.raises(UserError, match=r"made with --baselines=false, not true: remove it, or"):
        job.run(workdir, ["tempo"], Settings(clips=16), "1", False)
    (workdir / "eval/1.json").unlink()
    assert job.run(workdir, ["tempo", "equivariance"], Settings(clips=16), "1", False)
    beside = read(workdir, 1)
    assert beside["random_init"].keys() == beside["spaces"].keys()
    assert alone["spaces"] == beside["spaces"]


def test_a_result_is_whole_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "3.json"
    monkeypatch.setattr(results.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("killed")))
    with pytest.raises(OSError, match="killed"):
        results.write(path, results.blank(3, "d", "0", {}, {}))
    assert not path.exists()


def test_labels_of_ones_own_are_tasks(workdir, tmp_path, capsys):
    """Whatever they are called."""
    labels = {"mood": str, "energy": np.float32, "retrieval": str, "score": np.float32,
              "time_stretch": np.float32, "mood_mlp": str}  # fmt: skip
    data = tiny_music.write(tmp_path / "data", labels=labels)
    heard_on(workdir, data)
    settings = Settings(baselines=False)
    assert job.run(workdir, None, settings, "1", watch=False)
    found = read(workdir, 1)
    assert found["tasks"][5:] == [
        *("energy", "mood", "mood_mlp_label", "retrieval_label", "score_label"),
        *("time_stretch_label", "retrieval", "equivariance", "invariance", "prediction"),
    ]
    encoder = set(found["spaces"]["encoder"])
    assert {"mood_accuracy", "energy_r2"} <= encoder
    assert {"retrieval_label_accuracy", "score_label_r2", "time_stretch_label_r2"} <= encoder
    assert {"same_clip_mrr", "time_stretch_r2"} <= encoder
    table = capsys.readouterr().out
    assert "| mood accuracy |" in table
    assert "retrieval label accuracy | score label r2 | time stretch label r2 |" in table

    assert job.run(workdir, ("mood_mlp", "score"), settings, "1", watch=False)
    assert "mood_mlp_accuracy" in read(workdir, 1)["spaces"]["encoder"]
    assert "score" in read(workdir, 1)["left_out"]
    with pytest.raises(UserError, match=r"unknown task 'valence'.* mood, mood_mlp_label, retriev"):
        job.run(workdir, ("valence",), settings, "1", watch=False)
