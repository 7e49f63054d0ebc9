"""The one exception that is the user's to mend, and how an entry point reports it."""

from __future__ import annotations

import inspect
import logging as standard_logging
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import NoReturn

from absl import app, flags, logging

from loev_jax import memory


class UserError(Exception):
    """Bad input. Its message is one line: the file or field, the value, and the remedy."""


class RunError(RuntimeError):
    """A run that cannot go on, though nothing is wrong with its input. Its message is one line."""


FULL = ("No space left on device", "File too large", "Disk quota exceeded")
"""What the system says of a disk that has no more room."""


def reason(error: BaseException) -> str:
    """What went wrong at the bottom of an error, in one line: libraries use many."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split())
    for known in FULL:
        if known in text:
            return known
    return f"{type(error).__name__}: {text[:200]}"


def fail(error: Exception) -> NoReturn:
    """Prints `error` as one line on stderr and exits with status 2."""
    message = " ".join(str(error).split())
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def _parse(argv: Sequence[str]) -> list[str]:
    """Parses absl flags; whatever is wrong with them is the user's to mend."""
    try:
        rest = flags.FLAGS(list(argv))
    except (AttributeError, KeyError) as error:  # of ml_collections, one in the other at times
        inner = next((one for one in error.args if isinstance(one, KeyError)), error)
        fail(UserError(f"--config: not found: {' '.join(map(str, inner.args))}"))
    except (flags.Error, OSError, TypeError, ValueError, UserError) as error:
        fail(error)
    if len(rest) > 1:
        fail(UserError(f"unexpected argument {rest[1]!r}: every option is a --flag=value"))
    return rest


_TALKATIVE = ("orbax", "tensorflow_datasets")


def _is_ours(record: standard_logging.LogRecord) -> bool:
    """Whether to show a line: not small talk, nor the trace of an error that reaches us anyway."""
    if record.exc_info and "site-packages/" in record.pathname:
        return False
    talkative = any(f"site-packages/{name}/" in record.pathname for name in _TALKATIVE)
    return record.levelno > standard_logging.INFO or not talkative


def _start_log() -> None:
    """Logs progress on stderr, one short line a message, without the libraries' small talk."""
    logging.set_verbosity(logging.INFO)
    logging.get_absl_handler().setFormatter(
        standard_logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S")
    )
    # JAX has a logger of its own, the others speak through absl's.
    standard_logging.getLogger("jax").setLevel(standard_logging.WARNING)
    logging.get_absl_logger().addFilter(_is_ours)


def _hush_abandoned_writes() -> None:
    """Keeps still what Orbax's threads say, at length, after a save that failed.

    Its error reaches us and is told in a line. The other writes of that save find its event loop
    closed, and each would print a trace through TensorStore, asyncio or the interpreter.
    """
    standard_logging.getLogger("asyncio").setLevel(standard_logging.CRITICAL)
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    otherwise = sys.unraisablehook

    def hook(what: sys.UnraisableHookArgs) -> None:
        if str(what.exc_value) != "Event loop is closed" and not inspect.iscoroutine(what.object):
            otherwise(what)

    sys.unraisablehook = hook


def run(main: Callable[[], None]) -> None:
    """Runs an entry point under absl: a `UserError` becomes one line and exit status 2.

    Python looks for unreachable cycles rarely from then on (`memory.collect_rarely`).
    """

    def guarded(argv: Sequence[str]) -> None:
        del argv
        memory.collect_rarely()
        _start_log()
        _hush_abandoned_writes()
        try:
            main()
        except UserError as error:
            fail(error)

    app.run(guarded, flags_parser=_parse)
