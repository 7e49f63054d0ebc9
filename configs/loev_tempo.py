"""LOEV with a head that keeps the tempo.

python launch/train.py --config=configs/loev_tempo.py:small --workdir=runs/loev_tempo
"""

from ml_collections import ConfigDict

from loev_jax import presets


def get_config(variant: str = "") -> ConfigDict:
    """The full recipe, or with `small` the one for two CPU cores."""
    return presets.recipe(variant, heads={"tempo": "time_stretch"})
