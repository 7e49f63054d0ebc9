import functools
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from loev_jax import config, presets
from loev_jax.errors import UserError
from loev_jax.evaluate import unions

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.py"))


def get_config(path, variant=""):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(variant)


@functools.cache
def recipe_of(path, variant):
    return config.read(get_config(path, variant))


EVERY = [(path, variant) for path in CONFIGS for variant in ("", "small")]
EVERY += [(CONFIGS[0], "resnet"), (CONFIGS[0], "resnet,small")]


@pytest.mark.parametrize(("path", "variant"), EVERY, ids=lambda value: getattr(value, "stem", None))
def test_every_config_is_a_recipe(path, variant):
    recipe = recipe_of(path, variant)
    assert recipe.training.clips * recipe.views.number == (96 if "small" in variant else 1920)
    read_out = recipe.model.heads if recipe.loss.translation else ()
    assert set(recipe.model.readouts) == set(read_out)
    names = {"": "sf_nfnet_f0", "small": "cnn"}
    assert recipe.model.encoder.name == names.get(variant, "resnet")


TEMPO, PITCH = {"tempo": ("time_stretch",)}, {"pitch": ("pitch_shift",)}
KEPT = {
    "equivariance_tempo_pitch": TEMPO | PITCH,
    "loev_pitch": PITCH,
    "loev_tempo": TEMPO,
    "loev_tempo_pitch": TEMPO | PITCH,
    "loevpp_tempo_pitch": TEMPO | PITCH,
    "looc_tempo_pitch": TEMPO | PITCH,
    "simclr": {},
    "simclr_spared": {},
}
"""What each config's heads keep, beside the invariant one."""


@pytest.mark.parametrize("variant", ["", "small"])
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_each_config_is_what_its_name_says(path, variant):
    recipe, name = recipe_of(path, variant), path.stem
    loss = recipe.loss
    assert recipe.model.heads == KEPT[name]
    # Independent views, or with heads a query, a view for each of them, and one redrawn.
    assert (recipe.views.construction == "leave_one_out") == bool(KEPT[name])
    assert set(recipe.views.kept) == set(KEPT[name].values())
    assert recipe.views.number == (len(KEPT[name]) + 2 if KEPT[name] else 4 if variant else 2)
    spared = {"time_stretch", "pitch_shift"} if name == "simclr_spared" else set()
    drawn = set(recipe.views.augmentations.augmentations)
    assert drawn == {"time_stretch", "pitch_shift", "gain", "filter"} - spared
    assert recipe.model.branched == name.startswith("loevpp")
    assert loss.contrast == (0.0 if name.startswith("equivariance") else 1.0)
    assert (loss.translation == 0.0) == name.startswith("looc")
    assert loss.parameter == loss.embedding == 0.0
    assert recipe.model.pairs == {}
    # All are named, so that a command line can set any of them.
    assert loss.weights == dict.fromkeys(("invariant", *KEPT[name]), 1.0)
    assert loss.equivariance_weights == dict.fromkeys(KEPT[name], 1.0)
    softer = {"tempo": 0.2} if variant and "tempo" in KEPT[name] else {}
    assert loss.temperatures == dict.fromkeys(loss.weights, 0.1) | softer
    assert (loss.form, loss.reduction) == ("log_softmax", "rows_with_positives")
    for head, readout in recipe.model.readouts.items():
        assert tuple(one.name for one in readout) == KEPT[name][head]


def test_looc_is_read_from_all_of_its_heads_side_by_side():
    path = Path(__file__).parents[1] / "configs" / "looc_tempo_pitch.py"
    heads = config.read(get_config(path)).model.projected
    assert heads == ("invariant", "pitch", "tempo")
    rows = {head: np.full((2, 3), at, np.float32) for at, head in enumerate(heads)}
    np.testing.assert_array_equal(
        unions.with_unions(rows, rows, heads)[unions.HEADS], np.repeat([[0, 1, 2]] * 2, 3, axis=1)
    )


def test_the_baselines_differ_from_loev_in_what_they_are_for_and_in_nothing_else():
    """So that a comparison of them is one of the methods."""

    def fields(name, variant):
        return get_config(Path(__file__).parents[1] / "configs" / f"{name}.py", variant).to_dict()

    for variant in ("", "small"):
        loev, simclr = fields("loev_tempo_pitch", variant), fields("simclr", variant)
        looc = fields("looc_tempo_pitch", variant)
        assert looc == loev | {"loss": loev["loss"] | {"translation": 0.0}}
        equivariance = fields("equivariance_tempo_pitch", variant)
        assert equivariance == loev | {"loss": loev["loss"] | {"contrast": 0.0}}
        assert fields("loevpp_tempo_pitch", variant) == loev | {"branched": True}
        nothing = {"time_stretch": None, "pitch_shift": None}
        spared = simclr | {"augment": simclr["augment"] | nothing}
        assert fields("simclr_spared", variant) == spared
        for section in ("data", "frontend", "augment", "encoder", "projection", "optimizer"):
            assert simclr[section] == loev[section]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_an_unknown_variant_is_refused(path):
    with pytest.raises(UserError, match="'huge'"):
        get_config(path, "small,huge")


def test_a_variant_names_one_encoder():
    with pytest.raises(UserError, match="cnn and resnet in one variant"):
        get_config(CONFIGS[0], "cnn,resnet")


def test_sections_left_out_keep_their_defaults():
    recipe = config.read({"augment": {"gain": {"low": -3, "high": 3}}, "heads": {"level": "gain"}})
    assert recipe.views.kept == (("gain",),)
    assert recipe.views.augmentations.gain.low == -3.0
    assert recipe.optimizer.learning_rate == 1e-4


def test_a_head_may_keep_several_augmentations():
    settings = config.default()
    settings.heads = ConfigDict({"both": ("time_stretch", "pitch_shift")})
    recipe = config.read(settings)
    assert [one.name for one in recipe.model.readouts["both"]] == ["time_stretch", "pitch_shift"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"optimiser": {}}, "config.optimiser: unknown section"),
        ({"optimizer": {"learning_rat": 1.0}}, "config.optimizer.learning_rat: unknown field"),
        ({"optimizer": {"learning_rate": "fast"}}, "config.optimizer.learning_rate: 'fast'"),
        ({"optimizer": {"learning_rate": -1.0}}, "config.optimizer: learning_rate=-1.0"),
        ({"training": {"steps": True}}, "config.training.steps: True is not int"),
        ({"training": {"steps": 0}}, "config.training: steps=0"),
        ({"views": {"domain": "cepstral"}}, "'cepstral' is not 'analysis' or 'waveform'"),
        ({"views": {"kept": ()}}, "config.views.kept: unknown field"),
        ({"views": {"window_scale": (1.0,)}}, "config.views.window_scale"),
        ({"frontend": {"window": 4096}}, "config.frontend: window=4096"),
        ({"augment": {"gain": {"low": 2.0, "high": 1.0}}}, "config.augment.gain: low=2.0"),
        ({"augment": {"gain": {"low": 9.0}}}, "config.augment.gain: low=9.0 exceeds high=5.0"),
        ({"heads": {"x": "chorus"}}, "config.heads.x: 'chorus' is no augmentation"),
        ({"augment": {"noise": {"snr": {"low": 9.0}}}}, "config.augment.noise.snr"),
        ({"augment": {"shared": ("noise",)}}, "'noise' in one_of or shared is never applied"),
        ({"heads": {"encoder": "gain"}}, "config.heads.encoder: the name is taken"),
        ({"heads": {"heads": "gain"}}, "config.heads.heads: the name is taken"),
        ({"heads": {"tempo": "time_stretch"}}, "time_stretch is never applied"),
        ({"loss": {"weights": {"tempo": 2.0}}}, "config.loss.weights.tempo: no such head"),
        ({"loss": {"temperature": 0.0}}, "config.loss: temperature=0.0"),
        ({"loss": {"temperature": float("nan")}}, "config.loss: temperature=nan"),
        ({"loss": {"temperatures": {"x": 0.2}}}, "config.loss.temperatures.x: no such head"),
        ({"loss": {"contrast": 0.0}}, "config.loss.contrast: 0 and no equivariance loss"),
        ({"loss": {"periods": {"filter": 2.0}}}, "config.loss.periods.filter: not one of"),
        ({"loss": {"equivariance_weights": {"x": 2.0}}}, "config.loss.equivariance_weights.x: no"),
        ({"optimizer": {"name": "adam"}}, "config.optimizer.name: 'adam' is not 'adamw' or 'lamb'"),
        ({"loss": {"weights": {"invariant": 0.0}}}, "config.loss.weights: all are 0"),
        ({"frontend": {"sample_rate": 22_050}}, "config.frontend.sample_rate: 22050"),
        ({"frontend": {"hop": 0}}, "config.frontend: sample_rate=16000, hop=0"),
        ({"frontend": {"hop": 1600}}, "config: rhythm_range"),
        ({"branched": 1}, "config.branched: 1 is not bool"),
        ({"projection": {"hidden": 16}}, "config.projection.hidden: 16 is not a tuple (int, ...)"),
        ({"encoder": {"name": "vgg"}}, "config.encoder.name: 'vgg' is no encoder; known: cnn, "),
        ({"encoder": {"name": "resnet", "kernels": (3,)}}, "config.encoder.kernels: unknown field"),
        ({"encoder": {"channels": (100,) * 5}}, "config.encoder: channels"),
        ({"training": {"keep_checkpoints": -1}}, "config.training: keep_checkpoints=-1"),
        ({"data": {"threads": -1}}, "config.data: threads=-1"),
        ({"augment": {"gain": {"low": 0.1, "high": 0.3, "step": 1.0}}}, "no multiple of step"),
        (
            {"heads": {"x": "gain"}, "augment": {"gain": {"low": 1.0, "high": 1.0}}},
            "config.heads: gain is not drawn from a range",
        ),
        (
            {
                "heads": {"x": "gain"},
                "augment": {"gain": {"low": 1.0, "high": 2.0}},
                "loss": {"positives": "unaugmented"},
            },
            "config.heads.x: gain is applied to every view",
        ),
    ],
)
def test_what_is_wrong_is_named(change, named):
    with pytest.raises(UserError) as caught:
        config.read(change)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_set_for_all_heads_is_set_for_each_but_those_set_alone():
    settings = presets.recipe("small", {"tempo": "time_stretch", "pitch": "pitch_shift"})
    settings.loss.temperature = 0.3
    settings.loss.temperatures.pitch = 0.5
    settings.loss.weights.invariant = 2
    loss = config.read(settings).loss
    assert loss.temperatures == {"invariant": 0.3, "tempo": 0.2, "pitch": 0.5}
    assert loss.temperature == 0.3
    assert loss.weights == {"invariant": 2.0, "tempo": 1.0, "pitch": 1.0}


def test_heads_of_a_users_own_replace_those_of_a_preset():
    settings = presets.recipe("", {"tempo": "time_stretch"})
    settings.heads = {"speed": "time_stretch"}
    assert set(config.read(settings).model.heads) == {"speed"}
    settings.loss.weights.tempo = 3.0
    with pytest.raises(UserError, match=r"weights\.tempo: no such head; heads: invariant, speed"):
        config.read(settings)
