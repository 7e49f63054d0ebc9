"""What is evaluated, and by how much of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from loev_jax.errors import UserError
from loev_jax.evaluate import labels, splits
from loev_jax.evaluate.changes import MEASURABLE
from loev_jax.evaluate.unions import Mix

SEGMENTS = 6


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a result depends on besides the checkpoint.

    Attributes:
        clips: at most so many of each split; None for all.
        segments: most segments of a clip.
        mix: further spaces, weighted sums of the others, as `Mix.parse` reads them.
        baselines: whether random init and shuffled labels are evaluated too.
        split: what figures are of, one of `splits.SCORED`.
        kinds: of labels, as `labels.kinds` reads them.
        changes: augmentations, of `changes.MEASURABLE`, in which the views of a pair differ too,
            and which are measured, besides stretch, shift and what heads keep.
    """

    clips: int | None = None
    segments: int = SEGMENTS
    mix: Sequence[str] = ()
    baselines: bool = True
    split: str = splits.TEST
    kinds: Sequence[str] = ()
    changes: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "mix", [str(Mix.parse(text)) for text in self.mix])
        read = labels.kinds(self.kinds)
        object.__setattr__(self, "kinds", [f"{name}:{read[name]}" for name in sorted(read)])
        object.__setattr__(self, "changes", sorted({*self.changes}))
        for name in self.changes:
            if name not in MEASURABLE:
                known = ", ".join(MEASURABLE)
                raise UserError(f"--changes={name}: cannot be measured; choose from {known}")
        for name, flag in (("clips", self.clips), ("segments", self.segments)):
            if flag is not None and flag < 1:
                raise UserError(f"--{name}={flag}: give a number of at least 1")
        if self.split not in splits.SCORED:
            raise UserError(f"--split={self.split}: choose from {', '.join(splits.SCORED)}")
