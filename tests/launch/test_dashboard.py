"""What a run shows while it trains: all of it documented, none of it changing what is trained."""

import json
import re
import socket
import subprocess
import sys
import time

import entry_point
import jax
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_training import STEPS, command

from loev_jax import checkpoint, fsdp, run_config, step

HEADS = ("invariant", "tempo", "pitch")


@pytest.fixture(scope="module")
def seen(corpus, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("seen") / "run"
    more = ("--config.training.inspect_every=25", f"--profiler_port={entry_point.free_port()}")
    process = subprocess.Popen(
        [sys.executable, *command(workdir, corpus, *more)],
        cwd=entry_point.ROOT,
        env=entry_point.environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not (workdir / "config.json").exists():
        time.sleep(0.01)
    (workdir / "PROFILE").write_text("3")  # as a user would, of a run that is there
    log = process.communicate(timeout=300)[1]
    assert process.returncode == 0, log
    return workdir, log


@pytest.fixture(scope="module")
def events(seen):
    accumulator = EventAccumulator(
        str(seen[0] / "train"), size_guidance={"tensors": 0, "images": 0, "audio": 0}
    )
    accumulator.Reload()
    return accumulator


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_looking_changes_nothing_that_is_trained(seen, undisturbed):
    def state(workdir):
        recipe, mesh = run_config.load(workdir), fsdp.make_mesh(jax.devices()[:1])
        with checkpoint.Checkpoints(workdir, keep=0) as checkpoints:
            return jax.device_get(checkpoints.restore(STEPS, step.init(recipe, mesh)))

    jax.tree.map(np.testing.assert_array_equal, state(seen[0]), state(undisturbed[0]))
    common = {line["step"]: line for line in lines(seen[0])}
    for line in lines(undisturbed[0]):
        assert line.items() <= common[line["step"]].items()


def test_what_was_seen_is_in_the_journal(seen):
    looks = [line for line in lines(seen[0]) if "rank/encoder" in line]
    assert [line["step"] for line in looks] == [1, 25, 50]
    for line in looks:
        assert line["uniformity/tempo"] < 0 <= line["alignment/tempo"]


def documented():
    """Every tag that docs/dashboard.md explains; HEAD stands for each of them."""
    page = (entry_point.ROOT / "docs" / "dashboard.md").read_text()
    tags = set()
    for row in re.findall(r"^\| (`.*?) \|", page, re.MULTILINE):
        for tag in re.findall(r"`([^`]+)`", row):
            tags |= {tag.replace("HEAD", head) for head in HEADS}
    return tags


def test_every_tag_is_documented(events):
    tags = set(events.Tags()["tensors"])
    tags = {re.sub(r"/\d+$", "", tag) for tag in tags}  # several pictures have a number each
    assert tags <= documented()
    # What this run has not: other losses, LOEV++, a device whose peak is known, 20 seconds.
    losses = ("parameter", "embedding", "spread/parameter", "spread/embedding")
    absent = {f"{name}/{head}" for name in (*losses, "temperature") for head in HEADS}
    absent |= {"translation/invariant", "spread/translation/invariant", "pace/mfu"}
    absent |= {f"rank/encoder/{head}" for head in HEADS}
    assert documented() - tags - {"steps_per_sec", "uptime"} == absent


def test_pictures_and_sound_can_be_seen_and_heard(events):
    kinds = {}
    for tag in events.Tags()["tensors"]:
        plugin = events.SummaryMetadata(tag).plugin_data.plugin_name
        kinds.setdefault(plugin, set()).add(tag)
    assert {"views", "similarities/tempo"} <= kinds["images"]
    assert kinds["audio"] == {"views/sound"}
    for tag in ("views", "views/sound"):
        looks = events.Tensors(tag)
        assert [look.step for look in looks] == [1, 25, 50]
        assert all(len(look.tensor_proto.string_val) > 2 for look in looks)


def test_a_profile_was_taken_on_demand(seen):
    workdir, log = seen
    (trace,) = workdir.glob("profile/plugins/profile/*/*.xplane.pb")
    assert trace.stat().st_size > 10_000
    assert (workdir / "profile" / "memory.prof").exists()
    first, last = map(int, re.search(r"profile: tracing steps (\d+) to (\d+)", log).groups())
    assert last == first + 2


def test_a_port_that_is_taken_is_one_line(corpus, tmp_path):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = entry_point.run(
            *command(tmp_path / "run", corpus, f"--profiler_port={port}"),
            env=entry_point.environment(),
        )
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"error: --profiler_port={port}: cannot listen there")
