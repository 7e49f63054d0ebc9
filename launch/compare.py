"""Compares two evaluated runs on the same clips: best spaces, intervals, paired differences.

    python launch/eval.py --workdir=runs/loev_tempo_pitch --step=last
    python launch/eval.py --workdir=runs/simclr --step=last
    python launch/compare.py --workdir=runs/loev_tempo_pitch --baseline=runs/simclr

Reads the last result of each and prints a table; see docs/evaluation.md. The exit status is 2 for
bad input.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from loev_jax import errors

_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of a training run.", required=True)
_BASELINE = flags.DEFINE_string(
    "baseline", None, "Directory of the run that it is compared with.", required=True
)
_DATA = flags.DEFINE_string("data", None, "The data set they were evaluated on, if given then.")
_SPLIT = flags.DEFINE_enum(
    "split", "test", ["test", "validation", "all"], "What figures are of, as evaluated."
)
_METRICS = flags.DEFINE_list(
    "metrics",
    None,
    "Metrics by name; default: probes of tempo, key and instrument, at any number of labels.",
)


def main() -> None:
    """Prints the table."""
    from loev_jax.comparison import two_runs

    data = Path(_DATA.value).expanduser() if _DATA.value else None
    ours, theirs = (
        two_runs.evaluated(Path(one).expanduser(), data, _SPLIT.value)
        for one in (_WORKDIR.value, _BASELINE.value)
    )
    print(two_runs.compare(ours, theirs, _METRICS.value))


if __name__ == "__main__":
    errors.run(main)
