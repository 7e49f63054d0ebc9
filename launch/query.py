"""Finds music by what a run has learned: like a recording, a score, or some words.

    python launch/query.py --workdir=runs/loev_tempo --audio=song.mp3 --space=tempo
    python launch/query.py --workdir=runs/loev_tempo --text="slow organ chorale at 80 bpm"
    python launch/query.py --workdir=runs/loev_tempo --score=tune.mid

The nearest clips of a data set (the run's own test split, by default) go to stdout as a table. A
hummed melody is a recording too. See docs/evaluation.md.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from loev_jax import errors, memory

_WORKDIR = flags.DEFINE_string("workdir", None, "Training run.", required=True)
_AUDIO = flags.DEFINE_string("audio", None, "Recording to look for.")
_TEXT = flags.DEFINE_string("text", None, "What to look for in words: fast fiddle tune in D minor.")
_SCORE = flags.DEFINE_string("score", None, "MIDI file to look for, at its tempo and in its key.")
_SPACE = flags.DEFINE_string("space", "encoder", "A space, or a weighted sum: pitch=2+tempo=1.")
_DATA = flags.DEFINE_string("data", None, "Data set to look in instead of the run's own.")
_SPLIT = flags.DEFINE_string("split", "test", "Split of it.")
_TOP = flags.DEFINE_integer("top", 10, "How many clips to list.")


def main() -> None:
    """Searches and prints the table."""
    given = [flag for flag in (_AUDIO, _TEXT, _SCORE) if flag.value]
    if len(given) != 1:
        raise errors.UserError("--audio, --text, --score: give one of them, what to look for")
    # JAX takes seconds to import; flags are checked before that.
    from loev_jax import program_cache
    from loev_jax.corpus import roll
    from loev_jax.evaluate import query

    memory.keep()
    program_cache.use()
    if _TEXT.value:
        asked: query.Recording | query.Words | query.Score = query.Words(_TEXT.value)
    elif _SCORE.value:
        asked = query.Score(roll.read_midi(Path(_SCORE.value).expanduser()))
    else:
        asked = query.Recording(Path(_AUDIO.value).expanduser())
    found = query.search(
        Path(_WORKDIR.value).expanduser(),
        asked,
        space=_SPACE.value,
        data=Path(_DATA.value).expanduser() if _DATA.value else None,
        split=_SPLIT.value,
        top=_TOP.value,
    )
    print(found)


if __name__ == "__main__":
    errors.run(main)
