"""A look at some views, beside the step's own views and numpy."""

import jax
import numpy as np
import pytest

from loev_jax import collectives, config, fsdp, presets, step
from loev_jax.augment import views
from loev_jax.monitor import inspection

HEADS = {"tempo": "time_stretch", "pitch": "pitch_shift"}


def tiny(*, branched=False, clips=8):
    settings = presets.recipe("small", HEADS, branched=branched)
    settings.views.seconds = 0.5
    settings.encoder.update(channels=(8, 8), kernels=(3, 3), strides=(2, 1), dilations=(1, 1))
    settings.encoder.update(branch_layers=1, rhythm_channels=2, rhythm_bands=4)
    settings.projection.update(hidden=(16,), outputs=6)
    settings.training.clips = clips
    return config.read(settings)


def batch_of(recipe, mesh, clips):
    shape = (clips, recipe.views.window_samples)
    audio = np.random.default_rng(0).integers(-9000, 9000, shape).astype(np.int16)
    return step.to_device(audio, np.arange(100, 100 + clips), mesh)


def look(recipe, devices, clips=8):
    mesh = fsdp.make_mesh(jax.devices()[:devices])
    batch = batch_of(recipe, mesh, clips)
    return inspection.make(recipe, mesh)(step.init(recipe, mesh).params, batch), batch


def test_it_sees_the_views_of_the_step():
    recipe = tiny()
    seen, batch = look(recipe, 1)
    key = jax.random.split(jax.random.key(recipe.seed))[0]
    expected, applied = jax.jit(
        lambda batch: views.make(recipe.views, key, batch["audio"], batch["example"])
    )(batch)
    np.testing.assert_allclose(seen.views, expected, atol=1e-4)
    # Siblings that agree in what a head keeps are its positives.
    cosines = np.asarray(seen.similarities["tempo"])
    np.testing.assert_allclose(np.diag(cosines), 1.0, atol=1e-5)
    clip = np.repeat(np.arange(8), recipe.views.number)
    rate = np.asarray(applied["time_stretch"]).reshape(-1)
    tolerance = recipe.loss.tolerance.time_stretch
    positive = (clip[:, None] == clip) & (abs(rate[:, None] - rate) <= tolerance)
    positive &= ~np.eye(len(clip), dtype=bool)
    assert 0 < positive.sum() < (clip[:, None] == clip).sum() - len(clip)
    distances = np.maximum(2 - 2 * cosines, 0)
    np.testing.assert_allclose(
        seen.metrics["alignment/tempo"], distances[positive].mean(), rtol=1e-4
    )
    others = ~np.eye(len(clip), dtype=bool)
    np.testing.assert_allclose(
        seen.metrics["uniformity/tempo"], np.log(np.exp(-2 * distances[others]).mean()), rtol=1e-4
    )


@pytest.mark.parametrize("branched", [False, True], ids=["LOEV", "LOEV++"])
def test_it_names_every_head_and_what_is_under_it(branched):
    seen, _ = look(tiny(branched=branched), 1)
    heads = {"invariant", "tempo", "pitch"}
    under = {f"encoder/{head}" for head in heads} if branched else {"encoder"}
    assert set(seen.metrics) == {
        *(f"{name}/{head}" for name in ("alignment", "uniformity") for head in heads),
        *(f"rank/{space}" for space in heads | under),
    }
    assert set(seen.similarities) == heads
    assert all(1.0 <= float(seen.metrics[f"rank/{space}"]) <= 24 for space in heads | under)


def test_it_is_the_same_on_many_devices():
    recipe = tiny()
    (one, _), (many, _) = look(recipe, 1), look(recipe, 8)
    assert many.views.sharding.is_fully_replicated
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-4), one, many)


def test_of_the_audio_no_more_crosses_devices_than_is_looked_at():
    recipe, mesh = tiny(clips=96), fsdp.make_mesh(jax.devices())
    batch = batch_of(recipe, mesh, 96)
    params = step.init(recipe, mesh).params
    program = inspection.make(recipe, mesh).lower(params, batch).compile().as_text()
    audio = [one.bytes for one in collectives.read(program) if "s16" in one.dtypes]
    assert 0 < sum(audio) <= inspection.CLIPS * recipe.views.window_samples * 2


def test_it_looks_at_no_more_than_some_clips():
    seen, _ = look(tiny(clips=40), 1, clips=40)
    assert seen.views.shape[0] == inspection.CLIPS
