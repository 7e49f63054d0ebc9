"""What is drawn: the parameters of every augmentation, per view, and how views share them.

`Parameters` maps a parameter's name to an array of one shape (usually [clips, views]) in its
natural unit. 0 is "not applied" for every one of them:

| parameter          | augmentation | unit                                     |
|--------------------|--------------|------------------------------------------|
| `time_stretch`     | time_stretch | log2 of the rate, rate > 1 is faster      |
| `pitch_shift`      | pitch_shift  | semitones                                |
| `gain`             | gain         | dB                                       |
| `filter_kind`      | filter       | 0 none, 1 low-, 2 high-, 3 band-pass, 4 band-stop |
| `filter_frequency` | filter       | log2 of the centre or cut-off in Hz       |
| `filter_bandwidth` | filter       | bandwidth as a fraction of the centre     |
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

Parameters = dict[str, jax.Array]

PARAMETERS_OF: Mapping[str, tuple[str, ...]] = {
    "time_stretch": ("time_stretch",),
    "pitch_shift": ("pitch_shift",),
    "gain": ("gain",),
    "filter": ("filter_kind", "filter_frequency", "filter_bandwidth"),
}
PARAMETER_NAMES = tuple(name for names in PARAMETERS_OF.values() for name in names)


@dataclasses.dataclass(frozen=True)
class Range:
    """A parameter drawn uniformly from `low` to `high`, or from steps of `step` within them.

    Attributes:
        low: least value, in the parameter's unit.
        high: greatest value.
        step: 0 for a continuous draw; otherwise values are whole multiples of it.
        probability: of applying the augmentation at all.
    """

    low: float
    high: float
    step: float = 0.0
    probability: float = 1.0

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"low={self.low} exceeds high={self.high}")
        if self.step < 0:
            raise ValueError(f"step={self.step} must be 0 or more")
        if not 0.0 <= self.probability <= 1.0:
            raise ValueError(f"probability={self.probability} must lie in 0..1")
        if self.step and self._steps[0] > self._steps[1]:
            raise ValueError(f"no multiple of step={self.step} lies in {self.low}..{self.high}")

    @property
    def _steps(self) -> tuple[int, int]:
        """The first and the last whole multiple of `step` in the range."""
        slack = 1e-6
        return math.ceil(self.low / self.step - slack), math.floor(self.high / self.step + slack)

    @property
    def half_width(self) -> float:
        """Half the distance from the least to the greatest value."""
        return (self.high - self.low) / 2

    def draw(self, key: jax.Array) -> jax.Array:
        """One value, f32 []; whether it is applied is drawn elsewhere."""
        if self.step == 0.0:
            return jax.random.uniform(key, (), jnp.float32, self.low, self.high)
        first, last = self._steps
        return jax.random.randint(key, (), first, last + 1).astype(jnp.float32) * self.step


@dataclasses.dataclass(frozen=True)
class Filters:
    """A filter drawn among kinds of equal probability (ranges of the paper's code).

    Attributes:
        probability: of filtering at all.
        low_pass: range of the cut-off in Hz, drawn evenly in octaves.
        high_pass: likewise.
        band: range of the centre of band-pass and band-stop in Hz, drawn evenly in octaves.
        bandwidth: range of the bandwidth as a fraction of the centre, below 2.
        kinds: kinds to draw from, by number (see the module's table).
    """

    probability: float = 0.8
    low_pass: tuple[float, float] = (75.0, 7500.0)
    high_pass: tuple[float, float] = (200.0, 2400.0)
    band: tuple[float, float] = (200.0, 4000.0)
    bandwidth: tuple[float, float] = (0.5, 1.99)
    kinds: tuple[int, ...] = (1, 2, 3, 4)

    def __post_init__(self) -> None:
        for name in ("low_pass", "high_pass", "band"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name}={(low, high)} must be positive and ascend")
        if not 0 < self.bandwidth[0] <= self.bandwidth[1] < 2:
            raise ValueError(f"bandwidth={self.bandwidth} must ascend within 0..2")
        if not self.kinds or not set(self.kinds) <= {1, 2, 3, 4}:
            raise ValueError(f"kinds={self.kinds} must be drawn from 1, 2, 3 and 4")

    def draw(self, key: jax.Array) -> Parameters:
        """One filter: kind, log2 frequency, bandwidth, each f32 []."""
        kind_key, frequency_key, bandwidth_key = jax.random.split(key, 3)
        drawn = jax.random.randint(kind_key, (), 0, len(self.kinds))
        kind = jnp.asarray(self.kinds, jnp.float32)[drawn]
        ranges = np.log2([self.low_pass, self.high_pass, self.band, self.band]).astype(np.float32)
        low, high = jnp.asarray(ranges)[kind.astype(jnp.int32) - 1]
        frequency = low + (high - low) * jax.random.uniform(frequency_key, ())
        bandwidth = jax.random.uniform(bandwidth_key, (), jnp.float32, *self.bandwidth)
        return {
            "filter_kind": kind,
            "filter_frequency": frequency,
            "filter_bandwidth": bandwidth * (kind >= 3),
        }


@dataclasses.dataclass(frozen=True)
class Augmentations:
    """The augmentations of a recipe; one that is None is never applied.

    Attributes:
        time_stretch: log2 of the rate, in octaves of tempo.
        pitch_shift: in semitones.
        gain: in dB.
        filter: spectral filters.
    """

    time_stretch: Range | None = None
    pitch_shift: Range | None = None
    gain: Range | None = None
    filter: Filters | None = None

    @property
    def fastest(self) -> float:
        """The greatest rate of time stretch, at least 1."""
        return 2.0 ** max(0.0, self.time_stretch.high if self.time_stretch else 0.0)

    @property
    def widest_shift(self) -> float:
        """The greatest pitch shift, up or down, in semitones; at least 0."""
        shift = self.pitch_shift
        return max(abs(shift.low), abs(shift.high)) if shift else 0.0

    def scale(self, parameter: str) -> float:
        """Half the range of a scalar parameter: divides it into unit range.

        Raises:
            ValueError: the parameter is not drawn from a range of positive width.
        """
        drawn = getattr(self, parameter, None)
        if not isinstance(drawn, Range) or drawn.half_width == 0:
            raise ValueError(f"{parameter} is not drawn from a range, so it has no scale")
        return drawn.half_width


def draw(augmentations: Augmentations, key: jax.Array) -> Parameters:
    """Draws all parameters of one view.

    Args:
        augmentations: what may be applied.
        key: a JAX random key [].

    Returns:
        Every name of `PARAMETER_NAMES`, each f32 [].
    """
    result = {name: jnp.zeros((), jnp.float32) for name in PARAMETER_NAMES}
    for number, (augmentation, names) in enumerate(PARAMETERS_OF.items()):
        spec = getattr(augmentations, augmentation)
        if spec is None:
            continue
        apply_key, value_key = jax.random.split(jax.random.fold_in(key, number))
        applied = jax.random.bernoulli(apply_key, spec.probability)
        value = spec.draw(value_key)
        values = value if isinstance(value, dict) else {augmentation: value}
        result |= {name: jnp.where(applied, values[name], 0.0) for name in names}
    return result


def independent(augmentations: Augmentations, key: jax.Array, views: int) -> Parameters:
    """Draws every view of a clip on its own (the published setting), each value [views]."""
    keys = jax.vmap(lambda view: jax.random.fold_in(key, view))(jnp.arange(views))
    return jax.vmap(lambda one: draw(augmentations, one))(keys)


def leave_one_out(
    augmentations: Augmentations, key: jax.Array, kept: tuple[tuple[str, ...], ...]
) -> Parameters:
    """Draws the views of one clip so that each variant head has positives and negatives.

    As in LooC (Xiao et al. 2021, arXiv 2008.05659, section 3): view 0 is the query; view k + 1
    copies the query's parameters of the augmentations `kept[k]` and redraws the rest; the last view
    redraws all.

    Args:
        augmentations: what may be applied.
        key: a JAX random key [].
        kept: for each variant head, the augmentations it must not be invariant to.

    Returns:
        Every name of `PARAMETER_NAMES`, each f32 [len(kept) + 2].
    """
    drawn = independent(augmentations, key, len(kept) + 2)
    for view, augmentations_kept in enumerate(kept, start=1):
        for augmentation in augmentations_kept:
            for name in PARAMETERS_OF[augmentation]:
                drawn[name] = drawn[name].at[view].set(drawn[name][0])
    return drawn
