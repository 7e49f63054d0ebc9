"""The `sf_nfnet_f0` encoder: MULE's Slow-Fast NFNet-F0."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from loev_jax.encoders.standardized import StandardizedConv

GELU_GAIN = 1.7015043497085571
"""Makes the variance of a GELU of normal inputs 1, to the published digits."""

LEAST_DEVIATION = 0.01
"""Least deviation of a view that its log-mel is divided by (MULE)."""

SLOW_LAYERS = (((1, 3), (8, 2)), ((1, 3), (1, 1)), ((1, 3), (1, 1)), ((3, 3), (2, 2)))
"""Kernels and strides of the slow path's first convolutions, each in frames and bands."""

FAST_LAYERS = (((3, 3), (2, 2)), ((3, 3), (1, 1)), ((3, 3), (1, 1)), ((3, 3), (2, 2)))
"""Of the fast path's."""

RATIO = 4
"""Frames of the fast path for each of the slow one."""


@dataclasses.dataclass(frozen=True)
class Nfnet:
    """Settings of the `sf_nfnet_f0` encoder; the default is MULE's, with 62.3 M parameters.

    Two paths of NFNet stages (Brock et al. 2021, arXiv 2102.06171): a slow one of coarse time and
    many channels and a fast one, which is fused into the slow one before every stage (Wang et al.
    2021, arXiv 2111.12124; MULE: McCallum et al. 2022, arXiv 2210.03799). There are no norms:
    kernels are standardised, activations scaled, and residual paths begin at zero. Fusion is along
    channels, as in MULE; the published LOEV code does it along time.

    Attributes:
        name: of the encoder.
        depths: blocks of each stage.
        slow_stem: channels of the slow path's four first convolutions.
        fast_stem: of the fast path's.
        slow_channels: output channels of each stage of the slow path.
        fast_channels: of the fast path.
        fusion_channels: of the convolution that brings the fast path to the slow one's rate, for
            each stage.
        fused_channels: what that is widened to before it joins the slow path's channels.
        slow_group: channels of a group in the slow path's grouped convolutions.
        fast_group: in the fast path's.
        alpha: scale of what a residual path adds.
        stochastic_depth: probability to leave the last block's residual path out for an example in
            training (Huang et al. 2016, arXiv 1603.09382). It grows linearly from 0 at the first
            block. What stays is not scaled up, as in NFNets and MULE.
        input_norm: "view" standardises the log-mel of each view, as MULE, which makes level and
            contrast invisible; "fixed" applies `input_mean` and `input_deviation`.
        input_mean: subtracted from the log-mel where `input_norm` is "fixed".
        input_deviation: divides it then.
        compute_dtype: of activations; parameters, standardisation and pooling stay f32.
    """

    name: Literal["sf_nfnet_f0"] = "sf_nfnet_f0"
    depths: tuple[int, ...] = (1, 2, 6, 3)
    slow_stem: tuple[int, ...] = (16, 32, 64, 128)
    fast_stem: tuple[int, ...] = (2, 4, 8, 16)
    slow_channels: tuple[int, ...] = (256, 512, 1536, 1536)
    fast_channels: tuple[int, ...] = (32, 64, 192, 192)
    fusion_channels: tuple[int, ...] = (32, 32, 64, 192)
    fused_channels: tuple[int, ...] = (128, 256, 512, 3072)
    slow_group: int = 128
    fast_group: int = 16
    alpha: float = 0.2
    stochastic_depth: float = 0.1
    input_norm: Literal["view", "fixed"] = "view"
    input_mean: float = 2.5
    input_deviation: float = 1.5
    compute_dtype: Literal["float32", "bfloat16"] = "bfloat16"

    def __post_init__(self) -> None:
        names = ("depths", "slow_channels", "fast_channels", "fusion_channels", "fused_channels")
        stages = {name: getattr(self, name) for name in names}
        if len({len(one) for one in stages.values()}) != 1 or not self.depths:
            told = ", ".join(f"{name}={one}" for name, one in stages.items())
            raise ValueError(f"{told} must have one entry per stage")
        for name in ("slow_stem", "fast_stem"):
            if len(getattr(self, name)) != len(SLOW_LAYERS):
                raise ValueError(
                    f"{name}={getattr(self, name)} must have {len(SLOW_LAYERS)} entries"
                )
        if any(
            one < 1 for part in (*stages.values(), self.slow_stem, self.fast_stem) for one in part
        ):
            raise ValueError("depths and channels must be 1 or more")
        for path in ("slow", "fast"):
            group, channels = getattr(self, f"{path}_group"), getattr(self, f"{path}_channels")
            if group < 1 or any(one % (2 * group) for one in channels):
                raise ValueError(
                    f"{path}_group={group} must divide half of each of {path}_channels={channels}"
                )
        if not 0 <= self.stochastic_depth < 1:
            raise ValueError(f"stochastic_depth={self.stochastic_depth} must lie in [0, 1)")
        if not self.input_deviation > 0:
            raise ValueError(f"input_deviation={self.input_deviation} must be positive")

    @property
    def stride(self) -> int:
        """Frames of the log-mel for each frame of features, the fast path's."""
        return math.prod(strides[0] for _, strides in FAST_LAYERS)

    @property
    def features(self) -> int:
        """Size of the pooled representation: the slow path's channels, then the fast path's."""
        return self.slow_channels[-1] + self.fast_channels[-1]


def scaled_gelu(x: jax.Array) -> jax.Array:
    """GELU with its error function, times a gain that keeps the variance."""
    return (0.5 * GELU_GAIN) * x * (1.0 + jax.lax.erf(x * math.sqrt(0.5)))


def betas(spec: Nfnet, stage: int) -> list[float]:
    """What each block of a stage scales its activation by: the inverse of the deviation of x.

    Each block adds alpha² of variance. MULE takes every stage but the first to start with what one
    block leaves.
    """
    start = 1 if stage else 0
    return [
        1 / math.sqrt(1 + (start + block) * spec.alpha**2) for block in range(spec.depths[stage])
    ]


def halved(x: jax.Array) -> jax.Array:
    """Means of pairs of bands; of an odd number the last band stays alone."""
    odd = x.shape[2] % 2
    last = x[:, :, x.shape[2] - odd :]
    even = x[:, :, : x.shape[2] - odd]
    pairs = 0.5 * (even[:, :, ::2] + even[:, :, 1::2])
    return jnp.concatenate([pairs, last], axis=2) if odd else pairs


class SqueezeExcite(nnx.Module):
    """Weights of channels by what they are on the whole (Hu et al. 2018, arXiv 1709.01507)."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs) -> None:
        self.fc1 = nnx.Linear(channels, channels // 2, rngs=rngs)
        self.fc2 = nnx.Linear(channels // 2, channels, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, frames, bands, channels] → weights [batch, channels] f32, 0 to 2."""
        mean = jnp.mean(x, axis=(1, 2), dtype=jnp.float32)
        return 2 * nnx.sigmoid(self.fc2(nnx.relu(self.fc1(mean))))


class Block(nnx.Module):
    """A bottleneck: 1 x 1, 3 over time, 3 over frequency, 1 x 1, beside a skip connection.

    The first block of a stage is a transition: its skip connection has a convolution of its own and
    begins after the activation, and all but the first stage halve the bands in it.
    """

    def __init__(
        self,
        spec: Nfnet,
        inputs: int,
        outputs: int,
        group: int,
        beta: float,
        halves: bool,
        transition: bool,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.alpha, self.beta, self.halves = spec.alpha, beta, halves
        inner = outputs // 2
        groups = inner // group
        layers = (
            (inputs, inner),
            (inner, inner, (3, 1), (1, 2 if halves else 1), groups),
            (inner, inner, (1, 3), (1, 1), groups),
            (inner, outputs),
        )
        self.convs = nnx.List(
            [StandardizedConv(*layer, dtype=spec.compute_dtype, rngs=rngs) for layer in layers]
        )
        self.se = SqueezeExcite(outputs, rngs=rngs)
        self.skip_gain = nnx.Param(jnp.zeros(1))
        self.skip_conv = (
            StandardizedConv(inputs, outputs, dtype=spec.compute_dtype, rngs=rngs)
            if transition
            else None
        )

    def __call__(self, x: jax.Array, kept: jax.Array | None) -> jax.Array:
        """[batch, frames, bands, inputs], residuals to keep [batch] or None for all → outputs."""
        y = activated = scaled_gelu(x) * self.beta
        for layer in self.convs[:-1]:
            y = scaled_gelu(layer(y))
        y = self.convs[-1](y)
        weights = self.se(y) * (self.alpha * self.skip_gain[...])[None, :]
        if kept is not None:
            weights = weights * kept[:, None]
        if self.skip_conv is not None:
            x = self.skip_conv(halved(activated) if self.halves else activated)
        return x + y * weights[:, None, None, :].astype(y.dtype)


class Stage(nnx.Module):
    """The blocks of one stage of one path."""

    def __init__(self, spec: Nfnet, path: str, stage: int, *, rngs: nnx.Rngs) -> None:
        self.first = sum(spec.depths[:stage])
        outputs, group = getattr(spec, f"{path}_channels")[stage], getattr(spec, f"{path}_group")
        blocks = []
        inputs = _inputs(spec, path, stage)
        for at, beta in enumerate(betas(spec, stage)):
            halves = stage > 0 and at == 0
            blocks.append(
                Block(spec, inputs, outputs, group, beta, halves, transition=at == 0, rngs=rngs)
            )
            inputs = outputs
        self.blocks = nnx.List(blocks)

    def __call__(self, x: jax.Array, kept: jax.Array | None) -> jax.Array:
        """[batch, frames, bands, inputs], kept [batch, all blocks] or None → outputs."""
        for at, block in enumerate(self.blocks):
            x = block(x, None if kept is None else kept[:, self.first + at])
        return x


def _inputs(spec: Nfnet, path: str, stage: int) -> int:
    """Channels that a stage is given."""
    widths = (getattr(spec, f"{path}_stem")[-1], *getattr(spec, f"{path}_channels"))
    return widths[stage] + (spec.fused_channels[stage] if path == "slow" else 0)


class Fusion(nnx.Module):
    """Brings the fast path to the slow one's rate and widens the slow one's channels by it."""

    def __init__(self, spec: Nfnet, stage: int, *, rngs: nnx.Rngs) -> None:
        inputs, dtype = _inputs(spec, "fast", stage), spec.compute_dtype
        inner, outputs = spec.fusion_channels[stage], spec.fused_channels[stage]
        self.conv1 = StandardizedConv(inputs, inner, (7, 1), (RATIO, 1), dtype=dtype, rngs=rngs)
        self.conv2 = StandardizedConv(inner, outputs, dtype=dtype, rngs=rngs)

    def __call__(self, slow: jax.Array, fast: jax.Array) -> jax.Array:
        """Slow and fast [batch, frames, bands, channels] → slow, of more channels."""
        brought = self.conv2(self.conv1(fast))
        # Of equal length; an export, where lengths are symbols, cannot see it and is told so.
        none, missing = (0, 0, 0), (0, slow.shape[1] - brought.shape[1], 0)
        zero = jnp.zeros((), brought.dtype)
        brought = jax.lax.pad(brought, zero, (none, missing, none, none))
        return jnp.concatenate([slow, brought], axis=-1)


class Convolutions(nnx.Module):
    """The first layers of a path."""

    def __init__(self, spec: Nfnet, path: str, *, rngs: nnx.Rngs) -> None:
        channels = (1, *getattr(spec, f"{path}_stem"))
        layers = SLOW_LAYERS if path == "slow" else FAST_LAYERS
        self.convs = nnx.List(
            [
                StandardizedConv(*widths, *layer, dtype=spec.compute_dtype, rngs=rngs)
                for widths, layer in zip(itertools.pairwise(channels), layers, strict=True)
            ]
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, frames, bands, 1] → [batch, frames', bands / 4, channels]."""
        for layer in self.convs[:-1]:
            x = scaled_gelu(layer(x))
        return self.convs[-1](x)


def kept_residuals(
    spec: Nfnet, keys: jax.Array | None, part: int
) -> tuple[jax.Array, jax.Array] | tuple[None, None]:
    """Draws which residual paths each example keeps.

    Args:
        spec: settings of the encoder.
        keys: [batch] random keys, or None to keep all.
        part: 0 in the stem and 1 in a branch, which draw apart.

    Returns:
        For the slow and the fast path, [batch, blocks of all stages], 1 (kept) or 0.
    """
    if keys is None or not spec.stochastic_depth:
        return None, None
    blocks = sum(spec.depths)
    keep = 1 - spec.stochastic_depth * jnp.arange(blocks) / blocks

    def draw(key: jax.Array) -> jax.Array:
        # Branches fold small numbers into the keys that a stem gets as they are.
        return jax.random.bernoulli(
            jax.random.fold_in(key, (1 << 16) + part), keep[None], (2, blocks)
        )

    kept = jax.vmap(draw)(keys).astype(jnp.float32)
    return kept[:, 0], kept[:, 1]


class NfnetStem(nnx.Module):
    """Both paths up to the last stage."""

    def __init__(self, spec: Nfnet, *, rngs: nnx.Rngs) -> None:
        self.spec = spec
        stages = range(len(spec.depths) - 1)
        self.slow_stem = Convolutions(spec, "slow", rngs=rngs)
        self.fast_stem = Convolutions(spec, "fast", rngs=rngs)
        self.fusions = nnx.List([Fusion(spec, stage, rngs=rngs) for stage in stages])
        self.slow_stages = nnx.List([Stage(spec, "slow", stage, rngs=rngs) for stage in stages])
        self.fast_stages = nnx.List([Stage(spec, "fast", stage, rngs=rngs) for stage in stages])

    def __call__(
        self, log_mel: jax.Array, keys: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """[batch, frames, bands] → slow and fast maps [batch, frames', bands', channels]."""
        if self.spec.input_norm == "view":
            x = log_mel - jnp.mean(log_mel, axis=(1, 2), keepdims=True)
            variance = jnp.mean(jnp.square(x), axis=(1, 2), keepdims=True)
            x = x * jax.lax.rsqrt(jnp.maximum(variance, LEAST_DEVIATION**2))
        else:
            x = (log_mel - self.spec.input_mean) / self.spec.input_deviation
        slow_kept, fast_kept = kept_residuals(self.spec, keys, 0)
        slow, fast = self.slow_stem(x[..., None]), self.fast_stem(x[..., None])
        for fusion, slow_stage, fast_stage in zip(
            self.fusions, self.slow_stages, self.fast_stages, strict=True
        ):
            slow = slow_stage(fusion(slow, fast), slow_kept)
            fast = fast_stage(fast, fast_kept)
        return slow, fast


class NfnetBranch(nnx.Module):
    """The last stage of both paths, the fusion before it, and pooling.

    The fusion belongs to the branch, so that each space of LOEV++ takes from the fast path what it
    needs; it has 3 % of a branch's parameters.
    """

    def __init__(self, spec: Nfnet, *, rngs: nnx.Rngs) -> None:
        self.spec = spec
        stage = len(spec.depths) - 1
        self.fusion = Fusion(spec, stage, rngs=rngs)
        self.slow_stage = Stage(spec, "slow", stage, rngs=rngs)
        self.fast_stage = Stage(spec, "fast", stage, rngs=rngs)

    def _maps(
        self, x: tuple[jax.Array, jax.Array], keys: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        slow, fast = x
        slow_kept, fast_kept = kept_residuals(self.spec, keys, 1)
        slow = self.slow_stage(self.fusion(slow, fast), slow_kept)
        return slow, self.fast_stage(fast, fast_kept)

    def frames(self, x: tuple[jax.Array, jax.Array], keys: jax.Array | None = None) -> jax.Array:
        """What the stem gives → [batch, frames', features] f32, at the fast path's rate.

        Each frame is what the pooled representation would be of that frame alone; the slow path's
        frames are repeated.
        """
        slow, fast = (jnp.mean(one, axis=2, dtype=jnp.float32) for one in self._maps(x, keys))
        slow = jnp.repeat(slow, RATIO, axis=1)[:, : fast.shape[1]]
        return scaled_gelu(jnp.concatenate([slow, fast], axis=-1))

    def __call__(self, x: tuple[jax.Array, jax.Array], keys: jax.Array | None = None) -> jax.Array:
        """What the stem gives → [batch, features] f32."""
        pooled = [jnp.mean(one, axis=(1, 2), dtype=jnp.float32) for one in self._maps(x, keys)]
        return scaled_gelu(jnp.concatenate(pooled, axis=-1))
