"""The smallest encoder of each kind that has all of its parts."""

from loev_jax.encoders.cnn import Cnn
from loev_jax.encoders.nfnet import Nfnet
from loev_jax.encoders.resnet import Resnet

CNN = Cnn(
    channels=(8, 8),
    kernels=(3, 3),
    strides=(2, 1),
    dilations=(1, 1),
    branch_layers=1,
    rhythm_channels=2,
    rhythm_bands=4,
    compute_dtype="float32",
)
RESNET = Resnet(depth=18, groups=4, compute_dtype="float32")
NFNET = Nfnet(
    depths=(1, 1),
    slow_stem=(2, 2, 4, 8),
    fast_stem=(2, 2, 2, 4),
    slow_channels=(16, 16),
    fast_channels=(8, 8),
    fusion_channels=(4, 4),
    fused_channels=(8, 8),
    slow_group=8,
    fast_group=4,
    compute_dtype="float32",
)
