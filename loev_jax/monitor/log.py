"""What a run logs, step by step: numbers to CLU's writers and the journal, pictures and sound."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
from absl import logging

from loev_jax import step as steps
from loev_jax.config import Recipe
from loev_jax.monitor import pictures, sound
from loev_jax.monitor.inspection import Inspection
from loev_jax.monitor.pace import Pace
from loev_jax.monitor.writers import Events, Journal

COLLAPSED = 1.5
"""The effective rank below which a space is said to have collapsed: that of one point is 1."""

_PICTURED = 4  # clips
_HEARD = 2  # clips


class NonFiniteLossError(RuntimeError):
    """The loss or its gradient is not finite, time and again; the last checkpoint is good."""


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
        self._pending: tuple[int, steps.Metrics, dict[str, float], Inspection | None] | None = None

    def __call__(
        self, step: int, metrics: steps.Metrics, pace: Pace, seen: Inspection | None
    ) -> None:
        """Takes the metrics after `step` steps, and what was seen of their views, if anything."""
        self._progress(step)
        self._write()
        if step % self._every == 0 or step == self._total or seen:
            self._pending = (step, metrics, pace.told(), seen)

    def _write(self) -> None:
        """Writes what is pending. Raises as `_fetch` does."""
        if self._pending is None:
            return
        (step, arrays, pace, seen), self._pending = self._pending, None
        values = self._fetch(step, arrays | (seen.metrics if seen else {}))
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

    def _fetch(self, step: int, metrics: steps.Metrics) -> dict[str, float]:
        """Brings metrics to the host.

        Raises:
            NonFiniteLossError: too many steps in a row had to be skipped.
        """
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        if values["skipped_in_a_row"] > self._most_skipped:
            raise NonFiniteLossError(
                f"step {step}: the loss is {values['loss']}, its gradient's norm "
                f"{values['gradient_norm']}; {values['skipped_in_a_row']:.0f} steps in a row were "
                f"skipped (config.optimizer.most_skipped={self._most_skipped}); the last "
                "checkpoint is good: try a lower config.optimizer.learning_rate in another "
                "--workdir"
            )
        if values["skipped_in_a_row"]:
            logging.warning(
                "step %d was skipped: loss %g, gradient norm %g; %d skipped so far",
                step, values["loss"], values["gradient_norm"], values["skipped"],
            )  # fmt: skip
        for name, value in values.items():
            if name.startswith("rank/") and value < COLLAPSED:
                logging.warning(
                    "step %d: the vectors of %s have collapsed (effective rank %.2f): try a lower "
                    "config.optimizer.learning_rate or a higher config.loss.temperature",
                    step, name.removeprefix("rank/"), value,
                )  # fmt: skip
        return values

    def sync(self, step: int, metrics: steps.Metrics) -> None:
        """Writes all there is: a checkpoint is never ahead of the metrics.

        Raises:
            NonFiniteLossError: as `_fetch`; what the run would save is no better than what it has.
            OSError: the disk does not take them.
        """
        self._write()
        self._fetch(step, metrics)
        self.writer.flush()
        if self._journal:
            self._journal.sync()

    def close(self) -> None:
        """Closes the writers."""
        self.writer.close()
        if self._journal:
            self._journal.close()
