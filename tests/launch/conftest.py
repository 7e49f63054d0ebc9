"""What tests of entry points share: a corpus, and a run that nothing disturbed."""

import entry_point
import pytest
from tiny_training import command

from loev_jax.corpus import builder


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpora") / "corpus"
    builder.prepare(path, clips=12, workers=1)
    return path


@pytest.fixture(scope="session")
def undisturbed(corpus, tmp_path_factory):
    """The run, which is to be left as it is, and what it said."""
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    done = entry_point.run(*command(workdir, corpus))
    assert done.returncode == 0, done.stderr
    return workdir, done.stderr
