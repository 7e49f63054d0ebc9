"""The config that a run's directory keeps."""

import json
import shutil

import pytest
import tiny_music
from ml_collections import ConfigDict

from loev_jax import config, presets, run_config
from loev_jax.data import records
from loev_jax.errors import UserError


def test_the_defaults_are_a_recipe_and_survive_json(tmp_path):
    run_config.save(config.default(), tmp_path)
    assert run_config.load(tmp_path) == config.read(config.default())


def test_a_directory_of_another_config_is_refused(tmp_path):
    run_config.save(presets.recipe("small", {}), tmp_path)
    written = (tmp_path / "config.json").read_text()
    other = presets.recipe("small", {})
    other.optimizer.learning_rate = 0.5
    with pytest.raises(
        UserError, match=r"config\.optimizer\.learning_rate is 0\.\d+ there and 0\.5"
    ):
        run_config.check(other, tmp_path)
    assert (tmp_path / "config.json").read_text() == written


def test_a_directory_that_is_no_run_is_left_alone(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("mine")
    with pytest.raises(UserError, match="is not empty and holds no run"):
        run_config.check(presets.recipe("small", {}), tmp_path)


def test_a_run_whose_config_does_not_name_every_head_goes_on(tmp_path):
    """As those of before presets did."""
    settings = presets.recipe("small", {"tempo": "time_stretch"})
    old = settings.to_dict()
    old["loss"] |= {"weights": {}, "equivariance_weights": {}, "temperatures": {"tempo": 0.2}}
    run_config.save(ConfigDict(old), tmp_path)
    run_config.check(settings, tmp_path)
    settings.loss.weights.tempo = 2.0
    with pytest.raises(UserError, match=r"loss\.weights\.tempo is 1\.0 there and 2\.0 here"):
        run_config.check(settings, tmp_path)
    # Nor is it another configuration that a preset names a head which was replaced.
    settings = presets.recipe("", {"tempo": "time_stretch"})
    settings.heads = {"speed": "time_stretch"}
    old = settings.to_dict()
    old["loss"] |= {"weights": {}, "equivariance_weights": {}, "temperatures": {}}
    run_config.save(ConfigDict(old), tmp_path)
    run_config.check(settings, tmp_path)


def test_what_a_run_does_not_depend_on_may_change(tmp_path):
    run_config.save(presets.recipe("small", {}), tmp_path)
    moved = presets.recipe("small", {})
    moved.data.threads = 1
    moved.training.log_every = 7
    run_config.check(moved, tmp_path)


def test_a_run_goes_on_with_its_data_wherever_it_lies(tmp_path):
    here, there, other = (tmp_path / name for name in ("here", "there", "other"))
    tiny_music.write(here, {"train": 20})
    shutil.copytree(here, there)
    tiny_music.write(other, {"train": 20}, lengths={"train19": 1.5})
    workdir, settings = tmp_path / "run", presets.recipe("small", {})
    settings.data.path = str(here)
    run_config.save(settings, workdir)
    moved = presets.recipe("small", {})
    moved.data.path = str(there)
    with pytest.raises(UserError, match=r"config\.data\.path is .*here' there and .*there' here"):
        run_config.check(moved, workdir)  # a run from before there was data.json
    run_config.check_data(records.open_split(other, "train"), workdir)
    run_config.save_data(records.open_split(here, "train"), workdir)
    run_config.check(moved, workdir)
    run_config.check_data(records.open_split(there, "train"), workdir)
    for split in (records.open_split(other, "train"), records.open_split(here, "train[:19]")):
        with pytest.raises(UserError, match=r"does not hold the clips that the run in .*/run is"):
            run_config.check_data(split, workdir)
    (workdir / "data.json").write_text("{")
    with pytest.raises(UserError, match=r"data\.json: damaged"):
        run_config.check_data(records.open_split(here, "train"), workdir)


def test_a_damaged_config_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json: damaged"):
        run_config.load(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        run_config.load(tmp_path / "nowhere")


def test_config_json_is_readable(tmp_path):
    run_config.save(presets.recipe("small", {"tempo": "time_stretch"}), tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["heads"] == {"tempo": "time_stretch"}
