"""Pretrains: python launch/train.py --config=configs/loev_tempo.py:small --workdir=DIR.

Run it again to resume. `--config.section.field=value` overrides one field of the config. On several
hosts each runs the same command, with `--distributed` or with `--coordinator` and its like, and
`--workdir` on a file system that all of them share.
"""

from __future__ import annotations

import sys
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from loev_jax import cluster, config, errors, memory, program_cache
from loev_jax.monitor import profiler
from loev_jax.train import train

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The recipe, as in configs/.", lock_config=True
)
WORKDIR = flags.DEFINE_string("workdir", None, "Where the run lives; made if it is not there.")
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Join the processes of this TPU pod, SLURM job or GKE JobSet."
)
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, by hand.")
_PROCESSES = flags.DEFINE_integer("processes", None, "How many processes there are, by hand.")
_PROCESS = flags.DEFINE_integer("process", None, "Number of this process, by hand.")
_PROFILER_PORT = flags.DEFINE_integer(
    "profiler_port", None, "Port on which every process listens for TensorBoard's Capture profile."
)
flags.mark_flags_as_required(["config", "workdir"])


def main() -> None:
    """Trains; a signal that stopped it becomes the exit status, as a shell's would."""
    memory.keep()
    config.check_file(config_flags.get_config_filename(flags.FLAGS["config"]))
    cluster.join(
        cluster.Cluster(_DISTRIBUTED.value, _COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
    )
    program_cache.use()
    if _PROFILER_PORT.value is not None:
        profiler.serve(_PROFILER_PORT.value)
    try:
        with cluster.together():
            status = train(CONFIG.value, Path(WORKDIR.value).expanduser())
    except errors.RunError as error:
        sys.exit(f"error: {error}")
    if status:
        sys.exit(status)


if __name__ == "__main__":
    errors.run(main)
