"""Alignment, uniformity and rank, beside numpy and closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.spatial.distance

from loev_jax.monitor import geometry


def sphere(rows, size, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(rows, size))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_alignment_is_the_mean_squared_distance_of_positives():
    vectors, clip = sphere(12, 5), np.arange(12) // 3
    positives = (clip[:, None] == clip) & ~np.eye(12, dtype=bool)
    distances = scipy.spatial.distance.cdist(vectors, vectors, "sqeuclidean")
    np.testing.assert_allclose(
        geometry.alignment(jnp.asarray(vectors), jnp.asarray(positives)),
        distances[positives].mean(),
        rtol=1e-5,
    )
    nothing = geometry.alignment(jnp.asarray(vectors), jnp.zeros((12, 12), bool))
    assert float(nothing) == 0.0


def test_uniformity_is_that_of_the_paper():
    vectors = sphere(50, 8)
    pairs = scipy.spatial.distance.pdist(vectors, "sqeuclidean")
    np.testing.assert_allclose(
        geometry.uniformity(jnp.asarray(vectors)), np.log(np.exp(-2 * pairs).mean()), rtol=1e-5
    )


def test_uniformity_of_one_point_and_of_a_large_sphere():
    one = np.tile(sphere(1, 8), (20, 1))
    assert abs(float(geometry.uniformity(jnp.asarray(one)))) < 1e-5
    wide = geometry.uniformity(jnp.asarray(sphere(400, 512)))
    np.testing.assert_allclose(wide, -4.0, atol=0.05)


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_rank_of_equal_singular_values_is_their_number(rank):
    left = np.linalg.qr(np.random.default_rng(1).normal(size=(20, rank)))[0]
    right = np.linalg.qr(np.random.default_rng(2).normal(size=(30, rank)))[0]
    vectors = jnp.asarray(5.0 * left @ right.T, jnp.float32)
    np.testing.assert_allclose(geometry.effective_rank(vectors), rank, rtol=1e-3)


def test_rank_is_the_exponential_of_the_entropy_and_has_no_scale():
    vectors = np.random.default_rng(3).normal(size=(16, 40)).astype(np.float32)
    shares = np.linalg.svd(vectors, compute_uv=False)
    shares /= shares.sum()
    expected = np.exp(-(shares * np.log(shares)).sum())
    for scale in (1e-6, 1.0, 1e6):
        found = geometry.effective_rank(jnp.asarray(scale * vectors))
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert float(geometry.effective_rank(jnp.zeros((4, 4)))) == pytest.approx(1.0)
