from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loev_jax.losses import contrastive, global_batch, objective
from loev_jax.model import normalise

GOLDEN = Path(__file__).parent / "golden" / "ntxent.npz"
HEADS = ((), ("pitch_shift",), ("time_stretch",))


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as cases:
        return dict(cases)


def published(golden, case, block_rows):
    """The value and gradient of each head of a golden case, in blocks; and the golden ones."""
    features, pitch, time, temperature, losses, gradients = (
        golden[f"case{case:02d}_{name}"]
        for name in ("features", "augs_pitch", "augs_time", "temperature", "loss_f64", "grad_f64")
    )
    rows = pitch.size
    clip = jnp.arange(rows) // pitch.shape[1]
    applied = {
        "pitch_shift": jnp.asarray(pitch.reshape(-1), jnp.float64),
        "time_stretch": jnp.asarray(time.reshape(-1), jnp.float64),
    }
    pairing = objective.pairing(objective.Loss(positives="unaugmented"))

    def loss(rows_of_head, names):
        unit = normalise(rows_of_head)
        marks = global_batch.Marks(jnp.arange(rows), clip, applied).of(names)
        result = contrastive.row_losses_in_blocks(
            unit, unit, marks, marks, pairing, float(temperature), "published", block_rows
        )
        return jnp.sum(result.loss) / contrastive.divisor(jnp.sum(result.counted), rows, "all_rows")

    for head, names in enumerate(HEADS):
        ours = jax.value_and_grad(loss)(jnp.asarray(features[head]), names)
        yield ours, (losses[head], gradients[head])


@pytest.mark.parametrize("case", range(64))
def test_published_mode_equals_the_published_code(golden, case):
    """Values and gradients of the published PyTorch code, in float64."""
    with jax.enable_x64(True):
        for (value, gradient), (wanted, wanted_gradient) in published(golden, case, 512):
            assert abs(float(value) - wanted) < 1e-9
            np.testing.assert_allclose(gradient, wanted_gradient, rtol=0, atol=1e-9)


@pytest.mark.parametrize("case", range(8, 64, 16))
def test_published_mode_in_blocks_equals_the_published_code(golden, case):
    with jax.enable_x64(True):
        for (value, gradient), (wanted, wanted_gradient) in published(golden, case, 3):
            assert abs(float(value) - wanted) < 1e-9
            np.testing.assert_allclose(gradient, wanted_gradient, rtol=0, atol=1e-9)


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
    number = jnp.sum(result.counted)
    value = jnp.sum(result.loss) / contrastive.divisor(number, rows, "rows_with_positives")
    assert not bool(result.counted[5])
    np.testing.assert_allclose(value, by_hand(unit.astype(np.float64), positive, 0.1), rtol=1e-5)


def test_no_positive_at_all_is_zero_not_nan():
    unit = normalise(jnp.ones((4, 3)))
    nothing = jnp.zeros((4, 4), bool)
    result = contrastive.row_losses(unit, unit, nothing, jnp.eye(4, dtype=bool), 0.1)
    assert float(contrastive.divisor(jnp.sum(result.counted), 4, "rows_with_positives")) == 1.0
    np.testing.assert_array_equal(result.loss, np.zeros(4))


def test_zero_vector_has_zero_cosine_and_finite_gradient():
    gradient = jax.grad(lambda v: jnp.sum(normalise(v)))(jnp.zeros((1, 4)))
    assert bool(jnp.all(jnp.isfinite(gradient)))
    np.testing.assert_array_equal(normalise(jnp.zeros((1, 4))), np.zeros((1, 4)))


ROWS, COLUMNS = 37, 50


def same_clip(rows, columns):
    """Row and column numbers → pairs: three to a clip; every seventh row has no positive."""
    itself = rows[:, None] == columns[None, :]
    positive = (rows[:, None] // 3 == columns[None, :] // 3) & (rows[:, None] % 7 != 6)
    return contrastive.Pairs(positive & ~itself, itself)


def weighted(run):
    """A loss of rows, columns and temperature that weighs each row differently."""
    weight = jnp.asarray(np.random.default_rng(1).uniform(0.5, 2.0, ROWS))

    def loss(rows, columns, temperature):
        result = run(normalise(rows), normalise(columns), temperature)
        return jnp.sum(weight * result.loss), result.counted

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))


def vectors(dtype):
    """Columns, and rows that are the first of them: gradients in both are told apart."""
    drawn = np.random.default_rng(0).standard_normal((COLUMNS, 8))
    return jnp.asarray(drawn[:ROWS], dtype), jnp.asarray(drawn, dtype), jnp.asarray(0.1, dtype)


def pairwise_cosines(form):
    """The definition from cosines [n, N, d], one by one: no matmul and no logarithm of sums."""
    pairs = same_clip(jnp.arange(ROWS), jnp.arange(COLUMNS))

    def run(rows, columns, temperature):
        similar = jnp.exp(jnp.sum(rows[:, None, :] * columns[None, :, :], axis=-1) / temperature)
        ratio = similar / jnp.sum(jnp.where(pairs.itself, 0.0, similar), axis=1, keepdims=True)
        term = -jnp.log(ratio + (1e-6 if form == "published" else 0.0))
        count = jnp.sum(pairs.positive, axis=1)
        total = jnp.sum(jnp.where(pairs.positive, term, 0.0), axis=1)
        return contrastive.RowLosses(total / jnp.maximum(count, 1), count > 0)

    return run


def in_blocks(form, block_rows):
    def run(rows, columns, temperature):
        marks = jnp.arange(ROWS), jnp.arange(COLUMNS)
        return contrastive.row_losses_in_blocks(
            rows, columns, *marks, same_clip, temperature, form, block_rows
        )

    return run


@pytest.mark.parametrize("form", ["log_softmax", "published"])
def test_blocks_have_the_values_and_gradients_of_the_definition(form):
    """In float64, in rows, columns and temperature, whether the blocks divide the rows or not."""
    with jax.enable_x64(True):
        given = vectors(jnp.float64)
        (value, counted), gradients = weighted(pairwise_cosines(form))(*given)
        for block_rows in (1, 8, 37):
            (ours, ours_counted), ours_gradients = weighted(in_blocks(form, block_rows))(*given)
            np.testing.assert_allclose(ours, value, rtol=1e-12)
            np.testing.assert_array_equal(ours_counted, counted)
            for one, truth in zip(ours_gradients, gradients, strict=True):
                np.testing.assert_allclose(one, truth, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("form", ["log_softmax", "published"])
def test_blocks_equal_one_block_in_f32(form):
    given = vectors(jnp.float32)
    (value, _), gradients = weighted(in_blocks(form, ROWS))(*given)
    (ours, _), ours_gradients = weighted(in_blocks(form, 10))(*given)
    np.testing.assert_allclose(ours, value, rtol=1e-6)
    for one, truth in zip(ours_gradients, gradients, strict=True):
        np.testing.assert_allclose(one, truth, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("block_rows", [10, 64])
def test_a_low_temperature_leaves_the_published_form_finite(block_rows):
    """A row's ratio to itself, exp(100) for orthogonal rows, is infinite in f32: it has no part."""
    columns = jnp.eye(COLUMNS, dtype=jnp.float32)
    (value, _), gradients = weighted(in_blocks("published", block_rows))(
        columns[:ROWS], columns, jnp.asarray(0.01, jnp.float32)
    )
    assert all(bool(jnp.all(jnp.isfinite(one))) for one in (value, *gradients))


@pytest.mark.parametrize("form", ["log_softmax", "published"])
def test_16384_rows_take_the_memory_of_a_block(form):
    """Compiled, not run: the matrix of similarities alone would be a gigabyte."""
    rows, size = 16_384, 128

    def loss(vectors):
        unit, number = normalise(vectors), jnp.arange(rows)
        result = contrastive.row_losses_in_blocks(
            unit, unit, number, number, neighbours, 0.1, form, 512
        )
        return jnp.sum(result.loss)

    def neighbours(some, columns):
        itself = some[:, None] == columns[None, :]
        return contrastive.Pairs((some[:, None] // 4 == columns[None, :] // 4) & ~itself, itself)

    given = jax.ShapeDtypeStruct((rows, size), jnp.float32)
    compiled = jax.jit(jax.value_and_grad(loss)).lower(given).compile()
    block, inputs = 512 * rows * 4, rows * size * 4
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * block + 8 * inputs < rows**2


def test_a_block_of_no_rows_is_refused():
    rows, columns, temperature = vectors(jnp.float32)
    with pytest.raises(ValueError, match="block_rows=0 must be 1 or more"):
        in_blocks("log_softmax", 0)(rows, columns, temperature)
