"""Views: from windows of audio to the augmented log-mels that a training step sees.

All of it runs on the device, inside the jitted step. A view is never padded or looped: the host
sends windows long enough for the fastest view, `Views.window_samples` samples of each clip.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp

from loev_jax import frontend
from loev_jax.augment import analysis, frames
from loev_jax.augment.augmentations import Augmentations
from loev_jax.augment.chain import LogMelChain
from loev_jax.augment.composition import batched_draw
from loev_jax.augment.parameters import Parameters, independent, leave_one_out

FULL_SCALE = 32768.0


@dataclasses.dataclass(frozen=True)
class Views:
    """How the views of a clip are made.

    Attributes:
        frontend: settings of the log-mel.
        augmentations: what may be applied.
        kept: for each variant head, the augmentations it is not invariant to.
        seconds: length of a view; it is rounded down to whole frames.
        domain: where to augment, "analysis" (nothing is resynthesised) or "waveform".
        construction: "leave_one_out" (LooC: len(kept) + 2 views that share parameters in turn) or
            "independent" (the published setting).
        count: number of views when they are independent.
        crop: where views lie in the window: "same" place, "adjacent" (evenly laid out from first
            to last) or "random" (each drawn on its own).
        spread_seconds: greatest distance between the starts of two views of a clip.
        window_scale: range of the factor of the analysis window's length, drawn per view (analysis
            domain only; see `loev_jax.augment.analysis`).
        window_follows_pitch: whether the window is longer by the pitch ratio too, so that a mel
            band of a shifted view hears as many independent bins as before (analysis domain only).
            It hides shifts where frames do not overlap.
    """

    frontend: frontend.LogMel
    augmentations: Augmentations
    kept: tuple[tuple[str, ...], ...] = ()
    seconds: float = 3.0
    domain: Literal["analysis", "waveform"] = "analysis"
    construction: Literal["leave_one_out", "independent"] = "leave_one_out"
    count: int = 2
    crop: Literal["same", "adjacent", "random"] = "random"
    spread_seconds: float = 4.0
    window_scale: tuple[float, float] = (1.0, 1.0)
    window_follows_pitch: bool = False

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f"seconds={self.seconds} is shorter than one window")
        if self.number < 2:
            raise ValueError(f"count={self.number}: a clip needs two views or more")
        if self.spread_seconds < 0:
            raise ValueError(f"spread_seconds={self.spread_seconds} must be 0 or more")
        if not 0 < self.window_scale[0] <= self.window_scale[1]:
            raise ValueError(f"window_scale={self.window_scale} must be positive and ascend")
        analysis.span(self.frontend, self.longest_window)

    @property
    def longest_window(self) -> float:
        """The greatest factor of the analysis window's length; 1 in the waveform domain."""
        if self.domain != "analysis":
            return 1.0
        shift = self.augmentations.pitch_shift
        higher = shift.high if shift and self.window_follows_pitch else 0.0
        return self.window_scale[1] * math.exp2(max(higher, 0.0) / 12)

    @property
    def number(self) -> int:
        """Views of each clip."""
        return self.count if self.construction == "independent" else len(self.kept) + 2

    @property
    def frames(self) -> int:
        """Frames of each view."""
        return self.frontend.frames(round(self.seconds * self.frontend.sample_rate))

    @property
    def chain(self) -> LogMelChain:
        """What makes a log-mel of a view's source."""
        return LogMelChain(
            self.augmentations.transforms,
            self.frames,
            self.frontend,
            self.domain,
            self.longest_window,
        )

    @property
    def source_samples(self) -> int:
        """Samples of source that one view may read."""
        return self.chain.source_samples

    @property
    def window_samples(self) -> int:
        """Samples of each clip that the host sends."""
        spread = (
            0 if self.crop == "same" else round(self.spread_seconds * self.frontend.sample_rate)
        )
        return self.source_samples + spread


def _offsets(views: Views, key: jax.Array) -> jax.Array:
    """Where each view of a clip starts in its window, [views] in samples."""
    spread = views.window_samples - views.source_samples
    if views.crop == "adjacent":
        return jnp.round(jnp.linspace(0, spread, views.number)).astype(jnp.int32)
    shape = (1,) if views.crop == "same" else (views.number,)
    drawn = jax.random.randint(key, shape, 0, spread + 1)
    return jnp.broadcast_to(drawn, (views.number,))


def draw(views: Views, key: jax.Array, example: jax.Array) -> Parameters:
    """Draws the parameters of all views of some clips.

    Args:
        views: how views are made.
        key: the run's random key [].
        example: [clips] global example numbers: every draw is a function of (key, example).

    Returns:
        Each parameter [clips, views], and two more that no augmentation owns: `crop` (start in
        the window, samples) and `window_scale` (factor of the window's length).
    """
    spec, shared = views.augmentations, views.augmentations.shared

    def one(key: jax.Array) -> Parameters:
        augment_key, crop_key, scale_key = jax.random.split(key, 3)
        if views.construction == "independent":
            drawn = independent(spec, augment_key, views.number, shared)
        else:
            drawn = leave_one_out(spec, augment_key, views.kept, shared)
        # Only the analysis domain has a window to scale: elsewhere 1 is what is applied.
        low, high = views.window_scale if views.domain == "analysis" else (1.0, 1.0)
        scale = jax.random.uniform(scale_key, (views.number,), jnp.float32, low, high)
        if views.domain == "analysis" and views.window_follows_pitch and "pitch_shift" in drawn:
            scale = scale * jnp.exp2(drawn["pitch_shift"] / 12.0)
        return drawn | {"crop": _offsets(views, crop_key), "window_scale": scale}

    return batched_draw(one, key, example)


def render(views: Views, audio: jax.Array, parameters: Parameters) -> jax.Array:
    """Applies given parameters, so that a result can be reproduced from its record.

    Args:
        views: how views are made.
        audio: [clips, window_samples] int16.
        parameters: as `draw` returns them.

    Returns:
        Log-mels [clips, views, frames, bands] f32.

    Raises:
        ValueError: the windows are of another length, or an odd number of clips is to be mixed.
    """
    if audio.shape[1] != views.window_samples:
        raise ValueError(f"windows of {audio.shape[1]} samples; need {views.window_samples}")
    clips = audio.shape[0]
    if views.augmentations.mixes and clips % 2:
        raise ValueError(f"{clips} clips cannot be mixed in pairs: take an even number a device")
    length = views.source_samples
    # Views first: neighbouring rows, which mixing pairs, are then different clips.
    cut = frames.crop(audio, parameters["crop"], length)
    source = cut.reshape(views.number * clips, length) / FULL_SCALE
    flat = {name: value.T.reshape(-1) for name, value in parameters.items()}
    mels = views.chain.apply(source, flat)
    return jnp.moveaxis(mels.reshape(views.number, clips, *mels.shape[1:]), 0, 1)


def make(
    views: Views, key: jax.Array, audio: jax.Array, example: jax.Array
) -> tuple[jax.Array, Parameters]:
    """Draws and renders: windows [clips, window_samples] → log-mels and what was applied."""
    parameters = draw(views, key, example)
    return render(views, audio, parameters), parameters
