import dataclasses
import math

import numpy as np
import pytest
from scipy import signal

from loev_jax.augment import (
    Augmentations,
    Equalizer,
    Filter,
    Gain,
    Mix,
    Noise,
    PitchShift,
    Polarity,
    Reverse,
    TimeStretch,
)
from loev_jax.augment.augmentations import NAMES, PARAMETERS_OF, TRANSFORMS
from loev_jax.evaluate import changes

AUGMENTATIONS = Augmentations(
    time_stretch=TimeStretch(-0.3, 0.3), pitch_shift=PitchShift(-3, 3, step=1.0)
)


def test_draws_depend_on_seed_and_number_alone():
    every = changes.draw(AUGMENTATIONS, 0, np.arange(200))
    some = changes.draw(AUGMENTATIONS, 0, np.array([150, 3]))
    for name, values in some.items():
        np.testing.assert_array_equal(values, every[name][[150, 3]])
    other = changes.draw(AUGMENTATIONS, 1, np.arange(200))
    assert not np.any(other["time_stretch"] == every["time_stretch"])
    assert np.abs(np.corrcoef(every["time_stretch"], every["pitch_shift"])[0, 1]) < 0.2


def test_draws_fill_the_recipes_ranges_whatever_its_probability():
    rare = dataclasses.replace(
        AUGMENTATIONS, time_stretch=TimeStretch(-0.3, 0.3, probability=0.01), gain=Gain(-10, 10)
    )
    drawn = changes.draw(rare, 0, np.arange(2000))
    assert set(drawn) == {"time_stretch", "pitch_shift", "place"}  # no head keeps the gain
    assert -0.3 <= drawn["time_stretch"].min() < -0.28
    assert 0.28 < drawn["time_stretch"].max() <= 0.3
    assert set(drawn["pitch_shift"]) == set(range(-3, 4))


def test_what_a_head_keeps_is_drawn_too_and_changes_no_other_draw():
    spec = dataclasses.replace(
        AUGMENTATIONS,
        gain=Gain(-10, 4, probability=0.1),
        filter=Filter(probability=0.1),
        mix=Mix(0.1, 0.4),
    )
    plain = changes.draw(spec, 0, np.arange(2000))
    kept = changes.kept_by(
        {"loudness": ("gain", "filter"), "tempo": ("time_stretch",), "m": ("mix",)}
    )
    drawn = changes.draw(spec, 0, np.arange(2000), kept)
    assert changes.differing(kept) == ("time_stretch", "pitch_shift", "gain", "filter")
    filters = ("filter_kind", "filter_frequency")
    assert changes.parameters(kept) == ("time_stretch", "pitch_shift", "gain", *filters)
    assert set(drawn) == {*plain, "gain", *filters, "filter_bandwidth"}
    for name, values in plain.items():
        np.testing.assert_array_equal(drawn[name], values)
    assert -10 <= drawn["gain"].min() < -9.8
    assert 3.8 < drawn["gain"].max() <= 4
    assert set(drawn["filter_kind"]) == {1, 2, 3, 4}
    independent = [drawn[name] for name in (*plain, "gain", "filter_kind")]
    correlations = np.corrcoef(np.stack(independent))[~np.eye(5, dtype=bool)]
    assert np.abs(correlations).max() < 0.1


def test_recipes_that_change_neither_are_measured_all_the_same():
    drawn = changes.draw(Augmentations(), 0, np.arange(500))
    assert 0.25 < drawn["time_stretch"].max() <= math.log2(1.25)
    assert 3.5 < drawn["pitch_shift"].max() <= 4.0


def test_a_switch_is_on_in_half_of_the_views_whatever_its_probability():
    spec = Augmentations(reverse=Reverse(probability=0.01), polarity=Polarity(probability=1.0))
    drawn = changes.draw(spec, 0, np.arange(2000), ("reverse", "polarity"))
    for name in ("reverse", "polarity"):
        assert set(drawn[name]) == {0.0, 1.0}
        assert drawn[name].mean() == pytest.approx(0.5, abs=0.05)
    assert abs(np.corrcoef(drawn["reverse"], drawn["polarity"])[0, 1]) < 0.1


def test_all_but_mixing_is_told_of_what_a_head_keeps():
    every = Augmentations(**{name: TRANSFORMS[name]() for name in NAMES})
    for name in NAMES:
        drawn = changes.draw(every, 0, np.arange(50), (name,))
        told = changes.observed({n: drawn[n] for n in changes.parameters((name,))})
        assert tuple(told) == changes.quantities((name,))
        assert {len(columns) for columns in told.values()} == {50}
        new = [columns for quantity, columns in told.items() if quantity not in changes.DIFFERENCES]
        assert all(columns.std(axis=0).max() > 0 for columns in new)
        if name in changes.DIFFERENCES:
            assert not new
        else:
            assert bool(new) == (name not in ("mix", "mixup"))


def test_peaks_are_told_as_the_curve_that_they_make_in_any_order():
    spec = Augmentations(equalizer=Equalizer())
    drawn = changes.draw(spec, 0, np.arange(20), ("equalizer",))
    names = PARAMETERS_OF["equalizer"]
    curve = changes.observed({name: drawn[name] for name in names})["equalizer"]
    turned = {name: drawn[f"{name[:-1]}{1 + int(name[-1]) % 3}"] for name in names}
    np.testing.assert_allclose(changes.observed(turned)["equalizer"], curve, atol=1e-4)
    for row in range(20):
        gains, frequencies, widths = np.array([drawn[n][row] for n in names]).reshape(3, 3)
        expected = np.zeros(7)
        for gain, centre, octaves in zip(gains, 2.0**frequencies, widths, strict=True):
            a, q = 10 ** (gain / 40), 1 / (2 * np.sinh(np.log(2) / 2 * octaves))
            at = np.array([62.5, 125, 250, 500, 1000, 2000, 4000]) / centre
            _, response = signal.freqs([1, a / q, 1], [1, 1 / (a * q), 1], at)
            expected += 20 * np.log10(np.abs(response))
        np.testing.assert_allclose(curve[row], expected, atol=2e-3)


def test_only_what_has_the_plain_clip_on_its_scale_orders_views():
    assert {"time_stretch", "pitch_shift", "gain", "clipping", "reverb"} <= {*changes.ORDERED}
    others = {"bit_crush", "noise_snr", "equalizer", "filter_kind", "reverse"}
    assert not others & {*changes.ORDERED}


def test_noise_is_told_by_its_level_and_colour_not_by_its_seed():
    drawn = changes.draw(Augmentations(noise=Noise(probability=0.2)), 0, np.arange(300), ("noise",))
    assert np.all(drawn["noise"] == 1)
    assert drawn["noise_seed"].dtype == np.int32
    assert changes.quantities(("noise",))[2:] == ("noise_snr", "noise_decay")
