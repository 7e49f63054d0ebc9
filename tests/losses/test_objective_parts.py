"""The objective: every weight acts, readouts follow their own parameter, collapse shows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from scipy.special import huber

from loev_jax import config, fsdp
from loev_jax.augment import differences
from loev_jax.losses import objective
from loev_jax.model import Outputs, Predicted

CLIPS, VIEWS, SIZE = 4, 4, 6
PAIRS = VIEWS * (VIEWS - 1)
HEADS = {"tempo": "time_stretch", "music": ("time_stretch", "pitch_shift")}
ALL = {"translation": 1.0, "parameter": 1.0, "embedding": 1.0}
LOSSES = ("contrastive", *ALL)


def recipe(**loss):
    """Rates of ± 0.4 octaves, and shifts as moves of the key."""
    augment = {"time_stretch": {"low": -0.4, "high": 0.4}, "pitch_shift": {"low": -6.0, "high": 6}}
    loss = ALL | {"periods": {"pitch_shift": 12.0}} | loss
    return config.read({"heads": HEADS, "augment": augment, "loss": loss})


def drawn(made):
    """The outputs of a model that has learned nothing, and what was applied."""
    rng = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(rng.standard_normal(shape), jnp.float32)

    model = made.model
    sizes = {head: differences.size(each) for head, each in model.pairs.items()}
    outputs = Outputs(
        {},
        {head: normal(CLIPS * VIEWS, SIZE) for head in model.projected},
        {head: normal(CLIPS * VIEWS, len(each)) for head, each in model.readouts.items()},
        Predicted(
            {head: normal(CLIPS, PAIRS, size) for head, size in sizes.items()},
            {head: normal(CLIPS, PAIRS, SIZE) for head in sizes},
            {head: normal(CLIPS, PAIRS, SIZE) for head in sizes},
        ),
    )
    # Half of the views repeat another's parameter, so that each head has positives.
    stretch = rng.uniform(-0.4, 0.4, (CLIPS, 2)).repeat(2, axis=1)
    shift = rng.integers(-6, 7, (CLIPS, 2)).repeat(2, axis=1)
    parameters = {"time_stretch": stretch, "pitch_shift": shift}
    return outputs, {name: jnp.asarray(x, jnp.float32) for name, x in parameters.items()}


def metrics(made, outputs, parameters, devices=1):
    def local(outputs, parameters, example):
        temperatures = objective.temperatures_of(made.loss, made.model.projected, {})
        shares = objective.objective(
            made.loss, made.model, outputs, parameters, example, fsdp.AXES, temperatures
        )
        return jax.lax.psum(shares, fsdp.AXES)

    mesh = fsdp.make_mesh(jax.devices()[:devices])
    sharded = jax.shard_map(
        local, mesh=mesh, in_specs=PartitionSpec(fsdp.AXES), out_specs=PartitionSpec()
    )
    loss, parts = jax.device_get(jax.jit(sharded)(outputs, parameters, jnp.arange(CLIPS)))
    assert loss == parts["loss"]
    return {name: float(value) for name, value in parts.items()}


@pytest.mark.parametrize("embedding_form", ["cosine", "contrastive"])
@pytest.mark.parametrize("devices", [1, 4])
def test_every_weight_acts(embedding_form, devices):
    """The parts are those without weights; the loss is their sum by hand, in NumPy."""
    plain = recipe(embedding_form=embedding_form)
    weighted = recipe(
        embedding_form=embedding_form,
        contrast=0.5,
        translation=2.0,
        parameter=3.0,
        embedding=5.0,
        weights={"invariant": 0.25, "music": 4.0},
        equivariance_weights={"tempo": 0.5, "music": 1.5},
    )
    outputs, parameters = drawn(plain)
    parts = metrics(plain, outputs, parameters, devices)
    ours = metrics(weighted, outputs, parameters, devices)
    assert {name.split("/")[0] for name in parts} == {"loss", "spread", *LOSSES}
    by_name = {
        name: np.array([parts[f"{name}/{head}"] for head in heads])
        for name in LOSSES
        for heads in [(("invariant",) if name == "contrastive" else ()) + tuple(HEADS)]
    }
    means = {name: values.mean() for name, values in by_name.items()}
    assert np.ptp(list(means.values())) > 0.1
    assert parts["loss"] == pytest.approx(sum(means.values()), rel=1e-5)
    of_heads = np.array([0.5, 1.5])
    expected = 0.5 * np.dot([0.25, 1.0, 4.0], by_name["contrastive"]) / 5.25
    expected += 2.0 * np.dot(of_heads, by_name["translation"]) / 2
    expected += 3.0 * np.dot(of_heads, by_name["parameter"]) / 2
    expected += 5.0 * np.dot(of_heads, by_name["embedding"]) / 2
    assert ours.pop("loss") == pytest.approx(expected, rel=1e-5)
    del parts["loss"]
    assert ours == pytest.approx(parts, rel=1e-6)


def test_a_weight_of_nothing_leaves_a_loss_out():
    made = recipe(contrast=0.0, parameter=0.0, embedding=0.0)
    outputs, parameters = drawn(made)
    parts = metrics(made, outputs, parameters)
    assert {name.split("/")[0] for name in parts} == {"loss", "translation", "spread"}
    assert parts["loss"] == pytest.approx(
        (parts["translation/tempo"] + parts["translation/music"]) / 2, rel=1e-6
    )


@pytest.mark.parametrize("devices", [1, 4])
def test_each_column_of_a_readout_follows_its_own_parameter(devices):
    """Against loops over pairs: octaves in units of the range, semitones as parts of a circle."""
    made = recipe()
    outputs, parameters = drawn(made)
    parts = metrics(made, outputs, parameters, devices)
    stretch, shift = (np.asarray(parameters[k]) for k in ("time_stretch", "pitch_shift"))
    pairs = [(i, j) for i in range(VIEWS) for j in range(i + 1, VIEWS)]

    def linear(u):
        return np.mean(
            [huber(1, (u[c, j] - u[c, i]) - (stretch[c, j] - stretch[c, i]) / 0.4)
             for c in range(CLIPS) for i, j in pairs]
        )  # fmt: skip

    def circular(u):
        return np.mean(
            [1 - np.cos(2 * np.pi * ((u[c, j] - u[c, i]) - (shift[c, j] - shift[c, i]) / 12))
             for c in range(CLIPS) for i, j in pairs]
        )  # fmt: skip

    tempo, music = (np.asarray(outputs.readouts[k]).reshape(CLIPS, VIEWS, -1) for k in HEADS)
    assert tempo.shape[-1] == 1
    assert music.shape[-1] == 2
    assert parts["translation/tempo"] == pytest.approx(linear(tempo[..., 0]), rel=1e-4)
    expected = (linear(music[..., 0]) + circular(music[..., 1])) / 2
    assert parts["translation/music"] == pytest.approx(expected, rel=1e-4)


def test_each_spread_tells_a_collapsed_predictor_from_a_live_one():
    """Collapsed, what is predicted of a clip is the same for all views; clips still differ."""
    made = recipe()
    live, parameters = drawn(made)

    def same(x, number):
        by_clip = x.reshape(-1, number, x.shape[-1])
        return jnp.repeat(by_clip[:, :1], number, axis=1).reshape(x.shape)

    predicted = live.predicted
    collapsed = live._replace(
        readouts={head: same(x, VIEWS) for head, x in live.readouts.items()},
        predicted=predicted._replace(
            differences={head: same(x, PAIRS) for head, x in predicted.differences.items()},
            swept={head: same(x, PAIRS) for head, x in predicted.swept.items()},
        ),
    )
    alive, dead = (metrics(made, one, parameters, 4) for one in (live, collapsed))
    for head in HEADS:
        for name in ALL:
            assert dead[f"spread/{name}/{head}"] == pytest.approx(0.0, abs=1e-5)
        read = np.asarray(live.readouts[head]).reshape(CLIPS, VIEWS, -1)
        assert alive[f"spread/translation/{head}"] == pytest.approx(read.std(1).mean(), rel=1e-5)
        told = np.asarray(predicted.differences[head])
        assert alive[f"spread/parameter/{head}"] == pytest.approx(told.std(1).mean(), rel=1e-5)
        swept = np.asarray(predicted.swept[head])
        swept = swept / np.linalg.norm(swept, axis=-1, keepdims=True)
        variance = np.square(swept - swept.mean(1, keepdims=True)).sum(-1).mean()
        assert alive[f"spread/embedding/{head}"] == pytest.approx(variance, rel=1e-4)
        assert variance > 0.5


def test_a_mover_that_ignores_the_difference_is_caught_wherever_clips_lie():
    """What is moved of each view may vary, as the views do: what one view is moved by must."""
    made = recipe()
    live, parameters = drawn(made)
    first, _ = differences.pairs(VIEWS)
    space = {head: live.projections[head].reshape(CLIPS, VIEWS, SIZE) for head in HEADS}
    deaf = live.predicted._replace(
        moved={head: x[:, first] for head, x in space.items()},
        swept={head: x[:, np.zeros_like(first)] for head, x in space.items()},
    )
    parts = metrics(made, live._replace(predicted=deaf), parameters)
    assert all(parts[f"spread/embedding/{head}"] < 1e-5 for head in HEADS)
