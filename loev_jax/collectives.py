"""What chips exchange in a step, read from its optimised program."""

from __future__ import annotations

import dataclasses
import math
import re

from loev_jax import hlo

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")

_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f32": 4, "s32": 4,
          "u32": 4, "f64": 8, "s64": 8, "u64": 8}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Collective:
    """Arrays that chips exchange in one operation of a step.

    Attributes:
        kind: one of `KINDS`.
        dtypes: of its arrays, each once.
        arrays: how many it moves together.
        bytes: of its result on one chip.
    """

    kind: str
    dtypes: tuple[str, ...]
    arrays: int
    bytes: int


def read(text: str) -> list[Collective]:
    """What chips exchange in the course of a program.

    Args:
        text: of the program. The halves of an asynchronous operation count once, and what is in a
            loop as often as it goes round.
    """
    often = hlo.times(text)
    return [
        one
        for name, lines in hlo.computations(text).items()
        for one in often[name] * _exchanged(lines)
    ]


def _exchanged(lines: str) -> list[Collective]:
    """The collectives of one computation."""
    found = []
    for types, kind, start in re.findall(
        rf" = (\(.*?\)|\S+) ({'|'.join(KINDS)})(-start)?\(", lines
    ):
        arrays = re.findall(r"(\w+)\[([\d,]*)\]", re.sub(r"\{.*?\}|/\*.*?\*/", "", types))
        if start and kind in ("all-gather", "collective-permute"):
            arrays = arrays[len(arrays) // 2 :]  # operands come first
        sizes = [_BYTES[dtype] * _elements(shape) for dtype, shape in arrays]
        dtypes = tuple(dict.fromkeys(dtype for dtype, _ in arrays))
        found.append(Collective(kind, dtypes, len(arrays), sum(sizes)))
    return found


def _elements(shape: str) -> int:
    return math.prod(int(side) for side in shape.split(",") if side)
