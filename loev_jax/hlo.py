"""The text of an optimised program: computations, how often each is run, what is in place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import jax
from jaxlib import _hlo, _jax  # type: ignore[attr-defined]  # JAX analyses whole programs only

_USES = re.compile(
    r"(?:calls|to_apply|condition|body|true_computation|false_computation|branch_computations)="
    r"(%[^\s,]+|\{[^}]*\})"
)


class Loop(NamedTuple):
    """A loop of a program: where it stands, its body, and how often that goes round."""

    place: str
    body: str
    trips: int


def computations(hlo: str) -> dict[str, str]:
    """The lines of each computation, by its name."""
    return {
        found["name"]: found["lines"]
        for found in re.finditer(
            r"^(?:ENTRY )?%(?P<name>\S+) \(.*\) -> .* \{\n(?P<lines>(?:.*\n)*?)\}",
            hlo,
            re.MULTILINE,
        )
    }


def in_place(hlo: str) -> set[int]:
    """Numbers of a program's parameters whose memory its results are written to."""
    header = hlo.partition("\n")[0]
    return {int(number) for number in re.findall(r": \((\d+), \{\}, (?:may|must)-alias\)", header)}


def entry(hlo: str) -> str:
    """The name of the computation that a program begins with.

    Raises:
        ValueError: there is none.
    """
    found = re.search(r"^ENTRY %(\S+)", hlo, re.MULTILINE)
    if found is None:
        raise ValueError("the program has no entry computation")
    return found[1]


def loops(lines: Mapping[str, str]) -> list[Loop]:
    """The loops of `computations`.

    Raises:
        ValueError: there is no telling how often one of them goes round.
    """
    found = []
    for place, text in lines.items():
        for condition, body in re.findall(
            r" while\(.*?condition=%([^\s,]+), body=%([^\s,]+)", text
        ):
            # JAX counts in s32, loops that a TPU's compiler makes of large copies in u32.
            limits = re.findall(r" = [su]\d+\[\]\S* constant\((\d+)\)", lines[condition])
            if len(limits) != 1:
                raise ValueError(f"loop {body} goes round no fixed number of times")
            found.append(Loop(place, body, int(limits[0])))
    return found


def times(hlo: str) -> dict[str, int]:
    """How often each computation of a program is run, by name; each branch of a choice counts.

    Raises:
        ValueError: there is no entry computation, or no telling how often a loop goes round.
    """
    lines = computations(hlo)
    trips = {(loop.place, loop.body): loop.trips for loop in loops(lines)}
    count = dict.fromkeys(lines, 0)

    def run(name: str, often: int) -> None:
        count[name] += often
        for used in _USES.findall(lines[name]):
            for one in re.findall(r"[^%{}, ]+", used):
                run(one, often * trips.get((name, one), 1))

    run(entry(hlo), 1)
    return count


def flops(hlo: str) -> float:
    """FLOPs of a program, as XLA counts them, but of a loop as often as it goes round.

    XLA's own analysis takes every loop to go round once.

    Raises:
        ValueError: as `times`.
    """
    often = times(hlo)
    more = [(loop, often[loop.place]) for loop in loops(computations(hlo)) if often[loop.place]]
    return _flops_once(hlo, entry(hlo)) + sum(
        (loop.trips - 1) * number * _flops_once(hlo, loop.body) for loop, number in more
    )


def _flops_once(hlo: str, name: str) -> float:
    """FLOPs of one computation and of what it uses, each loop once."""
    # The first line tells how the arguments of the old entry lie.
    rest = re.sub(r"^ENTRY ", "", hlo.partition("\n")[2], flags=re.MULTILINE)
    text = re.sub(rf"^%{re.escape(name)} \(", r"ENTRY \g<0>", rest, flags=re.MULTILINE)
    module = _hlo.hlo_module_from_text(f"HloModule part\n{text}")
    return _jax.hlo_module_cost_analysis(jax.devices("cpu")[0].client, module)["flops"]
