"""What came of preparing the corpus: the return value of `prepare`, and `report.json`."""

from __future__ import annotations

import dataclasses
import json
import pathlib

from loev_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Report:
    """What `prepare` did; `report.json` in the corpus holds the same.

    Attributes:
      version: the version of the corpus that rendered the corpus.
      clips: how many clips were asked for.
      seed: the corpus's seed.
      read: how many pieces were read.
      kept: how many of them the corpus plays.
      skipped: the ids of the unusable pieces, by reason.
      failed: the clips that could not be rendered and why, by record id.
      splits: the number of records in each split.
      collections: the number of records of each collection.
      instruments: the number of records of each instrument family.
      seconds: the time that the last run took; the corpus may have taken several.
    """

    version: str
    clips: int
    seed: int
    read: int
    kept: int
    skipped: dict[str, list[str]]
    failed: dict[str, str]
    splits: dict[str, int]
    collections: dict[str, int]
    instruments: dict[str, int]
    seconds: float

    def __str__(self) -> str:
        """Returns the report in a few lines, without the lists of what was skipped."""

        def counts(named: dict[str, int]) -> str:
            return ", ".join(f"{name} {count}" for name, count in named.items())

        skipped = {reason: len(found) for reason, found in self.skipped.items()}
        return "\n".join(
            [
                f"{sum(self.splits.values())} clips in {self.seconds:.0f} s",
                f"pieces: {self.read} read, {self.kept} kept, {sum(skipped.values())} skipped",
                *(f"  {count} x {reason}" for reason, count in skipped.items()),
                f"clips that could not be rendered: {len(self.failed)}",
                f"splits: {counts(self.splits)}",
                f"collections: {counts(self.collections)}",
                f"instruments: {counts(self.instruments)}",
            ]
        )


def read(directory: pathlib.Path) -> Report | None:
    """Returns the report that stands in `directory`, or None if there is none.

    Raises:
      UserError: it cannot be read.
    """
    try:
        return Report(**json.loads((directory / "report.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, TypeError, ValueError) as error:
        raise UserError(f"{directory}/report.json is damaged; move {directory} away") from error
