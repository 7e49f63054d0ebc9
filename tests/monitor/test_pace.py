"""What a run tells of its pace, with a clock that is set by hand; and what its model costs."""

import jax
import numpy as np
import pytest
from flax import nnx

from loev_jax import config, presets
from loev_jax import model as models
from loev_jax.monitor import pace


@pytest.fixture
def recipe():
    settings = presets.recipe("small", {"tempo": "time_stretch"})
    settings.training.clips = 8
    return config.read(settings)


class Clock:
    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    return clock


def batches(clock, seconds):
    while True:
        clock.now += seconds
        yield "batch"


def test_steps_waits_and_views_are_timed(recipe, clock):
    timed, source = pace.Pace(recipe, devices=2), batches(clock, 0.1)
    assert timed.told() == {}
    took = [30.0, *[0.9] * 18, 2.9]  # the first is compiled
    for seconds in took:
        assert timed.next_of(source) == "batch"
        timed.step(np.zeros(1))
        clock.now += seconds
    found = timed.told()
    # What was started last has not ended yet, and the first does not count.
    assert found["pace/step_seconds_p50"] == pytest.approx(1.0)
    assert found["pace/step_seconds_max"] == pytest.approx(1.0)
    assert found["pace/data_wait"] == pytest.approx(0.1, rel=0.06)
    assert recipe.views.number == 3
    assert found["pace/views_per_second_per_device"] == pytest.approx(8 * 3 / 2 / 1.0)
    assert "pace/mfu" not in found  # of a device whose peak is not known
    timed.step(np.zeros(1))
    assert timed.told()["pace/step_seconds_max"] == pytest.approx(2.9)
    assert timed.told() == {}


def test_mfu_is_the_share_of_the_peak(recipe, clock, monkeypatch):
    flops = pace.flops_of_view(recipe)
    monkeypatch.setattr(pace, "peak", lambda kind: 48.0 * flops)
    timed = pace.Pace(recipe, devices=1)
    for _ in range(4):
        timed.step(np.zeros(1))
        clock.now += 2.0
    assert timed.told()["pace/mfu"] == pytest.approx(8 * 3 / 2.0 / 48.0)


@pytest.mark.parametrize(
    ("kind", "teraflops"),
    [
        ("TPU v5 lite", 197),
        ("TPU v5p", 459),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA A100-SXM4-40GB", 312),
        ("NVIDIA L40S", None),
        ("TPU v5 something", None),
        ("cpu", None),
    ],
)
def test_the_peak_of_a_device(kind, teraflops):
    assert pace.peak(kind) == (teraflops and teraflops * 1e12)


@pytest.mark.parametrize("variant", ["small", "", "resnet"])
def test_flops_of_a_view_are_three_forward_passes_by_the_compilers_count(variant):
    recipe = config.read(presets.recipe(variant, {"tempo": "time_stretch"}))
    graph, state = nnx.split(nnx.eval_shape(lambda: models.create(recipe.model, 0)))
    view = jax.ShapeDtypeStruct((1, recipe.views.frames, recipe.model.bands), np.float32)
    lowered = jax.jit(lambda state, mel: nnx.merge(graph, state)(mel)).lower(state, view)
    # The compiler counts norms and activations too, and of a convolution only what is not padding.
    count = lowered.cost_analysis()["flops"]
    assert pace.flops_of_view(recipe) == pytest.approx(3 * count, rel=0.05)


def test_loops_and_branches_are_counted():
    def work(x):
        looped, _ = jax.lax.scan(lambda carry, _: (carry @ carry, None), x, None, length=5)
        return jax.lax.cond(x[0, 0] > 0, lambda y: y @ y @ y, lambda y: y, looped)

    traced = jax.make_jaxpr(jax.jit(work))(np.ones((8, 8), np.float32))
    assert pace._operations(traced.jaxpr) == 7 * 2 * 8**3
