"""A disk that has no more room, of a limit to files or of its own: training says so and goes on."""

import subprocess
import sys

import entry_point
import pytest
from outcomes import assert_same, outcome
from tiny_training import STEPS, command

from loev_jax import checkpoint


def run_in(room, arguments):
    """Where no file may grow beyond `room` bytes: the system says so as it does of a full disk."""
    limited = (
        "import os, resource, sys\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))\n"
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    without_cache = entry_point.environment() | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    return entry_point.run("-c", limited, *arguments, env=without_cache)


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(
    undisturbed, corpus, tmp_path
):
    """There is room for config.json and the first metrics, and for no checkpoint."""
    workdir = tmp_path / "run"
    full = run_in(5_000, command(workdir, corpus))
    assert full.returncode == 1, full.stderr
    (line,) = [line for line in full.stderr.splitlines() if line.startswith("error: ")]
    assert f"checkpoints/{STEPS}: not saved (File too large); free some space" in line
    for step_ in range(10, STEPS, 10):  # it went on, and tried each time
        assert f"checkpoints/{step_}: not saved (File too large)" in full.stderr
    assert "train: events end here (File too large)" in full.stderr
    assert "metrics.jsonl: File too large; its lines wait for room" in full.stderr
    assert "Traceback" not in full.stderr
    assert checkpoint.steps(workdir) == []
    assert not (workdir / "DONE").exists()
    result = entry_point.run(*command(workdir, corpus))
    assert result.returncode == 0, result.stderr
    assert_same(outcome(workdir), outcome(undisturbed[0]))


def test_no_room_for_a_run_at_all(corpus, tmp_path):
    nothing = run_in(100, command(tmp_path / "run", corpus))
    assert nothing.returncode == 2
    assert "config.json cannot be written (File too large)" in nothing.stderr.splitlines()[-1]


IN_A_NAMESPACE = ("unshare", "--map-root-user", "--mount")

ON_A_SMALL_DISK = """
mount -t tmpfs -o size={size} disk {disk} || exit
head -c {others} /dev/zero > {disk}/others
"$0" "$@"
echo "ended with $?" >&2
rm {disk}/others
"$0" "$@"
echo "ended with $?" >&2
cp -r {disk}/run {out}
"""


@pytest.fixture
def disk(tmp_path):
    """Where a disk can be mounted that only what is started there sees."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = [*IN_A_NAMESPACE, "mount", "-t", "tmpfs", "disk", place]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        pytest.skip("no unshare here to mount a small disk with")
    if done.returncode:
        pytest.skip(f"no disk may be mounted here: {done.stderr.strip()}")
    return place


@pytest.mark.slow
def test_a_disk_that_fills_up_costs_nothing_once_there_is_room(undisturbed, corpus, tmp_path, disk):
    """There is room for two fifths of what the run leaves, then for more than all of it."""
    files = [path.stat().st_size for path in undisturbed[0].rglob("*") if path.is_file()]
    needed = sum(-(-size // 4096) * 4096 for size in files)
    script = ON_A_SMALL_DISK.format(
        disk=disk, out=tmp_path / "run", size=2 * needed, others=8 * needed // 5
    )
    done = subprocess.run(
        [*IN_A_NAMESPACE, "sh", "-c", script, sys.executable, *command(disk / "run", corpus)],
        cwd=entry_point.ROOT,
        env=entry_point.environment(),
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    full, room, _ = done.stderr.split("ended with ")
    assert (room[0], done.stderr[-2]) == ("1", "0"), done.stderr
    (line,) = [line for line in full.splitlines() if line.startswith("error: ")]
    assert f"checkpoints/{STEPS}: not saved (No space left on device); free some space" in line
    assert f"checkpoints/{STEPS - 10}: not saved (No space left on device); training goes" in full
    assert "checkpoints/10: not saved" not in full
    assert "Traceback" not in done.stderr
    assert "resumed from step" in room
    assert "not saved" not in room
    assert_same(outcome(tmp_path / "run"), outcome(undisturbed[0]))
