"""A TPU that is not there: its chips, as its compiler (libtpu) knows them, and a place to compile.

The compiler needs no TPU. It keeps its memory, and where it meets what it cannot do it may end the
process, so every program is compiled in a process of its own (`apart`).
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import subprocess
import sys
from typing import Any

import jax

from loev_jax.errors import UserError

HBM_GIB = {"v5e": 15.75, "v5p": 95.74}
"""Memory of a chip that a program can have, in GiB, as the compiler enforces it."""

_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}

_USER_ERROR = "error"


def check_compiler() -> None:
    """Raises UserError where libtpu is not installed."""
    if importlib.util.find_spec("libtpu") is None:
        raise UserError("libtpu is not installed; pip install -e '.[tpu]' brings it")


def chip(name: str) -> str:
    """The kind of chip of a topology: "v5e:4x4" → "v5e".

    Raises:
        UserError: no topology is written so, or its chip is not known.
    """
    found = re.fullmatch(r"(v\w+):\d+(x\d+)*", name)
    if found is None or found[1] not in HBM_GIB:
        raise UserError(
            f"--topology={name}: it is a chip ({', '.join(HBM_GIB)}) and how many of them lie "
            "along each axis, such as v5e:4x4 or v5p:2x2x1"
        )
    return found[1]


def chips(name: str) -> int:
    """How many chips a topology has: "v5e:4x4" → 16. Raises UserError as `chip` does."""
    chip(name)
    return math.prod(int(side) for side in name.partition(":")[2].split("x"))


def devices(name: str) -> list[jax.Device]:
    """The chips of a topology. To be called in `apart`.

    Args:
        name: such as "v5e:4x4", "v5e:1x1" or "v5p:2x2x1".

    Raises:
        UserError: there is no such topology.
    """
    from jax.experimental import topologies

    alone = {"chips_per_host_bounds": (1, 1, 1)} if name == f"{chip(name)}:1x1" else {}
    try:
        described = topologies.get_topology_desc(platform="tpu", topology_name=name, **alone)
    except (ValueError, jax.errors.JaxRuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"--topology={name}: the compiler knows none such ({reason})") from error
    return described.devices


def on(tree: Any, sharding: jax.sharding.Sharding) -> Any:
    """The shapes of a tree, as arrays that lie on a TPU."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
    )


def apart(module: str, request: Any, what: str) -> Any:
    """What a module answers, in a process that has the compiler to itself.

    Args:
        module: run as a program, it hands its function to `answer`.
        request: for that function, as JSON has it.
        what: is compiled, for the message.

    Raises:
        UserError: that of the function, or the process failed.
    """
    done = subprocess.run(
        [sys.executable, "-m", module],
        input=json.dumps(request),
        env=os.environ | _ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"{what} does not compile (status {done.returncode}): {reason}")
    answered = json.loads(done.stdout.splitlines()[-1])
    if _USER_ERROR in answered:
        raise UserError(answered[_USER_ERROR])
    return answered


def answer(function: Any) -> None:
    """The other end of `apart`: applies a function to the request on stdin."""
    try:
        answered = function(json.load(sys.stdin))
    except UserError as error:
        answered = {_USER_ERROR: str(error)}
    print(json.dumps(answered))
