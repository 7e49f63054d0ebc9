"""Views of test clips: what changes in them, and where models put them."""

import numpy as np
import pytest
import tiny_music
import tiny_run

from loev_jax import checkpoint, config, presets, run_config
from loev_jax.augment import analysis
from loev_jax.data import records
from loev_jax.evaluate import sweep
from loev_jax.evaluate.spaces import Embedder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    directory = tmp_path_factory.mktemp("sweep")
    tiny_run.write(directory)
    return run_config.load(directory), checkpoint.restore_model(
        directory, 1, run_config.load(directory)
    )


def test_the_first_view_is_plain_and_the_last_ones_change_one_thing(recipe):
    views = recipe[0].views
    drawn = sweep.draw(views.augmentations, 0, np.arange(6))
    measured = sweep.measured(views.augmentations).augmentations
    assert {"time_stretch", "pitch_shift", "gain", "filter"} <= set(measured)
    assert {value.shape for value in drawn.values()} == {(6, 1 + sweep.VIEWS + len(measured))}
    assert not any(value[:, 0].any() for value in drawn.values())
    both = {"time_stretch", "pitch_shift"}
    for name, value in drawn.items():
        changed = value[:, 1 : 1 + sweep.VIEWS]
        # The recipe shifts by whole semitones, of which one in nine is none.
        assert (changed != 0).mean() > 0.8 if name in both else not changed.any()
    for at, own in enumerate(measured.values()):
        column = 1 + sweep.VIEWS + at
        assert any(drawn[name][:, column].any() for name in own)
        others = set(drawn) - set(own)
        assert not any(drawn[name][:, column].any() for name in others)


def test_a_draw_is_a_function_of_seed_and_number(recipe):
    augmentations = recipe[0].views.augmentations
    many = sweep.draw(augmentations, 3, np.arange(20))
    few = sweep.draw(augmentations, 3, np.array([17, 4]))
    other = sweep.draw(augmentations, 4, np.array([17, 4]))
    for name, value in few.items():
        np.testing.assert_array_equal(value, many[name][[17, 4]])
    assert (few["time_stretch"] != other["time_stretch"])[:, 1].all()


def test_views_change_in_all_that_heads_keep_at_once(recipe):
    augmentations = recipe[0].views.augmentations
    plain, kept = (sweep.draw(augmentations, 0, np.arange(6), k) for k in ((), ("gain", "filter")))
    several = slice(1, 1 + sweep.VIEWS)
    assert not plain["gain"][:, several].any()
    assert kept["gain"][:, several].all()
    low, high = augmentations.gain.low, augmentations.gain.high
    assert low <= kept["gain"].min() < kept["gain"].max() <= high
    assert set(np.unique(kept["filter_kind"][:, several])) == {1, 2, 3, 4}
    assert not kept["filter_kind"][:, 0].any()
    for name in ("time_stretch", "pitch_shift"):
        np.testing.assert_array_equal(kept[name], plain[name])


def test_mixing_needs_another_clip_and_is_left_out():
    settings = presets.recipe("small", {"tempo": "time_stretch"})
    settings.augment.mix = {"low": 0.1, "high": 0.4}
    spec = config.read(settings).views.augmentations
    assert spec.mixes
    assert not sweep.measured(spec).mixes


def test_embedded_views_equal_those_computed_one_by_one(recipe, tmp_path):
    settings, model = recipe
    split = records.open_split(tiny_music.write(tmp_path / "data"), "test")
    embedder = Embedder(settings.views, model, segments=2)
    known, (spaces,) = embedder.sweep([model], split, number=2, seed=5, most=5)
    assert len(known.pieces) == 5
    assert known.alone == tuple(sweep.measured(settings.views.augmentations).augmentations)
    chosen = np.linspace(0, len(split) - 1, 5).round().astype(int)
    samples = sweep.chain(settings.views).source_samples
    audio = split[int(chosen[3])][records.AUDIO]
    start = (len(audio) - samples) // 2
    source = audio[None, start : start + samples].astype(np.float32) / 32768
    for view in (0, 4):
        change = {k: np.asarray(v[3, view : view + 1]) for k, v in known.parameters.items()}
        mel = analysis.log_mel(settings.views.frontend, source, change, settings.views.frames)
        for name, space in model.spaces(mel).items():
            np.testing.assert_allclose(spaces[name][3, view], space[0], atol=2e-4)
    # Where nothing but the gain changes, it is another view than the plain one.
    gain = 1 + sweep.VIEWS + known.alone.index("gain")
    assert not np.allclose(spaces["encoder"][:, gain], spaces["encoder"][:, 0], atol=1e-6)
