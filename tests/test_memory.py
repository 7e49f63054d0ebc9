"""What the system is asked for again and again, with and without memory being kept."""

import resource
import subprocess
import sys

import pytest

BYTES = 48 << 20
"""Of an array: more than glibc takes from a heap of its own accord."""

SCRIPT = """
import resource, sys, threading
import numpy as np
from loev_jax import memory
assert sys.argv[1] == "no" or memory.keep()
size = int(sys.argv[2])
def work():
    for _ in range(10):
        np.ones(size, np.uint8)
faults = []
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(faults[-1])
"""


def faults(keep: str) -> int:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, keep, str(BYTES)],
        env={"NUMPY_MADVISE_HUGEPAGE": "0"},  # pages as they are, and no settings of the caller
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_kept_memory_is_not_asked_for_again():
    assert faults("no") > 10 * BYTES // resource.getpagesize() // 2
    assert faults("yes") < 200


LOOKS = """
import gc, sys
from loev_jax import memory
if sys.argv[1] == "rarely":
    memory.collect_rarely()
looks = []
gc.callbacks.append(lambda phase, info: phase == "start" and looks.append(info["generation"]))
kept = [[] for _ in range(300_000)]
print(len(looks))
for _ in range(300_000):
    cycle = []
    cycle.append(cycle)
print(sum(generation["collected"] for generation in gc.get_stats()))
"""


def test_python_looks_for_cycles_rarely_and_still_frees_them():
    def looks_and_freed(how):
        command = [sys.executable, "-c", LOOKS, how]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return map(int, done.stdout.split())

    looks, freed = looks_and_freed("rarely")
    usual, _ = looks_and_freed("as ever")
    assert 0 < 50 * looks <= usual
    assert freed >= 200_000
