import pytest
import synthetic


@pytest.fixture(scope="session")
def known():
    return synthetic.facts()


@pytest.fixture(scope="session")
def vectors(known):
    return synthetic.vectors(known)
