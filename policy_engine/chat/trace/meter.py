"""The time and memory that a rendering may still spend. Templates are untrusted code.

    {% for a in range(9999) %}{% for b in range(9999) %}{{ 'x' }}{% endfor %}{% endfor %}  ->  refused

Time is the thread's own, so a machine that is busy or was put to sleep fails no template. Memory is looked at when much
was made since the last look; a rendering may raise the process's peak by `MOST_MEMORY`.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

if sys.platform != "win32":
    import resource

MOST_MEMORY: Final = 1 << 29
"""Bytes by which one rendering may raise the peak of the process's memory."""

BIG: Final = 1 << 16
"""Size from which a string or list is charged for."""

# 32 MiB between two looks: asking the kernel costs a microsecond, and half a GiB is noticed in time.
_EACH: Final = 1 << 25
_UNIT: Final = 1 if sys.platform == "darwin" else 1 << 10


class OutOfTime(Exception):
    """A template ran longer than it may."""


class Meter:
    """The budget of one rendering. `seconds` is its time."""

    __slots__ = ("_deadline", "_most", "_seconds", "_spent", "_started")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        # Two clocks: the cheap one says when the thread's own clock is worth asking.
        self._deadline = time.monotonic() + seconds
        self._started = time.thread_time()
        self._spent = 0
        self._most = 0

    def step(self) -> None:
        """Called in every round of a loop and every macro. Raises OutOfTime."""
        if time.monotonic() > self._deadline:
            # The wall clock ran out; if the thread was waiting meanwhile, it gets what it has not used.
            left = self._seconds - (time.thread_time() - self._started)
            if left < 0:
                raise OutOfTime
            self._deadline = time.monotonic() + left

    def charge(self, size: int) -> None:
        """Something of `size` bytes or characters was made. Raises OutOfTime and MemoryError."""
        # At the first charge, not at the start: most renderings make nothing large.
        if not self._most:
            self._most = _peak() + MOST_MEMORY
        self._spent += size
        if self._spent > _EACH:
            self._spent = 0
            self.step()
            if _peak() > self._most:
                raise MemoryError


def _peak() -> int:
    if sys.platform == "win32":
        return 0  # there, only sizes are bounded
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT


class _Current(threading.local):
    meter: Meter | None = None


_current = _Current()


def start(seconds: float) -> Meter:
    """The meter of a rendering that begins now in this thread."""
    meter = _current.meter = Meter(seconds)
    return meter


def stop() -> None:
    """The rendering of this thread ended: what is done with its text is not charged to it."""
    _current.meter = None


def charge(size: int) -> None:
    """`Meter.charge` of the rendering of this thread, if there is one."""
    meter = _current.meter
    if meter is not None:
        meter.charge(size)


def metered(items: Iterable[Any]) -> Iterator[Any]:
    """Yield the same items, each of which is a step and is charged for.

    A lazy filter gives as many as it is asked for, for example `range(99999)|map('center', 1000000)`.
    """
    for item in items:
        meter = _current.meter
        if meter is not None:
            meter.step()
            meter.charge(len(item) if isinstance(item, str) else 64)
        yield item
