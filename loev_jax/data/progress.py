"""One line on stderr that says how far long work is and when it ends."""

from __future__ import annotations

import datetime
import sys
import time


class Progress:
    """Prints `name: done/total unit, rate, ETA` now and then.

    On a terminal the line is rewritten twice a second; elsewhere a line is added every ten seconds.
    """

    def __init__(self, name: str, total: int, unit: str, *, done: int = 0):
        """Starts the clock.

        Args:
          name: what is going on.
          total: units of work.
          unit: their name, in the plural.
          done: units finished before now, by an earlier run.
        """
        self._name, self._total, self._unit = name, total, unit
        self._first = done
        self._start = self._last = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._width = 0

    def update(self, done: int) -> None:
        """Reports that `done` units are finished, unless the last report is too recent."""
        now = time.monotonic()
        if now - self._last < (0.5 if self._terminal else 10.0):
            return
        self._last = now
        rate = (done - self._first) / (now - self._start)
        line = f"{self._name}: {done}/{self._total} {self._unit}, {rate:.1f}/s"
        if rate > 0:
            left = datetime.timedelta(seconds=round((self._total - done) / rate))
            line += f", ETA {left}"
        if self._terminal:
            print("\r" + line.ljust(self._width), end="", file=sys.stderr, flush=True)
            self._width = len(line)
        else:
            print(line, file=sys.stderr, flush=True)

    def say(self, line: str) -> None:
        """Prints a line of its own, above the progress line."""
        self.close()
        print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Clears the progress line."""
        if self._width:
            print("\r" + " " * self._width + "\r", end="", file=sys.stderr, flush=True)
            self._width = 0
