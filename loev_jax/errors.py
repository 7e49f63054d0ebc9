"""The one exception that is the user's to mend, and how an entry point reports it."""

from __future__ import annotations

import logging as standard_logging
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from absl import app, flags, logging


class UserError(Exception):
    """Bad input. Its message is one line: the file or field, the value, and the remedy."""


def fail(error: Exception) -> NoReturn:
    """Prints `error` as one line on stderr and exits with status 2."""
    message = " ".join(str(error).split())
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def _parse(argv: Sequence[str]) -> list[str]:
    """Parses absl flags; whatever is wrong with them is the user's to mend."""
    try:
        rest = flags.FLAGS(list(argv))
    except (
        flags.Error,
        AttributeError,
        KeyError,
        OSError,
        TypeError,
        ValueError,
        UserError,
    ) as error:
        fail(error)
    if len(rest) > 1:
        fail(UserError(f"unexpected argument {rest[1]!r}: every option is a --flag=value"))
    return rest


_TALKATIVE = ("orbax", "tensorflow_datasets")


def _start_log() -> None:
    """Logs progress on stderr, one short line a message, without the libraries' small talk."""
    logging.set_verbosity(logging.INFO)
    logging.get_absl_handler().setFormatter(
        standard_logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S")
    )
    # JAX has a logger of its own, the others speak through absl's.
    standard_logging.getLogger("jax").setLevel(standard_logging.WARNING)
    logging.get_absl_logger().addFilter(
        lambda record: (
            record.levelno > standard_logging.INFO
            or not any(f"site-packages/{name}/" in record.pathname for name in _TALKATIVE)
        )
    )


def run(main: Callable[[], None]) -> None:
    """Runs an entry point under absl: a `UserError` becomes one line and exit status 2."""

    def guarded(argv: Sequence[str]) -> None:
        del argv
        _start_log()
        try:
            main()
        except UserError as error:
            fail(error)

    app.run(guarded, flags_parser=_parse)
