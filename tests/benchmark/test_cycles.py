"""Cycles: how they are counted, and what is said without a compiler."""

import importlib.util

import pytest

from loev_jax.benchmark import cycles
from loev_jax.errors import UserError

PROGRAM = """HloModule jit_f, is_scheduled=true

%body (p.1: (s32[], f32[8])) -> (s32[], f32[8]) {
  %f.1 = f32[8]{0:T(128)} fusion(%p.1), calls=%c, backend_config={"estimated_cycles":"5","x":"0"}
  ROOT %t = (s32[], f32[8]) tuple(%f.1, %f.1), backend_config={"estimated_cycles":"2"}
}

%cond (p.2: (s32[], f32[8])) -> pred[] {
  %constant.7 = s32[]{:T(128)} constant(300)
  ROOT %compare = pred[]{:T(512)} compare(%p.2, %constant.7), direction=LT
}

%c (p.4: f32[8]) -> f32[8] {
  ROOT %m = f32[8]{0} negate(%p.4)
}

%unused (p.3: f32[8]) -> f32[8] {
  ROOT %n = f32[8]{0} negate(%p.3), backend_config={"estimated_cycles":"1000000"}
}

ENTRY %main.4 (x.1: f32[8]) -> f32[8] {
  %a = f32[8]{0} fusion(%x.1), kind=kLoop, calls=%c, backend_config={"estimated_cycles":"10"}
  %w = (s32[]{:T(128)}, f32[8]{0}) while(%a), condition=%cond, body=%body, metadata={op_name="g"}
  ROOT %b = f32[8]{0} fusion(%w), kind=kLoop, calls=%c, backend_config={"estimated_cycles":"20"}
}
"""


def test_the_body_of_a_loop_counts_as_often_as_it_goes_round():
    assert cycles.count(PROGRAM) == {"all": 10 + 20 + 300 * (5 + 2), "loops": 300 * (5 + 2)}


def test_loops_within_loops():
    inner = "  %v = s32[] while(%f.1), condition=%cond2, body=%unused\n"
    second = "%cond2 (p: s32[]) -> pred[] {\n  %c2 = s32[] constant(2)\n}\n\n"
    program = PROGRAM.replace("  ROOT %t", inner + "  ROOT %t").replace("%unused (", second +
                                                                        "%unused (")  # fmt: skip
    assert cycles.count(program)["loops"] == 300 * (7 + 2 * 1_000_000)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [("ENTRY ", "", "no entry"), ("constant(300)", "parameter(0)", "loop body")],
)
def test_what_cannot_be_counted_is_said(old, new, message):
    with pytest.raises(ValueError, match=message):
        cycles.count(PROGRAM.replace(old, new))


def test_without_the_compiler_it_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"libtpu is not installed; pip install -e '\.\[tpu\]'"):
        cycles.run(tmp_path, quick=True)


@pytest.mark.tpu
@pytest.mark.timeout(1800)
def test_all_programs_compile_for_a_tpu(tmp_path):
    result = cycles.run(tmp_path, quick=True)
    counted = result["million_cycles"]
    assert set(counted) == {*cycles.PROGRAMS, *cycles.ENCODERS}
    assert counted["spectra anywhere: products"]["in loops"] == 0
    slices, products = (counted[f"spectra anywhere: {way}"]["all"] for way in
                        ("slices, FFT", "products"))  # fmt: skip
    assert products < slices / 5
    assert set(result["share"]) == set(cycles.ENCODERS)
    assert all(0 < share < 0.5 for share in result["share"].values())
