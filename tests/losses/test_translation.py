import jax.numpy as jnp
import numpy as np

from loev_jax.losses.translation import translation


def test_zero_when_differences_agree_whatever_the_offset_of_a_clip():
    theta = jnp.asarray([[0.0, 0.5, -1.0], [1.0, 0.2, 0.3]])
    np.testing.assert_allclose(
        translation(theta + jnp.asarray([[7.0], [-2.0]]), theta), 0, atol=1e-10
    )


def test_equals_huber_over_pairs():
    rng = np.random.default_rng(0)
    u, theta = rng.standard_normal((2, 4)) * 3, rng.standard_normal((2, 4))
    pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    errors = np.abs(
        [[(u[c, j] - u[c, i]) - (theta[c, j] - theta[c, i]) for i, j in pairs] for c in range(2)]
    )
    huber = np.where(errors <= 1, errors**2 / 2, errors - 0.5)
    value = translation(jnp.asarray(u, jnp.float32), jnp.asarray(theta, jnp.float32))
    np.testing.assert_allclose(value, huber.mean(axis=1), rtol=1e-5)
