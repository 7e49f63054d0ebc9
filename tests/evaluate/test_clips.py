import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loev_jax.augment import Augmentations, Filter, Gain, Mix, PitchShift, TimeStretch
from loev_jax.augment.views import Views
from loev_jax.evaluate import clips
from loev_jax.frontend import LogMel

AUGMENTATIONS = Augmentations(
    time_stretch=TimeStretch(-0.3, 0.3), pitch_shift=PitchShift(-3, 3, step=1.0)
)
VIEWS = Views(LogMel(), AUGMENTATIONS, seconds=0.5)


@given(st.integers(1, 5000), st.integers(1, 6))
def test_segments_lie_within_the_clip_and_cover_it(samples, segments):
    where = clips.Layout(segment=300, source=400, segments=segments)
    starts = where.starts(samples)
    assert len(starts) == min(segments, samples // 300)
    if len(starts):
        assert starts[0] == 0
        assert starts[-1] + 300 <= samples
        assert len(starts) == 1 or starts[-1] + 300 == samples
        assert np.all(np.diff(starts) >= 300)
    pairable = where.pairable(samples)
    assert all(start + 400 <= samples for start in starts[:pairable])
    assert all(start + 400 > samples for start in starts[pairable:])


def test_whole_clips_are_covered_by_consecutive_segments():
    where = clips.Layout(segment=300, source=400, segments=99)
    assert where.starts(1500).tolist() == [0, 300, 600, 900, 1200]


def test_a_source_is_long_enough_for_the_fastest_view():
    where = clips.layout(VIEWS, 3)
    assert where.segment == VIEWS.frontend.samples(VIEWS.frames)
    last = VIEWS.frontend.hop * (VIEWS.frames - 1) * 2**0.3 + VIEWS.frontend.window
    assert where.source >= math.floor(last)


def test_draws_depend_on_seed_and_number_alone():
    every = clips.draw(AUGMENTATIONS, 0, np.arange(200))
    some = clips.draw(AUGMENTATIONS, 0, np.array([150, 3]))
    for name, values in some.items():
        np.testing.assert_array_equal(values, every[name][[150, 3]])
    other = clips.draw(AUGMENTATIONS, 1, np.arange(200))
    assert not np.any(other["time_stretch"] == every["time_stretch"])
    assert np.abs(np.corrcoef(every["time_stretch"], every["pitch_shift"])[0, 1]) < 0.2


def test_draws_fill_the_recipes_ranges_whatever_its_probability():
    rare = dataclasses.replace(
        AUGMENTATIONS, time_stretch=TimeStretch(-0.3, 0.3, probability=0.01), gain=Gain(-10, 10)
    )
    drawn = clips.draw(rare, 0, np.arange(2000))
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
    plain = clips.draw(spec, 0, np.arange(2000))
    kept = clips.kept_by(
        {"loudness": ("gain", "filter"), "tempo": ("time_stretch",), "m": ("mix",)}
    )
    drawn = clips.draw(spec, 0, np.arange(2000), kept)
    assert clips.differing(kept) == ("time_stretch", "pitch_shift", "gain", "filter")
    filters = ("filter_kind", "filter_frequency")
    assert clips.parameters(kept) == ("time_stretch", "pitch_shift", "gain", *filters)
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
    drawn = clips.draw(Augmentations(), 0, np.arange(500))
    assert 0.25 < drawn["time_stretch"].max() <= math.log2(1.25)
    assert 3.5 < drawn["pitch_shift"].max() <= 4.0


def test_batches_cut_what_they_say_and_skip_what_is_too_short():
    rng = np.random.default_rng(0)
    lengths = {"long": 2000, "short": 299, "unpaired": 350, "other": 1000}
    records = [
        {"audio": rng.integers(-999, 999, n).astype(np.int16), "id": name, "piece": "p"}
        for name, n in lengths.items()
    ]
    where = clips.Layout(segment=300, source=400, segments=3)
    drawn = clips.draw(AUGMENTATIONS, 0, np.arange(4))
    skipped = []
    first, second = clips.batches(records, where, drawn, 2, skipped)
    assert skipped == ["short"]
    assert [clip["id"] for clip in first.clips + second.clips] == ["long", "unpaired", "other"]
    assert "audio" not in first.clips[0]
    assert first.paired == [True, False]
    long, arrays = records[0]["audio"], first.arrays
    np.testing.assert_array_equal(arrays["segments"][0, 1], long[850:1150])
    start = [0, 850][arrays["clean"][0]]
    np.testing.assert_array_equal(arrays["source"][0], long[start : start + 400])
    np.testing.assert_allclose(arrays["weight"], [[1 / 3] * 3, [1, 0, 0]])
    # The draw belongs to the clip's number, so what was skipped before it does not matter.
    assert second.arrays["time_stretch"][0] == drawn["time_stretch"][3]
    assert second.arrays["segments"].shape == first.arrays["segments"].shape
    assert not second.arrays["segments"][1].any()


@pytest.mark.parametrize(("most", "expected"), [(None, 10), (3, 3), (50, 10)])
def test_a_limit_spreads_over_the_split(most, expected):
    chosen = clips.choose(10, most)
    assert len(set(chosen.tolist())) == expected
    assert (chosen[0], chosen[-1]) == (0, 9)
