"""Origins of text, and the runs of characters that have them.

    {{ u[4:] ~ '!' ~ v }}    ->  ‹Bob›!«Yes»

has three runs: 3 characters of message 0's content, from offset 4 on; 1 that the template wrote; 3 of message 1's.

A *run* is `(length, origin, start)`. The origin is an `Origin` (data: which message, which field), a `Scaffold`
(template text, and what was being written when it was collected), or a `Unclaimed` or None (template text nobody has
claimed yet). `start` is the offset of the run's first character in its field, or `LOST` where only the owner is known.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from policy_engine.chat.trace.meter import BIG, charge
from policy_engine.core.source import common_prefix

LOST = -1
"""Offset of a run whose characters do not equal the field's one for one."""

MAX_CHARS = 1 << 26
"""Longest string a template may build, in characters (64 Mi). Templates are untrusted code."""

MAX_PIECES = 1 << 20
"""Most pieces a string may be split into: each is an object of its own."""


class OutputTooLarge(Exception):
    """A template built a string longer than `MAX_CHARS`."""


@dataclass(slots=True, eq=False, repr=False)
class Origin:
    """A field of the data: `turn` is the message's index, None for tools and documents.

    `path` is the field below the message, for example `("tool_calls", 0, "function", "name")`.

    `is_key` marks text of the owner that is no text of the value at `path`: the name of a key, what a template writes
    in place of words, what Python prints around values. A template that prints it need not print the value.
    `is_printed` marks what Python prints of the list or object at `path`, as a whole or (`is_key` too) around its
    values.
    """

    turn: int | None
    path: tuple[str | int, ...]
    is_key: bool = False
    is_printed: bool = False

    def __repr__(self) -> str:
        return f"Origin({self.turn}, {self.path})"


@dataclass(slots=True, eq=False)
class Unclaimed:
    """Template text nobody has claimed yet, and its line in the template."""

    line: int


@dataclass(slots=True, eq=False, repr=False)
class Scaffold:
    """Claimed template text: `turn`, `call` and `item` are what the template was writing.

    `line` is the template's line.

    `branch` is the `if` branch the text was written in, for text outside any loop (see `compile`).
    """

    turn: int | None
    call: int | None = None
    item: int | None = None
    line: int | None = None
    branch: int = 0

    def __repr__(self) -> str:
        return f"Scaffold({self.turn}, call={self.call}, item={self.item}, line={self.line})"


# Bounded: paths of the data are endless. An origin that was forgotten is made again, and its shape is learned
# again.
@functools.lru_cache(maxsize=1 << 16)
def origin_at(turn: int | None, path: tuple[str | int, ...]) -> Origin:
    """Return the origin of a field: one object a field, so that shapes compare by identity.

    >>> origin_at(0, ("content",))
    Origin(0, ('content',))
    """
    return Origin(turn, path)


@functools.lru_cache(maxsize=1 << 16)
def key_at(turn: int | None, path: tuple[str | int, ...]) -> Origin:
    """The origin of the key names of an object at a path."""
    return Origin(turn, path, is_key=True)


@functools.lru_cache(maxsize=1 << 16)
def printed_at(turn: int | None, path: tuple[str | int, ...], *, whole: bool) -> Origin:
    """The origin of what Python prints of a list or an object.

    That is all of it, or what is around its values.
    """
    return Origin(turn, path, is_key=not whole, is_printed=True)


@functools.lru_cache(maxsize=1 << 16)
def claim_of(turn: int | None, call: int | None, item: int | None, line: int | None, branch: int) -> Scaffold:
    """The claim of what is being written; one object per claim, as for origins."""
    return Scaffold(turn, call, item, line, branch)


UNKNOWN = Origin(None, ("?",))
"""Origin of text computed from data of several owners in a way that keeps no owner."""

Run = tuple[int, "Origin | Scaffold | Unclaimed | None", int]


def owner_of(runs: Iterable[Run]) -> Origin | None:
    """The one origin all data in `runs` has; UNKNOWN if they differ in turn; None without data."""
    found: Origin | None = None
    for _, origin, _ in runs:
        if type(origin) is Origin:
            if found is None or found is origin:
                found = origin
            # Two parts of one field have an owner in common; two fields of a message do not.
            elif found.turn != origin.turn or found.path[:1] != origin.path[:1]:
                return UNKNOWN
            elif found.is_key or origin.is_printed:
                found = _joined(found, origin)
    # What is made of a print is of the object, not of what is around its values.
    return printed_at(found.turn, found.path, whole=True) if found is not None and found.is_printed else found


def _joined(one: Origin, other: Origin) -> Origin:
    """The origin of text of two values of one field.

    The first of them is a key, or the second is printed.
    """
    if not (one.is_printed or other.is_printed):
        return other
    return printed_at(one.turn, one.path[: common_prefix(one.path, other.path)], whole=True)


def placed(runs: Iterable[Run]) -> Iterator[tuple[int, int, Run]]:
    """Each run behind the characters `[start, end)` that it has.

    >>> list(placed([(3, None, 0), (4, UNKNOWN, 0)]))
    [(0, 3, (3, None, 0)), (3, 7, (4, Origin(None, ('?',)), 0))]
    """
    at = 0
    for run in runs:
        yield at, at + run[0], run
        at += run[0]


def cut(runs: tuple[Run, ...], start: int, end: int) -> tuple[Run, ...]:
    """Return the runs of characters `[start, end)`; an empty cut keeps the origin at its place.

    >>> cut(((3, None, 0), (4, UNKNOWN, 0)), 2, 5)
    ((1, None, 2), (2, Origin(None, ('?',)), 0))
    """
    # The usual case: a field of the data as it is.
    if len(runs) == 1:
        length, origin, offset = runs[0]
        if start == 0 and end == length:
            return runs
        return ((max(0, end - start), origin, offset if offset == LOST else offset + start),)
    kept: list[Run] = []
    at = 0
    for length, origin, offset in runs:
        low, high = max(start, at), min(end, at + length)
        # An empty run stays: it marks where empty data would be.
        if low < high or (low == high and length == 0 and start <= at <= end and start < end):
            kept.append((high - low, origin, offset if offset == LOST else offset + low - at))
        at += length
    if not kept:
        at = 0
        # Nothing was cut out: the first data that touches the place, so that an empty text knows its field.
        for length, origin, offset in runs:
            if at <= start <= at + length and origin is not None:
                return ((0, origin, offset if offset == LOST else offset + start - at),)
            at += length
    return tuple(kept)


def few(runs: tuple[Run, ...]) -> tuple[Run, ...]:
    """`runs`, if a string may have so many."""
    if len(runs) > BIG:
        if len(runs) > MAX_PIECES:
            raise OutputTooLarge
        charge(8 * len(runs))
    return runs


def check_size(size: int) -> None:
    """Charges for a string of `size` characters, `BIG` or more. Raises OutputTooLarge."""
    if size > MAX_CHARS:
        raise OutputTooLarge
    charge(size)


def cut_all(runs: tuple[Run, ...], bounds: Iterable[tuple[int, int]]) -> Iterator[tuple[Run, ...]]:
    """`cut` for many stretches in order, in one pass over the runs."""
    first = at = 0
    for start, end in bounds:
        while first < len(runs) - 1 and at + runs[first][0] < start:
            at += runs[first][0]
            first += 1
        last, stop = first, at
        while last < len(runs) and stop <= end:
            stop += runs[last][0]
            last += 1
        yield cut(runs[first:last], start - at, end - at)
