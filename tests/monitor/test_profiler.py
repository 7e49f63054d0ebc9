"""Profiles on demand."""

import jax
import jax.numpy as jnp
import pytest

from loev_jax.monitor import profiler


@pytest.fixture
def work():
    return jax.jit(lambda x: jnp.sin(x @ x).sum())


def run(workdir, work, first=1, last=12):
    traced = profiler.Profiler(workdir)
    for step in range(first, last + 1):
        traced.before(step)
        with jax.profiler.StepTraceAnnotation("train", step_num=step):
            result = work(jnp.ones((64, 64)))
        traced.after(step, result)
    traced.close()


def steps_in(workdir):
    (path,) = workdir.glob("profile/plugins/profile/*/*.xplane.pb")
    found = set()
    for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
        for line in plane.lines:
            for event in line.events:
                if event.name == "train":
                    found |= {int(value) for name, value in event.stats if name == "step_num"}
    return found


def test_nothing_is_traced_unasked(tmp_path, work):
    run(tmp_path, work)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("text", "steps"), [("", 5), ("2\n", 2), ("soon", 5)])
def test_a_file_has_the_next_steps_traced_once(tmp_path, work, text, steps):
    (tmp_path / "PROFILE").write_text(text)
    run(tmp_path, work)
    assert steps_in(tmp_path) == set(range(1, steps + 1))
    assert (tmp_path / "profile" / "memory.prof").stat().st_size > 0
    assert not (tmp_path / "PROFILE").exists()


def test_a_run_that_ends_first_keeps_its_trace(tmp_path, work):
    (tmp_path / "PROFILE").write_text("50")
    run(tmp_path, work, first=7, last=9)
    assert steps_in(tmp_path) == {7, 8, 9}


def test_a_profile_that_cannot_be_written_ends_nothing(tmp_path, work, caplog):
    (tmp_path / "PROFILE").write_text("2")
    (tmp_path / "profile").write_text("no directory")
    run(tmp_path, work)
    assert f"{tmp_path}/profile: no profile (" in caplog.text
