"""The data of a conversation as a template sees it: each value knows the field it is.

    {{ messages[0].t }}                 ->  ‹['x', 'y']›
    {{ messages[0].n }}/{{ t[1] }}      ->  ‹12›/‹y›
    {{ messages[0].role }}              ->  user

A role is not marked: printed, it is scaffold of the turn being written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from policy_engine.chat.trace.origins import LOST, Origin, Run, cut, key_at, origin_at, owner_of, printed_at
from policy_engine.chat.trace.text import Traced, runs_of, traced


class TracedInt(int):
    """A whole number from the data; its text knows the field."""

    _o: Origin

    def __str__(self) -> str:
        # No offsets: a number in JSON and its text in Python may be written differently.
        text = int.__repr__(self)
        return traced(text, ((len(text), self._o, LOST),))

    def __reduce__(self) -> tuple[Any, ...]:
        return (int, (int(self),))


class TracedFloat(float):
    """A number from the data; its text knows the field."""

    __slots__ = ("_o",)
    _o: Origin

    def __str__(self) -> str:
        text = float.__repr__(self)
        return traced(text, ((len(text), self._o, LOST),))

    def __reduce__(self) -> tuple[Any, ...]:
        return (float, (float(self),))


class TracedDict(dict[Any, Any]):
    """An object from the data; printed whole, its text knows the field."""

    __slots__ = ("_o",)
    _o: Origin

    @classmethod
    def fromkeys(cls, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)

    def __str__(self) -> str:
        return _printed(self, dict.__repr__(self))


class TracedMessage(TracedDict):
    """A message. Binding one to a loop variable makes its turn the one being written."""

    __slots__ = ()


class TracedList(list[Any]):
    """A list from the data; printed whole, its text knows the field."""

    __slots__ = ("_o",)
    _o: Origin

    def __str__(self) -> str:
        return _printed(self, list.__repr__(self))


def _printed(value: TracedDict | TracedList, whole: str) -> str:
    """Give `whole`, what Python prints of a value, the origins of the values in it.

    {{ t }} {{ (t|string)[:5] }}    ->  ‹['x', 'y']› ‹['x',›
    """
    printer = _Printer()
    printer.value(value)
    runs = tuple(printer.runs)
    # A value that prints itself in another way: its owner is known, and nothing more.
    if sum(length for length, _, _ in runs) != len(whole):
        runs = ((len(whole), printed_at(value._o.turn, value._o.path, whole=True), LOST),)
    return traced(whole, runs)


class _Printer:
    """The runs of what Python prints of a value.

    Brackets, keys and quotes are of the object that they are in.
    """

    def __init__(self) -> None:
        self.runs: list[Run] = []

    def value(self, value: TracedDict | TracedList) -> None:
        origin = value._o
        # Tools, documents and arguments of calls are one piece, as in JSON.
        if origin.turn is None or "arguments" in origin.path:
            self._around(len(repr(value)), printed_at(origin.turn, origin.path, whole=True))
            return
        frame = printed_at(origin.turn, origin.path, whole=False)
        self._around(1, frame)
        items: Any = value.items() if isinstance(value, dict) else ((None, item) for item in value)
        for number, (key, item) in enumerate(items):
            named = len(repr(key)) + 2 if isinstance(value, dict) else 0
            self._around((2 if number else 0) + named, frame)
            if isinstance(item, TracedDict | TracedList):
                self.value(item)
            # The type of a part says what the others are, and is no text of it.
            elif type(item) is Traced and key != "type":
                self._text(item, frame)
            else:
                own = item._o if isinstance(item, TracedInt | TracedFloat) else frame
                self._around(len(repr(item)), own)
        self._around(1, frame)

    def _around(self, length: int, origin: Origin) -> None:
        if self.runs and self.runs[-1][1] is origin and self.runs[-1][2] == LOST:
            length += self.runs.pop()[0]
        if length:
            self.runs.append((length, origin, LOST))

    def _text(self, text: Traced, frame: Origin) -> None:
        shown = repr(text)
        self._around(1, frame)
        if len(shown) == len(text) + 2:
            self.runs += text._r if text else ()
        else:
            sizes = [_printed_size(char, shown[0]) for char in str.__iter__(text)]
            # Else no character would say that the text was written.
            if min(sizes) > 1 and not str.isspace(text):
                self._around(sum(sizes), owner_of(text._r) or frame)
            else:
                self._escaped(text, sizes, frame)
        self._around(1, frame)

    def _escaped(self, text: Traced, sizes: list[int], frame: Origin) -> None:
        """Characters that Python writes as they are keep their places in the field."""
        at = 0
        for place, size in enumerate(sizes):
            if size > 1:
                self.runs += cut(text._r, at, place) if at < place else ()
                self._around(size, frame)
                at = place + 1
        self.runs += cut(text._r, at, len(text)) if at < len(text) else ()


def _printed_size(char: str, quote: str) -> int:
    """The length of what Python prints of a character in a text with these quotes.

    >>> _printed_size("a", "'"), _printed_size("\\f", "'"), _printed_size("'", '"'), _printed_size("'", "'")
    (1, 4, 1, 2)
    """
    return 2 if char == quote else 1 if char in "\"'" else len(repr(char)) - 2


class PlacedText(str):
    """Text of the data with characters put in or left out.

    The others keep their offsets in the data: `runs` are (length, offset of the first character in the field or LOST),
    in order.
    """

    __slots__ = ("runs",)
    runs: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, text: str, runs: tuple[tuple[int, int], ...]) -> PlacedText:
        """From the text and its runs, whose lengths add up to its length."""
        made = cls(text)
        made.runs = runs
        return made


def wrap(value: Any, turn: int | None, path: tuple[str | int, ...]) -> Any:
    """`value` (plain JSON data) with origins at every string and number, at object keys too.

    >>> wrap({"content": "Hi"}, 0, ())["content"]
    'Hi'
    """
    kind = type(value)
    if kind is str:
        return traced(value, ((len(value), origin_at(turn, path), 0),))
    if kind is dict:
        made = TracedDict()
        made._o = origin_at(turn, path)
        # One origin for all keys of an object: a key has no field of its own.
        of_key = key_at(turn, path)
        for key, item in value.items():
            name = traced(key, ((len(key), of_key, LOST),)) if type(key) is str else key
            made[name] = wrap(item, turn, (*path, key))
        return made
    if kind is list or kind is tuple:
        items = TracedList(wrap(item, turn, (*path, at)) for at, item in enumerate(value))
        items._o = origin_at(turn, path)
        return items
    # After bool was ruled out by its type: `type(True)` is bool, not int.
    if kind is int:
        number = TracedInt(value)
        number._o = origin_at(turn, path)
        return number
    if kind is float:
        real = TracedFloat(value)
        real._o = origin_at(turn, path)
        return real
    if value is None or kind is bool:
        return value
    if kind is PlacedText:
        origin = origin_at(turn, path)
        return traced(str.__str__(value), tuple((length, origin, offset) for length, offset in value.runs))
    return wrap(_plain(value), turn, path)


def _plain(value: Any) -> Any:
    """Make plain JSON of a value, as transformers does before a template may see it."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, list | tuple):
        return list(value)
    # A number of numpy or torch.
    if callable(getattr(value, "item", None)) and getattr(value, "shape", None) == ():
        return value.item()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if callable(getattr(value, "model_dump", None)):
        return value.model_dump()
    # Anything else is named, and no template gets the object itself: it could call its methods.
    return f"<{type(value).__name__}>"


def wrap_message(message: Mapping[str, Any], turn: int, aliases: Mapping[str, str]) -> TracedMessage:
    """Return a message with origins; `aliases` maps fields of the template to the data's.

    A role stays plain: printed, it is scaffold of the turn being written, whosever role it is.
    """
    made = TracedMessage()
    made._o = origin_at(turn, ())
    for key, item in message.items():
        # Marks of control tokens in a role are taken out again by whoever reads the text.
        if key == "role" and type(item) is PlacedText:
            made[key] = str.__str__(item)
        elif type(item) is not str:
            made[key] = wrap(item, turn, (aliases.get(key, key),))
        elif key == "role":
            made[key] = item
        else:
            text = str.__new__(Traced, item)
            text._r = ((len(item), origin_at(turn, (aliases.get(key, key),)), 0),)
            made[key] = text
    return made


def origin_of(value: Any) -> Origin | None:
    """Return the origin of a traced value, or of the first data in an object the template built."""
    if isinstance(value, str):
        return owner_of(runs_of(value))
    # Made of the data as a whole, so its own origin says it.
    if isinstance(value, TracedDict | TracedList | TracedInt | TracedFloat):
        return value._o
    if type(value) is dict:
        return next((found for item in value.values() if (found := _first_origin(item)) is not None), None)
    return None


def _first_origin(value: Any) -> Origin | None:
    if isinstance(value, str):
        return next((origin for _, origin, _ in runs_of(value) if type(origin) is Origin), None)
    if type(value) is list:
        return next((found for item in value if (found := _first_origin(item)) is not None), None)
    return origin_of(value)


def _pass_for(kind: type, plain: type) -> None:
    # Errors that templates provoke name the type (`'dict object' has no attribute …`); they must read as for plain
    # data.
    kind.__name__ = kind.__qualname__ = plain.__name__
    kind.__module__ = plain.__module__


_pass_for(Traced, str)
_pass_for(TracedInt, int)
_pass_for(TracedFloat, float)
_pass_for(TracedDict, dict)
_pass_for(TracedMessage, dict)
_pass_for(TracedList, list)
