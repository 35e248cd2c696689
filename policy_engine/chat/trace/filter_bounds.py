"""Bounds on filters and tests, checked before they run, and a charge for what each makes.

{{ [1]|tojson(indent=10**9) }}      refused: each line would be indented by 1,000,000,000 blanks
{{ text|wordwrap(1) }}              refused where the text has more than a million characters: it takes minutes
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final

from policy_engine.chat.trace.bounds import (
    MAX_ITEMS,
    TooMuchWork,
    check_comparison,
    check_member,
    check_percent,
    check_power,
    check_work,
    measure,
    width,
)
from policy_engine.chat.trace.call_bounds import check_count
from policy_engine.chat.trace.origins import OutputTooLarge, check_size

_MOST_REWRITTEN: Final = 1 << 20
"""Longest text for the filters that take it apart word by word, in Python."""

_WORDS: Final = ("pprint", "striptags", "title", "truncate", "urlencode", "urlize", "wordcount", "wordwrap", "xmlattr")
_COMPARING: Final = ("sort", "unique", "groupby", "dictsort", "min", "max")


def before_filters() -> dict[str, Callable[..., Any]]:
    """The check before each filter that writes more than it is given, or takes longer than reading it."""
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
    """Run a check; arguments of a wrong type are left to the filter, which refuses them in its own words."""
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
