"""The shape of a conversation: all of it that a recording takes for granted.

[{"role": "user", "content": "Hi"}]  ->  (None, ("user",), (2,), ("role", "content"), (str, str))

Roles, keys, the types of values, truth values and the types of content parts are in the shape by value, and so are
tools, documents and template arguments. Texts, numbers and what is in the arguments of a call are not: templates ask
for them, and the answers are tests.
"""

from __future__ import annotations

import marshal
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final

from policy_engine.data.conversation import Conversation

OPAQUE: Final = "arguments"
"""The key of objects that are not part of a shape."""
_MOST_INSIDE: Final = 4_000
"""Values of one field that are looked at."""
_DICT: Final = {dict}
_TEXT: Final = {str}
_SCALARS: Final = frozenset({str, int, float})
_EXACT: Final = 2
"""The version of `marshal` whose bytes say type and value, and nothing of interned or shared objects."""


class _NoShape(Exception):
    """A value that is not plain JSON data."""


def shape_of(conversation: Conversation, read: Mapping[str, Any]) -> Any | None:
    """The shape of a conversation, which can be hashed.

    None for one with other than plain JSON data in it. `read` are the template arguments that the template reads.
    """
    messages: Any = conversation.messages
    if set(map(type, messages)) != _DICT:
        return None
    # Message by message it would take three times as long.
    values = list(chain.from_iterable(map(dict.values, messages)))
    kinds = tuple(map(type, values))
    inside: list[Any] = []
    beside = None
    try:
        roles = tuple([message["role"] for message in messages])
        keys = tuple(chain.from_iterable(messages))
        # As a key, `1` equals `True`, and templates write the two differently.
        if set(map(type, roles + keys)) != _TEXT:
            return None
        if kinds.count(str) != len(kinds):
            for kind, value in zip(kinds, values):
                if kind is not str:
                    most = len(inside) + _MOST_INSIDE
                    _add(value, inside, most)
        if conversation.tools is not None or conversation.documents is not None or read:
            given: Any = (conversation.tools, conversation.documents, sorted(read.items()))
            beside = marshal.dumps(given, _EXACT)
    except (_NoShape, KeyError, ValueError, TypeError, RecursionError):
        return None
    return beside, roles, tuple(map(len, messages)), keys, kinds, tuple(inside)


def _add(value: Any, out: list[Any], most: int) -> None:
    kind = type(value)
    if kind in _SCALARS:
        out.append(kind)
    elif value is None or kind is bool:
        out.append((kind, value))
    elif kind is dict:
        out += (kind, len(value))
        for key, item in value.items():
            if type(key) is not str:
                raise _NoShape
            if type(item) is str:  # most are: without a call for each
                out += (key, (item,) if key == "type" else str)
            elif key == OPAQUE and type(item) is dict:
                out += (key, OPAQUE)
            else:
                out.append(key)
                _add(item, out, most)
    elif kind is list:
        out += (kind, len(value))
        for item in value:
            _add(item, out, most)
    else:
        raise _NoShape
    if len(out) > most:
        raise _NoShape


def value_at(messages: Sequence[Mapping[str, Any]], turn: int, path: tuple[str | int, ...]) -> Any:
    """The value of a field, by the place that its origin names."""
    found: Any = messages[turn]
    for step in path:
        found = found[step]
    return found
