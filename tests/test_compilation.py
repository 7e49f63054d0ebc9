"""What is read off a compiled program, how the largest batch is found, and what TPUs would run."""

import dataclasses
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loev_jax import collectives, compilation, config, hlo, presets, topology
from loev_jax.collectives import Collective
from loev_jax.compilation import Report, TooLarge
from loev_jax.errors import UserError

ROOT = Path(__file__).parents[1]
HEADS = {"tempo": "time_stretch", "pitch": "pitch_shift"}

PROGRAM = """
%body (p.1: (s32[], f32[4])) -> (s32[], f32[4]) {
  %s = (f32[4]{0}, f32[16]{0}) all-gather-start(%p), dimensions={0}
  %d = f32[16]{0} all-gather-done(%s)
}

%condition (p.2: (s32[], f32[4])) -> pred[] {
  %c = s32[]{:T(128)} constant(3)
}

ENTRY %main (p: f32[4]) -> f32[4] {
  %a = f32[96,384]{1,0:T(8,128)} all-gather(%p), dimensions={0}
  %r = (f32[256]{0:T(256)}, /*index=1*/bf16[3,256]{1,0:T(8,128)}) all-reduce(%x, %y), to_apply=%add
  %w = (s32[], f32[4]) while(%p), condition=%condition, body=%body
  %t = s32[]{:T(128)} all-reduce-start(%n), to_apply=%add
  %f = f32[8]{0} fusion(%p), calls=%all-reduce.3
}

%add (x: f32[], y: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%x, %y)
}

%all-reduce.3 (x: f32[4]) -> f32[8] {
  %m = f32[8]{0} all-reduce(%x), to_apply=%add
}
"""


def test_collectives_are_read_off_a_program():
    assert collectives.read(PROGRAM) == [
        *(3 * [Collective("all-gather", ("f32",), 1, 16 * 4)]),
        Collective("all-gather", ("f32",), 1, 96 * 384 * 4),
        Collective("all-reduce", ("f32", "bf16"), 2, 256 * 4 + 768 * 2),
        Collective("all-reduce", ("s32",), 1, 4),
        Collective("all-reduce", ("f32",), 1, 8 * 4),
    ]


def test_what_is_written_in_place_is_read_off_its_first_line():
    header = (
        "HloModule jit_step, is_scheduled=true, input_output_alias={ {0}: (0, {}, may-alias), "
        "{1}: (12, {}, must-alias), {2}: (3, {}, may-alias) }, entry_computation_layout="
    )
    assert hlo.in_place(f"{header}\n{PROGRAM}") == {0, 3, 12}
    assert hlo.in_place(f"HloModule jit_step\n{PROGRAM}") == set()


@pytest.mark.parametrize(
    ("clips", "micro_batches", "name", "mixes", "nearest"),
    [
        (640, 1, "v5e:16x16", False, 768),
        (640, 1, "v5e:4x4", False, 640),
        (480, 2, "v5e:8x8", False, 512),
        (3, 1, "v5e:16x16", False, 256),
        (26, 1, "v5p:2x2x1", True, 24),
    ],
)
def test_a_batch_divides_among_the_chips(clips, micro_batches, name, mixes, nearest):
    settings = settings_of(clips)
    settings["training"]["micro_batches"] = micro_batches
    if mixes:
        settings["augment"]["mixup"] = {"probability": 0.5}
    assert compilation.divisible(settings, name) == nearest
    assert nearest % compilation.unit(settings, name) == 0


def settings_of(clips: int, branched: bool = False) -> dict:
    settings = presets.recipe("small", HEADS, branched=branched)
    settings.training.clips = clips
    settings.encoder.compute_dtype = "bfloat16"  # as on a TPU; nothing may be reduced in it
    return settings.to_dict()


RECIPE = config.read(settings_of(4))


def memory(
    clips: int, fixed: int, each: int, curve: float, lenient: float = 1.0
) -> Report | TooLarge:
    """A chip whose memory is known in closed form; the compiler takes up to `lenient` of it."""
    needed, limit = int(fixed + each * clips * (1 + curve * clips)), 10**6
    if needed > lenient * limit:
        return TooLarge("v5e:2x2", clips, needed, limit)
    return Report("v5e:2x2", 4, clips, 4 * clips, needed, limit, 0, 1, 1, 1, 1.0, (), 0.0)


@given(
    first=st.integers(1, 400),
    fixed=st.integers(0, 1_100_000),
    each=st.integers(1_000, 200_000),
    curve=st.sampled_from([0.0, 0.0005]),
    lenient=st.sampled_from([1.0, 1.05, 2.0]),
)
def test_the_largest_batch_fits_and_little_more_does(first, fixed, each, curve, lenient):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "read", lambda settings: RECIPE)

        def step_of(settings, name):
            return memory(settings["training"]["clips"] // 4, fixed, each, curve, lenient)

        def in_units(one):
            return dataclasses.replace(one, clips=4 * one.clips)

        patch.setattr(compilation, "step_of", lambda *given: in_units(step_of(*given)))
        tried: list[int] = []
        begin = in_units(memory(first, fixed, each, curve, lenient))
        best = compilation.largest({"training": {}}, begin, tried.append)
    sizes = [n for n in range(1, 1001) if isinstance(memory(n, fixed, each, curve), Report)]
    if not sizes:
        assert best is None
    else:
        assert best.hbm <= best.hbm_limit
        assert max(sizes) * 0.94 - 1 <= best.clips / 4 <= max(sizes)
    assert len(tried) == len(set(tried)) <= 9


@pytest.mark.parametrize("name", ["v5e", "v9z:2x2", "v5e:two", "2x2"])
def test_a_topology_that_is_none_is_told(name):
    with pytest.raises(UserError, match=rf"--topology={name}: it is a chip \(v5e, v5p\)"):
        compilation.step_of(settings_of(24), name)


def test_without_the_compiler_it_is_one_line(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"libtpu is not installed; pip install -e '\.\[tpu\]'"):
        compilation.step_of(settings_of(24), "v5e:2x2")


def test_what_the_other_process_says_is_told(tmp_path, monkeypatch):
    (tmp_path / "saying.py").write_text(
        "import sys\n"
        "from loev_jax import errors, topology\n"
        "def work(request):\n"
        "    if request == 'no': raise errors.UserError('config.x: no')\n"
        "    if request == 'die': sys.exit('out of luck')\n"
        "    print('talk'); return {'twice': 2 * request}\n"
        "topology.answer(work)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    assert topology.apart("saying", 21, "it") == {"twice": 42}
    with pytest.raises(UserError, match=r"^config\.x: no$"):
        topology.apart("saying", "no", "it")
    with pytest.raises(UserError, match=r"it does not compile \(status 1\): out of luck"):
        topology.apart("saying", "die", "it")


# What follows asks the compiler itself.


@pytest.fixture(scope="module")
def on_four() -> Report:
    report = compilation.step_of(settings_of(24), "v5e:2x2", look=True)
    assert isinstance(report, Report)
    return report


def check_no_audio_crosses(recipe: config.Recipe, report: Report, gradient: list) -> None:
    """Beside the gradient, projections of all rows do, theirs, and numbers.

    All else is less than a tenth of the audio of one chip.
    """
    small = report.clips / report.chips * recipe.views.window_samples * 2 / 10
    outputs = len(recipe.model.projected) * recipe.model.projection.outputs
    projections = report.rows * outputs * 4
    for one in report.collectives:
        if one not in gradient and one.bytes >= small:
            assert one.dtypes == ("f32",)
            assert projections <= one.bytes < projections + small
    # Many small things are no better than a large one.
    assert len(report.collectives) - len(gradient) + 1 <= 5 + len(recipe.model.projected)
    assert not any("bf16" in one.dtypes for one in report.collectives)


def check_what_crosses_chips(report: Report, branched: bool = False) -> None:
    """One reduction of the gradient in f32; the rest are few and smaller than audio by far."""
    recipe = config.read(settings_of(report.clips, branched))
    reductions = [one for one in report.collectives if one.bytes >= report.parameters]
    assert len(reductions) == 1
    assert reductions[0].kind == "all-reduce"
    assert reductions[0].dtypes == ("f32",)
    # Beside the gradient it carries the metrics, a number each.
    assert 0 <= reductions[0].bytes - report.parameters < 1000
    check_no_audio_crosses(recipe, report, reductions)


@pytest.mark.tpu
def test_what_crosses_chips_is_small_and_in_f32(on_four):
    check_what_crosses_chips(on_four)


@pytest.mark.tpu
def test_branches_are_one_program_and_cross_once(on_four):
    """LOEV++: a branch for each head."""
    report = compilation.step_of(settings_of(24, branched=True), "v5e:2x2", look=True)
    assert isinstance(report, Report)
    assert on_four.parameters < report.parameters < 3 * on_four.parameters
    assert on_four.flops < report.flops < 3 * on_four.flops
    assert report.donated == report.state
    assert report.state < report.look < report.hbm_limit
    check_what_crosses_chips(report, branched=True)


@pytest.mark.tpu
def test_a_look_at_the_views_compiles_and_fits(on_four):
    """It is made at the first step, with the state of the training beside it."""
    assert on_four.state < on_four.look < 0.1 * on_four.hbm_limit
    assert f"a look at views   {on_four.look / 2**30:.2f} GiB" in str(on_four)


@pytest.mark.tpu
def test_the_state_is_written_in_place(on_four):
    assert on_four.donated == on_four.state
    assert on_four.hbm < on_four.hbm_limit


@pytest.mark.tpu
@pytest.mark.parametrize("name", ["v5e:4x4", "v5e:16x16", "v5p:2x2x1"])
def test_more_chips_do_as_much_each(on_four, name):
    chips = {"v5e:4x4": 16, "v5e:16x16": 256, "v5p:2x2x1": 4}[name]
    report = compilation.step_of(settings_of(6 * chips), name)
    assert isinstance(report, Report)
    assert report.chips == chips
    # Negatives come from the whole batch: per head, 24 rows of a chip meet those of all others, in
    # 128 numbers, once forward and twice backward, two operations each.
    contrast = 3 * 24 * 4 * (6 * chips - 24) * 128 * 3 * 2
    assert report.flops == pytest.approx(on_four.flops, rel=0.01)
    assert report.flops - contrast == pytest.approx(on_four.flops, rel=0.003)
    assert report.donated == report.state
    check_what_crosses_chips(report)


@pytest.mark.tpu
def test_work_in_loops_counts_as_often_as_they_go_round(on_four):
    settings = settings_of(24)
    settings["training"]["micro_batches"] = 3
    report = compilation.step_of(settings, "v5e:2x2")
    assert isinstance(report, Report)
    # Views and the forward pass are made twice: they are a third of the work at least, and not all.
    assert 4 / 3 * on_four.flops < report.flops < 2 * on_four.flops
    assert report.hbm < on_four.hbm
    check_what_crosses_chips(report)


@pytest.mark.tpu
def test_one_chip_exchanges_nothing():
    report = compilation.step_of(settings_of(6), "v5e:1x1")
    assert isinstance(report, Report)
    assert (report.chips, report.collectives) == (1, ())
    assert report.donated == report.state


@pytest.mark.tpu
@pytest.mark.parametrize(("shards", "micro_batches"), [(4, 1), (2, 3)])
def test_shards_divide_the_state(on_four, shards, micro_batches):
    """Along one axis of the mesh, or beside an axis of whole copies."""
    settings = settings_of(24)
    settings["training"].update(fsdp=shards, micro_batches=micro_batches)
    report = compilation.step_of(settings, "v5e:2x2")
    assert isinstance(report, Report)
    # What is too small to be worth splitting is whole on every chip.
    assert 1 / shards < report.state / on_four.state < 1 / shards + 0.1
    assert report.donated == report.state
    if micro_batches == 1:
        # A step holds whole parameters as before: what it saves is what lies between steps.
        assert on_four.hbm - report.hbm == pytest.approx(on_four.state - report.state, rel=0.1)
    kinds = {(one.kind, one.dtypes) for one in report.collectives}
    assert {("all-gather", ("f32",)), ("reduce-scatter", ("f32",))} <= kinds
    assert not any("bf16" in dtypes for _, dtypes in kinds)


@pytest.mark.tpu
@pytest.mark.timeout(1800)
def test_the_paper_recipe_fits():
    """sf_nfnet_f0 and 1 920 views on 16 chips; its gradient is too large for one reduction."""
    found = importlib.util.spec_from_file_location("recipe", ROOT / "configs" / "loev_tempo.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    settings = module.get_config().to_dict()
    report = compilation.step_of(settings, "v5e:4x4")
    assert isinstance(report, Report)
    assert report.rows == 1920
    assert report.hbm < 0.9 * report.hbm_limit
    assert report.donated == report.state
    # XLA makes several of the one reduction that the step asks for: as many arrays as it likes to
    # hold together, each in turn.
    gradient = [one for one in report.collectives if one.bytes > report.parameters / 20]
    assert len(gradient) <= 4  # three (docs/design.md)
    assert all((one.kind, one.dtypes) == ("all-reduce", ("f32",)) for one in gradient)
    assert sum(one.bytes for one in gradient) == pytest.approx(report.parameters, rel=0.01)
    check_no_audio_crosses(config.read(settings), report, gradient)


@pytest.mark.tpu
@pytest.mark.timeout(1800)
def test_the_largest_batch_fits_by_the_compiler_and_more_does_not():
    settings = settings_of(24)
    settings["views"]["seconds"] = 1.0
    settings["encoder"].update(channels=(64, 64), kernels=(3, 3), strides=(2, 1), dilations=(1, 1))
    first = compilation.step_of(settings, "v5e:2x2")
    assert isinstance(first, Report)
    tried: list[int] = []
    best = compilation.largest(settings, first, tried.append)
    assert best is not None
    assert best.clips > 100 * first.clips
    assert 0.8 * best.hbm_limit < best.hbm <= best.hbm_limit
    settings["training"]["clips"] = 4 * (best.clips // 4 * 12 // 10)
    assert isinstance(compilation.step_of(settings, "v5e:2x2"), TooLarge)


@pytest.mark.tpu
def test_the_command_reports_and_tells_what_does_not_fit():
    def run(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, ROOT / "launch/compile.py", "--topology=v5e:2x2",
             f"--config={ROOT}/configs/loev_tempo.py:small", *options],
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    done = run("--config.training.clips=25", "--nolargest")
    assert done.returncode == 0, done.stderr
    assert "config.training.clips: 25 do not divide among v5e:2x2" in done.stderr
    assert "v5e:2x2: 4 chips, 24 clips, 72 views a step" in done.stdout
    assert "of 15.75 GiB" in done.stdout
    done = run("--config.training.clips=38400", "--nolargest")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: config.training.clips: 38400 need ")
    assert "of v5e:2x2's 15.75 GiB a chip: take fewer" in done.stderr
