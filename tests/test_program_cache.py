"""Programs on disk: a second process compiles nothing, and without a place for them all goes on."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import jax, jax.numpy as jnp
from loev_jax import program_cache
events = []
jax.monitoring.register_event_listener(lambda name, **more: events.append(name.split("/")[-1]))
print(program_cache.use())
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.jit(lambda x: jnp.sin(x) @ x.T)(jnp.ones((8, 8))).block_until_ready()
print(events.count("cache_hits"), events.count("cache_misses"))
"""


def run(**variables):
    environment = {name: value for name, value in os.environ.items() if "CACHE" not in name}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        env=environment | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    directory, counts = done.stdout.splitlines()
    hits, misses = map(int, counts.split())
    return directory, hits, misses


def test_what_was_compiled_is_found(tmp_path):
    place = str(tmp_path / "loev_jax" / "programs")
    directory, hits, misses = run(XDG_CACHE_HOME=str(tmp_path))
    assert (directory, hits) == (place, 0)
    assert misses > 0
    directory, hits, again = run(XDG_CACHE_HOME=str(tmp_path))
    assert (directory, hits, again) == (place, misses, 0)


@pytest.mark.parametrize("room", [0, 100])
def test_what_a_killed_process_left_half_written_is_compiled_again(tmp_path, room):
    """JAX would warn of it at every start, which is an error here, and keep it."""
    directory = tmp_path / "loev_jax" / "programs"
    _, _, misses = run(XDG_CACHE_HOME=str(tmp_path))
    halves = sorted(directory.glob("*-cache"))
    for entry in halves[1:]:
        os.truncate(entry, room)
    assert len(halves) > 1
    _, hits, again = run(XDG_CACHE_HOME=str(tmp_path))
    assert (hits, again) == (misses - len(halves[1:]), len(halves[1:]))
    assert run(XDG_CACHE_HOME=str(tmp_path))[1:] == (misses, 0)


def test_a_place_of_the_users_own(tmp_path):
    given = str(tmp_path / "own")
    assert run(JAX_COMPILATION_CACHE_DIR=given, XDG_CACHE_HOME="/dev/null")[0] == given
    assert any((tmp_path / "own").iterdir())


def test_nothing_is_kept_where_it_cannot_be_or_is_not_wanted(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    assert run(XDG_CACHE_HOME=str(file)) == ("None", 0, 0)
    off = run(XDG_CACHE_HOME=str(tmp_path), JAX_ENABLE_COMPILATION_CACHE="false")
    assert off == ("None", 0, 0)
    assert not (tmp_path / "loev_jax").exists()
