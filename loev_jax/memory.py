"""Memory that was freed is kept for the next arrays, and cycles are looked for rarely."""

from __future__ import annotations

import ctypes
import gc
import sys

# Of mallopt(3), as glibc numbers them.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep() -> bool:
    """Tells the C library to keep what is freed; call it before JAX has its first device.

    The arrays of a training step on a CPU come and go by the hundred megabytes. Left to itself the
    C library maps each anew and unmaps it, and so the system clears every page once more: some
    70 000 page faults and an eighth of the processors' time a step. Kept memory lies in one heap
    (an array of a thread's own heap, of 64 MB at most, would be mapped still), and a program stays
    as large as it has been at its largest.

    Returns:
        Whether it was told: glibc only, so not on macOS, nor where libc is musl.
    """
    if sys.platform != "linux":
        return False
    try:
        set_option = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    options = ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1))
    return all(set_option(ctypes.c_int(name), ctypes.c_int(value)) for name, value in options)


def collect_rarely() -> None:
    """Has Python look for unreachable cycles of objects a hundred times less often.

    What is imported and traced here is half a million objects that live as long as the program,
    and a look at all of them takes a quarter of a second, a tenth of the time in which a training
    starts, all in all. Whatever is in no cycle is freed at once, as ever.
    """
    gc.set_threshold(100_000, 20, 50)
