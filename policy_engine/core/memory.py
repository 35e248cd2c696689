"""Memory of this process: its bounds, what is given back, and Python's garbage collector.

By itself Python looks through all young objects whenever there are 700 more, and now and then through all that there
are. Rows of a batch stay until it is done, so it finds nothing there: up to a tenth of the time of a batch.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
from collections.abc import Iterator
from typing import Final

_USUAL: Final = gc.get_threshold()
"""Those of this Python: the module is imported before any are set."""
_lock = threading.Lock()
_pauses = 0
_is_ours = False
"""True if the collector was on when the first of the pauses began."""


def is_memory_bounded() -> bool:
    """True if allocations of this process fail from a size on, as under `ulimit -v`.

    Compiled code, such as a tokenizer's, then ends the whole process: no error can be caught, and no file closed. A
    container's bound is another thing: there the system kills a process, whichever it takes.
    """
    if sys.platform == "win32":
        return False
    import resource

    kinds = (resource.RLIMIT_AS, resource.RLIMIT_DATA)
    return any(resource.getrlimit(kind)[0] != resource.RLIM_INFINITY for kind in kinds)


def give_back() -> None:
    """Returns freed memory to the system, where the C library can: glibc.

    It keeps what is freed between objects that stay. Loading a tokenizer leaves 20 to 140 MB of that; giving them back
    takes 2 to 20 ms.
    """
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    # Other C libraries of Linux have no such function.
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def collect_rarely() -> None:
    """Looks for garbage less often than Python does by itself."""
    # Hardly anything that starting makes is garbage, but by default Python looks through it every 700 objects: `show`
    # makes some 100,000 that stay.
    gc.set_threshold(200_000, 20, 20)


def collect_as_usual() -> None:
    """Looks for garbage as often as Python does by itself, but not in what is loaded now."""
    gc.freeze()
    gc.set_threshold(*_USUAL)


@contextlib.contextmanager
def not_collecting() -> Iterator[None]:
    """Looks for no garbage, in all threads, until the last block of these ends.

    >>> with not_collecting():
    ...     gc.isenabled()
    False
    """
    global _pauses, _is_ours
    with _lock:
        if not _pauses:
            _is_ours = gc.isenabled()
            gc.disable()
        _pauses += 1
    try:
        yield
    finally:
        with _lock:
            # In a process that was forked inside the block there is nothing to end.
            if _pauses:
                _pauses -= 1
                if not _pauses and _is_ours:
                    gc.enable()


def _begin_anew() -> None:
    """Ends in a forked process the pauses of threads that it does not have."""
    global _lock, _pauses
    _lock = threading.Lock()
    if _pauses and _is_ours:
        gc.enable()
    _pauses = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
