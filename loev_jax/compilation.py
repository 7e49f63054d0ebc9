"""A recipe's train step, compiled for a TPU that is not there: memory, work, what crosses chips.

    python launch/compile.py --topology=v5e:16x16 --config=configs/loev_tempo.py

The compiler's own figures: they are known before a pod is paid for. Memory and FLOPs are exact for
the program that it made, loops counted as often as they go round; it is asked for a program soon
rather than a fast one, so nothing here tells how long a step takes.
"""

from __future__ import annotations

import dataclasses
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from loev_jax import collectives, config, fsdp, hlo, step, topology
from loev_jax.collectives import Collective
from loev_jax.errors import UserError
from loev_jax.monitor import inspection

# At low effort it aborts on what one chip exchanges with itself, which it removes otherwise.
_QUICKLY = {"exec_time_optimization_effort": -1.0}
_GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Report:
    """What the compiler says of a step.

    Attributes:
        topology: "v5e:4x4" and the like.
        chips: in it.
        clips: of the global batch.
        rows: views of the global batch.
        hbm: bytes of a chip's memory that the step takes at its peak.
        hbm_limit: that a program can have. The compiler has an account of its own: it was seen to
            take a step of 2 % more.
        look: as `hbm`, of a look at the views (`loev_jax.monitor.inspection`), a program of its own
            beside the state; 0 where none was compiled.
        parameters: bytes of the model's that lie on one chip, f32.
        state: bytes of all that is trained and kept, of which they are a part, on one chip.
        donated: bytes of the state that a step writes over instead of beside.
        flops: of a step on one chip.
        collectives: in the order of the program, those in a loop as often as it goes round.
        seconds: that compiling took.
    """

    topology: str
    chips: int
    clips: int
    rows: int
    hbm: int
    hbm_limit: int
    look: int
    parameters: int
    state: int
    donated: int
    flops: float
    collectives: tuple[Collective, ...]
    seconds: float

    @property
    def fits(self) -> bool:
        """Whether a chip has the memory."""
        return self.hbm <= self.hbm_limit

    def __str__(self) -> str:
        lines = [
            f"{self.topology}: {self.chips} chips, {self.clips} clips, {self.rows} views a step "
            f"(compiled in {self.seconds:.0f} s)",
            f"HBM a chip        {self.hbm / _GIB:.2f} of {self.hbm_limit / _GIB:.2f} GiB "
            f"({self.hbm / self.hbm_limit:.0%})",
            *([f"a look at views   {self.look / _GIB:.2f} GiB"] if self.look else []),
            f"state             {self.state / _GIB:.3f} GiB on every chip, parameters "
            f"{self.parameters / _GIB:.3f}; {self.donated / self.state:.0%} is written in place",
            f"work              {self.flops / 1e12:.3f} TFLOP a chip and step",
            f"collectives       {len(self.collectives)} a step",
        ]
        for one, times in Counter(self.collectives).items():
            lines.append(
                f"  {times} x {one.kind:<18} {'+'.join(one.dtypes):<10} {one.arrays:>4} arrays, "
                f"{_size(one.bytes)}"
            )
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class TooLarge:
    """A step that does not fit: `hbm`, bytes that a chip would need, are more than `hbm_limit`."""

    topology: str
    clips: int
    hbm: int
    hbm_limit: int

    @property
    def fits(self) -> bool:
        """As of a `Report`: it does not."""
        return False

    def error(self) -> UserError:
        """What is wrong, in one line."""
        return UserError(
            f"config.training.clips: {self.clips} need {self.hbm / _GIB:.2f} GiB of "
            f"{self.topology}'s {self.hbm_limit / _GIB:.2f} GiB a chip: take fewer, more "
            "config.training.micro_batches, or more chips"
        )


def step_of(settings: Mapping[str, Any], name: str, *, look: bool = False) -> Report | TooLarge:
    """Compiles the step of a config for a topology, in a process of its own.

    Args:
        settings: a config, as `loev_jax.config.read` takes it.
        name: of the topology, such as "v5e:4x4".
        look: whether to compile a look at the views too, where the config asks for any.

    Raises:
        UserError: a bad config, topology or batch; libtpu is not installed or gives up.
    """
    topology.chip(name)
    topology.check_compiler()
    request = {"settings": settings, "topology": name, "look": look}
    answered = topology.apart(__name__, request, f"the step for {name}")
    if "rows" not in answered:
        return TooLarge(**answered)
    exchanged = tuple(
        Collective(**(one | {"dtypes": tuple(one["dtypes"])})) for one in answered["collectives"]
    )
    return Report(**(answered | {"collectives": exchanged}))


def largest(
    settings: Mapping[str, Any], first: Report | TooLarge, attempted: Callable[[int], None]
) -> Report | None:
    """The largest batch that was seen to fit, to a few hundredths, by a few compilations.

    Memory grows about in proportion to the clips, so two sizes tell where to look.

    Args:
        settings: a config; its own number of clips is not looked at.
        first: what became of any number of clips.
        attempted: is told each number of clips that is going to be compiled.

    Returns:
        The report of that batch; None if not even the smallest fits.
    """
    smallest = unit(settings, first.topology)
    known = {first.clips // smallest: first}  # by clips, in units of the smallest batch

    def compile_next(units: int) -> None:
        attempted(units * smallest)
        training = {**settings["training"], "clips": units * smallest}
        known[units] = step_of({**settings, "training": training}, first.topology)

    if 1 not in known:
        compile_next(1)
    for _ in range(_TRIES):
        fitting = [units for units, one in known.items() if one.fits]
        if not fitting:
            return None
        low, high = max(fitting), min(known.keys() - set(fitting), default=None)
        if high is not None and high - low <= max(1, _CLOSE * low):
            break
        aim = _aim({units: one.hbm for units, one in known.items()}, low, high, first.hbm_limit)
        if aim <= low:
            break
        compile_next(aim)
    reports = [one for one in known.values() if isinstance(one, Report) and one.fits]
    return max(reports, key=lambda report: report.clips)


_TRIES = 8
_CLOSE = 0.03  # of the batch: it is not looked for more finely


def _aim(needed: Mapping[int, int], low: int, high: int | None, limit: int) -> int:
    """The size to try next; `low`, which fits, where nothing larger is expected to.

    Args:
        needed: bytes, by size.
        low: the largest size that fits.
        high: the smallest that does not, if one is known.
        limit: bytes.
    """
    below = max((units for units in needed if units < low), default=None)
    other = high if below is None else below
    if other is None:
        return 2 * low
    # Memory grows a little faster than in proportion, so a line from below aims too high if at all.
    slope = (needed[other] - needed[low]) / (other - low)
    aim = low + int((limit - needed[low]) / slope) if slope > 0 else 2 * low
    if high is None:
        return aim
    aim = max(aim, low + 1) if below is None else aim
    return aim if aim < high else (low + high) // 2


def unit(settings: Mapping[str, Any], name: str) -> int:
    """Clips that a batch is a multiple of on a topology, see `loev_jax.step.unit`.

    Args:
        settings: a config, as `loev_jax.config.read` takes it.
        name: of the topology, such as "v5e:4x4".

    Raises:
        UserError: a bad config or topology.
    """
    return step.unit(config.read(settings), topology.chips(name))


def divisible(settings: Mapping[str, Any], name: str) -> int:
    """The clips of a config where they divide among a topology's chips, else the nearest that do.

    A recipe's batch is made for some number of chips, and what it takes of others is asked too.
    """
    clips, smallest = settings["training"]["clips"], unit(settings, name)
    return smallest * max(1, (2 * clips + smallest) // (2 * smallest))


def _size(number: int) -> str:
    for unit_name, unit_size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= unit_size:
            return f"{number / unit_size:.3g} {unit_name}"
    return f"{number} bytes"


def _compile(request: Mapping[str, Any]) -> dict[str, Any]:
    """`step_of`, in the process that compiles."""
    start = time.monotonic()
    name = request["topology"]
    recipe = config.read(request["settings"])
    devices = topology.devices(name)
    mesh, clips = fsdp.make_mesh(devices, recipe.training.fsdp), recipe.training.clips
    if clips != (nearest := divisible(request["settings"], name)):
        raise UserError(
            f"config.training.clips: {clips} do not divide among the {mesh.size} chips and their "
            f"micro-batches; try {nearest}"
        )
    limit = int(topology.HBM_GIB[topology.chip(name)] * _GIB)
    state = step.abstract(recipe, mesh)
    batch = {
        "audio": jax.ShapeDtypeStruct((clips, recipe.views.window_samples), np.int16),
        "example": jax.ShapeDtypeStruct((clips,), np.uint32),
    }
    arguments = (state, topology.on(batch, step.split_over(mesh)))
    jitted: Any = step.make(recipe, mesh)
    try:
        compiled = _compiled(jitted, arguments, mesh)
    except jax.errors.JaxRuntimeError as error:
        sizes = re.findall(r"(\d+(?:\.\d+)?)([MG])", str(error))
        if "RESOURCE_EXHAUSTED" not in str(error) or not sizes:
            raise
        needed = int(float(sizes[0][0]) * {"M": 2**20, "G": _GIB}[sizes[0][1]])
        return dataclasses.asdict(TooLarge(name, clips, needed, limit))
    text = compiled.as_text()
    sizes = _sizes(state)  # its arrays are the first of the program's parameters
    report = Report(
        topology=name,
        chips=mesh.size,
        clips=clips,
        rows=clips * recipe.views.number,
        hbm=_peak(compiled),
        hbm_limit=limit,
        look=_look(recipe, mesh, arguments) if request["look"] else 0,
        parameters=sum(_sizes(state.params)),
        state=sum(sizes),
        donated=sum(sizes[at] for at in hlo.in_place(text) if at < len(sizes)),
        flops=hlo.flops(text),
        collectives=tuple(collectives.read(text)),
        seconds=time.monotonic() - start,
    )
    return dataclasses.asdict(report)


def _compiled(jitted: Any, arguments: tuple[Any, ...], mesh: jax.sharding.Mesh) -> Any:
    lowered = jitted.trace(*arguments).lower(lowering_platforms=("tpu",))
    return lowered.compile(_QUICKLY if mesh.size > 1 else None)


def _look(recipe: config.Recipe, mesh: jax.sharding.Mesh, arguments: tuple[Any, Any]) -> int:
    """What a look at the views takes of a chip, the state with it; 0 where the config has none."""
    if not recipe.training.inspect_every:
        return 0
    state, batch = arguments
    seen = _compiled(inspection.make(recipe, mesh), (state.params, batch), mesh)
    return _peak(seen) + sum(_sizes(state)) - sum(_sizes(state.params))


def _peak(compiled: Any) -> int:
    """Bytes of a chip's memory that a program takes."""
    memory = compiled.memory_analysis()
    return (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
        + memory.generated_code_size_in_bytes
    )


def _sizes(tree: Any) -> list[int]:
    """Bytes of each array of a tree on one chip."""
    return [
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    ]


if __name__ == "__main__":
    topology.answer(_compile)
