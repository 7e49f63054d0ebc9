"""The step: the same losses and parameters on one device and on eight; losses that fall."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from loev_jax import config, fsdp, presets, step


@pytest.fixture(autouse=True, scope="module")
def _arrays_of_a_tiny_model_are_large():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fsdp, "SMALLEST", 1024)
        yield


def tiny_settings():
    settings = presets.recipe("small", {"tempo": "time_stretch", "pitch": "pitch_shift"})
    settings.frontend.update(n_fft=512, window=360, hop=200, bands=24)
    settings.views.update(seconds=0.4, spread_seconds=0.1)
    settings.encoder.update(channels=(16, 16), kernels=(3, 3), strides=(2, 1), dilations=(1, 1))
    settings.projection.update(hidden=(16,), outputs=8)
    settings.training.update(clips=8, steps=40)
    settings.optimizer.update(warmup_steps=4, learning_rate=1e-2)
    return settings


@pytest.fixture(scope="module")
def recipe():
    return config.read(tiny_settings())


def batch(recipe, number):
    """Clips of noise, each in a band of its own: something to tell them apart by."""
    rng = np.random.default_rng(number)
    clips, samples = recipe.training.clips, recipe.views.window_samples
    octaves = np.log2(np.maximum(np.fft.rfftfreq(samples, 1 / 16_000), 1.0))
    centres = np.linspace(7.5, 12.0, clips)[:, None]
    shape = np.exp(-(((octaves[None] - centres) / 0.3) ** 2))
    audio = np.fft.irfft(np.fft.rfft(rng.standard_normal((clips, samples))) * shape, n=samples)
    audio *= 8000 / np.abs(audio).max(axis=1, keepdims=True)
    return audio.astype(np.int16), number * clips + np.arange(clips)


@functools.cache
def compiled(devices, shards=1):
    """The mesh and the step of the recipe, compiled once for all tests."""
    mesh = fsdp.make_mesh(jax.devices()[:devices], shards)
    return mesh, step.make(config.read(tiny_settings()), mesh)


def drawn(recipe):
    """The state at first, on the host."""
    return jax.device_get(step.init(recipe, fsdp.make_mesh(jax.devices()[:1])))


@functools.cache
def initial():
    return drawn(config.read(tiny_settings()))


def put(state, mesh):
    """A state of its own for each use: the step consumes it."""
    return jax.device_put(state, fsdp.shardings(state, mesh))


def fresh(mesh):
    return put(initial(), mesh)


def run(recipe, devices, steps, shards=1):
    mesh, train_step = compiled(devices, shards)
    state, history = fresh(mesh), []
    for number in range(steps):
        state, metrics = train_step(state, step.to_device(*batch(recipe, number), mesh))
        history.append(jax.device_get(metrics))
    return jax.device_get(state), history


@pytest.fixture(scope="module")
def on_one(recipe):
    return run(recipe, 1, 4)


@pytest.mark.parametrize(
    ("devices", "shards"), [(8, 1), pytest.param(8, 4, marks=pytest.mark.slow), (8, 8)]
)
def test_one_and_many_devices_agree(recipe, on_one, devices, shards):
    state, history = run(recipe, devices, 4, shards)
    for one, many in zip(on_one[1], history, strict=True):
        assert one.keys() == many.keys()
        for name in one:
            np.testing.assert_allclose(many[name], one[name], rtol=2e-4, atol=2e-6, err_msg=name)
    # Adam divides by the gradient's size: rounding of tiny gradients is what may differ.
    for one, many in zip(
        jax.tree.leaves(on_one[0].params), jax.tree.leaves(state.params), strict=True
    ):
        np.testing.assert_allclose(many, one, rtol=0, atol=1e-3)


def test_every_part_is_reported_and_adds_up(on_one):
    assert set(on_one[1][0]) == {
        "loss",
        "contrastive/invariant",
        "contrastive/tempo",
        "contrastive/pitch",
        "translation/tempo",
        "translation/pitch",
        "spread/translation/tempo",
        "spread/translation/pitch",
        "gradient_norm",
        "update_norm",
        "learning_rate",
        "skipped",
        "skipped_in_a_row",
    }
    metrics = on_one[1][0]
    contrastive = np.mean([metrics[f"contrastive/{h}"] for h in ("invariant", "tempo", "pitch")])
    translation = np.mean([metrics[f"translation/{h}"] for h in ("tempo", "pitch")])
    weight = tiny_settings().loss.translation
    np.testing.assert_allclose(metrics["loss"], contrastive + weight * translation, rtol=1e-5)


def test_the_gradient_is_that_of_the_global_loss():
    """Adam's first moment after a step, against finite differences of the reported loss."""
    mesh, train_step = compiled(8)
    recipe = config.read(tiny_settings())
    data = step.to_device(*batch(recipe, 0), mesh)

    def take(params):
        return jax.device_get(train_step(fresh(mesh)._replace(params=params), data))

    params = fresh(mesh).params
    state, metrics = take(jax.tree.map(jnp.copy, params))
    clipped = min(1.0, recipe.optimizer.clip_norm / float(metrics["gradient_norm"]))
    scale = 1.0 / ((1.0 - recipe.optimizer.beta1) * clipped)
    gradient = jax.tree.map(lambda mu: mu * scale, optax.tree.get(state.opt_state, "mu"))
    norm = float(optax.tree.norm(gradient))
    assert norm == pytest.approx(float(metrics["gradient_norm"]), rel=1e-3)
    epsilon = 0.002

    def loss(sign):
        moved = jax.tree.map(lambda x, g: x + sign * epsilon / norm * g, params, gradient)
        return float(take(moved)[1]["loss"])

    # Along the gradient the slope is its norm: one summed twice, or a wrong direction, is not.
    slope = (loss(1) - loss(-1)) / (2 * epsilon)
    assert slope == pytest.approx(norm, rel=0.05)


def test_it_learns(recipe):
    """The same batch again and again: every loss of the step falls."""
    mesh, train_step = compiled(1)
    state = fresh(mesh)
    data = step.to_device(*batch(recipe, 0), mesh)
    history = []
    for _ in range(30):
        state, metrics = train_step(state, data)
        history.append(jax.device_get(metrics))
    assert int(state.step) == 30
    for name in ("contrastive/invariant", "contrastive/pitch", "loss"):
        assert history[-1][name] < 0.7 * history[0][name], name


def test_the_state_is_donated(recipe):
    mesh, train_step = compiled(1)
    state = fresh(mesh)
    train_step(state, step.to_device(*batch(recipe, 0), mesh))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))


def test_gradients_are_reduced_in_f32_even_when_computed_in_bf16():
    """Automatic sharding would reduce the gradients of bf16 layers in bf16."""
    settings = tiny_settings()
    settings.encoder.compute_dtype = "bfloat16"
    recipe, mesh = config.read(settings), fsdp.make_mesh()
    state = fresh(mesh)
    text = step.make(recipe, mesh).lower(state, step.to_device(*batch(recipe, 0), mesh)).as_text()
    assert "bf16" in text
    types = re.findall(r"all_reduce.*?\}\) : \((.*?)\) ->", text, flags=re.DOTALL)
    assert len(types) >= len(jax.tree.leaves(state.params))
    assert not any("bf16" in one for one in types)


def averaged(before, params, decay):
    """The moving average by hand: at first it is shorter than the decay says."""
    return jax.tree.map(lambda a, b: decay * a + (1 - decay) * np.asarray(b), before, params)


def assert_close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "change",
    [
        "branched",
        pytest.param("pairs", marks=pytest.mark.slow),
        pytest.param("micro-batches", marks=pytest.mark.slow),
    ],
)
def test_other_objectives_and_models_train_on_any_mesh(change):
    """Equal on one device and on eight, every part of the loss finite, and the loss falls."""
    settings = tiny_settings()
    settings.training.steps = 12
    if change == "pairs":
        settings.loss.update(parameter=1.0, embedding=1.0, contrast=0.5)
        settings.loss.embedding_form = "contrastive"
        settings.loss.periods = {"pitch_shift": 12.0}
        settings.heads.colour = "filter"
        settings.training.clips = 8
    elif change == "branched":
        settings.branched = True
        settings.encoder.branch_layers = 1
        settings.optimizer.average_decay = 0.2
    else:
        # LAMB's norms are of whole parameters, and the clipped one of the whole gradient.
        settings.optimizer.update(average_decay=0.9, name="lamb", clip_norm=0.1)
        settings.training.update(clips=16, micro_batches=2)
    recipe = config.read(settings)
    first, results = drawn(recipe), []
    for devices, shards in ((1, 1), (8, 4 if change == "micro-batches" else 1)):
        mesh = fsdp.make_mesh(jax.devices()[:devices], shards)
        train_step, state, history = step.make(recipe, mesh), put(first, mesh), []
        average = first.params
        for number in range(8 if devices == 1 else 1):
            state, metrics = train_step(state, step.to_device(*batch(recipe, 0), mesh))
            history.append(jax.device_get(metrics))
            if change == "branched":
                average = averaged(average, state.params, min(0.2, (1 + number) / (10 + number)))
                jax.tree.map(assert_close, state.average, average)
        results.append(history)
    one, many = results[0], results[1]
    assert all(np.isfinite(value) for value in one[0].values())
    for name, value in one[0].items():
        np.testing.assert_allclose(many[0][name], value, rtol=2e-4, atol=2e-5, err_msg=name)
    assert one[-1]["loss"] < one[0]["loss"]
    if change == "pairs":
        heads = ("tempo", "pitch", "colour")
        assert {f"{name}/{head}" for name in ("parameter", "embedding") for head in heads} < set(
            one[0]
        )
        assert one[0]["spread/embedding/colour"] > 0


def test_a_step_that_is_not_finite_is_skipped_and_counted(recipe):
    mesh, train_step = compiled(1)
    state = fresh(mesh)
    broken = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), state.params)
    good = jax.device_get(state)
    state, metrics = train_step(
        fresh(mesh)._replace(params=broken), step.to_device(*batch(recipe, 0), mesh)
    )
    assert not np.isfinite(metrics["loss"])
    assert (int(state.step), int(state.skipped), int(state.skipped_in_a_row)) == (1, 1, 1)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state.opt_state), good.opt_state)
    # With good parameters it goes on: the count in a row starts anew, the count of all does not.
    state = jax.device_put(
        jax.device_get(state)._replace(params=good.params), fsdp.shardings(good, mesh)
    )
    state, metrics = train_step(state, step.to_device(*batch(recipe, 0), mesh))
    assert np.isfinite(metrics["loss"])
    assert (int(state.skipped), int(state.skipped_in_a_row)) == (1, 0)
    # The schedule counts steps taken: it is at its second now, the first that moves anything.
    state, metrics = train_step(state, step.to_device(*batch(recipe, 1), mesh))
    assert metrics["learning_rate"] > 0
    moved = jax.tree.map(
        lambda a, b: float(np.abs(a - b).max()), jax.device_get(state.params), good.params
    )
    assert max(jax.tree.leaves(moved)) > 0


@pytest.mark.parametrize(("learning_rate", "taken"), [(1e-2, True), (3e38, False), (1e36, False)])
def test_an_update_that_is_not_finite_is_skipped_too(learning_rate, taken):
    """Loss and gradient are finite, and what the optimiser makes of them is not, or is no use."""
    settings = tiny_settings()
    settings.optimizer.update(name="sgd", clip_norm=0.0, warmup_steps=0, schedule="constant")
    settings.optimizer.update(learning_rate=learning_rate, average_decay=0.5)
    state = step.State(*(jax.tree.map(jnp.asarray, part) for part in drawn(config.read(settings))))
    gradient = jax.tree.map(lambda leaf: jnp.full_like(leaf, 2.0), state.params)
    update = jax.jit(step._update(config.read(settings)))
    after, metrics = update(state, gradient, {"loss": jnp.ones(())})
    assert np.isfinite(metrics["gradient_norm"])
    assert np.isfinite(metrics["update_norm"]) == taken
    assert (int(after.step), int(after.skipped)) == (1, 0 if taken else 1)
    for name in ("params", "average"):
        both = (jax.tree.leaves(getattr(one, name)) for one in (state, after))
        for old, new in zip(*both, strict=True):
            assert np.isfinite(new).all()
            assert np.array_equal(old, new) != taken
