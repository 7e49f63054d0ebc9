"""SimCLR, the baseline: invariant to every augmentation.

python launch/train.py --config=configs/simclr.py:small --workdir=runs/simclr
"""

from ml_collections import ConfigDict

from loev_jax import presets


def get_config(variant: str = "") -> ConfigDict:
    """The full recipe, or with `small` the one for two CPU cores."""
    return presets.recipe(variant, heads={})
