import dataclasses

import numpy as np
import pytest

from loev_jax.evaluate import towers
from loev_jax.evaluate.features import Parts
from loev_jax.evaluate.metrics import ranks

SMALL = dataclasses.replace(
    towers.SETTINGS, axes=32, hidden=64, size=16, batch=64, epochs=25, weight_decays=(0.01, 1.0)
)


def pairs(count=400, test=80, seed=0):
    """Two views of six hidden numbers, each curved in its own way."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(count, 6))
    views = [np.tanh(hidden @ rng.normal(size=(6, size))) for size in (40, 20)]
    views = [one + 0.02 * rng.normal(size=one.shape) for one in views]
    cut = [count - 2 * test, count - test]
    audio, other = (Parts(*np.split(one, cut)) for one in views)
    return audio, dataclasses.replace(other, train=other.train[None])


def reciprocal(alike):
    return float(np.mean(1.0 / ranks(alike)))


def test_what_belongs_together_is_found_among_the_unseen():
    audio, other = pairs()
    alike = towers.match(audio, other, SMALL)
    assert alike.shape == (80, 80)
    assert np.abs(alike).max() <= 1 + 1e-5
    assert reciprocal(alike) > 0.5
    assert reciprocal(alike.T) > 0.5
    mixed = np.random.default_rng(1).permutation(other.train, axis=1)
    assert reciprocal(towers.match(audio, dataclasses.replace(other, train=mixed), SMALL)) < 0.15


def test_test_rows_are_only_compared():
    """Neither those of audio nor those of the other change what is learned, nor each other."""
    audio, other = pairs()
    alike = towers.match(audio, other, SMALL)
    fewer = dataclasses.replace(audio, test=audio.test[:7])
    asked = dataclasses.replace(other, test=other.test[[3, 3, 70]])
    some = towers.match(fewer, asked, SMALL)
    np.testing.assert_allclose(some, alike[[3, 3, 70]][:, :7], atol=1e-5)


def test_every_variant_is_learned_from():
    audio, other = pairs()
    nothing = np.random.default_rng(2).normal(size=other.train.shape)
    both = dataclasses.replace(other, train=np.concatenate([other.train, nothing]))
    only = dataclasses.replace(other, train=nothing)
    found = [reciprocal(towers.match(audio, one, SMALL)) for one in (other, both, only)]
    assert found[0] > found[1] > found[2]


def test_validation_picks():
    """The weight decay, and the epoch: with useless validation rows another one is taken."""
    audio, other = pairs()
    useless = dataclasses.replace(
        other, validation=np.random.default_rng(3).permutation(other.validation)
    )
    assert not np.allclose(towers.match(audio, other, SMALL), towers.match(audio, useless, SMALL))
    strong = dataclasses.replace(SMALL, weight_decays=(0.01, 1e5))
    alone = dataclasses.replace(SMALL, weight_decays=(0.01,))
    np.testing.assert_allclose(
        towers.match(audio, other, strong), towers.match(audio, other, alone), atol=1e-4
    )


@pytest.mark.parametrize("rows", [1, 30])
def test_few_pairs_and_constant_columns(rows):
    audio, other = pairs()
    still = np.concatenate([other.train[:, :rows], np.ones((1, rows, 3))], axis=2)
    pad = [np.concatenate([one, np.ones((len(one), 3))], axis=1) for one in
           (other.validation, other.test)]  # fmt: skip
    alike = towers.match(
        dataclasses.replace(audio, train=audio.train[:rows]), Parts(still, *pad), SMALL
    )
    assert np.isfinite(alike).all()
