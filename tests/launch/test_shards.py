"""Parameters in shards on several processes: trained, saved, resumed whole and back again."""

import json
import shutil

import damage
import pytest
from cluster_run import (
    FEW,
    assert_close,
    cut_back,
    devices_of,
    ended,
    short,
    start,
)

from loev_jax import checkpoint, fsdp

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def wide(workdir, corpus, shards):
    """A tiny run of which some arrays are large enough to be split."""
    others = [one for one in short(workdir, corpus) if "projection.hidden" not in one]
    return [
        *others,
        "--config.projection.hidden=(128,)",
        "--config.optimizer.average_decay=0.9",
        f"--config.training.fsdp={shards}",
    ]


def split(workdir, step, item):
    """Names of the arrays that lay in shards when they were saved, as Orbax took them down."""
    told = json.loads((workdir / f"checkpoints/{step}/{item}/_sharding").read_text())
    return [name for name, how in told.items() if fsdp.FSDP in json.loads(how)["partition_spec"]]


def trained(workdir, corpus, shards):
    """Trains on two processes of two devices, or on one device where nothing is split."""
    count, each = (2, 2) if shards > 1 else (1, 1)
    statuses, outputs = ended(start(count, wide(workdir, corpus, shards), devices_of(each)))
    assert statuses == [0] * count, outputs
    assert f" {count * each} devices, 8 clips" in outputs[0]
    return outputs


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole") / "run"
    trained(workdir, corpus, 1)
    assert not split(workdir, FEW, "params")
    return workdir


@pytest.fixture(scope="module")
def sharded(corpus, tmp_path_factory):
    """On a mesh of two by two: the batch over processes, the shards within each."""
    workdir = tmp_path_factory.mktemp("sharded") / "run"
    trained(workdir, corpus, 2)
    return workdir


def test_shards_are_trained_as_what_is_whole(sharded, whole):
    assert len(split(sharded, FEW, "params")) == 3  # a layer of each head
    assert len(split(sharded, FEW, "average")) == 3
    assert split(sharded, FEW, "rest")  # the optimiser's
    assert_close(sharded, whole)


def test_shards_are_resumed_on_more_on_none_and_back(sharded, whole, corpus, tmp_path):
    """Four shards lie on both processes, each of which saves and restores its own."""
    workdir = tmp_path / "run"
    shutil.copytree(sharded, workdir)
    for last, shards in ((2, 4), (6, 1), (8, 4)):
        cut_back(workdir, last)
        outputs = trained(workdir, corpus, shards)
        assert all(f"resumed from step {last}" in text for text in outputs)
        assert bool(split(workdir, FEW, "params")) == (shards > 1)
        assert_close(workdir, whole)
    (workdir / "DONE").unlink()
    damage.flip_a_bit(workdir / f"checkpoints/{FEW}/params/ocdbt.process_1")
    outputs = trained(workdir, corpus, 4)
    assert f"checkpoints/{FEW}: damaged (params/" in outputs[0]
    assert all("resumed from step 8" in text for text in outputs)
    assert checkpoint.steps(workdir) == list(range(2, FEW + 1, 2))
    assert_close(workdir, whole)
