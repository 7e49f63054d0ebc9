"""Writes a checkpoint as a portable model: config, safetensors, StableHLO and a model card.

    python launch/export.py --workdir=runs/loev_tempo --out=models/loev_tempo

The last checkpoint is taken unless --step names another. An existing --out is never overwritten.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from loev_jax import errors

_WORKDIR = flags.DEFINE_string("workdir", None, "Training run to read.", required=True)
_STEP = flags.DEFINE_integer("step", None, "Step of the checkpoint; the last one by default.")
_OUT = flags.DEFINE_string("out", None, "Directory to make.", required=True)


def main() -> None:
    """Exports and says what was written."""
    from loev_jax import export  # JAX takes seconds to import; flags are checked before that

    card = export.save(
        Path(_WORKDIR.value).expanduser(), _STEP.value, Path(_OUT.value).expanduser()
    )
    sizes = ", ".join(f"{name} {size}" for name, size in card.spaces.items())
    print(f"{_OUT.value}: step {card.step}; spaces: {sizes}")


if __name__ == "__main__":
    errors.run(main)
