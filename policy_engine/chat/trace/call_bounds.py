"""Bounds on calls of methods and functions, checked before they run.

{{ 'x'.center(10**9) }}       refused: the text would be too long
{{ 'x'.encode() }}            refused: bytes do not know where they come from
{{ text.rfind(other) }}       refused where both are so long that the search takes seconds
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import GeneratorType
from typing import Any, Final

from jinja2.exceptions import SecurityError

from policy_engine.chat.trace.bounds import (
    MAX_ITEMS,
    check_format,
    check_key,
    check_member,
    check_number,
    check_work,
    integers,
    measure,
)
from policy_engine.chat.trace.meter import BIG, charge, metered
from policy_engine.chat.trace.origins import MAX_CHARS, MAX_PIECES, OutputTooLarge, check_size

_WORDS_OF_LIPSUM: Final = 1000
_LONGEST_DATE_FORMAT: Final = 1024
_MANY: Final = 1 << 12
_BREAKS: Final = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
"""Characters at which `splitlines` splits."""


def check_call(function: Any, args: tuple[Any, ...]) -> None:
    """Before a template calls a function or a method."""
    owner = getattr(function, "__self__", None)
    if isinstance(owner, str):
        check = _OF_TEXT.get(function.__name__)
        if check is not None:
            check(owner, args)
    elif owner is not None and isinstance(owner, int | float | list | tuple | Mapping):
        _check_other(owner, function.__name__, args)
    elif (name := getattr(function, "__name__", "")) == "generate_lorem_ipsum":
        # Words are drawn one by one: how many there are is time, too.
        if max(5, integers(args)) * max(100, integers(args)) > 100 * _WORDS_OF_LIPSUM:
            raise OutputTooLarge
    elif name == "_strftime_now" and any(
        # The C library writes into a buffer that doubles until it fits, up to 256 times the format.
        isinstance(value, str) and len(value) > _LONGEST_DATE_FORMAT
        for value in args
    ):
        raise OutputTooLarge
    for value in args:
        # A function may print, hash or compare what it is given. Data is as large as it is: only what a template made
        # can hold one list many times.
        if type(value) in (list, dict, tuple):
            items = value.values() if isinstance(value, Mapping) else value
            if any(isinstance(item, list | tuple | Mapping) for item in items):
                measure(value)


def _check_other(owner: Any, name: str, args: tuple[Any, ...]) -> None:
    if name == "to_bytes":
        raise SecurityError("a template may not make bytes: they do not know where they come from")
    if isinstance(owner, Mapping):
        for value in args:
            check_key(value)
    elif name in ("index", "count") and args:
        check_member(args[0], owner)


def _no_bytes(owner: str, args: tuple[Any, ...]) -> None:
    raise SecurityError("a template may not make bytes of text: they do not know where they come from")


def _padded(owner: str, args: tuple[Any, ...]) -> None:
    check_size(integers(args[:1]))


def _expanded(owner: str, args: tuple[Any, ...]) -> None:
    check_size(owner.count("\t") * max([8, integers(args)]))


def _replaced(owner: str, args: tuple[Any, ...]) -> None:
    if len(args) > 1 and isinstance(args[0], str) and isinstance(args[1], str):
        check_size(len(owner) + str.count(owner, args[0]) * len(args[1]))


def _translated(owner: str, args: tuple[Any, ...]) -> None:
    # A table is asked for each character by itself, a hundred times slower than other methods.
    if len(owner) > MAX_CHARS >> 2:
        raise OutputTooLarge
    if args and isinstance(args[0], Mapping):
        check_size(len(owner) * max((len(v) for v in args[0].values() if isinstance(v, str)), default=1))


def _joined(owner: str, args: tuple[Any, ...]) -> None:
    if args and isinstance(args[0], list | tuple):
        check_size(sum(len(owner) + len(item) for item in args[0] if isinstance(item, str)))
    elif args and isinstance(args[0], str):
        check_count(len(args[0]))
        check_size(len(args[0]) * (len(owner) + 1))


def _formatted(owner: str, args: tuple[Any, ...]) -> None:
    check_format(owner, args)


def _searched_backwards(owner: str, args: tuple[Any, ...]) -> None:
    # Searching from the right takes length times length in the worst case; from the left it is linear.
    if args and isinstance(args[0], str):
        check_work(len(owner) * len(args[0]))


def _stripped(owner: str, args: tuple[Any, ...]) -> None:
    if args and isinstance(args[0], str) and len(owner) > BIG:
        check_work(len(owner) * len(args[0]) >> 6)


def _split(owner: str, args: tuple[Any, ...]) -> None:
    sep = args[0] if args else None
    if len(owner) <= MAX_PIECES:
        return
    if isinstance(sep, str):
        pieces = str.count(owner, sep) if sep else 0
    else:
        pieces = sum(str.count(owner, blank) for blank in " \n\t\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u2028\u2029\u3000")
    if pieces > MAX_PIECES:
        raise OutputTooLarge


def _split_backwards(owner: str, args: tuple[Any, ...]) -> None:
    _searched_backwards(owner, args)
    _split(owner, args)


def _split_lines(owner: str, args: tuple[Any, ...]) -> None:
    if len(owner) > MAX_PIECES and sum(str.count(owner, mark) for mark in _BREAKS) > MAX_PIECES:
        raise OutputTooLarge


_OF_TEXT: Final[Mapping[str, Callable[[str, tuple[Any, ...]], None]]] = {
    "center": _padded,
    "encode": _no_bytes,
    "expandtabs": _expanded,
    "format": _formatted,
    "format_map": _formatted,
    "join": _joined,
    "ljust": _padded,
    "lstrip": _stripped,
    "replace": _replaced,
    "rfind": _searched_backwards,
    "rindex": _searched_backwards,
    "rjust": _padded,
    "rpartition": _searched_backwards,
    "rsplit": _split_backwards,
    "rstrip": _stripped,
    "split": _split,
    "splitlines": _split_lines,
    "strip": _stripped,
    "translate": _translated,
    "zfill": _padded,
}
"""The check before each method of text that can make more than it is given, or takes long."""


def check_count(count: Any) -> None:
    """Before a list of so many items is made."""
    if int(count) > MAX_ITEMS:
        raise OutputTooLarge


def charged(made: Any) -> Any:
    """`made`, charged for if it is large; items of a generator are when they are made."""
    kind = type(made)
    if kind is GeneratorType:
        return metered(made)
    if isinstance(made, str):
        if len(made) > BIG:
            check_size(len(made))
    elif kind is list and len(made) > _MANY:
        charge(8 * len(made))
    elif isinstance(made, int):
        check_number(made)
    return made
