"""A corpus that all tests of entry points share."""

import pytest

from loev_jax.corpus import builder


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpora") / "corpus"
    builder.prepare(path, clips=12, workers=1)
    return path
