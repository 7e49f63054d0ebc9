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


def operations(jaxpr):
    """Every multiplication and addition in its convolutions and matrix products."""
    total = 0
    for equation in jaxpr.eqns:
        total += sum(
            operations(value) for value in equation.params.values() if hasattr(value, "eqns")
        )
        size = np.prod(equation.outvars[0].aval.shape)
        if equation.primitive.name == "conv_general_dilated":
            kernel, numbers = equation.invars[1].aval, equation.params["dimension_numbers"]
            total += 2 * size * kernel.size / kernel.shape[numbers.rhs_spec[0]]
        elif equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            total += 2 * size * np.prod([equation.invars[0].aval.shape[at] for at in contracted])
    return total


def test_flops_of_a_view_are_three_forward_passes(recipe):
    graph, state = nnx.split(nnx.eval_shape(lambda: models.create(recipe.model, 0)))
    view = jax.ShapeDtypeStruct((1, recipe.views.frames, recipe.model.bands), np.float32)
    traced = jax.make_jaxpr(lambda state, mel: nnx.merge(graph, state)(mel))(state, view)
    # Norms and activations are not in this count.
    assert pace.flops_of_view(recipe) == pytest.approx(3 * operations(traced.jaxpr), rel=0.01)
