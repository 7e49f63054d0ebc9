"""What a run tells of its pace, with a clock that is set by hand; and what its model costs."""

import threading

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
    """The time of the loop, set by hand, and that of the thread which waits for its steps."""

    def __init__(self):
        self.now = 100.0
        self.elsewhere = threading.local()

    def monotonic(self):
        return getattr(self.elsewhere, "now", self.now)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    return clock


class Device:
    """Works through steps in turn, each as soon as it is asked for and the one before is done."""

    def __init__(self, clock):
        self.clock, self.free, self.idle = clock, clock.now, 0.0

    def start(self, seconds):
        begins = max(self.clock.now, self.free)
        self.idle += begins - self.free
        self.free = begins + seconds
        return Result(self.clock, self.free)


class Result:
    """What the device will have computed at a time."""

    def __init__(self, clock, at):
        self.clock, self.at = clock, at

    def block_until_ready(self):
        self.clock.elsewhere.now = self.at


def loop(timed, clock, took, fetching):
    """As train's: it fetches, starts a step, and waits for the one before."""

    def batches():
        for seconds in fetching:
            clock.now += seconds
            yield "batch"

    device, source, before = Device(clock), batches(), None
    for seconds in took:
        assert timed.next_of(source) == "batch"
        result = device.start(seconds)
        timed.step(result)
        clock.now = max(clock.now, before.at) if before else clock.now
        before = result
    return device


def test_steps_and_views_are_timed(recipe, clock):
    timed = pace.Pace(recipe, devices=2)
    assert timed.told() == {}
    # The first is compiled, and does not count; what was started last has not ended yet.
    loop(timed, clock, [30.0, *[1.0] * 18, 2.9], [0.1] * 20)
    found = timed.told()
    assert found["pace/step_seconds_p50"] == pytest.approx(1.0)
    assert found["pace/step_seconds_max"] == pytest.approx(1.0)
    assert recipe.views.number == 3
    assert found["pace/views_per_second_per_device"] == pytest.approx(8 * 3 / 2 / 1.0)
    assert "pace/mfu" not in found  # of a device whose peak is not known
    timed.step(np.zeros(1))
    assert timed.told()["pace/step_seconds_max"] == pytest.approx(2.9)
    assert timed.told() == {}


@pytest.mark.parametrize(
    ("seconds", "fetching"),
    [
        (1.0, [0.9]),  # it takes the host nearly as long as the device, which never waits
        (1.0, [1.5]),
        (0.1, [0.4]),
        (1.0, [0.0] * 9 + [5.0]),  # once in a while
    ],
)
def test_only_what_the_device_waits_for_is_waiting_for_data(recipe, clock, seconds, fetching):
    timed = pace.Pace(recipe, devices=1)
    device = loop(timed, clock, [seconds] * 2, [0.0] * 2)
    timed.told()
    begun, idle = device.free, device.idle
    device = loop(timed, clock, [seconds] * 101, (fetching * 101)[:101])
    share = timed.told()["pace/data_wait"]
    # To a step at either end.
    assert share == pytest.approx(device.idle / (device.free - begun), abs=0.03)
    assert idle == 0
    assert (share == 0) == (max(fetching) < seconds)


def test_mfu_is_the_share_of_the_peak(recipe, clock, monkeypatch):
    flops = pace.flops_of_view(recipe)
    monkeypatch.setattr(pace, "peak", lambda kind: 48.0 * flops)
    timed = pace.Pace(recipe, devices=1)
    loop(timed, clock, [2.0] * 4, [0.0] * 4)
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


@pytest.mark.parametrize("variant", ["small", "resnet", pytest.param("", marks=pytest.mark.slow)])
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
