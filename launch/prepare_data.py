"""Audio files, or the built-in corpus, → a data set for training and evaluation.

    python launch/prepare_data.py --source=corpus --out=data/corpus
    python launch/prepare_data.py --source=folder --audio=~/music --out=data/music

See docs/data.md.
"""

from __future__ import annotations

import pathlib
from typing import Any

from absl import flags

from loev_jax import errors

_SOURCE = flags.DEFINE_enum(
    "source",
    None,
    ["corpus", "folder"],
    "corpus: the built-in one, rendered from scores; folder: your audio files.",
    required=True,
)
_OUT = flags.DEFINE_string(
    "out", None, "Directory of the data set; never overwritten.", required=True
)
_WORKERS = flags.DEFINE_integer(
    "workers", None, "Processes; default: one per available CPU.", lower_bound=1
)
_FLAGS: dict[str, list[flags.FlagHolder[Any]]] = {
    "corpus": [
        flags.DEFINE_integer("clips", None, "Clips to render (2000).", lower_bound=1),
        flags.DEFINE_integer("seed", None, "Seed of the corpus (0).", lower_bound=0),
    ],
    "folder": [
        flags.DEFINE_string("audio", None, "Folder of audio files, searched to any depth."),
        flags.DEFINE_string(
            "labels", None, "CSV with a column `path`, relative to --audio, and any labels."
        ),
        flags.DEFINE_list("label_columns", None, "Columns of --labels to keep; default: all."),
        flags.DEFINE_float("clip_seconds", None, "Length of a clip (30)."),
        flags.DEFINE_float(
            "min_seconds", None, "Least length of a file and of its last clip (10)."
        ),
    ],
}


def main() -> None:
    """Prepares the data set and says what is in it."""
    out = pathlib.Path(_OUT.value).expanduser()
    options = _options(_SOURCE.value)
    if _SOURCE.value == "corpus":
        from loev_jax.corpus import builder

        existed = (out / "report.json").exists()
        _say(out, builder.prepare(out, workers=_WORKERS.value, **options), existed)
        return
    if "audio" not in options:
        raise errors.UserError("--source=folder needs --audio=DIR, a folder of audio files")
    from loev_jax.data import folder

    paths: dict[str, Any] = {
        name: pathlib.Path(options.pop(name)).expanduser()
        for name in ("audio", "labels")
        if name in options
    }
    report, existed = folder.prepare(out=out, workers=_WORKERS.value, **paths, **options)
    _say(out, report, existed)


def _say(out: pathlib.Path, report: object, existed: bool) -> None:
    print(f"{out}: {'already prepared, nothing to do: ' if existed else ''}{report}")


def _options(source: str) -> dict[str, Any]:
    """The flags that were given, all of which must belong to the source."""
    for other, holders in _FLAGS.items():
        for holder in holders:
            if other != source and holder.value is not None:
                raise errors.UserError(
                    f"--{holder.name} belongs to --source={other}: leave it out with "
                    f"--source={source}"
                )
    return {holder.name: holder.value for holder in _FLAGS[source] if holder.value is not None}


if __name__ == "__main__":
    errors.run(main)
