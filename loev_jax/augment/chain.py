"""Chains of transforms: audio to audio, or audio to log-mels, with what was applied as data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

import jax
import jax.numpy as jnp

from loev_jax import frontend as frontends
from loev_jax.augment import analysis
from loev_jax.augment.composition import (
    apply_all,
    batched_draw,
    draw_all,
    names_of,
    source_of,
)
from loev_jax.augment.parameters import Parameters, independent, leave_one_out
from loev_jax.augment.spectral import (
    StretchShift,
    fastest_rate,
    stretch_and_shift_of,
)
from loev_jax.augment.transform import (
    SAMPLE_RATE,
    MelTransform,
    SpectralTransform,
    Transform,
)


@dataclasses.dataclass(frozen=True)
class _Composed:
    """What chains to audio and to log-mels share: how parameters are drawn and checked."""

    transforms: tuple[Transform, ...]

    @property
    def augmentations(self) -> Mapping[str, tuple[str, ...]]:
        """The names of the augmentations, each with those of its parameters."""
        return names_of(self.transforms)

    @property
    def source_samples(self) -> int:
        """Samples of source that each view needs, so that none of it is padded or looped."""
        raise NotImplementedError

    def draw(self, key: jax.Array) -> Parameters:
        """Draws the parameters of one view, each []."""
        return draw_all(self.transforms, key)

    def apply(self, audio: jax.Array, parameters: Parameters) -> jax.Array:
        """Applies given parameters: a result from its record.

        Args:
            audio: [batch, source_samples] f32 or longer.
            parameters: every name of `augmentations`, each [batch].

        Raises:
            ValueError: a shape is wrong, a parameter is missing or, outside jit, a value is not
                finite or out of range.
        """
        raise NotImplementedError

    def __call__(
        self,
        key: jax.Array,
        audio: jax.Array,
        given: Parameters | None = None,
        example: jax.Array | None = None,
    ) -> tuple[jax.Array, Parameters]:
        """Draws and applies.

        Args:
            key: a JAX random key [].
            audio: [batch, source_samples] f32 or longer; full scale is 1.
            given: parameters to use instead of drawn ones, each [batch].
            example: [batch] numbers of the examples: a draw is a function of (key, example) alone.
                The rows' own numbers if left out.

        Returns:
            The result [batch, ...] f32 and every parameter applied, each [batch].

        Raises:
            ValueError: as `apply`, or a given parameter that none of the transforms has.
        """
        if example is None:
            example = jnp.arange(jnp.shape(audio)[0])
        parameters = batched_draw(self.draw, key, example)
        unknown = sorted(set(given or {}) - set(parameters))
        if unknown:
            raise ValueError(f"given {unknown[0]!r}: no such parameter; known: {list(parameters)}")
        parameters |= given or {}
        return self.apply(audio, parameters), parameters

    def views(
        self,
        key: jax.Array,
        audio: jax.Array,
        views: int | tuple[tuple[str, ...], ...],
        shared: tuple[str, ...] = (),
        example: jax.Array | None = None,
    ) -> tuple[jax.Array, Parameters]:
        """Several views of each clip.

        Args:
            key: a JAX random key [].
            audio: [clips, source_samples] f32 or longer.
            views: a number of independent views; or, for each variant head, the augmentations that
                it keeps: leave-one-out views (`loev_jax.augment.parameters.leave_one_out`).
            shared: augmentations of which all views of a clip take the same parameters.
            example: [clips] numbers of the clips; the rows' own if left out.

        Returns:
            The views [clips, views, ...] f32 and every parameter, each [clips, views].
        """
        if example is None:
            example = jnp.arange(jnp.shape(audio)[0])

        def draw(one: jax.Array) -> Parameters:
            if isinstance(views, int):
                return independent(self, one, views, shared)
            return leave_one_out(self, one, views, shared)

        parameters = batched_draw(draw, key, example)
        number = views if isinstance(views, int) else len(views) + 2
        # Views first: neighbouring rows, which mixing pairs, are then different clips.
        rows = jnp.tile(audio, (number, 1))
        flat = {name: value.T.reshape(-1) for name, value in parameters.items()}
        result = self.apply(rows, flat)
        result = result.reshape(number, audio.shape[0], *result.shape[1:])
        return jnp.moveaxis(result, 0, 1), parameters

    def _check(self, audio: jax.Array, parameters: Parameters) -> None:
        if jnp.ndim(audio) != 2 or audio.shape[1] < self.source_samples:
            raise ValueError(
                f"audio {jnp.shape(audio)} must be [batch, {self.source_samples} samples or more]: "
                "the chain's source_samples, so that no view is padded"
            )
        for names in self.augmentations.values():
            for name in names:
                if name not in parameters:
                    raise ValueError(f"the parameter {name!r} is missing")


@dataclasses.dataclass(frozen=True)
class Chain(_Composed):
    """Transforms of audio, in turn. Make one with `chain`.

    Attributes:
        transforms: in their order.
        samples: length of the result.
        sample_rate: in Hz.
    """

    samples: int
    sample_rate: int = SAMPLE_RATE

    def __post_init__(self) -> None:
        _ = self.augmentations
        for transform in self.transforms:
            if isinstance(transform, MelTransform):
                raise ValueError(  # noqa: TRY004 - the value is wrong, as in any other field
                    f"{transform.NAME} works on log-mels: use log_mel_chain"
                )
        if self.samples < 1:
            raise ValueError(f"samples={self.samples} must be 1 or more")

    @property
    def source_samples(self) -> int:
        """Samples of source that each view needs, so that none of it is padded or looped."""
        return source_of(self.transforms, self.samples, self.sample_rate)

    def apply(self, audio: jax.Array, parameters: Parameters) -> jax.Array:
        """Applies given parameters, each [batch] → [batch, samples] f32 (see the base class)."""
        self._check(audio, parameters)
        if not self.transforms:
            return audio[:, : self.samples]
        return apply_all(self.transforms, audio, parameters, self.samples, self.sample_rate)


@dataclasses.dataclass(frozen=True)
class LogMelChain(_Composed):
    """Transforms on the way from audio to a log-mel. Make one with `log_mel_chain`.

    Three stages, in this order in both domains: degradations of the audio; stretch, shift, gain,
    filter and equaliser; mixing and masking of the log-mel. In the analysis domain the second stage
    is done by the front end itself and nothing is resynthesised.

    Attributes:
        transforms: in their order.
        frames: of the log-mel.
        frontend: its settings.
        domain: where the second stage works.
        longest_window: greatest factor of the analysis window's length, which the parameter
            `window_scale` may give for each view (analysis domain only).
    """

    frames: int
    frontend: frontends.LogMel = frontends.LogMel()
    domain: Literal["analysis", "waveform"] = "analysis"
    longest_window: float = 1.0

    def __post_init__(self) -> None:
        _ = self.augmentations
        stages = [_stage(transform) for transform in self.transforms]
        if stages != sorted(stages):
            named = ", ".join(transform.NAME for transform in self.transforms)
            raise ValueError(
                f"{named}: degradations come first, then stretch, shift, gain and filters, then "
                "masks and mixup"
            )
        if self.frames < 1:
            raise ValueError(f"frames={self.frames} must be 1 or more")
        analysis.span(self.frontend, self.longest_window)

    def _of(self, stage: int) -> tuple[Transform, ...]:
        return tuple(one for one in self.transforms if _stage(one) == stage)

    @property
    def _audio_chain(self) -> Chain:
        """What is done to audio before the front end."""
        rate = self.frontend.sample_rate
        if self.domain == "analysis":
            fastest = fastest_rate(stretch_and_shift_of(self._of(1))[0])
            samples = analysis.source_samples(
                self.frontend, self.frames, fastest, self.longest_window
            )
            return Chain(self._of(0), samples, rate)
        stretch, shift = stretch_and_shift_of(self._of(1))
        moved = (StretchShift(stretch, shift),) if stretch or shift else ()
        spectral = tuple(one for one in self._of(1) if stretch_and_shift_of((one,)) == (None, None))
        return Chain((*self._of(0), *moved, *spectral), self.frontend.samples(self.frames), rate)

    @property
    def source_samples(self) -> int:
        """Samples of source that each view needs, so that none of it is padded or looped."""
        return self._audio_chain.source_samples

    @property
    def history(self) -> int:
        """How many of them lie before the view's first one."""
        return sum(one.history(self.frontend.sample_rate) for one in self._audio_chain.transforms)

    def apply(self, audio: jax.Array, parameters: Parameters) -> jax.Array:
        """Applies given parameters, each [batch] → [batch, frames, bands] (see the base class)."""
        self._check(audio, parameters)
        audio = self._audio_chain.apply(audio, parameters)
        if self.domain == "analysis":
            mels = analysis.log_mel(
                self.frontend,
                audio,
                parameters,
                self.frames,
                parameters.get("window_scale"),
                self.longest_window,
            )
        else:
            mels = frontends.log_mel(self.frontend, audio)
        for transform in self._of(2):
            assert isinstance(transform, MelTransform)
            mels = transform.on_mels(mels, parameters)
        return mels


def _stage(transform: Transform) -> int:
    """0 works on audio only, 1 in both domains, 2 on log-mels."""
    if isinstance(transform, MelTransform):
        return 2
    return 1 if isinstance(transform, SpectralTransform) else 0


def chain(*transforms: Transform, samples: int, sample_rate: int = SAMPLE_RATE) -> Chain:
    """A chain of transforms of audio.

        augmented, applied = chain(TimeStretch(), Gain(), samples=48_000)(key, audio)

    Args:
        *transforms: in their order; `one_of` and `shuffled` make one of several.
        samples: length of the result.
        sample_rate: in Hz.

    Raises:
        ValueError: two transforms have the same name, or one works on log-mels.
    """
    return Chain(transforms, samples, sample_rate)


def log_mel_chain(
    *transforms: Transform,
    frames: int,
    frontend: frontends.LogMel = frontends.LogMel(),
    domain: Literal["analysis", "waveform"] = "analysis",
) -> LogMelChain:
    """A chain of transforms from audio to log-mels [batch, frames, bands] (see `LogMelChain`).

    Raises:
        ValueError: two transforms have the same name, or their order is not that of the stages.
    """
    return LogMelChain(transforms, frames, frontend, domain)
