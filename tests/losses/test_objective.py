"""The objective on several devices: one global loss, one gradient, however rows are split."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from loev_jax import fsdp, optimizer
from loev_jax.losses import global_batch, objective
from loev_jax.losses.objective import Loss

CLIPS, VIEWS, SIZE = 8, 3, 6
ROWS = CLIPS * VIEWS
HEADS = {"tempo": ("time_stretch",), "both": ("time_stretch", "gain")}
NAMES = ("invariant", *HEADS)
KEPT = ("time_stretch", "gain")


def drawn():
    """Projections of every head, parameters applied, and the clip of each row."""
    rng = np.random.default_rng(0)
    projections = {name: jnp.asarray(rng.standard_normal((ROWS, SIZE))) for name in NAMES}
    parameters = {
        "time_stretch": jnp.asarray(rng.choice([0.0, 0.3], ROWS)),
        "gain": jnp.asarray(rng.choice([0.0, 6.0], ROWS)),
        "crop": jnp.asarray(rng.integers(0, 1000, ROWS)),
    }
    return projections, parameters, jnp.repeat(jnp.arange(CLIPS) + 40, VIEWS)


def shares(spec, devices):
    """(projections, parameters, clips, log_scale) → losses by head and gradients, over a mesh."""
    mesh = fsdp.make_mesh(jax.devices()[:devices])

    def local(projections, parameters, clips, log_scale):
        def loss(projections, log_scale):
            batch = global_batch.gather(projections, parameters, KEPT, clips, fsdp.AXES)
            by_head = objective.contrast(
                spec, HEADS, batch, fsdp.AXES, dict.fromkeys(NAMES, jnp.exp(-log_scale))
            )
            return sum((at + 1) * by_head[name] for at, name in enumerate(NAMES)), by_head

        varying = jax.lax.pcast(log_scale, fsdp.AXES, to="varying")
        gradients, by_head = jax.grad(loss, argnums=(0, 1), has_aux=True)(projections, varying)
        return jax.lax.psum((by_head, gradients[1]), fsdp.AXES), gradients[0]

    split, whole = PartitionSpec(fsdp.AXES), PartitionSpec()
    return jax.jit(
        jax.shard_map(
            local,
            mesh=mesh,
            in_specs=(split, split, split, whole),
            out_specs=((whole, whole), split),
        )
    )


def by_hand(parameters, clips):
    """The global loss (method, section 4) from all rows at once, with masks made in NumPy."""
    theta = {name: np.asarray(parameters[name]) for name in ("time_stretch", "gain")}
    agree = {name: np.abs(x[:, None] - x[None, :]) < 0.005 for name, x in theta.items()}
    others = ~np.eye(ROWS, dtype=bool)
    siblings = (np.asarray(clips)[:, None] == np.asarray(clips)[None, :]) & others

    def loss(projections, log_scale):
        by_head = {}
        for name in NAMES:
            positive = np.logical_and.reduce([siblings, *(agree[k] for k in HEADS.get(name, ()))])
            unit = projections[name] / jnp.linalg.norm(projections[name], axis=1, keepdims=True)
            similar = jnp.exp(jnp.sum(unit[:, None] * unit[None], axis=-1) * jnp.exp(log_scale))
            below = jnp.sum(similar * others, axis=1, keepdims=True)
            count = positive.sum(axis=1)
            assert 0 < np.count_nonzero(count) <= ROWS
            rows = jnp.sum(-jnp.log(similar / below) * positive, axis=1) / np.maximum(count, 1)
            by_head[name] = jnp.sum(rows) / np.count_nonzero(count)
        return sum((at + 1) * by_head[name] for at, name in enumerate(NAMES)), by_head

    return jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))


@functools.cache
def truth():
    projections, parameters, clips = drawn()
    return jax.device_get(by_hand(parameters, clips)(projections, jnp.log(10.0)))


@pytest.mark.parametrize(
    ("devices", "block_rows"), [(1, 512), (1, 7), (2, 5), (4, 512), (4, 4), (8, 2), (8, 512)]
)
def test_losses_and_gradients_are_those_of_the_global_batch(devices, block_rows):
    with jax.enable_x64(True):
        projections, parameters, clips = drawn()
        run = shares(Loss(block_rows=block_rows), devices)
        (by_head, to_scale), to_projections = run(projections, parameters, clips, jnp.log(10.0))
        gradients, losses = truth()
        # Divisors and indices are f32 and int32 in any case; the rest is float64.
        for name in NAMES:
            np.testing.assert_allclose(by_head[name], losses[name], rtol=1e-9)
            np.testing.assert_allclose(to_projections[name], gradients[0][name], atol=1e-9)
        np.testing.assert_allclose(to_scale, gradients[1], rtol=1e-9)


def test_rows_cross_the_mesh_once_for_all_heads():
    """Forward: clips, parameters, projections and the counts; backward: the projections again."""
    projections, parameters, clips = drawn()
    lowered = shares(Loss(), 4).lower(projections, parameters, clips, jnp.log(10.0)).as_text()
    kinds = ("all_gather", "all_reduce", "reduce_scatter", "all_to_all", "collective_permute")
    count = {kind: lowered.count(f'"stablehlo.{kind}"') for kind in kinds}
    summed_by_the_test = len(NAMES) + 1
    assert count == {
        "all_gather": 3,
        "all_reduce": 1 + summed_by_the_test,
        "reduce_scatter": 1,
        "all_to_all": 0,
        "collective_permute": 0,
    }


@pytest.mark.parametrize(("devices", "block_rows"), [(1, 512), (1, 7), (4, 512), (8, 4)])
def test_the_embedding_loss_contrasts_with_the_global_batch(devices, block_rows):
    """Against a loop over all pairs in NumPy, and its gradient against that of a plain formula."""
    spec = Loss(block_rows=block_rows, embedding_form="contrastive")
    pairs = [(i, j) for i in range(VIEWS) for j in range(VIEWS) if i != j]
    rng = np.random.default_rng(3)
    with jax.enable_x64(True):
        projections, parameters, clips = drawn()
        moved = {k: jnp.asarray(rng.standard_normal((CLIPS, len(pairs), SIZE))) for k in HEADS}

        def local(moved, projections, parameters, clips):
            def loss(moved, projections):
                batch = global_batch.gather(projections, parameters, KEPT, clips, fsdp.AXES)
                by_head = objective.anticipate(
                    spec, HEADS, moved, batch, fsdp.AXES, dict.fromkeys(HEADS, 0.1)
                )
                return sum(by_head.values()), by_head

            gradients, by_head = jax.grad(loss, argnums=(0, 1), has_aux=True)(moved, projections)
            return jax.lax.psum(by_head, fsdp.AXES), gradients

        split, whole = PartitionSpec(fsdp.AXES), PartitionSpec()
        mesh = fsdp.make_mesh(jax.devices()[:devices])
        by_head, gradients = jax.jit(
            jax.shard_map(local, mesh=mesh, in_specs=split, out_specs=(whole, split))
        )(moved, projections, parameters, clips)

        weight = {}  # of each positive in the mean, and which columns count
        for head, names in HEADS.items():
            positive = np.zeros((CLIPS, len(pairs), ROWS))
            other = np.ones_like(positive)
            for clip in range(CLIPS):
                for at, (i, j) in enumerate(pairs):
                    source, target = clip * VIEWS + i, clip * VIEWS + j
                    other[clip, at, source] = 0
                    for row in set(range(clip * VIEWS, (clip + 1) * VIEWS)) - {source}:
                        positive[clip, at, row] = all(
                            parameters[name][row] == parameters[name][target] for name in names
                        )
            assert np.all(positive.sum(axis=-1) > 0)
            assert np.any(positive.sum(axis=-1) > 1)
            weight[head] = positive / positive.sum(axis=-1, keepdims=True), other

        def plain(moved, projections):
            total = 0.0
            for head, (positive, other) in weight.items():
                rows = moved[head] / jnp.linalg.norm(moved[head], axis=-1, keepdims=True)
                space = projections[head]
                columns = space / jnp.linalg.norm(space, axis=-1, keepdims=True)
                similar = jnp.exp(jnp.einsum("cpd,rd->cpr", rows, columns) / 0.1)
                below = jnp.sum(similar * other, axis=-1, keepdims=True)
                total += -jnp.sum(positive * jnp.log(similar / below)) / (CLIPS * len(pairs))
            return total

        value, expected = jax.value_and_grad(plain, argnums=(0, 1))(moved, projections)
        np.testing.assert_allclose(sum(by_head.values()), value, rtol=1e-9)
        jax.tree.map(
            lambda ours, theirs: np.testing.assert_allclose(ours, theirs, atol=1e-9),
            gradients,
            (expected[0], {**dict.fromkeys(NAMES), **expected[1]}),
        )


def test_eight_devices_each_take_the_memory_of_a_block():
    """16 384 rows over 8 devices and three heads, compiled and not run."""
    rows, size = 16_384, 128
    given = (
        {name: jax.ShapeDtypeStruct((rows, size), jnp.float32) for name in NAMES},
        {name: jax.ShapeDtypeStruct((rows,), jnp.float32) for name in ("time_stretch", "gain")},
        jax.ShapeDtypeStruct((rows,), jnp.int32),
        jax.ShapeDtypeStruct((), jnp.float32),
    )
    compiled = shares(Loss(block_rows=256), 8).lower(*given).compile()
    # The vectors of every device, of each head, are the most there is beside a few blocks.
    vectors, block = rows * size * 4, 256 * rows * 4
    temporary = compiled.memory_analysis().temp_size_in_bytes
    assert temporary < 3 * (3 * vectors + block) < rows * (rows // 8) * 4


def test_a_fixed_temperature_is_no_parameter():
    spec = Loss(temperature=0.2, temperatures={"tempo": 0.3})
    assert objective.initial_params(spec, NAMES) == {}
    expected = {"invariant": 0.2, "tempo": 0.3, "both": 0.2}
    assert objective.temperatures_of(spec, NAMES, {}) == expected
    assert objective.bounded(spec, {"encoder": 1}) == {"encoder": 1}


def test_a_learned_temperature_starts_where_the_config_says_and_keeps_its_range():
    spec = Loss(temperature=0.07, temperatures={"tempo": 0.3}, learn_temperature=True)
    start = objective.temperatures_of(spec, NAMES, objective.initial_params(spec, NAMES))
    assert float(start["invariant"]) == pytest.approx(0.07, rel=1e-6)
    assert float(start["tempo"]) == pytest.approx(0.3, rel=1e-6)
    scales = {"invariant": 9.0, "tempo": -3.0, "both": math.log(5.0)}
    moved = {"encoder": 1, objective.PARAMS: jax.tree.map(jnp.asarray, scales)}
    kept = objective.bounded(spec, moved)
    assert kept["encoder"] == 1
    bounded = objective.temperatures_of(spec, NAMES, kept)
    for head, wanted in {"invariant": 0.01, "tempo": 1.0, "both": 0.2}.items():
        assert float(bounded[head]) == pytest.approx(wanted, rel=1e-5)


def test_a_learned_temperature_does_not_decay():
    """Without a gradient AdamW leaves it where it is, and shrinks a kernel."""
    params = objective.initial_params(Loss(learn_temperature=True), NAMES)
    params |= {"kernel": jnp.ones(2)}
    spec = optimizer.Optimizer(learning_rate=0.1, warmup_steps=0, weight_decay=0.5)
    transformation = optimizer.create(spec, 10)
    opt_state = transformation.init(params)
    for _ in range(2):
        updates, opt_state = transformation.update(
            jax.tree.map(jnp.zeros_like, params), opt_state, params
        )
    moved = optax.apply_updates(params, updates)
    assert float(jnp.max(moved["kernel"])) < 1.0
    assert moved[objective.PARAMS] == params[objective.PARAMS]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"temperature": 0.0}, "temperature=0.0 must be positive"),
        ({"temperature_range": (0.5, 0.1)}, "temperature_range"),
        ({"temperatures": {"tempo": -1.0}}, "temperature=-1.0 must be positive"),
        ({"temperature": 2.0, "learn_temperature": True}, "temperature=2.0 is outside"),
        ({"block_rows": 0}, "block_rows=0 must be 1 or more"),
    ],
)
def test_settings_out_of_range_are_refused(change, named):
    with pytest.raises(ValueError, match=named):
        dataclasses.replace(Loss(), **change)
