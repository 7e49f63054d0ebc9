import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loev_jax.augment import Augmentations, Delay, PitchShift, Range, Reverb, TimeStretch
from loev_jax.augment.views import Views
from loev_jax.evaluate import changes, clips
from loev_jax.frontend import LogMel

AUGMENTATIONS = Augmentations(
    time_stretch=TimeStretch(-0.3, 0.3), pitch_shift=PitchShift(-3, 3, step=1.0)
)
VIEWS = Views(LogMel(), AUGMENTATIONS, seconds=0.5)


@given(st.integers(1, 5000), st.integers(1, 6), st.integers(0, 500))
def test_segments_lie_within_the_clip_and_cover_it(samples, segments, lead):
    where = clips.Layout(segment=300, source=400 + lead, segments=segments, lead=lead)
    starts = where.starts(samples)
    assert len(starts) == min(segments, (samples - max(0, min(lead, samples - 300))) // 300)
    if len(starts):
        assert starts[0] == max(0, min(lead, samples - 300))
        assert starts[-1] + 300 <= samples
        assert len(starts) == 1 or starts[-1] + 300 == samples
        assert np.all(np.diff(starts) >= 300)
    roomy = [start >= lead and start + 400 <= samples for start in starts]
    assert where.pairable(samples).tolist() == np.flatnonzero(roomy).tolist()
    assert bool(roomy) == (samples >= 300)
    assert any(roomy) == (samples >= 400 + lead)  # who has room for a pair has one


def test_whole_clips_are_covered_by_consecutive_segments():
    where = clips.Layout(segment=300, source=400, segments=99)
    assert where.starts(1500).tolist() == [0, 300, 600, 900, 1200]


def test_a_source_is_long_enough_for_the_fastest_view():
    where = clips.layout(VIEWS, 3)
    assert where.segment == VIEWS.frontend.samples(VIEWS.frames)
    last = VIEWS.frontend.hop * (VIEWS.frames - 1) * 2**0.3 + VIEWS.frontend.window
    assert where.source >= math.floor(last)


def test_echoes_and_rooms_are_of_what_was_before_the_segment():
    spec = Augmentations(reverb=Reverb(seconds=0.25), delay=Delay(echoes=2, time=Range(0.1, 0.2)))
    views = Views(LogMel(), spec, seconds=0.5)
    plain, both = clips.layout(views, 3), clips.layout(views, 3, ("reverb", "delay"))
    assert plain.lead == 0
    assert both.lead == 3_999 + 6_400  # all taps but one, and two echoes of .2 s
    assert both.segment == plain.segment
    assert both.source == plain.source + both.lead


def test_batches_cut_what_they_say_and_skip_what_is_too_short():
    rng = np.random.default_rng(0)
    lengths = {"long": 2000, "short": 299, "unpaired": 350, "other": 1000}
    records = [
        {"audio": rng.integers(-999, 999, n).astype(np.int16), "id": name, "piece": "p"}
        for name, n in lengths.items()
    ]
    where = clips.Layout(segment=300, source=400, segments=3)
    drawn = changes.draw(AUGMENTATIONS, 0, np.arange(4))
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
