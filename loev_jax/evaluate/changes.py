"""How the views of a pair differ, and what of it is looked for in their embeddings.

A change is what an augmentation does; its parameters are what is drawn. What a regression is told
of them are quantities: most parameters as they are, a category as indicators, and of an equaliser,
whose three peaks may be told in any order, the curve that they make together.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from loev_jax.augment import filters
from loev_jax.augment.augmentations import SCALARS, Augmentations
from loev_jax.augment.differences import CLASSES
from loev_jax.augment.parameters import Parameters
from loev_jax.augment.spectral import Equalizer, PitchShift, TimeStretch, peaks
from loev_jax.augment.transform import Switch, Transform

DIFFERENCES = ("time_stretch", "pitch_shift")
"""The augmentations in which the views of every pair differ."""

_CURVE = "equalizer"


def _each(*names: str) -> dict[str, tuple[str, ...]]:
    """Parameters that are quantities as they are."""
    return {name: (name,) for name in names}


MEASURABLE: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    **{name: _each(name) for name in SCALARS if name not in ("mix", "mixup")},
    "filter": _each("filter_kind", "filter_frequency"),
    "equalizer": {_CURVE: Equalizer.PARAMETERS},
    "reverse": _each("reverse"),
    "polarity": _each("polarity"),
    "delay": _each("delay", "delay_time", "delay_feedback"),
    "reverb": _each("reverb", "reverb_decay"),
    "noise": _each("noise_snr", "noise_decay"),
    "time_mask": _each("time_mask", "time_mask_start"),
    "frequency_mask": _each("frequency_mask", "frequency_mask_start"),
}
"""All augmentations in which they can: of each the quantities that are looked for, and of each of
these the parameters that tell it. Mixing is not among them: it needs another clip."""

ORDERED = (
    *("time_stretch", "pitch_shift", "gain", "clipping", "delay", "reverb"),
    *("time_mask", "frequency_mask"),
)
"""The quantities by which views can be ordered, the clip as it is among them: numbers of which 0 is
its place, as 0 bits or 0 dB of noise are not."""

BANDS_HZ = tuple(62.5 * 2.0**octave for octave in range(7))
"""Where an equaliser's curve is looked at."""

DEFAULT_RANGES = Augmentations(
    time_stretch=TimeStretch(-0.32, 0.32),
    pitch_shift=PitchShift(-4.0, 4.0, step=1.0),
)
"""Drawn from where a recipe does not stretch or shift, so that every recipe can be compared: as the
`small` recipes do, by whole semitones, between which a moved clip has no key."""

PLACE = "place"
"""Of a draw: which segment of its clip it is of."""


def kept_by(heads: Mapping[str, Collection[str]]) -> set[str]:
    """The augmentations that some head keeps."""
    return {name for kept in heads.values() for name in kept}


def differing(kept: Collection[str]) -> tuple[str, ...]:
    """The augmentations in which the views of a pair differ, where heads keep these.

    They are `DIFFERENCES`, so that all recipes can be compared, and whatever else of `MEASURABLE` a
    head is made to keep.
    """
    return tuple(name for name in MEASURABLE if name in DIFFERENCES or name in kept)


def quantities(kept: Collection[str]) -> tuple[str, ...]:
    """What is looked for in the views of a pair, of all of `differing`."""
    return tuple(name for one in differing(kept) for name in MEASURABLE[one])


def parameters(kept: Collection[str]) -> tuple[str, ...]:
    """The parameters that tell `quantities`."""
    told = (names for one in differing(kept) for names in MEASURABLE[one].values())
    return tuple(name for names in told for name in names)


def observed(told: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Quantities as a regression is told them.

    Args:
        told: parameters of views, [...] each.

    Returns:
        Those of `quantities` that these parameters tell: [..., 1], or of a category [...,
        categories] (1 in its own column, nowhere where it is 0), or of an equaliser its curve in dB
        at `BANDS_HZ`, [..., bands].
    """
    known = {name: names for one in MEASURABLE.values() for name, names in one.items()}
    return {
        name: _column(name, {one: np.asarray(told[one]) for one in names})
        for name, names in known.items()
        if told.keys() >= {*names}
    }


def _column(name: str, told: Mapping[str, np.ndarray]) -> np.ndarray:
    if name == _CURVE:
        return _curve(told)
    value = told[name][..., None]
    if name in CLASSES:
        return (value == np.arange(1, CLASSES[name])).astype(np.float64)
    return value


def _curve(told: Mapping[str, np.ndarray]) -> np.ndarray:
    columns = {name: jnp.asarray(value) for name, value in told.items()}
    power = filters.equalizer_response(jnp.asarray(BANDS_HZ), *peaks(columns))
    return 10.0 * np.log10(np.asarray(power, np.float64))


def ranges(augmentations: Augmentations, kept: Collection[str] = ()) -> Augmentations:
    """What the changes of a pair are drawn from.

    Args:
        augmentations: the recipe's own, which are taken; `DEFAULT_RANGES` where it has none.
        kept: augmentations that heads keep.
    """
    return Augmentations(
        **{
            name: getattr(augmentations, name) or getattr(DEFAULT_RANGES, name)
            for name in differing(kept)
        }
    )


def values(transform: Transform, key: jax.Array) -> Parameters:
    """Draws what a changed view is changed by.

    It always is changed; but a switch is on in every other view, or views would not differ in it.
    """
    if isinstance(transform, Switch):
        return {transform.NAME: jax.random.bernoulli(key).astype(jnp.float32)}
    return transform.values(key)


def draw(
    augmentations: Augmentations, seed: int, clips: np.ndarray, kept: Collection[str] = ()
) -> dict[str, np.ndarray]:
    """Draws how each clip's transformed view differs (see `values`).

    Args:
        augmentations: the recipe's.
        seed: of the draw.
        clips: [n] numbers of the clips: a draw is a function of (seed, number).
        kept: augmentations that heads keep; the draws of `DIFFERENCES` do not depend on them.

    Returns:
        Every parameter of `differing`, in its unit (`time_stretch` in octaves, `pitch_shift` in
        semitones), [n], and `PLACE` in 0..1: which of the clip's segments it is.
    """
    spec = ranges(augmentations, kept)
    further = [name for name in spec.augmentations if name not in DIFFERENCES]
    names = (*DIFFERENCES, PLACE, *further)

    def one(number: jax.Array) -> Parameters:
        # A key of each depends on its place alone, not on how many there are.
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), number), len(names))
        drawn: Parameters = {}
        for name, key in zip(names, keys, strict=True):
            if name == PLACE:
                drawn[PLACE] = jax.random.uniform(key, ())
            else:
                drawn |= values(getattr(spec, name), key)
        return drawn

    return {name: np.asarray(v) for name, v in jax.vmap(one)(jnp.asarray(clips)).items()}
