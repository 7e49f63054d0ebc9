"""Parameters in shards: what is split, what a device then holds, and what crosses devices."""

import dataclasses
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import PartitionSpec
from test_step import batch, tiny_settings

from loev_jax import checkpoint, config, fsdp, run_config, step
from loev_jax.errors import UserError


@pytest.fixture(autouse=True, scope="module")
def _arrays_of_a_tiny_model_are_large():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fsdp, "SMALLEST", 1024)
        yield


def sharded_settings():
    settings = tiny_settings()
    settings.optimizer.average_decay = 0.9
    settings.training.fsdp = 4
    return settings


@pytest.fixture(scope="module")
def recipe():
    return config.read(sharded_settings())


@given(shape=st.lists(st.integers(1, 40), max_size=4), shards=st.sampled_from([1, 2, 4, 8]))
def test_the_longest_dimension_that_divides_is_split(shape, shards):
    mesh = fsdp.make_mesh(jax.devices(), shards)
    leaf = jax.ShapeDtypeStruct(tuple(shape), jnp.float32)
    spec = fsdp.specs(leaf, mesh)
    assert len(fsdp.shardings(leaf, mesh).shard_shape(leaf.shape)) == len(shape)  # JAX takes it
    fitting = [size for size in shape if size % shards == 0]
    if shards == 1 or np.prod(shape) < fsdp.SMALLEST or not fitting:
        assert spec == PartitionSpec()
    else:
        assert shape[spec.index(fsdp.FSDP)] == max(fitting)
        assert [part for part in spec if part] == [fsdp.FSDP]


def test_devices_that_cannot_be_divided_are_told():
    with pytest.raises(UserError, match=r"fsdp: 6 does not divide the 8 devices; try 2"):
        fsdp.make_mesh(jax.devices(), 6)


@dataclasses.dataclass(frozen=True)
class Chip:
    """What a mesh is made from, of a chip of a v5p that is not there."""

    id: int
    coords: tuple[int, int, int]
    slice_index: int = 0
    process_index: int = 0
    core_on_chip: int = 0
    platform: str = "tpu"
    device_kind: str = "TPU v5"


def torus(*sides):
    return [Chip(*one) for one in enumerate(itertools.product(*map(range, sides)))]


@pytest.mark.parametrize("sides", [(2, 2, 1), (4, 4, 4), (4, 4, 8)])
def test_a_torus_is_divided_into_neighbours_whatever_their_number(sides):
    chips = torus(*sides)
    for shards in (2**power for power in range(len(chips).bit_length())):
        mesh = fsdp.make_mesh(chips, shards)
        assert mesh.axis_names == fsdp.AXES
        assert mesh.devices.shape == (len(chips) // shards, shards)
        assert set(mesh.devices.flat) == set(chips)
        for group in mesh.devices:
            coords = np.array([chip.coords for chip in group])
            assert np.prod(np.ptp(coords, axis=0) + 1) == shards  # they fill a box


def test_gpus_of_several_machines_are_one_mesh():
    gpus = [
        dataclasses.replace(chip, slice_index=chip.id % 2, platform="gpu")
        for chip in torus(2, 2, 1)
    ]
    assert fsdp.make_mesh(gpus, 2).shape == {"data": 2, "fsdp": 2}


def test_several_slices_are_told():
    with pytest.raises(UserError, match="of 2 TPU slices; a run has one"):
        fsdp.make_mesh(
            [dataclasses.replace(chip, slice_index=chip.id % 2) for chip in torus(2, 2, 1)]
        )


def held(tree):
    """Bytes of a tree on the first device."""
    first = jax.devices()[0]
    shards = [s for leaf in jax.tree.leaves(tree) for s in leaf.addressable_shards]
    return sum(one.data.nbytes for one in shards if one.device == first)


def test_a_device_holds_its_share_before_and_after_a_step(recipe):
    mesh = fsdp.make_mesh(jax.devices(), 4)
    state = step.init(recipe, mesh)
    everything = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    small = sum(leaf.nbytes for leaf in jax.tree.leaves(state) if leaf.size < fsdp.SMALLEST)
    assert small < 0.2 * everything  # or the test would say little
    assert held(state) == (everything - small) / 4 + small
    before = [leaf.sharding for leaf in jax.tree.leaves(state)]
    program = step.make(recipe, mesh).lower(state, step.to_device(*batch(recipe, 0), mesh))
    after, _ = program.compile()(state, step.to_device(*batch(recipe, 0), mesh))
    assert [leaf.sharding for leaf in jax.tree.leaves(after)] == before
    assert held(after) == (everything - small) / 4 + small
    # The gradient of each is scattered once, in f32; so are those of the gathered projections.
    sizes = [leaf.size for leaf in jax.tree.leaves(after.params)]
    layout = jax.tree.leaves(fsdp.specs(after.params, mesh))
    split = sorted(size for size, spec in zip(sizes, layout, strict=True) if spec)
    scattered = re.findall(r"reduce_scatter.*?\}\) : \((.*?)\) ->", program.as_text(), re.DOTALL)
    rows, columns = 8 * recipe.views.number, 3 * 8  # of three heads
    assert all(one.endswith("xf32>") for one in scattered)
    shapes = [tuple(map(int, re.findall(r"\d+(?=x)", one))) for one in scattered]
    assert split == sorted(np.prod(shape) for shape in shapes if shape != (rows, columns))


def test_a_run_goes_on_with_other_shards(recipe, tmp_path):
    in_four = fsdp.make_mesh(jax.devices(), 4)
    saved = step.init(recipe, in_four)
    with checkpoint.Checkpoints(tmp_path, keep=0) as checkpoints:
        checkpoints.save(1, saved)
    for devices, shards in [(8, 1), (8, 2), (2, 2), (1, 1)]:
        mesh = fsdp.make_mesh(jax.devices()[:devices], shards)
        like = step.init(recipe, mesh)
        with checkpoint.Checkpoints(tmp_path, keep=0) as checkpoints:
            state = checkpoints.restore(1, like)
        jax.tree.map(np.testing.assert_array_equal, *jax.device_get((state, saved)))
        expected = jax.tree.leaves(fsdp.shardings(like, mesh))
        for leaf, sharding in zip(jax.tree.leaves(state), expected, strict=True):
            assert leaf.sharding.is_equivalent_to(sharding, leaf.ndim)


def test_shards_may_change_when_a_run_is_resumed(tmp_path):
    run_config.save(sharded_settings(), tmp_path)
    settings = sharded_settings()
    settings.training.fsdp = 2
    run_config.check(settings, tmp_path)  # does not raise
