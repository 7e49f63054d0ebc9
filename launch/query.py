"""Finds music like a recording, by what a run has learned: of its tempo, its key, or all of it.

    python launch/query.py --workdir=runs/loev_tempo --audio=song.mp3 --space=tempo

The nearest clips of a data set (the run's own test split, by default) go to stdout as a table. A
hummed melody is a recording too. See docs/evaluation.md.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from loev_jax import errors

_WORKDIR = flags.DEFINE_string("workdir", None, "Training run.", required=True)
_AUDIO = flags.DEFINE_string("audio", None, "Recording to look for.", required=True)
_SPACE = flags.DEFINE_string("space", "encoder", "A space, or a weighted sum: pitch=2+tempo=1.")
_DATA = flags.DEFINE_string("data", None, "Data set to look in instead of the run's own.")
_SPLIT = flags.DEFINE_string("split", "test", "Split of it.")
_TOP = flags.DEFINE_integer("top", 10, "How many clips to list.")


def main() -> None:
    """Searches and prints the table."""
    # JAX takes seconds to import; flags are checked before that.
    from loev_jax import program_cache
    from loev_jax.evaluate import query

    program_cache.use()
    found = query.search(
        Path(_WORKDIR.value).expanduser(),
        query.Recording(Path(_AUDIO.value).expanduser()),
        space=_SPACE.value,
        data=Path(_DATA.value).expanduser() if _DATA.value else None,
        split=_SPLIT.value,
        top=_TOP.value,
    )
    print(found)


if __name__ == "__main__":
    errors.run(main)
