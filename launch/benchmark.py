"""Measures what is claimed of speed and quality, beside other libraries, in one run.

    make bench                                        # all, in an environment that has the peers
    python launch/benchmark.py --only=fidelity,speed  # some, with the peers that are installed

Prints a table of each benchmark and leaves DIR/benchmarks.json (one object per benchmark; those not
run now stay) and plots. See docs/benchmarks.md. The exit status is 2 for bad input.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from loev_jax import errors, memory

_ONLY = flags.DEFINE_list("only", None, "Benchmarks by name, separated by commas; default: all.")
_OUT = flags.DEFINE_string("out", ".", "Directory for benchmarks.json and plots.")
_QUICK = flags.DEFINE_bool("quick", False, "The least that shows that it works: no figures.")


def main() -> None:
    """Runs the benchmarks and prints their tables."""
    from loev_jax.benchmark import registry, report

    names = registry.choose(_ONLY.value)
    out = Path(_OUT.value).expanduser()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise errors.UserError(f"--out={out}: {error.strerror}") from error
    report.read(out)  # what cannot be added to is better known before the work
    memory.keep()  # for peers in this process too
    for name in names:
        result = registry.run(name, out, _QUICK.value)
        report.write(out, name, {"quick": _QUICK.value, **result})
        print(f"## {name}: {registry.BENCHMARKS[name]}\n\n{report.markdown(result)}\n", flush=True)


if __name__ == "__main__":
    errors.run(main)
