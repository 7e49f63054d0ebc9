"""Evaluates the checkpoints of a run: what each space knows, beside a random-init model.

    python launch/eval.py --workdir=runs/loev_tempo
    python launch/eval.py --workdir=runs/loev_tempo --watch   # beside a training that goes on

Leaves WORKDIR/eval/<step>.json, plots and TensorBoard events, and prints a table. See
docs/evaluation.md. The exit status is 1 if a task failed, 2 for bad input.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from loev_jax import errors, memory

_WORKDIR = flags.DEFINE_string("workdir", None, "Training run to evaluate.", required=True)
_WATCH = flags.DEFINE_bool("watch", False, "Go on until training is done.")
_STEP = flags.DEFINE_string("step", None, "A step, or `last`; default: all without a result.")
_TASKS = flags.DEFINE_list(
    "tasks",
    None,
    "Tasks by name, separated by commas; default: all but probes with a hidden layer, learning "
    "curves, humming, score and text.",
)
_SPLIT = flags.DEFINE_enum(
    "split",
    "test",
    ["test", "validation", "all"],
    "What figures are of, with results of their own: validation to choose a recipe by; all clips "
    "of --data, read by what is learned on the run's own data.",
)
_CLIPS = flags.DEFINE_integer("clips", None, "Use at most so many clips of each split.")
_DATA = flags.DEFINE_string("data", None, "A data set to evaluate on instead of the run's own.")
_MIX = flags.DEFINE_multi_string(
    "mix", [], "A further space, a weighted sum of others: pitch=2+tempo=1. May be given again."
)
_KINDS = flags.DEFINE_list(
    "kinds", [], "What labels are, where values do not tell: pitch:class,mood:tags."
)
_CHANGES = flags.DEFINE_list(
    "changes", [], "What is measured of augmentations that no head keeps, too: gain,filter."
)
_BASELINES = flags.DEFINE_bool("baselines", True, "Evaluate random init and shuffled labels too.")
_SEGMENTS = flags.DEFINE_integer("segments", None, "Most segments heard of a clip (6).")


def main() -> None:
    """Evaluates and prints the table."""
    # JAX takes seconds to import; flags are checked before that.
    from loev_jax import program_cache
    from loev_jax.evaluate import job
    from loev_jax.evaluate.settings import SEGMENTS, Settings

    memory.keep()
    program_cache.use()

    segments = SEGMENTS if _SEGMENTS.value is None else _SEGMENTS.value
    well = job.run(
        Path(_WORKDIR.value).expanduser(),
        _TASKS.value,
        Settings(
            clips=_CLIPS.value,
            segments=segments,
            mix=_MIX.value,
            baselines=_BASELINES.value,
            split=_SPLIT.value,
            kinds=_KINDS.value,
            changes=_CHANGES.value,
        ),
        _STEP.value,
        _WATCH.value,
        Path(_DATA.value).expanduser() if _DATA.value else None,
    )
    if not well:
        raise SystemExit(1)


if __name__ == "__main__":
    errors.run(main)
