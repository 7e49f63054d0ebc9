"""Entry points run as their users run them: in a process of their own."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]


def run(*arguments, cwd=ROOT, env=None):
    """Runs `python ARGUMENTS`; its status, stdout and stderr as text come back, whatever they are.

    `env` is the environment, by default this process's own.
    """
    return subprocess.run(
        [sys.executable, *map(os.fspath, arguments)],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
