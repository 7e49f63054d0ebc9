import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss

from loev_jax.evaluate import features, linear
from loev_jax.evaluate.features import Parts


def parts(array, train=120, validation=40):
    return Parts(*np.split(array, [train, train + validation]))


@pytest.mark.parametrize("columns", [10, 200])
def test_ridge_is_scikit_learns(columns):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(90, columns)), rng.normal(size=(60, 3))
    turned = features.rotate(parts(x, 60, 10))
    assert turned.rows.train.shape[1] <= min(60, columns)
    grid = (0.1, 10.0, 1000.0)
    for weights, alpha in zip(linear.ridge(turned, y, grid), grid, strict=True):
        peer = Ridge(alpha, fit_intercept=False).fit(x[:60], y)
        np.testing.assert_allclose(turned.rows.test @ weights, peer.predict(x[70:]), atol=1e-9)


@pytest.mark.parametrize(("columns", "classes"), [(12, 2), (12, 5), (150, 9)])
def test_logistic_regression_is_scikit_learns(columns, classes):
    rng = np.random.default_rng(7)
    x = rng.normal(size=(160, columns)) * rng.uniform(0.1, 2, size=columns)[None]
    y = np.concatenate([np.arange(classes), rng.integers(0, classes, size=120 - classes)])
    x[:120] += rng.normal(size=(classes, columns))[y]
    x -= x[:120].mean(axis=0)[None]
    turned = features.rotate(parts(x, 120, 10))
    grid = (1000.0, 10.0, 1.0)
    weights, bias = linear.logistic(turned, y, classes, grid, 1e-6)
    assert bias.shape == (3, classes)
    for k, penalty in enumerate(grid):
        # scikit-learn has one weight vector for two classes, where ours has one for each.
        strength = (2 if classes == 2 else 1) / penalty
        peer = LogisticRegression(C=strength, tol=1e-7, max_iter=10_000).fit(x[:120], y)
        scores = turned.rows.test @ weights[k] + bias[k][None]
        ours = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(ours, peer.predict_proba(x[130:]), atol=1e-3)


def test_classification_is_scikit_learns_best_on_validation():
    """At the tolerance that is used: what stops early is no other probe."""
    rng = np.random.default_rng(9)
    y = rng.integers(0, 6, size=1100)
    x = rng.normal(size=(1100, 60)) * rng.uniform(0.1, 3, size=60)[None]
    x += 0.25 * rng.normal(size=(6, 60))[y]
    inputs, targets = parts(x, 400, 200), parts(y, 400, 200)
    rows = features.standardise(inputs)
    peers = [
        LogisticRegression(C=1 / penalty, tol=1e-7, max_iter=10_000).fit(rows.train, targets.train)
        for penalty in linear.LOGISTIC_GRID
    ]
    scores = [peer.score(rows.validation, targets.validation) for peer in peers]
    best = peers[int(np.argmax(scores))].predict(rows.test)
    found = linear.classify(inputs, targets)
    assert 0.5 < np.mean(best == targets.test) < 0.95
    assert np.mean(found == best) > 0.97
    assert abs(np.mean(found == targets.test) - np.mean(best == targets.test)) < 0.01


def test_tags_are_scikit_learns_one_by_one():
    """And of each the penalty is the one that does best on validation."""
    rng = np.random.default_rng(8)
    x = rng.normal(size=(200, 20))
    logits = x @ rng.normal(size=(20, 3)) * np.array([0.2, 1.0, 3.0]) + np.array([0.0, -1.0, 1.0])
    y = rng.random((200, 3)) < 1 / (1 + np.exp(-logits))
    found = linear.tag(parts(x), parts(y))
    scale = x[:120].std(axis=0)
    rows = parts((x - x[:120].mean(axis=0)) / scale)
    picked = []
    for tag in range(3):
        known = parts(y[:, tag])
        peers = [
            LogisticRegression(C=1 / penalty, tol=1e-7, max_iter=10_000).fit(
                rows.train, known.train
            )
            for penalty in linear.LOGISTIC_GRID
        ]
        losses = [log_loss(known.validation, one.predict_proba(rows.validation)) for one in peers]
        picked.append(int(np.argmin(losses)))
        peer = peers[picked[-1]].decision_function(rows.test)
        np.testing.assert_allclose(found[:, tag], peer, rtol=0.05, atol=0.05)
    assert len(set(picked)) > 1
    other = parts(y)
    blind = Parts(other.train, other.validation, np.zeros((0, 3), bool))
    np.testing.assert_array_equal(linear.tag(parts(x), blind), found)


def test_regression_picks_the_strength_per_target_on_validation():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 100))
    signal = x @ rng.normal(size=100) * 5 + 3
    y = np.stack([signal, rng.normal(size=400)], axis=1)
    predicted = linear.regress(parts(x), parts(y))
    truth = parts(y).test
    assert np.corrcoef(predicted[:, 0], truth[:, 0])[0, 1] > 0.99
    # Nothing can be read of the second target: its mean is the best, not an overfitted line.
    assert np.std(predicted[:, 1]) < 0.2


def test_regression_equals_scikit_learns_best_on_validation():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(240, 30)) * rng.uniform(0.1, 10, size=30)[None]
    y = (x @ rng.normal(size=30) + 20 * rng.normal(size=240) + 7)[:, None]
    inputs, targets = parts(x), parts(y)
    scale = features.Standardiser.fit(inputs.train)
    peers = [Ridge(a).fit(scale(inputs.train), targets.train) for a in linear.RIDGE_GRID]
    errors = [
        np.sum((p.predict(scale(inputs.validation)).reshape(-1, 1) - targets.validation) ** 2)
        for p in peers
    ]
    expected = peers[int(np.argmin(errors))].predict(scale(inputs.test)).reshape(-1, 1)
    np.testing.assert_allclose(linear.regress(inputs, targets), expected, atol=1e-7)


@pytest.mark.parametrize("kind", ["regress", "classify"])
def test_test_labels_are_never_read(kind):
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(200, 8)), rng.integers(0, 3, size=200).astype(float)
    if kind == "regress":
        y = y[:, None]
    blind = y.copy()
    blind[160:] = np.nan
    probe = getattr(linear, kind)
    np.testing.assert_array_equal(probe(parts(x), parts(y)), probe(parts(x), parts(blind)))


def test_classification_of_separable_and_of_unrelated_features():
    rng = np.random.default_rng(4)
    y = rng.integers(0, 4, size=600)
    x = rng.normal(size=(600, 20))
    clear = x + 4 * np.eye(4, 20)[y]
    truth = parts(y, 400, 100).test
    assert np.mean(linear.classify(parts(clear, 400, 100), parts(y, 400, 100)) == truth) > 0.9
    assert np.mean(linear.classify(parts(x, 400, 100), parts(y, 400, 100)) == truth) < 0.45


def test_a_single_class_is_predicted():
    x, y = np.random.default_rng(5).normal(size=(200, 4)), np.full(200, "4/4")
    assert set(linear.classify(parts(x), parts(y))) == {"4/4"}


def test_a_channel_that_is_silent_in_training_does_not_decide():
    rng = np.random.default_rng(6)
    x = rng.normal(size=(240, 5))
    y = x[:, :1].copy()
    x = np.concatenate([x, 1e-4 * rng.normal(size=(240, 1))], axis=1)
    x[200, 5] = 1e3
    predicted = linear.regress(parts(x), parts(y))
    np.testing.assert_allclose(predicted, parts(y).test, atol=0.2)


def test_a_constant_feature_standardises_to_zero():
    x = np.full((30, 2), 7.3, np.float32)
    assert not features.Standardiser.fit(x)(x).any()
