"""Augmentations of audio and log-mels: batched, on the device, their parameters as data.

from loev_jax import augment

chain = augment.chain(
    augment.StretchShift(augment.TimeStretch(-0.4, 0.4), augment.PitchShift(-3, 3)),
    augment.Filter(probability=0.5),
    augment.Gain(-12, 3),
    samples=48_000,
)
audio[:, : chain.source_samples]          # what it needs, so that nothing is padded
views, applied = chain(key, audio)        # [batch, 48 000] and {"time_stretch": [batch], ...}
again = chain.apply(audio, applied)       # the same, from the record
"""

from loev_jax.augment.augmentations import Augmentations
from loev_jax.augment.chain import Chain, LogMelChain, chain, log_mel_chain
from loev_jax.augment.composition import Named, OneOf, Shuffled, one_of, shuffled
from loev_jax.augment.degradation import (
    BitCrush,
    Clipping,
    Convolution,
    Delay,
    Mix,
    Noise,
    Polarity,
    Reverb,
    Reverse,
)
from loev_jax.augment.mel import FrequencyMask, Mixup, TimeMask
from loev_jax.augment.parameters import Parameters, Range, independent, leave_one_out
from loev_jax.augment.spectral import (
    Equalizer,
    Filter,
    Gain,
    PitchShift,
    StretchShift,
    TimeStretch,
)
from loev_jax.augment.transform import Transform

__all__ = [
    "Augmentations",
    "BitCrush",
    "Chain",
    "Clipping",
    "Convolution",
    "Delay",
    "Equalizer",
    "Filter",
    "FrequencyMask",
    "Gain",
    "LogMelChain",
    "Mix",
    "Mixup",
    "Named",
    "Noise",
    "OneOf",
    "Parameters",
    "PitchShift",
    "Polarity",
    "Range",
    "Reverb",
    "Reverse",
    "Shuffled",
    "StretchShift",
    "TimeMask",
    "TimeStretch",
    "Transform",
    "chain",
    "independent",
    "leave_one_out",
    "log_mel_chain",
    "one_of",
    "shuffled",
]
