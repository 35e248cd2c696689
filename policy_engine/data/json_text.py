"""JSON text as values; text that programs read differently, or cannot read, is refused.

{"role": "user", "role": "tool"}     refused: most programs take the last, some the first, and no one says so
[[[[ … 400 deep … ]]]]               refused: no data is like that, and programs that walk it end in an error
"""

from __future__ import annotations

import json
from typing import Any, Final

from_json: Any
try:
    from jiter import from_json
except ImportError:  # it comes with the extra `fast`
    from_json = None

MAX_DEPTH: Final = 100
"""Objects and lists inside one another. Pickling, walking and rendering a row bear at least twice as many."""
UNREAD: Final = object()
"""Stands for a text that `read_fast` leaves to `JsonReader`."""


class _Twice(dict[str, Any]):
    """An object of which the text had a key more than once."""

    key: str


class JsonReader:
    """Reads one JSON value after the other out of a text, and says what is wrong with them."""

    def __init__(self) -> None:
        # The hook sees the pairs of each object before the last of equal keys wins.
        self.decoder = json.JSONDecoder(object_pairs_hook=self._object)
        self._found_twice = False

    def decode(self, text: str) -> Any:
        """The value of a text; `problem` may still refuse it. Raises ValueError."""
        self._found_twice = False
        return self.decoder.decode(text)

    def problem(self, value: Any, text: str, start: int = 0, end: int | None = None) -> str | None:
        """The words after the name of a refused value: `has the key "a" twice …`; else None.

        `text[start:end]` is the text that it was read from, or more.
        """
        # The mark is of everything read so far, so the value itself is searched.
        if self._found_twice and (key := _key_twice(value)) is not None:
            return f"has the key `{key}` twice in one object"
        # Counting is fast, and almost no row has so many brackets; only then is the value walked.
        brackets = text.count("[", start, end) + text.count("{", start, end)
        if brackets > MAX_DEPTH and _is_deep(value):
            return f"is nested more than {MAX_DEPTH} deep"
        return None

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) == len(pairs):
            return made
        twice = _Twice(made)
        names = [name for name, _ in pairs]
        twice.key = next(name for at, name in enumerate(names) if name in names[:at])
        self._found_twice = True
        return twice


def read_fast(text: bytes) -> Any:
    """The value of a text by jiter, in a third of the time that `JsonReader` takes.

    `UNREAD` for what that finds a problem with, so that it says what is wrong, and where jiter is not installed. Like
    `JsonReader` jiter finds keys that are there twice; other than that, it takes no half of a surrogate pair.

    >>> read_fast(b'{"a": 1, "a": 2}') is UNREAD
    True
    """
    if from_json is None:
        return UNREAD
    try:
        value = from_json(text, catch_duplicate_keys=True, cache_mode="keys")
    except ValueError:
        return UNREAD
    return UNREAD if text.count(b"[") + text.count(b"{") > MAX_DEPTH and _is_deep(value) else value


def read_json(text: str) -> Any:
    """The value of a JSON text. Raises ValueError with what is wrong.

    >>> read_json('{"a": [1, 2]}')
    {'a': [1, 2]}
    """
    reader = JsonReader()
    try:
        value = reader.decode(text)
    except RecursionError:  # past what Python can read
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep") from None
    problem = reader.problem(value, text)
    if problem is not None:
        raise ValueError(f"it {problem}")
    return value


def _level_below(values: list[Any]) -> list[Any]:
    below: list[Any] = []
    for value in values:
        if isinstance(value, dict):
            below += value.values()
        elif isinstance(value, list):
            below += value
    return below


def _is_deep(value: Any) -> bool:
    level = [value]
    # Level by level, without recursion: depth is what is being measured.
    for _ in range(MAX_DEPTH):
        level = _level_below(level)
        if not level:
            return False
    # Numbers and texts may be that deep; an object or a list there is one too many, even if it is empty.
    return any(isinstance(item, dict | list) for item in level)


def _key_twice(value: Any) -> str | None:
    level = [value]
    while level:
        found = next((item for item in level if isinstance(item, _Twice)), None)
        if found is not None:
            return found.key
        level = _level_below(level)
    return None
