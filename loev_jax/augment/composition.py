"""Transforms made of transforms: one of several, a shuffled order, another name."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from loev_jax.augment.parameters import Parameters
from loev_jax.augment.transform import SAMPLE_RATE, MelTransform, Transform

MOST_SHUFFLED = 6  # 720 orders; a longer list is slow to compile and to run


def names_of(transforms: Sequence[Transform]) -> dict[str, tuple[str, ...]]:
    """The augmentations of several transforms, each with the names of its parameters.

    Raises:
        ValueError: two have the same name.
    """
    names: dict[str, tuple[str, ...]] = {}
    for transform in transforms:
        for augmentation, parameters in transform.augmentations.items():
            if augmentation in names:
                raise ValueError(
                    f"{augmentation} appears twice, so its parameters would share a name: wrap one "
                    "in Named(prefix, transform)"
                )
            names[augmentation] = parameters
    return names


def draw_all(transforms: Sequence[Transform], key: jax.Array) -> Parameters:
    """Draws each transform by itself, each parameter []."""
    drawn: Parameters = {}
    for number, transform in enumerate(transforms):
        drawn |= transform.draw(jax.random.fold_in(key, number))
    return drawn


def apply_all(
    transforms: Sequence[Transform],
    audio: jax.Array,
    parameters: Parameters,
    samples: int,
    sample_rate: int,
) -> jax.Array:
    """Applies transforms in turn; each is given as much source as those after it need."""
    lengths = [samples]
    for transform in reversed(transforms[1:]):
        lengths.append(transform.source_samples(lengths[-1], sample_rate))
    for transform, length in zip(transforms, reversed(lengths), strict=True):
        audio = transform.on_audio(audio, parameters, length, sample_rate)
    return audio


def source_of(transforms: Sequence[Transform], samples: int, sample_rate: int) -> int:
    """Samples of source that transforms in turn need for `samples`."""
    return functools.reduce(
        lambda length, transform: transform.source_samples(length, sample_rate),
        reversed(transforms),
        samples,
    )


@dataclasses.dataclass(frozen=True)
class _Several(Transform):
    """What compositions share.

    Attributes:
        transforms: two or more, each named once.
        probability: of applying any.
    """

    transforms: tuple[Transform, ...]
    probability: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.transforms) < 2:
            raise ValueError(f"{self.NAME} needs two transforms or more")
        for transform in self.transforms:
            _refuse_mel(transform)
        _ = self.augmentations

    @property
    def augmentations(self) -> Mapping[str, tuple[str, ...]]:
        """All that it is made of."""
        return names_of(self.transforms)

    def _draw(self, key: jax.Array) -> Parameters:
        raise NotImplementedError

    def draw(self, key: jax.Array) -> Parameters:
        """Draws whether it is applied, and with what."""
        apply_key, value_key = jax.random.split(key)
        applied = jax.random.bernoulli(apply_key, self.probability)
        return {name: jnp.where(applied, value, 0) for name, value in self._draw(value_key).items()}

    def history(self, sample_rate: int = SAMPLE_RATE) -> int:
        """That of all."""
        return sum(transform.history(sample_rate) for transform in self.transforms)


@dataclasses.dataclass(frozen=True)
class OneOf(_Several):
    """Applies one of several transforms, each as likely as the others.

    The one that is drawn still has its own probability; the others' parameters are 0.
    """

    NAME: ClassVar[str] = "one_of"

    def _draw(self, key: jax.Array) -> Parameters:
        choice_key, draw_key = jax.random.split(key)
        choice = jax.random.randint(choice_key, (), 0, len(self.transforms))
        drawn: Parameters = {}
        for number, transform in enumerate(self.transforms):
            own = transform.draw(jax.random.fold_in(draw_key, number))
            drawn |= {name: jnp.where(choice == number, own[name], 0) for name in own}
        return drawn

    def source_samples(self, samples: int, sample_rate: int = SAMPLE_RATE) -> int:
        """What all of them need, in turn: which one it is, is known on the device only."""
        return source_of(self.transforms, samples, sample_rate)

    def on_audio(
        self, audio: jax.Array, parameters: Parameters, samples: int, sample_rate: int
    ) -> jax.Array:
        """All in turn: those that were not drawn change nothing."""
        return apply_all(self.transforms, audio, parameters, samples, sample_rate)


@dataclasses.dataclass(frozen=True)
class Shuffled(_Several):
    """Applies transforms in an order that is drawn for each example.

    Parameter `order`: the number of the permutation, as itertools orders them; 0 is as given. Every
    place of the order computes all transforms, so n of them cost n² applications.
    """

    NAME: ClassVar[str] = "shuffled"
    ORDER: ClassVar[str] = "order"

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.transforms) > MOST_SHUFFLED:
            raise ValueError(f"{len(self.transforms)} transforms: shuffle {MOST_SHUFFLED} at most")
        for transform in self.transforms:
            if transform.source_samples(1000) != 1000 + transform.history():
                raise ValueError(f"{transform.NAME} changes the length: it cannot be shuffled")

    @property
    def augmentations(self) -> Mapping[str, tuple[str, ...]]:
        """All that it is made of, and the order."""
        return {**names_of(self.transforms), self.NAME: (self.ORDER,)}

    def _draw(self, key: jax.Array) -> Parameters:
        order_key, draw_key = jax.random.split(key)
        orders = math.factorial(len(self.transforms))
        order = jax.random.randint(order_key, (), 0, orders, jnp.int32)
        return {self.ORDER: order, **draw_all(self.transforms, draw_key)}

    def on_audio(
        self, audio: jax.Array, parameters: Parameters, samples: int, sample_rate: int
    ) -> jax.Array:
        """Each place of the order selects among all."""
        history = self.history(sample_rate)
        audio = audio[:, : samples + history]
        permutations = np.array(list(itertools.permutations(range(len(self.transforms)))), np.int32)
        number = jnp.clip(parameters[self.ORDER].astype(jnp.int32), 0, len(permutations) - 1)
        order = jnp.asarray(permutations)[number]  # [batch, places]
        for place in range(len(self.transforms)):
            changed = audio
            for which, transform in enumerate(self.transforms):
                # What lacks its history stays as it was; all of it is cut off at the end.
                lead = transform.history(sample_rate)
                done = transform.on_audio(audio, parameters, samples + history - lead, sample_rate)
                whole = jnp.concatenate([audio[:, :lead], done], axis=1)
                changed = jnp.where((order[:, place] == which)[:, None], whole, changed)
            audio = changed
        return audio[:, history:]


@dataclasses.dataclass(frozen=True)
class Named(Transform):
    """A transform under another name, so that a chain may hold two of a kind.

    Attributes:
        prefix: put before its name and those of its parameters, with a slash.
        transform: what it is.
    """

    NAME: ClassVar[str] = "named"
    prefix: str
    transform: Transform

    def __post_init__(self) -> None:
        _refuse_mel(self.transform)

    @property
    def augmentations(self) -> Mapping[str, tuple[str, ...]]:
        """The names of the transform, each with the prefix."""
        return {
            f"{self.prefix}/{augmentation}": tuple(f"{self.prefix}/{name}" for name in names)
            for augmentation, names in self.transform.augmentations.items()
        }

    def draw(self, key: jax.Array) -> Parameters:
        """Draws the transform."""
        drawn = self.transform.draw(key)
        return {f"{self.prefix}/{name}": value for name, value in drawn.items()}

    def source_samples(self, samples: int, sample_rate: int = SAMPLE_RATE) -> int:
        """That of the transform."""
        return self.transform.source_samples(samples, sample_rate)

    def history(self, sample_rate: int = SAMPLE_RATE) -> int:
        """That of the transform."""
        return self.transform.history(sample_rate)

    def on_audio(
        self, audio: jax.Array, parameters: Parameters, samples: int, sample_rate: int
    ) -> jax.Array:
        """Applies the transform with the parameters under its prefix."""
        names = itertools.chain.from_iterable(self.transform.augmentations.values())
        own = {name: parameters[f"{self.prefix}/{name}"] for name in names}
        return self.transform.on_audio(audio, own, samples, sample_rate)


def _refuse_mel(transform: Transform) -> None:
    if isinstance(transform, MelTransform):
        raise ValueError(  # noqa: TRY004 - the value is wrong, as in any other field
            f"{transform.NAME} works on log-mels: put it in a log_mel_chain itself"
        )


def one_of(*transforms: Transform, probability: float = 1.0) -> OneOf:
    """One of several transforms (see `OneOf`)."""
    return OneOf(transforms, probability)


def shuffled(*transforms: Transform, probability: float = 1.0) -> Shuffled:
    """Transforms in an order drawn for each example (see `Shuffled`)."""
    return Shuffled(transforms, probability)


def batched_draw(
    draw: Callable[[jax.Array], Parameters], key: jax.Array, example: jax.Array
) -> Parameters:
    """Draws for each example with a key that is a function of (key, example) alone."""
    return jax.vmap(lambda number: draw(jax.random.fold_in(key, number)))(example)
