"""Entry points run as their users run them: in a process of their own."""

import os
import pathlib
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]


def environment():
    """This process's own, with one device instead of eight."""
    flags = [flag for flag in os.environ["XLA_FLAGS"].split() if "device_count" not in flag]
    return os.environ | {"XLA_FLAGS": " ".join(flags)}


def run(*arguments, cwd=ROOT, env=None):
    """Runs `python ARGUMENTS`; its status, stdout and stderr as text come back, whatever they are.

    `env` takes the place of `environment()`.
    """
    return subprocess.run(
        [sys.executable, *map(os.fspath, arguments)],
        cwd=cwd,
        env=env or environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def free_port():
    """A port of this machine that nothing listens at."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]
