"""Values of fields in the data, and their comparison.

Comparison is strict about types (`1` is not `"1"`), and a field that is missing is not one that is null.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from policy_engine.core.schema import JsonType, json_type
from policy_engine.core.wording import a_kind


class _Missing:
    """The one instance, `MISSING`, stands for a field that is not there."""

    def __repr__(self) -> str:
        return "missing"

    def __reduce__(self) -> str:
        # Pickled by name: after a round trip `value is MISSING` is still true.
        return "MISSING"


MISSING: Final = _Missing()


class Differing:
    """Values of which one is wanted: those of several results, which are not equal."""

    def __init__(self, values: Sequence[Any]) -> None:
        self.values = tuple(values)

    def __repr__(self) -> str:
        return ", ".join(map(repr, self.values))


def one_of(values: Sequence[Any]) -> Any:
    """The value that all values are, MISSING of no value, `Differing` of others.

    >>> one_of([1, 1.0]), one_of([]), one_of([1, True])
    (1, missing, 1, True)
    """
    if not values:
        return MISSING
    first = values[0]
    # Python takes `1` and `True` for equal, JSON does not.
    same = all(kind_of(value) == kind_of(first) and value == first for value in values[1:])
    return first if same else Differing(values)


def step_into(value: Any, path: Sequence[str | int]) -> Any:
    """The value at `path` below a value, or MISSING.

    Names step into objects and numbers into lists; nothing steps into text.

        >>> step_into({"labels": ["a", "b"]}, ("labels", 1))
        'b'
        >>> step_into({"labels": ["a", "b"]}, ("labels", 2))
        missing
    """
    for step in path:
        if isinstance(step, str):
            if not isinstance(value, Mapping) or step not in value:
                return MISSING
            value = value[step]
        else:
            # A negative index would count from the end in Python, and means nothing in a path.
            if not isinstance(value, (list, tuple)) or not 0 <= step < len(value):
                return MISSING
            value = value[step]
    return value


def kind_of(value: Any) -> JsonType:
    """The JSON type of a value, whole numbers and others alike.

    >>> kind_of(True), kind_of(1.5), kind_of("x"), kind_of([])
    ('boolean', 'number', 'string', 'list')
    """
    kind = json_type(value)
    # `1 == 1.0` is true in a policy, as it is in JSON.
    return "number" if kind == "integer" else kind


def equal(value: Any, literal: Any) -> bool:
    """True if a value of the data equals a scalar of the policy, in type too.

    >>> equal(1, 1.0), equal(1, True)
    (True, False)
    """
    # The kinds first, since `True == 1` in Python.
    return kind_of(value) == kind_of(literal) and bool(value == literal)


def is_ordered(value: Any, literal: Any) -> bool:
    """True if `<`, `<=`, `>` and `>=` can compare the two: both are numbers, or both strings.

    >>> is_ordered(1, 2), is_ordered("a", 2)
    (True, False)
    """
    kind = kind_of(value)
    return kind in ("number", "string") and kind == kind_of(literal)


def content_text(message: Mapping[str, Any]) -> str | None:
    """The text of a message's content: a string, or its text parts joined; None without content.

    >>> content_text({"content": [{"type": "text", "text": "Hi"}]})
    'Hi'
    """
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, (list, tuple)):
        # Without anything between, so that offsets of spans count the same characters.
        return "".join(part_text(part) for part in content)
    return None


def part_text(part: Any) -> str:
    """The text of one content part; empty for parts of another kind.

    >>> part_text({"type": "text", "text": "Hi"})
    'Hi'
    """
    if isinstance(part, str):
        return part
    text = part.get("text") if isinstance(part, Mapping) else None
    return text if isinstance(text, str) else ""


def number_problem(value: Any) -> str | None:
    """Why a value is no weight, or None if it is a finite number.

    >>> number_problem(2), number_problem("2"), number_problem(float("inf"))
    (None, 'is text, not a number', 'is inf, which is not finite')
    """
    if isinstance(value, Differing):
        return "differs from result to result"
    if kind_of(value) != "number":
        return f"is {a_kind(value)}, not a number"
    # An integer is finite, and may be too large for `isfinite`.
    return None if isinstance(value, int) or math.isfinite(value) else f"is {value}, which is not finite"


def excerpt(text: str) -> str:
    """A text quoted on one line, cut in its middle if it is long.

    >>> excerpt("a" * 200)
    "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa … aaaaaaaaaaaaaaaaaaaa'"
    """
    return repr(_cut(text))


def shown(value: Any) -> str:
    """A value of the data for people, on one line, cut in its middle if it is long.

    >>> shown("a"), shown([1])
    ("'a'", '[1]')
    """
    return excerpt(value) if isinstance(value, str) else _cut(repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:35]} … {text[-20:]}"
