"""Runs by SLURM: its scripts, with an srun and a scontrol that play their parts."""

import os
import subprocess
import sys

import entry_point
import pytest
from tiny_training import command

LAUNCH = entry_point.ROOT / "launch"

# An srun that starts the tasks as the true one would.

SRUN = """\
#!{python}
import os, subprocess, sys
command = [one for one in sys.argv[1:] if not one.startswith("--kill-on-bad-exit")]
if {status}:
    sys.exit({status})
tasks = []
for number in range(2):
    slurm = {{"SLURM_JOB_ID": "{job}", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2",
             "SLURM_PROCID": str(number), "SLURM_LOCALID": str(number),
             "SLURM_STEP_NUM_NODES": "1"}}
    tasks.append(subprocess.Popen(command, env=os.environ | slurm))
sys.exit(max(task.wait() for task in tasks))
"""


@pytest.fixture
def slurm(tmp_path):
    """Submits a script: with tasks that really run, or that end with a status."""
    tools = tmp_path / "bin"
    tools.mkdir()

    def fake(name, text):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)

    fake("scontrol", f'#!/bin/sh\necho "$@" > "{tmp_path}/scontrol"\n')

    def submit(script, *arguments, status=0, **changed):
        fake("srun", SRUN.format(python=sys.executable, status=status, job=os.getpid()))
        known = entry_point.environment() | {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "SLURM_JOB_ID": "77",
        }
        done = subprocess.run(
            ["bash", LAUNCH / "slurm" / script, *arguments],
            env=known | {"SLURM_SUBMIT_DIR": str(entry_point.ROOT)} | changed,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        asked = tmp_path / "scontrol"
        return done, asked.read_text() if asked.exists() else None

    return submit


here_is_venv = (entry_point.ROOT / ".venv/bin/python").exists()


@pytest.mark.skipif(not here_is_venv, reason="the checkout has no .venv of its own")
@pytest.mark.slow
def test_slurm_starts_a_process_for_each_task(slurm, corpus, tmp_path):
    few = command(tmp_path / "run", corpus, "--config.training.steps=10")
    options = [one for one in few if one.startswith("--config.")]
    done, asked = slurm(
        "train.sbatch",
        *options,
        CONFIG="configs/loev_tempo_pitch.py:small",
        WORKDIR=str(tmp_path / "run"),
    )
    assert done.returncode == 0, done.stderr
    assert "2 devices" in done.stderr
    assert (tmp_path / "run" / "DONE").read_text() == "10\n"
    assert asked is None


@pytest.mark.skipif(not here_is_venv, reason="the checkout has no .venv of its own")
def test_slurm_queues_again_what_was_stopped_and_nothing_else(slurm):
    known = {"CONFIG": "c", "WORKDIR": "w"}
    done, asked = slurm("train.sbatch", status=143, **known)
    assert (done.returncode, asked) == (0, "requeue 77\n")
    done, _ = slurm("train.sbatch", status=2, **known)
    assert done.returncode == 2


def test_slurm_says_what_is_missing(slurm, tmp_path):
    done, _ = slurm("train.sbatch", CONFIG="c")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: WORKDIR is not set")
    done, _ = slurm("train.sbatch", CONFIG="c", WORKDIR="w", SLURM_SUBMIT_DIR=str(tmp_path))
    assert "/.venv is not there: run make setup" in done.stderr
    done, _ = slurm("eval.sbatch")
    assert done.stderr.startswith("error: WORKDIR is not set")
