"""LOEV with a head for the tempo and one for the pitch.

python launch/train.py --config=configs/loev_tempo_pitch.py:small --workdir=runs/loev_tempo_pitch
"""

from ml_collections import ConfigDict

from loev_jax import presets


def get_config(variant: str = "") -> ConfigDict:
    """The full recipe, or with `small` the one for two CPU cores."""
    return presets.recipe(variant, heads={"tempo": "time_stretch", "pitch": "pitch_shift"})
