"""The augmentations of a recipe: what a config can name, groups, sharing, shuffles, the docs."""

import dataclasses
import inspect
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loev_jax import augment, config, frontend
from loev_jax.augment import views
from loev_jax.augment.augmentations import PARAMETERS_OF, TRANSFORMS
from loev_jax.augment.transform import Scalar, Transform

DOCS = pathlib.Path(__file__).parents[2] / "docs" / "augmentations.md"
EVERYTHING = config.read({"augment": {name: {} for name in TRANSFORMS}}).views.augmentations


def draw(spec, number=400):
    keys = jax.random.split(jax.random.key(0), number)
    return {name: np.asarray(value) for name, value in jax.vmap(spec.draw)(keys).items()}


def test_a_config_names_every_transform_and_keeps_its_defaults():
    for name, cls in TRANSFORMS.items():
        assert getattr(EVERYTHING, name) == cls()
    assert set(draw(EVERYTHING, 2)) == {name for names in PARAMETERS_OF.values() for name in names}


def test_an_augmentation_is_drawn_alike_whatever_else_is_set():
    alone = augment.Augmentations(noise=augment.Noise())
    for name, value in draw(alone).items():
        np.testing.assert_array_equal(value, draw(EVERYTHING)[name])


def test_a_group_applies_one_at_most():
    spec = dataclasses.replace(EVERYTHING, one_of=(("noise", "reverb", "polarity"),))
    drawn = draw(spec)
    applied = np.stack([drawn[name] != 0 for name in ("noise", "reverb", "polarity")])
    assert applied.sum(axis=0).max() == 1
    assert applied.sum(axis=1).min() > 30
    assert (drawn["clipping"] != 0).all()


def test_all_of_them_at_once_in_views():
    spec = views.Views(
        frontend=frontend.LogMel(n_fft=512, window=400, hop=200, bands=32, fmax=6000.0),
        augmentations=dataclasses.replace(
            EVERYTHING,
            delay=augment.Delay(time=augment.Range(0.01, 0.02)),
            reverb=augment.Reverb(seconds=0.05),
            shared=("gain",),
        ),
        kept=(("noise", "reverb"),),
        seconds=0.3,
    )
    rng = np.random.default_rng(0)
    audio = jnp.asarray(rng.integers(-9000, 9000, (2, spec.window_samples)), jnp.int16)
    applied = views.draw(spec, jax.random.key(1), jnp.arange(2))
    render = jax.jit(lambda audio: views.render(spec, audio, applied))
    mels = render(audio)
    assert mels.shape == (2, 3, spec.frames, 32)
    assert np.isfinite(mels).all()
    for name in ("noise_snr", "noise_seed", "reverb", "reverb_seed"):
        np.testing.assert_array_equal(applied[name][:, 0], applied[name][:, 1])
        assert (applied[name][:, 0] != applied[name][:, 2]).all()
    assert (applied["gain"] == applied["gain"][:, :1]).all()
    with pytest.raises(ValueError, match="3 clips cannot be mixed in pairs"):
        views.render(spec, jnp.zeros((3, spec.window_samples), jnp.int16), applied)
    # Mixing pairs the same view of two clips, so that without the other clip every view differs.
    alone = np.abs(render(audio.at[1].set(0)) - mels)[0]
    assert (alone.max(axis=(1, 2)) > 0.01).all()


def test_a_shuffled_order_is_drawn_and_costs_no_source():
    some = augment.Augmentations(
        clipping=augment.Clipping(), bit_crush=augment.BitCrush(), noise=augment.Noise()
    )
    shuffled = dataclasses.replace(some, order="shuffled")
    assert set(np.unique(draw(shuffled)["order"])) == set(range(6))
    assert "order" not in draw(some)
    lengths = [
        views.Views(frontend=frontend.LogMel(), augmentations=one).source_samples
        for one in (some, shuffled)
    ]
    assert lengths[0] == lengths[1]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"one_of": (("noise", "chorus"),)}, "'chorus' in one_of or shared"),
        ({"one_of": (("noise",),)}, "two augmentations or more"),
        ({"gain": None, "shared": ("gain",)}, "'gain' in one_of or shared is never applied"),
        ({"order": "shuffled"}, "shuffle 6 at most"),
    ],
)
def test_bad_settings_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(EVERYTHING, **changed)


def _numbers(text):
    return [float(number.replace(" ", "")) for number in re.findall(r"-?\d[\d ]*(?:\.\d+)?", text)]


def test_the_table_in_the_docs_is_true():
    """Every transform, every parameter and, for those of one parameter, its default range."""
    rows = [line.split("|")[1:-1] for line in DOCS.read_text().splitlines() if line[:1] == "|"]
    documented = {row[0].strip(" `"): row for row in rows if len(row) == 5}
    text = DOCS.read_text()
    classes = [cls for _, cls in inspect.getmembers(augment, inspect.isclass)]
    found = [cls for cls in classes if issubclass(cls, Transform) and hasattr(cls, "PARAMETERS")]
    assert len(found) >= len(TRANSFORMS) + 1
    for cls in found:
        assert cls.__name__ in documented
        for name in cls.PARAMETERS:
            assert f"`{re.sub('_[23]$', '_1', name)}`" in text
        if issubclass(cls, Scalar):
            stated = _numbers(documented[cls.__name__][4])
            assert [cls().low, cls().high] == stated[-2:] or [cls().low, cls().high] == stated[:2]
