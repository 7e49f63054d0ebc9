from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loev_jax.losses import contrastive, masks
from loev_jax.model import normalise

GOLDEN = Path(__file__).parent / "golden" / "ntxent.npz"
HEADS = ((), ("pitch_shift",), ("time_stretch",))


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as cases:
        return dict(cases)


@pytest.mark.parametrize("case", range(64))
def test_published_mode_equals_the_published_code(golden, case):
    """Values and gradients of the published PyTorch code, in float64."""
    with jax.enable_x64(True):
        features, pitch, time, temperature, losses, gradients = (
            golden[f"case{case:02d}_{name}"]
            for name in (
                "features",
                "augs_pitch",
                "augs_time",
                "temperature",
                "loss_f64",
                "grad_f64",
            )
        )
        clip = jnp.arange(pitch.size) // pitch.shape[1]
        applied = {
            "pitch_shift": jnp.asarray(pitch.reshape(-1), jnp.float64),
            "time_stretch": jnp.asarray(time.reshape(-1), jnp.float64),
        }
        itself = jnp.eye(pitch.size, dtype=bool)
        siblings = masks.same_clip(clip, clip) & ~itself

        def loss(rows, names):
            unit = normalise(rows)
            agreeing = masks.agree(applied, applied, names, masks.Tolerance(), "unaugmented")
            result = contrastive.row_losses(
                unit, unit, siblings & agreeing, itself, float(temperature), "published"
            )
            return jnp.sum(result.loss) / contrastive.divisor(result.counted, "all_rows")

        for head, names in enumerate(HEADS):
            value, gradient = jax.value_and_grad(loss)(jnp.asarray(features[head]), names)
            assert abs(float(value) - losses[head]) < 1e-9
            np.testing.assert_allclose(gradient, gradients[head], rtol=0, atol=1e-9)


def by_hand(unit, positive, temperature):
    """The definition (method, section 4), row by row and pair by pair."""
    losses = []
    for i, row in enumerate(unit):
        similar = np.exp(unit @ row / temperature)
        below = similar.sum() - similar[i]
        terms = [-np.log(similar[p] / below) for p in np.flatnonzero(positive[i])]
        if terms:
            losses.append(np.mean(terms))
    return np.mean(losses)


def test_default_mode_equals_the_definition():
    rng = np.random.default_rng(3)
    rows, clips = 12, np.repeat(np.arange(4), 3)
    unit = np.asarray(normalise(jnp.asarray(rng.standard_normal((rows, 8)))))
    positive = (clips[:, None] == clips[None, :]) & ~np.eye(rows, dtype=bool)
    positive[5] = False  # a row without a positive does not count
    result = contrastive.row_losses(
        jnp.asarray(unit), jnp.asarray(unit), jnp.asarray(positive), jnp.eye(rows, dtype=bool), 0.1
    )
    value = jnp.sum(result.loss) / contrastive.divisor(result.counted, "rows_with_positives")
    assert not bool(result.counted[5])
    np.testing.assert_allclose(value, by_hand(unit.astype(np.float64), positive, 0.1), rtol=1e-5)


def test_no_positive_at_all_is_zero_not_nan():
    unit = normalise(jnp.ones((4, 3)))
    nothing = jnp.zeros((4, 4), bool)
    result = contrastive.row_losses(unit, unit, nothing, jnp.eye(4, dtype=bool), 0.1)
    assert float(contrastive.divisor(result.counted, "rows_with_positives")) == 1.0
    np.testing.assert_array_equal(result.loss, np.zeros(4))


def test_zero_vector_has_zero_cosine_and_finite_gradient():
    gradient = jax.grad(lambda v: jnp.sum(normalise(v)))(jnp.zeros((1, 4)))
    assert bool(jnp.all(jnp.isfinite(gradient)))
    np.testing.assert_array_equal(normalise(jnp.zeros((1, 4))), np.zeros((1, 4)))
