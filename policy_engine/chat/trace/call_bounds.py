"""Bounds on calls, filters and tests, checked before they run, and charges for results.

A call is cheap to write and can be endless to run:

    {{ 'x'.center(10**9) }}           ->  refused
    {{ u.encode() }}                  ->  refused
    {{ strftime_now('%Y' * 9000) }}   ->  refused
    {{ t|tojson(indent=10**9) }}      ->  refused
    {{ n|tojson(indent=1) }}          ->  ‹12›
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, MutableMapping
from types import GeneratorType
from typing import Any, Final

from jinja2.exceptions import SecurityError

from policy_engine.chat.trace.bounds import (
    MAX_ITEMS,
    TooMuchWork,
    check_comparison,
    check_format,
    check_key,
    check_member,
    check_number,
    check_percent,
    check_power,
    check_work,
    integers,
    measure,
    width,
)
from policy_engine.chat.trace.meter import BIG, charge, metered
from policy_engine.chat.trace.origins import MAX_CHARS, MAX_PIECES, OutputTooLarge, check_size

_WORDS_OF_LIPSUM: Final = 1000
# Formats of chat templates have 8 to 20 characters.
_LONGEST_DATE_FORMAT: Final = 1024
_MANY: Final = 1 << 12
_BREAKS: Final = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
"""Characters at which `splitlines` splits."""


def check_call(function: Any, args: tuple[Any, ...]) -> None:
    """Before a template calls a function or a method."""
    owner = getattr(function, "__self__", None)
    if isinstance(owner, str):
        # A method that is not listed makes no more than it is given, in time that grows with it.
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
    # A text cannot have more pieces than characters.
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
        # A lazy filter has made nothing yet.
        return metered(made)
    if isinstance(made, str):
        if len(made) > BIG:
            check_size(len(made))
    elif kind is list and len(made) > _MANY:
        charge(8 * len(made))
    elif isinstance(made, int):
        check_number(made)
    return made


_MOST_REWRITTEN: Final = 1 << 20
"""Longest text for the filters that take it apart word by word, in Python."""

_WORDS: Final = ("pprint", "striptags", "title", "truncate", "urlencode", "urlize", "wordcount", "wordwrap", "xmlattr")
_COMPARING: Final = ("sort", "unique", "groupby", "dictsort", "min", "max")


def before_filters() -> dict[str, Callable[..., Any]]:
    """The check before each filter that writes more than it is given, or is slower than reading."""
    return {
        "center": lambda value, width=80: check_size(int(width)),
        "indent": _before_indent,
        "batch": lambda value, linecount, fill_with=None: check_count(linecount),
        "slice": lambda value, slices, fill_with=None: check_count(slices),
        "format": lambda value, *args, **kwargs: check_percent(str(value), kwargs or args),
        "list": lambda value: check_count(len(value) if isinstance(value, str) else 0),
        "join": lambda value, d="", attribute=None: check_count(len(value) if isinstance(value, str) else 0),
        "round": lambda value, precision=0, method="common": check_power(10, precision),
        "sum": _before_sum,
        "tojson": _before_tojson,
        # These compare what they are given, each with many others.
        **dict.fromkeys(_COMPARING, _before_comparing),
        **dict.fromkeys(_WORDS, _before_words),
        "wordwrap": _before_wordwrap,
        "urlize": _before_urlize,
    }


def bound_tests(tests: MutableMapping[str, Any]) -> None:
    """Put a check before each test that compares."""
    for names, check in (
        (("eq", "==", "equalto", "ne", "!=", "lt", "<", "lessthan", "le", "<=", "gt", ">", "greaterthan", "ge", ">="),
         check_comparison),
        (("in",), check_member),
    ):  # fmt: skip
        for name in names:
            tests[name] = _comparing(tests[name], check)


def _comparing(test: Callable[[Any, Any], bool], check: Callable[[Any, Any], None]) -> Callable[[Any, Any], bool]:
    def checked(value: Any, other: Any) -> bool:
        check(value, other)
        return test(value, other)

    return checked


def checked(check: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Run a check; arguments of a wrong type are left to the filter, which refuses them itself."""
    with contextlib.suppress(TypeError, ValueError):
        check(*args, **kwargs)


def before_any(value: Any, *args: Any, **kwargs: Any) -> None:
    """Before a filter that no other check is for: it may print what it is given."""
    if type(value) in (list, dict, tuple):
        measure(value)


def _before_indent(value: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> None:
    each = len(width) if isinstance(width, str) else int(width)
    check_size(each * (str(value).count("\n") + 2))


def _before_tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> None:
    if type(value) in (list, dict, tuple) or indent is not None or separators is not None:
        found = measure(value)
        each = (0 if indent is None else width(indent) if isinstance(indent, str) else int(indent)) * found.depth
        check_size(found.chars + found.nodes * (each + sum(map(len, separators or ()))))


def _before_comparing(value: Any, *args: Any, **kwargs: Any) -> None:
    if isinstance(value, list | tuple | Mapping):
        measure(value)
    elif isinstance(value, str):
        check_count(len(value))


def _before_words(value: Any, *args: Any, **kwargs: Any) -> None:
    if width(value) > _MOST_REWRITTEN:
        raise TooMuchWork
    # `striptags` copies the text once for each comment that it takes out.
    if isinstance(value, str):
        check_work(value.count("<!--") * len(value) >> 4)


def _before_wordwrap(
    value: Any, width: int = 79, break_long_words: bool = True, wrapstring: str | None = None, hyphens: bool = True
) -> None:
    _before_words(value)
    # A word longer than a line is copied once for each line of it.
    check_work(len(value) // max(1, int(width)) * len(value) >> 4)
    check_size(0 if wrapstring is None else (len(value) + 1) * (len(wrapstring) + 1))


def _before_urlize(
    value: Any, limit: Any = None, nofollow: bool = False, target: Any = None, rel: Any = None, extra: Any = None
) -> None:
    _before_words(value)
    check_size((len(value) // 2 + 1) * (width(target) + width(rel)))


def _before_sum(value: Any, *args: Any, **kwargs: Any) -> None:
    # Each list that is added copies all before it.
    items = value if isinstance(value, list | tuple) else ()
    lists = [len(item) for item in items if isinstance(item, list | tuple)]
    if sum(lists) * len(lists) > MAX_ITEMS << 4:
        raise OutputTooLarge
