import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given

from loev_jax.augment import Augmentations, Filter, Gain, PitchShift, TimeStretch
from loev_jax.augment.augmentations import PARAMETERS_OF
from loev_jax.augment.parameters import Range, independent, leave_one_out

EVERYTHING = Augmentations(
    time_stretch=TimeStretch(-0.5, 0.4),
    pitch_shift=PitchShift(-4.0, 4.0, step=1.0),
    gain=Gain(-15.0, 5.0, probability=0.5),
    filter=Filter(probability=0.5),
)


def many(augmentations, number=4000):
    keys = jax.random.split(jax.random.key(1), number)
    return jax.vmap(augmentations.draw)(keys)


@given(
    low=st.floats(-10, 10, width=32),
    width=st.floats(0, 10, width=32),
    step=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_a_range_is_kept_to(low, width, step):
    try:
        spec = Range(low, low + width, step)
    except ValueError:
        assert step
        assert np.floor((low + width) / step) < np.ceil(low / step)
        return
    keys = jax.random.split(jax.random.key(0), 200)
    values = np.asarray(jax.vmap(spec.value)(keys))
    assert values.min() >= low - 1e-4
    assert values.max() <= low + width + 1e-4
    if step:
        np.testing.assert_allclose(values / step, np.round(values / step), atol=1e-5)


def test_steps_are_equally_likely_and_reach_both_ends():
    shifts = np.asarray(many(EVERYTHING)["pitch_shift"])
    values, counts = np.unique(shifts, return_counts=True)
    np.testing.assert_array_equal(values, np.arange(-4, 5))
    assert np.abs(counts / 4000 - 1 / 9).max() < 0.03


def test_probability_is_that_of_applying_and_zero_means_not_applied():
    drawn = {name: np.asarray(value) for name, value in many(EVERYTHING).items()}
    assert abs((drawn["gain"] != 0).mean() - 0.5) < 0.03
    off = drawn["filter_kind"] == 0
    assert abs(off.mean() - 0.5) < 0.03
    assert not drawn["filter_frequency"][off].any()
    assert not drawn["filter_bandwidth"][off].any()
    assert not drawn["filter_bandwidth"][drawn["filter_kind"] <= 2].any()


def test_filters_are_drawn_from_the_range_of_their_kind():
    drawn = {name: np.asarray(value) for name, value in many(EVERYTHING).items()}
    spec = Filter()
    for kind, (low, high) in {
        1: spec.low_pass,
        2: spec.high_pass,
        3: spec.band,
        4: spec.band,
    }.items():
        frequency = 2 ** drawn["filter_frequency"][drawn["filter_kind"] == kind]
        assert len(frequency) > 300
        assert frequency.min() >= low * 0.999
        assert frequency.max() <= high * 1.001
        # Even in octaves: half of the draws below the geometric mean.
        assert abs((frequency < np.sqrt(low * high)).mean() - 0.5) < 0.1


def test_what_is_not_asked_for_is_never_applied():
    drawn = many(Augmentations(pitch_shift=PitchShift(1.0, 2.0)), 50)
    assert set(drawn) == {"pitch_shift"}
    assert bool(jnp.all(drawn["pitch_shift"] >= 1))


def test_leave_one_out_views_share_exactly_what_they_keep():
    kept = (("time_stretch",), ("pitch_shift", "filter"))
    always = Augmentations(
        time_stretch=TimeStretch(-0.5, 0.4),
        pitch_shift=PitchShift(-4.0, 4.0),
        gain=Gain(-15.0, 5.0),
        filter=Filter(probability=1.0),
    )
    drawn = leave_one_out(always, jax.random.key(5), kept)
    shared = {1: {"time_stretch"}, 2: {"pitch_shift", *PARAMETERS_OF["filter"]}, 3: set()}
    for view, names in shared.items():
        for name in ("time_stretch", "pitch_shift", "gain", "filter_frequency"):
            same = float(drawn[name][view]) == float(drawn[name][0])
            assert same == (name in names), (view, name)


def test_a_view_does_not_depend_on_how_many_there_are():
    few = independent(EVERYTHING, jax.random.key(2), 2)
    many_views = independent(EVERYTHING, jax.random.key(2), 5)
    for name in few:
        np.testing.assert_array_equal(few[name], many_views[name][:2])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Range(2.0, 1.0), "exceeds"),
        (lambda: Gain(0.0, 1.0, probability=1.5), "probability"),
        (lambda: Range(0.0, 1.0, distribution="log_uniform"), "above 0"),
        (lambda: Range(1.0, 2.0, 1.0, distribution="beta"), "needs distribution=uniform"),
        (lambda: Range(0.0, 1.0, distribution="beta", alpha=0.0), "alpha"),
        (lambda: Range(0.0, 1.0, step=-1.0), "step"),
        (lambda: Filter(kinds=(5,)), "kinds"),
        (lambda: Filter(bandwidth=(0.5, 2.5)), "bandwidth"),
        (lambda: Filter(low_pass=(500.0, 100.0)), "low_pass"),
        (lambda: EVERYTHING.scale("filter_kind"), "no scale"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("law", "reference"),
    [
        (Range(-3.0, 5.0), scipy.stats.uniform(-3, 8)),
        (Range(20.0, 2000.0, distribution="log_uniform"), scipy.stats.loguniform(20, 2000)),
        (Range(1.0, 3.0, distribution="beta", alpha=5, beta=2), scipy.stats.beta(5, 2, 1, 2)),
    ],
)
def test_the_laws_are_those_of_scipy(law, reference):
    keys = jax.random.split(jax.random.key(3), 4000)
    values = np.asarray(jax.vmap(law.value)(keys))
    assert scipy.stats.kstest(values, reference.cdf).pvalue > 0.01
    assert law.low <= values.min()
    assert values.max() <= law.high


def test_shared_augmentations_are_alike_in_all_views_and_others_are_not():
    for drawn in (
        independent(EVERYTHING, jax.random.key(2), 4, shared=("time_stretch",)),
        leave_one_out(EVERYTHING, jax.random.key(2), (("gain",),), shared=("time_stretch",)),
    ):
        assert len(set(np.asarray(drawn["time_stretch"]).tolist())) == 1
        assert len(set(np.asarray(drawn["pitch_shift"]).tolist())) > 1
