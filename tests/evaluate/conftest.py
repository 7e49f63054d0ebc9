import functools
import shutil

import pytest
import synthetic
import tiny_music
import tiny_run

from loev_jax.evaluate import embedding, spaces


@pytest.fixture(scope="session")
def known():
    return synthetic.facts()


@pytest.fixture(scope="session")
def vectors(known):
    return synthetic.vectors(known)


@pytest.fixture
def small_batches(monkeypatch):
    """So that a tiny data set is embedded in several batches, the last of them not full."""
    monkeypatch.setattr(
        embedding, "Embedder", functools.partial(spaces.Embedder, views_per_device=7)
    )


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """The data set of `trained`."""
    return tiny_music.write(tmp_path_factory.mktemp("evaluate") / "data")


@pytest.fixture(scope="session")
def trained(tmp_path_factory, data):
    """A training directory with two checkpoints; not to be written to."""
    workdir = tmp_path_factory.mktemp("evaluate") / "run"
    tiny_run.write(workdir, steps=(1, 2))
    tiny_run.heard_on(workdir, data)
    return workdir


@pytest.fixture
def workdir(trained, tmp_path):
    """A copy of `trained` to evaluate."""
    return shutil.copytree(trained, tmp_path / "run")
