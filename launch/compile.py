"""Compiles a train step for a TPU that is not there, and says what it would take of it.

    python launch/compile.py --topology=v5e:16x16 --config=configs/loev_tempo.py

Prints memory, work and collectives a chip, and the largest batch that fits. Runs anywhere libtpu
does (Linux, x86-64: pip install -e '.[tpu]'). The exit status is 2 where the batch does not fit.
"""

from __future__ import annotations

import sys

from absl import flags
from ml_collections import config_flags

from loev_jax import errors

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The recipe, as in configs/.", lock_config=True
)
_TOPOLOGY = flags.DEFINE_string("topology", None, "Chips, such as v5e:4x4 or v5p:2x2x1.")
_LARGEST = flags.DEFINE_bool("largest", True, "Look for the largest batch that fits, too.")
flags.mark_flags_as_required(["config", "topology"])


def main() -> None:
    """Compiles and prints the report."""
    from loev_jax import compilation, config

    config.check_file(config_flags.get_config_filename(flags.FLAGS["config"]))

    def attempted(clips: int) -> None:
        print(f"compiling {clips} clips for {_TOPOLOGY.value} ...", file=sys.stderr, flush=True)

    settings = _CONFIG.value.to_dict()
    asked, clips = settings["training"]["clips"], compilation.divisible(settings, _TOPOLOGY.value)
    if clips != asked:
        print(
            f"config.training.clips: {asked} do not divide among {_TOPOLOGY.value} "
            f"(a multiple of {compilation.unit(settings, _TOPOLOGY.value)} does); "
            f"this is the report of {clips}",
            file=sys.stderr,
        )
        settings["training"]["clips"] = clips
    attempted(clips)
    first = compilation.step_of(settings, _TOPOLOGY.value, look=True)
    if isinstance(first, compilation.Report):
        print(first, flush=True)
    if _LARGEST.value:
        best = compilation.largest(settings, first, attempted)
        if best is None:
            print("largest batch     none fits")
        else:
            print(
                f"largest batch     {best.clips} clips, {best.rows} views "
                f"({best.hbm / best.hbm_limit:.0%} of the memory), as compiled"
            )
    if isinstance(first, compilation.TooLarge):
        raise first.error()


if __name__ == "__main__":
    errors.run(main)
