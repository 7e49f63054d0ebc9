"""What stands for the splits of an evaluation."""

import shutil

import numpy as np
import pytest
import tiny_music
import tiny_run
from evaluated import read
from numpy.testing import assert_array_equal

from loev_jax.errors import UserError
from loev_jax.evaluate import job, splits
from loev_jax.evaluate.settings import Settings

pytestmark = pytest.mark.usefixtures("small_batches")


@pytest.fixture(name="own", scope="module")
def _own(tmp_path_factory):
    return tiny_music.write(tmp_path_factory.mktemp("splits") / "own")


@pytest.fixture(name="recordings", scope="module")
def _recordings(tmp_path_factory):
    """A data set that has no split but `train`, as a folder of few files: what `own` tests on."""
    path = tmp_path_factory.mktemp("splits") / "recordings"
    tiny_music.write(path, {"test": 12})
    for file in path.iterdir():
        renamed = file.rename(file.with_name(file.name.replace("-test.", "-train.")))
        if renamed.suffix == ".json":
            renamed.write_text(renamed.read_text().replace('"test"', '"train"'))
    return path


def test_all_of_other_music_is_read_by_what_is_learned_on_the_runs_own(own, recordings):
    found = splits.transfer(str(recordings), str(own))
    assert {name: len(one) for name, one in found.items()} == tiny_music.CLIPS
    assert found["train"].path == found["validation"].path == str(own)
    assert found["test"].path == str(recordings)


@pytest.mark.slow
def test_its_figures_are_those_of_a_test_split_of_the_same_clips(own, recordings, tmp_path):
    for name in ("whole", "apart"):
        tiny_run.write(tmp_path / name)
        tiny_run.heard_on(tmp_path / name, own)
    tasks = ("tempo", "equivariance", "retrieval")
    settings = Settings(baselines=False, split="all")
    assert job.run(tmp_path / "whole", tasks, settings, "1", False, recordings)
    found = read(tmp_path / "whole", 1, "eval_recordings/all")
    assert job.run(tmp_path / "apart", tasks, Settings(baselines=False), "1", False)
    assert found["spaces"] == read(tmp_path / "apart", 1)["spaces"]
    assert found["counts"]["test"]["clips"] == 12


def test_music_that_the_run_knows_is_refused(own, recordings, tmp_path):
    with pytest.raises(UserError, match=r"--split=all: \d+ pieces of .* such as '.*: give --data"):
        splits.transfer(str(own), str(own))
    more = shutil.copytree(own, tmp_path / "more")
    with pytest.raises(UserError, match=r"--split=all: \d+ pieces of .*more are, by their name"):
        splits.transfer(str(more), str(own))


def test_music_that_the_run_knows_is_refused_under_another_name(own, tmp_path, monkeypatch):
    named = tiny_music.record

    def renamed(split, number, **others):
        return named(split, number, **others) | {"piece": f"another{number // 2}"}

    monkeypatch.setattr(tiny_music, "record", renamed)
    tiny_music.write(tmp_path / "renamed", {"train": 2, "test": 2})
    with pytest.raises(UserError, match=r"1 pieces of .* their very audio, .* such as 'another0'"):
        splits.transfer(str(tmp_path / "renamed"), str(own))


def test_a_folder_of_few_files_is_told_of_it(recordings):
    with pytest.raises(
        UserError, match=r"no split 'validation'.* from 50 .*; with --split=all one"
    ):
        splits.open_all(str(recordings), "test")


def test_validation_is_divided_by_piece(own):
    found = splits.open_all(str(own), "validation")
    halves = [
        np.unique([found[name][n]["piece"] for n in range(len(found[name]))])
        for name in ("validation", "test")
    ]
    both = np.unique(splits.records.open_split(str(own), "validation").labels("piece"))
    assert_array_equal(np.sort(np.concatenate(halves)), both)
