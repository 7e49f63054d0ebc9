"""What the evaluation job left in a training directory."""

import json

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

UNLABELLED = {
    *("same_clip_r1", "same_clip_r5", "same_clip_r10", "same_clip_mrr"),
    *("time_stretch_r2", "pitch_shift_r2", "copies_time_stretch_mrr", "copies_pitch_shift_mrr"),
    *(f"invariance_{name}" for name in ("time_stretch", "pitch_shift", "gain", "filter", "other")),
    *(f"predicted_{way}_{metric}" for way in ("forth", "back")
      for metric in ("mrr", "h1", "h5", "h10", "time_stretch_pre", "pitch_shift_pre")),
}  # fmt: skip
"""Figures that need no labels."""


def read(workdir, step, directory="eval"):
    """The result of a checkpoint."""
    return json.loads((workdir / directory / f"{step}.json").read_text())


def points(directory):
    """How often each scalar was written at each step."""
    events = EventAccumulator(str(directory), size_guidance={"tensors": 0})
    events.Reload()
    return {
        name: sorted(event.step for event in events.Tensors(name))
        for name in events.Tags()["tensors"]
    }
