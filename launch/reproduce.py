"""Compares LOEV, LOEV++ and the baselines in small: equal training time, several seeds, one table.

    python launch/prepare_data.py --source=corpus --out=data/corpus
    python launch/reproduce.py --out=runs/reproduce            # hours; run it again to go on
    python launch/reproduce.py --out=runs/quick --quick        # one seed, short, within an hour

Leaves OUT/results.json (the plan and every finished run), OUT/results.png, OUT/curves.png,
OUT/tables.md and a directory for each run, and prints the tables. See docs/results.md. The exit
status is 2 for bad input.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from loev_jax import errors

ROOT = Path(__file__).resolve().parent.parent

_OUT = flags.DEFINE_string("out", None, "Directory of results.json and the plot.", required=True)
_WORKDIRS = flags.DEFINE_string("workdirs", None, "Directory of the runs; default: OUT.")
_DATA = flags.DEFINE_string("data", "data/corpus", "Data set that launch/prepare_data.py wrote.")
_EVAL_DATA = flags.DEFINE_string(
    "eval_data", None, "Data set to evaluate on, if not --data: music that nobody chose by."
)
_ONLY = flags.DEFINE_list("only", None, "Recipes by name, separated by commas; default: all.")
_SEEDS = flags.DEFINE_integer("seeds", None, "Seeds of each recipe (3).", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", None, "Steps of the reference (1000).", lower_bound=1)
_QUICK = flags.DEFINE_bool("quick", False, "One seed and 200 steps of the reference.")
_REPORT = flags.DEFINE_bool("report", False, "Run nothing: tables and plot of what there is.")


def main() -> None:
    """Runs what is missing and prints the tables."""
    from loev_jax.comparison import comparison

    out = Path(_OUT.value).expanduser()
    if _REPORT.value:
        comparison.show(out)
        return
    comparison.run(
        ROOT,
        out,
        Path(_WORKDIRS.value).expanduser() if _WORKDIRS.value else out,
        comparison.Settings(
            _DATA.value,
            _ONLY.value,
            _SEEDS.value or (1 if _QUICK.value else 3),
            _STEPS.value or (200 if _QUICK.value else 1000),
            _QUICK.value,
            _EVAL_DATA.value or "",
        ),
    )


if __name__ == "__main__":
    errors.run(main)
