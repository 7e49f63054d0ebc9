"""What a run logs, step by step: numbers to CLU's writers and the journal, pictures and sound.

Every step is watched, not only those that are logged: one that was skipped is told, and too many in
a row end the run.
"""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
from absl import logging

from loev_jax import step as steps
from loev_jax.config import Recipe
from loev_jax.errors import RunError
from loev_jax.monitor import pictures, sound
from loev_jax.monitor.inspection import Inspection
from loev_jax.monitor.pace import Pace
from loev_jax.monitor.writers import Events, Journal

COLLAPSED = 1.5
"""The effective rank below which a space is said to have collapsed: that of one point is 1."""

_PICTURED = 4  # clips
_HEARD = 2  # clips


class NonFiniteLossError(RunError):
    """Steps are not finite, time and again; the last checkpoint is good."""


class Log:
    """Metrics to CLU's writers and the journal, one step late so that the device never waits."""

    def __init__(self, recipe: Recipe, workdir: Path, first_step: int) -> None:
        from clu import periodic_actions

        primary = jax.process_index() == 0
        self._most_skipped = recipe.optimizer.most_skipped
        self._every, self._total = recipe.training.log_every, recipe.training.steps
        self.writer = Events(workdir / "train", just_logging=not primary)
        self._journal = Journal(workdir, first_step + 1) if primary else None
        # Steps per second and the ETA, to the log and to the events.
        self._progress = periodic_actions.ReportProgress(
            num_train_steps=self._total, writer=self.writer, every_secs=20.0
        )
        self._frontend = recipe.views.frontend
        self._unwatched: tuple[int, steps.Metrics] | None = None
        self._pending: tuple[int, steps.Metrics, dict[str, float], Inspection | None] | None = None

    def __call__(
        self, step: int, metrics: steps.Metrics, pace: Pace, seen: Inspection | None
    ) -> None:
        """Takes the metrics after `step` steps, and what was seen of their views, if anything.

        Looks at those of the step before, which has ended while this one is under way.

        Raises:
            NonFiniteLossError: too many steps in a row had to be skipped; all processes see it.
        """
        self._progress(step)
        self._watch()
        self._write()
        metrics["skipped_in_a_row"].copy_to_host_async()
        self._unwatched = (step, metrics)
        if step % self._every == 0 or step == self._total or seen:
            self._pending = (step, metrics, pace.told(), seen)

    def _watch(self) -> None:
        """Tells of a step that was skipped. Raises as `__call__` does."""
        if self._unwatched is None:
            return
        (step, metrics), self._unwatched = self._unwatched, None
        if not float(metrics["skipped_in_a_row"]):
            return
        values = _fetched(metrics)
        what = (
            f"loss {values['loss']:g}, norm of the gradient {values['gradient_norm']:g}, of the "
            f"update {values['update_norm']:g}"
        )
        if values["skipped_in_a_row"] > self._most_skipped:
            raise NonFiniteLossError(
                f"step {step}: {what}; {values['skipped_in_a_row']:.0f} steps in a row were "
                f"skipped (config.optimizer.most_skipped={self._most_skipped}); the last "
                "checkpoint is good: try a lower config.optimizer.learning_rate in another "
                "--workdir"
            )
        logging.warning("step %d was skipped: %s; %d skipped so far", step, what, values["skipped"])

    def _write(self) -> None:
        """Writes what is pending."""
        if self._pending is None:
            return
        (step, arrays, pace, seen), self._pending = self._pending, None
        values = _fetched(arrays | (seen.metrics if seen else {}))
        _warn_of_collapse(step, values)
        self.writer.write_scalars(step, values | pace)
        if self._journal:
            # What depends on the machine is not in it: it is the same whatever was killed.
            self._journal.write(step, values)
            if seen:
                self._show(step, seen)

    def _show(self, step: int, seen: Inspection) -> None:
        """Pictures of views and similarities, and the views as sound."""
        # Brought here whole: other processes take no part in cutting it.
        shown = np.asarray(seen.views)[:_PICTURED]
        images = {"views": pictures.of_views(shown)}
        for head, cosines in seen.similarities.items():
            images[f"similarities/{head}"] = pictures.of_similarities(np.asarray(cosines))[None]
        self.writer.write_images(step, images)
        heard = shown[:_HEARD].reshape(-1, *shown.shape[2:])
        waves = np.stack([sound.of_log_mel(self._frontend, one) for one in heard])
        self.writer.write_audios(
            step, {"views/sound": waves[..., None]}, self._frontend.sample_rate
        )

    def sync(self) -> None:
        """Writes all there is: a checkpoint is never ahead of the metrics.

        Raises:
            NonFiniteLossError: as `__call__`; what would be saved is no better than what is.
            OSError: the disk does not take them.
        """
        self._watch()
        self._write()
        self.writer.flush()
        if self._journal:
            self._journal.sync()

    def close(self) -> None:
        """Closes the writers."""
        self.writer.close()
        if self._journal:
            self._journal.close()


def _fetched(metrics: steps.Metrics) -> dict[str, float]:
    """Metrics on the host."""
    return {name: float(value) for name, value in jax.device_get(metrics).items()}


def _warn_of_collapse(step: int, values: dict[str, float]) -> None:
    for name, value in values.items():
        if name.startswith("rank/") and value < COLLAPSED:
            logging.warning(
                "step %d: the vectors of %s have collapsed (effective rank %.2f): try a lower "
                "config.optimizer.learning_rate or a higher config.loss.temperature",
                step, name.removeprefix("rank/"), value,
            )  # fmt: skip
