"""`tojson` that knows which characters came from which field.

{{ [u, v]|tojson }}                ->  [‹"Hi, Bob"›, «"Yes"»]
{{ {'a': n, 'b': 'x'}|tojson }}    ->  {"a": ‹12›, "b": "x"}
"""

from __future__ import annotations

import functools
import json
import re
from typing import Any

from policy_engine.chat.trace.origins import LOST, Origin, Run, Scaffold, Unclaimed, cut, owner_of
from policy_engine.chat.trace.text import Traced, lost, traced
from policy_engine.chat.trace.values import TracedDict, TracedList, origin_of


@functools.cache  # not when it is imported: it takes milliseconds, and few templates print JSON
def _escaped(ensure_ascii: bool) -> re.Pattern[str]:
    return re.compile(r'["\\\x00-\x1f\x7f-\U0010ffff]' if ensure_ascii else r'["\\\x00-\x1f]')


@functools.cache  # `json.dumps` makes one for each call
def _encoder(ensure_ascii: bool) -> json.JSONEncoder:
    return json.JSONEncoder(ensure_ascii=ensure_ascii)


def tojson(
    x: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """transformers' filter `tojson`: `json.dumps` without HTML escapes, each value of its owner.

    Below a message or its tool calls, names, ids and arguments keep owners of their own. Offsets are kept
    where a string is written as it is.
    """
    if indent is None and separators is None and not sort_keys:
        text = _encoder(bool(ensure_ascii)).encode(x)
    else:
        text = json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    if not _is_blank(indent, separators):
        return lost(text, x, indent, separators)  # what is between two values may look like a value
    if isinstance(x, TracedDict | TracedList):
        if is_one_piece(x._o):
            return traced(text, ((len(text), x._o, LOST),))
    elif type(x) not in (Traced, dict, list, tuple):
        origin = origin_of(x)
        return text if origin is None else traced(text, ((len(text), origin, LOST),))
    walker = _Walker(text, ensure_ascii=ensure_ascii, sort_keys=sort_keys)
    walker.value(x, None)
    # The closing bracket belongs to the object itself.
    walker.gap(len(text), x._o if isinstance(x, TracedDict | TracedList) else None)
    runs = tuple(walker.runs)
    return traced(text, runs) if any(type(o) is Origin for _, o, _ in runs) else text


def is_one_piece(origin: Origin) -> bool:
    """True for tools, documents and arguments of calls: nothing in them has another owner."""
    return origin.turn is None or "arguments" in origin.path


def json_of(value: Any, origin: Origin) -> Traced:
    """`tojson` of an object that is one piece, from its plain value.

    Raises TypeError for what is no JSON.

    >>> from policy_engine.chat.trace.origins import origin_at
    >>> json_of({"city": "Rome"}, origin_at(2, ("tool_calls", 0, "function", "arguments")))
    '{"city": "Rome"}'
    """
    text = _encoder(False).encode(value)
    return traced(text, ((len(text), origin, LOST),))


def _is_blank(indent: Any, separators: Any) -> bool:
    """Tell if only brackets, commas, colons and blanks are written between values."""
    return not (isinstance(indent, str) and indent.strip()) and not any(
        isinstance(text, str) and text.strip(" \t\n,:") for text in separators or ()
    )


class _Walker:
    """Walks a value and its JSON text in step: between leaves are only brackets and blanks."""

    def __init__(self, text: str, *, ensure_ascii: bool, sort_keys: bool) -> None:
        self.text = text
        self.at = 0
        self.runs: list[Run] = []
        self.ensure_ascii = ensure_ascii
        self.sort_keys = sort_keys

    def gap(self, end: int, origin: Origin | Scaffold | Unclaimed | None) -> None:
        if end > self.at:
            self.runs.append((end - self.at, origin, LOST))
            self.at = end

    def value(self, value: Any, opaque: Origin | None) -> None:
        container: Origin | None = opaque
        if isinstance(value, TracedDict | TracedList):
            if opaque is None and "arguments" in value._o.path:
                opaque = value._o
            container = opaque or value._o
        if isinstance(value, dict):
            # In the order in which `json.dumps` writes them.
            keys = sorted(value) if self.sort_keys else list(value)
            for key in keys:
                self._leaf(key, container or origin_of(key), plain=True)
                self.value(value[key], opaque)
        elif isinstance(value, list | tuple):
            for item in value:
                self.value(item, opaque)
        else:
            self._leaf(value, container, plain=opaque is not None)

    def _leaf(self, value: Any, container: Origin | None, *, plain: bool) -> None:
        dumped = json.dumps(value, ensure_ascii=self.ensure_ascii)
        if not isinstance(value, str) and plain and container is None:
            # A key that is a number is written as text.
            dumped = json.dumps(str(value)) if not isinstance(value, str) else dumped
        found = self.text.find(dumped, self.at)
        # Written in another way than expected: it goes into the gap before the next leaf.
        if found < 0:
            return
        self.gap(found, container)
        if plain:
            self.gap(found + len(dumped), container)
            return
        if type(value) is not Traced:
            self.gap(found + len(dumped), origin_of(value) or container)
            return
        owner = owner_of(value._r)
        self.gap(found + 1, owner)
        # Runs of characters that JSON writes as they are keep their offsets; escapes keep the owner.
        at = 0
        for match in _escaped(self.ensure_ascii).finditer(value):
            self._verbatim(value, at, match.start())
            self.gap(self.at + len(json.dumps(match.group(), ensure_ascii=self.ensure_ascii)) - 2, owner)
            at = match.end()
        self._verbatim(value, at, len(value))
        self.gap(self.at + 1, owner)

    def _verbatim(self, value: Traced, start: int, end: int) -> None:
        if start < end:
            self.runs += cut(value._r, start, end)
            self.at += end - start
