"""A run that is killed again and again, at moments drawn from a seed, ends as one left alone."""

import collections
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import entry_point
import pytest
from outcomes import assert_same, outcome
from tiny_training import STEPS, command

from loev_jax import checkpoint

# When a run is killed, and the most seconds that it may have been at it.
PHASES = {"starting": 5.0, "restoring": 0.2, "training": 4.0, "saving": 0.2}


class Trainer:
    """A process that trains, told what it is at by what it leaves behind."""

    def __init__(self, workdir, corpus, env=None):
        self._checkpoints = workdir / "checkpoints"
        self._log = workdir.with_suffix(".log")
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, *command(workdir, corpus)],
                cwd=entry_point.ROOT,
                env=env or entry_point.environment(),
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    def log(self):
        return self._log.read_text()

    def half_saved(self):
        return list(self._checkpoints.glob("*.orbax-checkpoint-tmp*"))

    def cut_short(self):
        """What it was in the middle of; one that was killed before may have left a save too."""
        if self.is_at("saving"):
            return "save"
        restoring = "restoring step" in self.log() and "resumed from step" not in self.log()
        return "restore" if restoring else None

    def is_at(self, phase):
        trains = "clips x" in self.log()
        match phase:
            case "starting":
                return True
            case "restoring":
                return "restoring step" in self.log() or trains  # there may be nothing to restore
            case "training":
                return trains
            case "saving":
                return trains and bool(self.half_saved())

    def runs(self):
        return self._process.poll() is None

    def kill(self, phase, seconds):
        """Kills it so long after it came to this phase; its status, 0 where it was at its end."""
        while self.runs() and not self.is_at(phase):
            time.sleep(0.001)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
        return self._process.wait()

    def end(self):
        """Lets it train to its end."""
        return self._process.wait()


@pytest.fixture(scope="module")
def left_alone(undisturbed):
    return outcome(undisturbed[0])


def kill_and_resume(kills, seed, corpus, directory, left_alone, tell=lambda *_: None):
    """Kills runs until there were so many kills; where one ends before, another begins.

    Returns:
        how often it was killed in each phase, what was cut short and how often, and runs that came
        to their end.
    """
    draws = random.Random(seed)
    counts, cut_short, ended = collections.Counter(), collections.Counter(), 0
    workdir = directory / "run0"
    while counts.total() < kills:
        phase = draws.choice(list(PHASES))
        trainer = Trainer(workdir, corpus)
        # Half of them at once, in the middle of what is soon over.
        status = trainer.kill(phase, draws.choice((0.0, draws.uniform(0, PHASES[phase]))))
        if status == 0:
            assert_same(outcome(workdir), left_alone)
            ended += 1
            workdir = directory / f"run{ended}"
            continue
        assert status == -signal.SIGKILL, trainer.log()
        counts[phase] += 1
        cut_short.update(filter(None, [trainer.cut_short()]))
        tell(counts, cut_short, ended)
    trainer = Trainer(workdir, corpus)
    assert trainer.end() == 0, trainer.log()
    assert_same(outcome(workdir), left_alone)
    return counts, cut_short, ended + 1


def begun(undisturbed, workdir):
    """A run as it was half way: there is something to restore."""
    shutil.copytree(undisturbed[0], workdir)
    (workdir / "DONE").unlink()
    for number in checkpoint.steps(workdir):
        if number > STEPS // 2:
            shutil.rmtree(workdir / "checkpoints" / str(number))


@pytest.mark.slow
def test_kills_in_the_middle_of_a_restore_and_of_a_save(undisturbed, corpus, tmp_path, left_alone):
    begun(undisturbed, tmp_path / "run")
    for phase, thing in (("restoring", "restore"), ("saving", "save")):
        trainer = Trainer(tmp_path / "run", corpus)
        assert trainer.kill(phase, 0.0) == -signal.SIGKILL, trainer.log()
        assert trainer.cut_short() == thing, trainer.log()
    trainer = Trainer(tmp_path / "run", corpus)
    assert trainer.end() == 0, trainer.log()
    assert_same(outcome(tmp_path / "run"), left_alone)


@pytest.mark.slow
def test_twenty_kills_at_random(undisturbed, corpus, tmp_path, left_alone):
    begun(undisturbed, tmp_path / "run0")
    counts, cut_short, ended = kill_and_resume(20, 0, corpus, tmp_path, left_alone)
    assert counts.total() == 20
    assert set(counts) == set(PHASES)
    assert min(cut_short["save"], cut_short["restore"]) >= 1
    assert ended >= 1


def plain(programs):
    """An environment as a user has it, who compiles into `programs`: no flag is the suite's."""
    ours = ("XLA_FLAGS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return kept | {"JAX_COMPILATION_CACHE_DIR": str(programs)}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_as_a_user_compiles_it_ends_as_undisturbed_too(corpus, tmp_path):
    """All optimisations, and as many threads as there are; each of the two compiles for itself."""
    alone = Trainer(tmp_path / "alone", corpus, plain(tmp_path / "programs0"))
    assert alone.end() == 0, alone.log()
    workdir, env, draws = tmp_path / "run", plain(tmp_path / "programs1"), random.Random(0)
    for phase, more in (("saving", 1), ("restoring", 0), ("training", 1), ("saving", 1)):
        wanted = len(checkpoint.steps(workdir)) + more
        trainer = Trainer(workdir, corpus, env)
        while len(checkpoint.steps(workdir)) < wanted:
            assert trainer.runs(), trainer.log()
            time.sleep(0.001)
        assert trainer.kill(phase, draws.uniform(0, 0.2)) == -signal.SIGKILL, trainer.log()
    trainer = Trainer(workdir, corpus, env)
    assert trainer.end() == 0, trainer.log()
    assert "resumed from step" in trainer.log()
    assert_same(outcome(workdir), outcome(tmp_path / "alone"))


@pytest.mark.soak
def test_hundreds_of_kills(undisturbed, corpus, tmp_path, left_alone):
    begun(undisturbed, tmp_path / "run0")
    kills = int(os.environ.get("CYCLES") or 500)
    began = time.monotonic()

    def tell(counts, cut_short, ended):
        done = counts.total()
        minutes = (time.monotonic() - began) / done * (kills - done) / 60
        print(
            f"\r{done} of {kills} kills ({dict(counts)}), cut short {dict(cut_short)}, "
            f"{ended} runs ended as undisturbed, {minutes:.0f} min left ",
            end="",
            flush=True,
        )

    counts, cut_short, ended = kill_and_resume(kills, 0, corpus, tmp_path, left_alone, tell)
    print(f"\n{counts.total()} kills, cut short {dict(cut_short)}, {ended} runs as undisturbed")
    if kills >= 50:
        assert min(cut_short["save"], cut_short["restore"]) >= 1
