"""Results in files: of which data and settings they are, and what is shown of them."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tiny_music
import tiny_run
from evaluated import points, read

from loev_jax.errors import UserError
from loev_jax.evaluate import job, report, results, spaces
from loev_jax.evaluate.settings import Settings

pytestmark = pytest.mark.usefixtures("small_batches")


def test_a_result_is_whole_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "3.json"
    monkeypatch.setattr(results.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("killed")))
    with pytest.raises(OSError, match="killed"):
        results.write(path, results.blank(3, "d", "0", {}, {}))
    assert not path.exists()


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

    tiny_run.heard_on(workdir, first)
    shutil.copytree(workdir / "eval_recordings", workdir / "eval")
    assert evaluate()
    tiny_run.heard_on(workdir, second)
    with pytest.raises(UserError, match="was made of the data set"):
        evaluate()


def test_results_of_other_settings_stop_the_job(workdir):
    job.run(workdir, ("equivariance",), Settings(clips=8), "1", watch=False)
    before = (workdir / "eval" / "1.json").read_bytes()
    with pytest.raises(UserError, match=r"1\.json was made with --clips=8, not all"):
        job.run(workdir, ("equivariance",), Settings(), "1", watch=False)
    assert (workdir / "eval" / "1.json").read_bytes() == before


def test_figures_to_choose_by_are_of_the_other_half_of_validation(workdir, tmp_path, capsys):
    """The test split may be missing, and the results of both never meet."""
    data = tiny_music.write(tmp_path / "data", {"train": 24, "validation": 22})
    tiny_run.heard_on(workdir, data)
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
    tiny_run.heard_on(workdir, tiny_music.write(tmp_path / "whole"))
    with pytest.raises(UserError, match=r"made with --split=validation, not test: remove it"):
        job.run(workdir, ("tempo",), Settings(baselines=False), "1", watch=False)
    with pytest.raises(UserError, match="--split=train: choose from test, validation"):
        Settings(split="train")
    single = tiny_music.write(tmp_path / "single", {"train": 24, "validation": 2})
    tiny_run.heard_on(workdir, single)
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
