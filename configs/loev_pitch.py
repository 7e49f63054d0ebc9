"""LOEV with a head that keeps the pitch.

python launch/train.py --config=configs/loev_pitch.py:small --workdir=runs/loev_pitch
"""

from ml_collections import ConfigDict

from loev_jax import presets


def get_config(variant: str = "") -> ConfigDict:
    """The full recipe, or with `small` the one for two CPU cores."""
    return presets.recipe(variant, heads={"pitch": "pitch_shift"})
