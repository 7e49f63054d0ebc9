import numpy as np
import pytest
from test_linear import parts

from loev_jax.evaluate import linear, mlp

SMALL = mlp.Grid((1e-2, 3e-2), (0.0, 1.0), seeds=2, hidden=32, batch=60, epochs=60)


def circles(rng, count=300):
    """Two classes that no line parts."""
    x = rng.normal(size=(count, 2))
    return x, np.where(np.square(x).sum(axis=1) > 1.4, "out", "in")


def test_classes_that_no_line_parts():
    x, y = circles(np.random.default_rng(0))
    read = mlp.classify(parts(x, 180, 60), parts(y, 180, 60), SMALL)
    truth = parts(y, 180, 60).test
    assert read.shape == (2, len(truth))
    assert np.mean(read == truth[None]) > 0.9
    assert np.mean(linear.classify(parts(x, 180, 60), parts(y, 180, 60)) == truth) < 0.75


def test_numbers_that_no_line_follows():
    rng = np.random.default_rng(1)
    x = rng.uniform(-2, 2, size=(400, 3))
    y = 50 + 10 * np.abs(x[:, :1])
    read = mlp.regress(parts(x, 240, 80), parts(y, 240, 80), SMALL)
    truth = parts(y, 240, 80).test
    assert read.shape == (2, *truth.shape)
    assert np.mean(np.square(read - truth[None])) < 0.1 * np.var(truth)


def test_more_features_than_clips():
    rng = np.random.default_rng(2)
    y = rng.integers(0, 3, size=200)
    x = rng.normal(size=(200, 300)) + 3 * rng.normal(size=(3, 300))[y]
    assert np.mean(mlp.classify(parts(x), parts(y), SMALL) == parts(y).test) > 0.9


@pytest.mark.parametrize("kind", ["regress", "classify"])
def test_labels_of_the_test_split_are_never_read(kind):
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(200, 8)), rng.integers(0, 3, size=200).astype(float)
    y = y[:, None] if kind == "regress" else y
    blind = y.copy()
    blind[160:] = np.nan
    probe = getattr(mlp, kind)
    np.testing.assert_array_equal(
        probe(parts(x), parts(y), SMALL), probe(parts(x), parts(blind), SMALL)
    )


def test_the_best_member_on_validation_is_taken():
    x, y = circles(np.random.default_rng(4))
    useless = mlp.Grid((1e-9, 3e-2, 1e30), (0.0,), seeds=1, hidden=32, batch=60, epochs=60)
    only = mlp.Grid((3e-2,), (0.0,), seeds=1, hidden=32, batch=60, epochs=60)
    data = parts(x, 180, 60), parts(y, 180, 60)
    np.testing.assert_array_equal(mlp.classify(*data, useless), mlp.classify(*data, only))
