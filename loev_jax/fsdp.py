"""Parameters in shards (fully sharded data parallelism): what lies where, and how it meets.

A mesh has two axes. The batch is split over both; the parameters, the optimiser's state and the
average are split over `FSDP` alone, and are the same along `DATA`. A step gathers each parameter,
keeps it until its gradient is known, and scatters that the same way, in f32 (as ZeRO, Rajbhandari
et al. 2020, arXiv 1910.02054, but what is saved is what lies between steps). On a mesh whose second
axis is one device long nothing is split and nothing is gathered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from loev_jax.errors import UserError

DATA, FSDP = "data", "fsdp"
AXES = (DATA, FSDP)
"""The axes over which a batch is split."""

SMALLEST = 2**16
"""Numbers in an array from which on it is split: to gather a bias costs more than to keep it."""


def make_mesh(devices: list[jax.Device] | None = None, shards: int = 1) -> Mesh:
    """A mesh over all devices, or over those given.

    Args:
        devices: their number is a multiple of `shards`.
        shards: devices that hold the parameters together; on a TPU they are neighbours.

    Raises:
        UserError: the devices cannot be divided so, or are of several TPU slices.
    """
    devices = jax.devices() if devices is None else devices
    # What GPUs call their slice is the machine that they are in: a run may have many.
    slices = {getattr(device, "slice_index", 0) for device in devices if device.platform == "tpu"}
    if len(slices) > 1:
        raise UserError(
            f"the devices are of {len(slices)} TPU slices; a run has one: start it on one"
        )
    if len(devices) % shards:
        raise UserError(
            f"config.training.fsdp: {shards} does not divide the {len(devices)} devices; "
            f"try {int(np.gcd(shards, len(devices)))}"
        )
    shape = (len(devices) // shards, shards)
    auto = (jax.sharding.AxisType.Auto,) * len(shape)
    # `jax.make_mesh` divides an axis of a torus on some chips only: eight of 4x4x4 are none then.
    torus = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    return Mesh(torus, AXES, axis_types=auto)


def specs(tree: Any, mesh: Mesh) -> Any:
    """How each array of a tree lies on a mesh, by its shape alone.

    Split is the longest dimension that the shards divide, the last of several as long; an array
    that has none, or is small, is whole on every device.
    """
    shards = mesh.shape[FSDP]

    def spec(leaf: Any) -> PartitionSpec:
        shape = leaf.shape
        fitting = [at for at, size in enumerate(shape) if size % shards == 0]
        if shards == 1 or np.prod(shape, dtype=np.int64) < SMALLEST or not fitting:
            return PartitionSpec()
        split = max(fitting, key=lambda at: (shape[at], at))
        return PartitionSpec(*(FSDP if at == split else None for at in range(split + 1)))

    return jax.tree.map(spec, tree)


def shardings(tree: Any, mesh: Mesh) -> Any:
    """`specs`, as shardings."""
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs(tree, mesh))


def varying(params: Any, layout: Any) -> Any:
    """Parameters, or shards of them, whose gradient stays on its device until it is `reduced`.

    To be called under `shard_map`, as all that follows.
    """

    def cast(leaf: jax.Array, spec: PartitionSpec) -> jax.Array:
        return jax.lax.pcast(leaf, DATA if spec else AXES, to="varying")

    return jax.tree.map(cast, params, layout)


def gathering(function: Callable[..., Any], layout: Any) -> Callable[..., Any]:
    """A function of parameters, and of more, becomes one of their shards.

    Its derivative is that in the shards: the transpose of a gather sums over devices and scatters.
    """

    def whole(leaf: jax.Array, spec: PartitionSpec) -> jax.Array:
        if not spec:
            return leaf
        return jax.lax.all_gather(leaf, FSDP, axis=spec.index(FSDP), tiled=True)

    def of_shards(shards: Any, *more: Any) -> Any:
        return function(jax.tree.map(whole, shards, layout), *more)

    return of_shards


def reduced(gradient: Any, shares: Any, layout: Any) -> tuple[Any, Any]:
    """Sums over devices, of what each has computed.

    Args:
        gradient: in `varying` parameters, f32.
        shares: of other numbers.
        layout: of the parameters, as `specs` has it.

    Returns:
        The gradient, each part of it where that of the parameter is, and the sums of the shares.
    """
    leaves, structure = jax.tree.flatten(gradient)
    split = [bool(spec) for spec in jax.tree.leaves(layout)]
    whole = [leaf for leaf, one in zip(leaves, split, strict=True) if not one]
    # What is split was summed over the shards when it was scattered.
    parts = [leaf for leaf, one in zip(leaves, split, strict=True) if one]
    parts = jax.lax.psum(parts, DATA) if parts else parts
    whole, shares = jax.lax.psum((whole, shares), AXES)
    sums = {True: iter(parts), False: iter(whole)}
    return jax.tree.unflatten(structure, [next(sums[one]) for one in split]), shares
