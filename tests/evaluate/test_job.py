"""Which checkpoints the evaluation job walks, and what stops it."""

import re
import shutil
import threading
import time

import numpy as np
import pytest
import tiny_music
import tiny_run
from evaluated import UNLABELLED, read

from loev_jax.data import processes
from loev_jax.errors import UserError
from loev_jax.evaluate import baseline, embedding, job, matrices, probes, resamples, spaces, tasks
from loev_jax.evaluate.settings import Settings

pytestmark = pytest.mark.usefixtures("small_batches")

SIDES = ("clean", "moved")


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
        assert list(section) == list(first["spaces"])
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
    assert first["counts"]["test"] == {"clips": 12, "pairs": 12, "skipped": 0, "pieces": {"2": 6}}
    assert {"1.png", "2.png", baseline.FILE} <= {p.name for p in (workdir / "eval").iterdir()}
    table = capsys.readouterr().out
    assert "step 2 (24 train, 8 validation, 12 test clips)" in table
    assert re.search(r"in the others \S+; of random init \S+ and \S+\n", table)

    before = {p.name: p.stat().st_mtime_ns for p in (workdir / "eval").iterdir()}
    assert job.run(workdir, None, Settings(), None, watch=False)
    assert {p.name: p.stat().st_mtime_ns for p in (workdir / "eval").iterdir()} == before
    assert capsys.readouterr().out == table


@pytest.mark.slow
def test_heads_over_gain_filter_and_noise_are_measured_by_them(tmp_path, data, capsys):
    heads = {"loudness": "gain", "colour": "filter", "hiss": "noise"}
    tiny_run.write(tmp_path, heads=heads, augment={"noise": {}})
    tiny_run.heard_on(tmp_path, data)
    assert job.run(tmp_path, ("equivariance", "prediction", "retrieval"), Settings(), None, False)
    result = read(tmp_path, 1)
    scalars = ("time_stretch", "pitch_shift", "gain")
    for section in ("spaces", "random_init", "shuffled_labels"):
        for metrics in result[section].values():
            found = {name for name in metrics if name.endswith(("_r2", "_pre"))}
            assert found == {
                *(f"{name}_r2" for name in (*scalars, "filter_kind", "filter_frequency")),
                *("noise_snr_r2", "noise_decay_r2"),
                *(f"predicted_{way}_{n}_pre" for way in ("forth", "back") for n in scalars),
            }
            copies = {name for name in metrics if name.startswith("copies_")}
            assert copies == {f"copies_{name}_mrr" for name in scalars}
    assert (tmp_path / "eval" / "1_matrices.png").exists()
    table = capsys.readouterr().out
    assert "R² of the gain" in table
    assert "R² of the filter kind" in table
    assert "R² of the noise snr" in table
    assert re.search(r"R² of the change in the heads that keep it \S+, in the others", table)


def test_what_no_head_keeps_is_measured_where_it_is_asked_for(workdir, capsys):
    settings = Settings(baselines=False, changes=["gain", "filter", "gain"])
    assert settings.changes == ["filter", "gain"]
    assert job.run(workdir, ("equivariance", "retrieval"), settings, "1", watch=False)
    result = read(workdir, 1)
    names = ("time_stretch", "pitch_shift", "gain", "filter_kind", "filter_frequency")
    for metrics in result["spaces"].values():
        assert {f"{name}_r2" for name in names} == {n for n in metrics if n.endswith("_r2")}
        assert "copies_gain_mrr" in metrics
    assert matrices.equivariance(result)[0] == [*names]
    assert matrices.disentanglement(result) is not None  # of what heads keep, as without
    assert "R² of the gain" in capsys.readouterr().out
    with pytest.raises(
        UserError, match=r"made with --changes=filter,gain, not none: remove it, or"
    ):
        job.run(workdir, ("retrieval",), Settings(baselines=False), "1", watch=False)
    with pytest.raises(UserError, match="--changes=reverb: the run never applied it"):
        job.run(workdir, None, Settings(changes=["reverb"]), "2", watch=False)
    with pytest.raises(UserError, match="--changes=tempo: cannot be measured; choose from time_st"):
        Settings(changes=["tempo"])


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
    tiny_run.heard_on(workdir, other)
    (workdir / "eval" / "2.json").unlink()
    embedded.clear()
    job.run(workdir, ("equivariance",), Settings(), "2", watch=False)
    kept = resamples.read(workdir / "eval" / "2_resamples.npz")
    assert set(kept["encoder"]) == {"time_stretch_r2", "pitch_shift_r2"}  # none of what was removed
    assert embedded == [1, 1, 1, 1, 1, 1]  # the digest tells, once the audio was read
    changed, _ = baseline.load(workdir / "eval")
    assert changed != key
    assert read(workdir, 2)["random_init"] != reference
    assert set(vectors) == {"train", "validation", "test"}


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


def test_hums_and_scores_that_cannot_be_made_stop_no_other_task(workdir, monkeypatch, capsys):
    def unreadable(*args):
        raise RuntimeError("abc2midi cannot read it")

    monkeypatch.setattr(embedding.humming, "of", unreadable)
    monkeypatch.setattr(embedding.crossmodal, "rolls", unreadable)
    asked = ("humming", "score", "retrieval")
    assert not job.run(workdir, asked, Settings(baselines=False), "1", watch=False)
    result = read(workdir, 1)
    why = "RuntimeError: abc2midi cannot read it"
    assert result["failed"] == {"humming": why, "score": why}
    assert result["tasks"] == ["retrieval"]
    assert "humming failed (RuntimeError: abc2midi cannot read it)" in capsys.readouterr().err
    monkeypatch.undo()  # then they are left out: the clips are none of the corpus
    assert job.run(workdir, asked, Settings(baselines=False), "1", watch=False)
    assert read(workdir, 1)["failed"] == {}


def test_two_jobs_on_one_run_lose_nothing_of_each_other(workdir, monkeypatch):
    """Such as one that watches and one for another task: neither removes the other's figures."""
    waiting, said = threading.Semaphore(0), []

    def say(line):
        said.append(line)
        if line.endswith("evaluating into it; waiting"):
            waiting.release()

    monkeypatch.setattr(job, "say", say)
    settings = Settings(baselines=False)
    jobs = [
        threading.Thread(target=job.run, args=(workdir, (task,), settings, "1", False))
        for task in ("metre", "retrieval", "retrieval")
    ]
    (workdir / "eval").mkdir()
    with (workdir / "eval" / ".lock").open("w") as held:
        processes.lock(held, "")
        for one in jobs:
            one.start()
        for _ in jobs:
            assert waiting.acquire(timeout=100)
        assert not (workdir / "eval" / "1.json").exists()
    for one in jobs:
        one.join()
    assert sorted(read(workdir, 1)["tasks"]) == ["metre", "retrieval"]
    assert sum("evaluated in" in line for line in said) == 2  # what one has done is not done again


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


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of other reads
@pytest.mark.parametrize(
    "files",
    ["params/ocdbt.process_0/d/*", pytest.param("params/manifest.ocdbt", marks=pytest.mark.slow)],
)
def test_a_checkpoint_deleted_while_it_is_read_is_passed_over(workdir, monkeypatch, capsys, files):
    """Its files go one by one, its directory last, and that is some time after."""
    checkpointer = job.checkpoint.ocp.StandardCheckpointer
    restore, whole = checkpointer.restore, workdir / "checkpoints" / "1"

    def late(self, path, *arguments):
        if path.parent == whole:
            for file in whole.glob(files):
                file.unlink()
            threading.Timer(0.5, shutil.rmtree, [whole]).start()
        return restore(self, path, *arguments)

    monkeypatch.setattr(checkpointer, "restore", late)
    assert job.run(workdir, ("equivariance",), Settings(), None, watch=False)
    told = capsys.readouterr().err
    assert "step 1: passed over, training has deleted the checkpoint" in told
    assert "failed" not in told
    assert [path.name for path in workdir.glob("eval/*.json")] == ["2.json"]


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
