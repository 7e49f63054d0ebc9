"""Gradient caching: the whole batch's loss, metrics and gradient, in micro-batches."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from loev_jax import config, fsdp, gradient, presets, step
from loev_jax.encoders import cnn

# Programs run once here: LLVM's optimisation would take longer than they do.
QUICK = {"xla_backend_optimization_level": 0}
CLIPS = 32


@pytest.fixture(autouse=True)
def stochastic(monkeypatch):
    """An encoder that drops whole channels of each view, as its key says."""
    frames = cnn.CnnBranch.frames

    def dropped(self, x, keys=None):
        x = frames(self, x, keys)
        if keys is None:
            return x
        kept = jax.vmap(lambda key: jax.random.bernoulli(key, 0.7, (1, x.shape[-1])))(keys)
        return x * kept

    monkeypatch.setattr(cnn.CnnBranch, "frames", dropped)


def branched(settings):
    """LOEV++ with every equivariance loss, whose readouts see the encoder."""
    settings["branched"] = True
    settings["loss"].update(parameter=0.5, embedding=0.7, readout_space="encoder")


def anticipating(settings):
    """An embedding loss that contrasts with the global batch, of a head over a set."""
    settings["heads"] = {"pitch": ("pitch_shift", "polarity")}
    settings["loss"].update(parameter=0.5, embedding=0.7, embedding_form="contrastive")


def nfnet(settings):
    """The encoder whose own stochastic depth is random."""
    settings["encoder"] = {
        "name": "sf_nfnet_f0",
        "depths": (1, 1),
        "slow_stem": (2, 2, 4, 8),
        "fast_stem": (2, 2, 2, 4),
        "slow_channels": (16, 16),
        "fast_channels": (8, 8),
        "fusion_channels": (4, 4),
        "fused_channels": (8, 8),
        "slow_group": 8,
        "fast_group": 4,
        "stochastic_depth": 0.9,
        "compute_dtype": "float32",
    }


def branched_nfnet(settings):
    branched(settings)
    nfnet(settings)


def recipe(micro_batches=1, clips=CLIPS, compute_dtype="float32", change=None):
    """A small run whose views are drawn, spoiled and mixed in pairs."""
    settings = presets.recipe("small", {"pitch": "pitch_shift"})
    settings.frontend.update(n_fft=256, window=180, hop=160, bands=24)
    settings.augment.time_stretch = None
    settings.augment.filter = None
    settings.augment.mixup = {"probability": 0.5}
    settings.augment.polarity = {}
    settings.views.update(seconds=0.3, spread_seconds=0.1)
    settings.encoder.update(channels=(16, 16), kernels=(3, 3), strides=(2, 1), dilations=(1, 1))
    settings.encoder.update(rhythm_channels=0, compute_dtype=compute_dtype)
    settings.projection.update(hidden=(16,), outputs=8)
    settings.loss.update(learn_temperature=True, block_rows=40)
    settings.optimizer.update(warmup_steps=0, learning_rate=1e-3)
    settings.training.update(clips=clips, steps=4, micro_batches=micro_batches)
    settings = settings.to_dict()
    if change is not None:
        change(settings)
    return config.read(settings)


@functools.cache
def initial(change=None):
    """The first state, but that no residual path of an NFNet begins at zero."""
    state = step.init(recipe(change=change), fsdp.make_mesh(jax.devices()[:1]))
    begun = jax.tree_util.tree_map_with_path(
        lambda path, leaf: np.ones_like(leaf) if "skip_gain" in str(path[-1]) else leaf,
        jax.device_get(state.params),
    )
    return jax.device_get(state)._replace(params=begun)


def parts(compute_dtype, change=None):
    """The loss of the recipe over views that compile fast, random by example like its own."""

    def make_views(batch):
        keys = step.row_keys(jax.random.key(2), batch["example"], 3).reshape(-1, 3)
        shift = jax.vmap(jax.vmap(lambda key: jax.random.randint(key, (), -2, 3)))(keys)
        noise = jax.vmap(jax.vmap(lambda key: jax.random.normal(key, (20, 24))))(keys)
        mels = batch["audio"].reshape(-1, 1, 20, 24).astype(jnp.float32) / 1000
        shift = shift.astype(jnp.float32)
        applied = {"pitch_shift": shift, "polarity": (noise[:, :, 0, 0] > 0).astype(jnp.float32)}
        return mels * (1 + 0.2 * shift[:, :, None, None]) + 0.3 * noise, applied

    made = recipe(compute_dtype=compute_dtype, change=change)
    return step.parts(made)._replace(make_views=make_views)


def clips():
    audio = np.random.default_rng(0).normal(0, 1000, (CLIPS, 20 * 24)).astype(np.int16)
    return {"audio": audio, "example": np.arange(CLIPS, dtype=np.uint32) + 5}


def run(compute, devices, change=None):
    """Gradient and metrics of the global batch: what each device computes, summed over a mesh."""

    def local(params, batch):
        varying = jax.lax.pcast(params, fsdp.AXES, to="varying")
        return jax.lax.psum(compute(varying, batch), fsdp.AXES)

    sharded = jax.shard_map(
        local,
        mesh=fsdp.make_mesh(jax.devices()[:devices]),
        in_specs=(PartitionSpec(), PartitionSpec(fsdp.AXES)),
        out_specs=PartitionSpec(),
    )
    compiled = jax.jit(sharded, compiler_options=QUICK)
    return jax.device_get(compiled(initial(change).params, clips()))


@functools.cache
def whole(compute_dtype, change=None):
    return run(functools.partial(gradient.of_batch, parts(compute_dtype, change)), 1, change)


def cached(compute_dtype, devices, number, change=None):
    made = parts(compute_dtype, change)
    compute = functools.partial(gradient.in_micro_batches, made, number=number)
    return run(compute, devices, change)


def assert_close(ours, truth, tolerance):
    """Each leaf by its own scale, or by a hundredth of the greatest where it is next to nothing."""
    greatest = max(np.max(np.abs(leaf)) for leaf in jax.tree.leaves(truth))
    for (path, one), other in zip(
        jax.tree_util.tree_leaves_with_path(ours), jax.tree.leaves(truth), strict=True
    ):
        scale = max(np.max(np.abs(other)), greatest / 100)
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * scale, err_msg=str(path))


@pytest.mark.parametrize(
    ("devices", "number"),
    [
        (1, 2),
        (8, 4),
        *(pytest.param(*one, marks=pytest.mark.slow) for one in [(1, 4), (8, 1), (8, 2)]),
    ],
)
def test_micro_batches_have_the_gradient_of_the_whole_batch(devices, number):
    ours, metrics = cached("float32", devices, number)
    truth, wanted = whole("float32")
    assert_close(ours, truth, 1e-5)
    assert set(metrics) == set(wanted)
    assert_close(metrics, wanted, 1e-5)
    assert np.abs(truth["contrast"]["pitch"]) > 1e-3


@pytest.mark.parametrize(
    ("change", "devices", "number"),
    [
        pytest.param(branched, 1, 4, marks=pytest.mark.slow),
        (anticipating, 8, 2),
        pytest.param(nfnet, 1, 4, marks=pytest.mark.slow),
        pytest.param(branched_nfnet, 1, 2, marks=pytest.mark.slow),
    ],
)
def test_so_they_have_with_every_loss_and_encoder(change, devices, number):
    """What is predicted of pairs is pulled back too, through branches and an NFNet's own draws."""
    ours, metrics = cached("float32", devices, number, change)
    truth, wanted = whole("float32", change)
    names = {name.split("/")[0] for name in wanted}
    pairs = set() if change is nfnet else {"parameter", "embedding"}
    assert names == {"loss", "contrastive", "translation", "spread"} | pairs
    assert {name for name in ("readers", "movers") if name in truth} == (
        {"readers", "movers"} if pairs else set()
    )
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(truth))
    assert_close(ours, truth, 2e-5)
    assert_close(metrics, wanted, 1e-5)


def test_a_bf16_network_is_summed_in_f32():
    """Micro-batches are as near to the gradient computed in f32 as the whole batch in bf16 is."""
    ours, metrics = cached("bfloat16", 8, 4)
    at_once, wanted = whole("bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves(ours)} == {np.dtype(np.float32)}
    assert_close(metrics, wanted, 1e-3)
    errors = [
        optax.tree.norm(jax.tree.map(np.subtract, one, whole("float32")[0]))
        for one in (ours, at_once)
    ]
    assert 0 < errors[0] < 1.2 * errors[1] < 0.1 * optax.tree.norm(at_once)


def test_plain_accumulation_is_another_loss():
    """The mean over micro-batches, each against itself, lacks the negatives between them."""

    def accumulated(params, batch):
        micro = jax.tree.map(lambda x: x.reshape(4, -1, *x.shape[1:]), batch)
        one = functools.partial(gradient.of_batch, parts("float32"), params)
        return jax.tree.map(lambda x: jnp.mean(x, axis=0), jax.lax.map(one, micro))

    plain, metrics = run(accumulated, 1)
    truth, wanted = whole("float32")
    # Four times as many negatives, were all alike, would add log(4).
    assert wanted["contrastive/invariant"] - metrics["contrastive/invariant"] > 0.5
    assert metrics["translation/pitch"] == pytest.approx(wanted["translation/pitch"], rel=1e-4)
    with pytest.raises(AssertionError):
        assert_close(plain, truth, 0.1)


def test_a_number_that_does_not_divide_the_clips_is_refused():
    with pytest.raises(ValueError, match="number=3 of micro-batches must divide 4 clips a device"):
        cached("float32", 8, 3)


def batch(made):
    shape = made.training.clips, made.views.window_samples
    audio = np.random.default_rng(0).normal(0, 3000, shape).astype(np.int16)
    return audio, np.arange(shape[0]) + 7


def take(made, devices):
    """A step: the program as lowered, as compiled, and what it computes."""
    mesh = fsdp.make_mesh(jax.devices()[:devices])
    state = jax.device_put(initial(), fsdp.shardings(initial(), mesh))
    given = step.to_device(*batch(made), mesh)
    lowered = step.make(made, mesh).lower(state, given)
    compiled = lowered.compile(compiler_options=QUICK)
    return lowered.as_text(), compiled, jax.device_get(compiled(state, given))


def test_a_training_step_in_micro_batches_is_the_step_of_the_whole_batch():
    """Same metrics and gradient on any mesh, reduced once in f32, in less memory."""
    _, at_once, (state, metrics) = take(recipe(), 1)
    assert float(metrics["temperature/pitch"]) == pytest.approx(0.1, rel=1e-6)
    before = initial().params["contrast"]["pitch"]
    assert np.abs(state.params["contrast"]["pitch"] - before) > 1e-4
    for devices, micro_batches in [(1, 4), (8, 2)]:
        text, program, (ours, our_metrics) = take(recipe(micro_batches), devices)
        assert our_metrics.keys() == metrics.keys()
        for name in metrics:
            np.testing.assert_allclose(our_metrics[name], metrics[name], rtol=1e-4, err_msg=name)
        # After one step Adam's first moment is the gradient, times a constant.
        assert_close(ours.opt_state, state.opt_state, 2e-4)
        reduced = re.findall(r"all_reduce.*?\}\) : \((.*?)\) ->", text, flags=re.DOTALL)
        # The gradient and the losses are reduced; other metrics are computed of what was.
        losses = [name for name in metrics if name == "loss" or "/" in name]
        losses = [name for name in losses if not name.startswith("temperature")]
        counts = [one for one in reduced if one == f"tensor<{len(recipe().model.projected)}xi32>"]
        gradient = [one for one in reduced if re.fullmatch(r"tensor<(\d+x)*f32>", one)]
        assert len(counts) == 1  # of the rows that have a positive, of every head at once
        assert len(gradient) == len(jax.tree.leaves(state.params)) + len(losses)
        assert len(reduced) == len(counts) + len(gradient)
        if devices == 1:
            memory, memory_at_once = (
                one.memory_analysis().temp_size_in_bytes for one in (program, at_once)
            )
            assert memory < 0.5 * memory_at_once


def test_clips_that_mix_need_an_even_number_in_each_micro_batch():
    mesh = fsdp.make_mesh(jax.devices()[:1])
    made = recipe(micro_batches=2, clips=2)
    with pytest.raises(ValueError, match="1 clips cannot be mixed in pairs"):
        step.make(made, mesh).lower(initial(), step.to_device(*batch(made), mesh))
