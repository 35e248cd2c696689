"""Numbers, names, fields and kinds of values as messages write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from policy_engine.core.schema import JsonType, json_type

_KINDS: Final[dict[JsonType, str]] = {
    "null": "null", "boolean": "a boolean", "integer": "a number", "number": "a number", "string": "text",
    "list": "a list", "object": "an object",
}  # fmt: skip

_ROWS: Final = 8
"""Rows that are named by number."""


def counted(number: int, noun: str) -> str:
    """A number with its noun: `1 row`, `2,000 rows`.

    >>> counted(1, "row"), counted(1200, "row")
    ('1 row', '1,200 rows')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def rows_numbered(numbers: Sequence[int]) -> str:
    """Rows by number, the first eight: `row 3`, `rows 1, 2, 7`; empty without a number.

    >>> rows_numbered([3]), rows_numbered([1, 2, 7]), rows_numbered(range(1, 10))
    ('row 3', 'rows 1, 2, 7', 'rows 1, 2, 3, 4, 5, 6, 7, 8, …')
    """
    if not numbers:
        return ""
    more = ", …" if len(numbers) > _ROWS else ""
    noun = "row" if len(numbers) == 1 else "rows"
    return f"{noun} {', '.join(str(number) for number in numbers[:_ROWS])}{more}"


def install(extra: str) -> str:
    """The command that installs an extra, in a clone and after the first release.

    >>> install("play")
    "pip install '.[play]' in a clone; from the first release on: pip install 'chat-policy-engine[play]'"
    """
    return f"pip install '.[{extra}]' in a clone; from the first release on: pip install 'chat-policy-engine[{extra}]'"


def article(name: str) -> str:
    """`a` or `an`, by the name's first sound: `an assistant`, `a user`.

    >>> article("assistant"), article("user")
    ('an', 'a')
    """
    # By sound: `a user`, but `an unknown`.
    return "an" if name[:1].lower() in tuple("aeio") or name.lower().startswith("un") else "a"


def share(part: int, whole: int) -> str:
    """A part of a whole in percent, written the same everywhere; a dash where there is nothing.

    >>> share(1, 8), share(8, 8), share(0, 8), share(0, 0)
    ('12.5%', '100%', '0%', '–')
    """
    return percent(part / whole) if whole else "–"


def percent(value: float) -> str:
    """A fraction in percent, as `share` writes it.

    >>> percent(0.125), percent(1.0)
    ('12.5%', '100%')
    """
    # `100%` without a decimal means all of them: 9,999 of 10,000 is `100.0%`.
    return f"{value:.0%}" if value in (0, 1) else f"{value:.1%}"


def first_line(error: BaseException) -> str:
    """The first line of another package's error, or its class.

    What follows is often a page of advice.

    >>> first_line(ValueError("\\n no such file\\nsee the docs")), first_line(KeyError())
    ('no such file', 'KeyError')
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def field_path(path: Sequence[str | int]) -> str:
    """The path of a field as a policy writes it: `meta.labels[0]`.

    >>> field_path(("tool_calls", 1, "function", "name"))
    'tool_calls[1].function.name'
    """
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def a_kind(value: Any) -> str:
    """The kind of a value of the data: `a number`, `text`, `an object`, `a date`.

    >>> a_kind([1]), a_kind(None), a_kind("x"), a_kind({})
    ('a list', 'null', 'text', 'an object')
    """
    # What JSON cannot hold is called by its Python type: `a date`, `a Decimal`.
    return _KINDS.get(json_type(value)) or f"{article(type(value).__name__)} {type(value).__name__}"
