"""The operations that one run of a template does on data, in order.

step   ("strip", 2)                            gives register 3
test   ("?contains", 3, (str, "<think>"))      gave False

Register 0 holds the messages of a row, register 1 the time; every step fills the next one. Constants are part of an
operation, and `?` in front of a name reads text without its origin.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from policy_engine.chat.skeleton.cuts import CUTS
from policy_engine.chat.skeleton.shape import value_at
from policy_engine.chat.trace.meter import BIG
from policy_engine.chat.trace.origins import Origin
from policy_engine.chat.trace.text import Traced, traced
from policy_engine.chat.trace.tojson import is_one_piece, json_of
from policy_engine.chat.trace.values import TracedDict, TracedFloat, TracedInt, TracedList, TracedMessage, wrap

MESSAGES: Final = 0
NOW: Final = 1
_MOST_ENTRIES: Final = 4_000
"""Steps and tests of one recording."""
_MOST_WEIGHT: Final = 64
TO_JSON: Final = "filter tojson ()"
_GROWING: Final = {TO_JSON: 8, "str": 8, "upper": 3, "lower": 3, "filter upper ()": 3, "filter lower ()": 3}
"""Steps that make text that is longer than what they are given, by the most times that it is longer."""
_NOT_LONGER: Final = frozenset(
    {
        "+", "char", "concat", "cut before", "cut behind", "filter length ()", "filter string ()", "filter trim ()",
        "item", "lstrip", "rstrip", "split", "strip",
    }
)  # fmt: skip
"""Steps that make nothing longer than all that they are given."""
_CONSTANTS: Final = (str, int, float, type(None))
_OBJECTS: Final = (TracedDict, TracedMessage, TracedList)


class Refused(BaseException):
    """A template does what cannot be replayed. Not an Exception: Jinja catches those in places."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TooLong(Exception):
    """A text is so long that it is left to a full rendering, with all its bounds."""


@dataclass(slots=True, eq=False)
class Entry:
    """A step, or a test with its `answer`. Equal operations have equal keys."""

    key: tuple[Any, ...]
    function: Callable[..., Any]
    registers: tuple[int, ...]
    is_test: bool
    answer: Any = None
    can_wait: bool = False
    """True for a step that cannot fail, and so may be left out where nothing reads what it makes."""
    origin: Origin | None = None
    """The field, for the step that gives its origin to a plain text, or to an object that is one piece."""


@dataclass(frozen=True)
class Quick:
    """A method of text that needs no checks, by its name."""

    name: str

    def __call__(self, text: str, *args: Any) -> Any:
        return getattr(text, self.name)(*args)


class Probe:
    """Base of the values that stand for data: `value` in the recorded row, and its register.

    `is_cut` marks text that was only cut out of one field. `later` makes the step of a value that need not be made.
    `weight` bounds its length, in lengths of the longest field; None if nothing is known of it.
    """

    __slots__ = ("is_cut", "later", "place", "register", "tape", "value", "weight")
    tape: Tape
    value: Any
    register: int | None
    is_cut: bool
    place: tuple[int, tuple[str | int, ...]] | None
    later: Callable[[], int] | None
    weight: int | None


class Tape:
    """A recording. `make` gives the probe of a value."""

    def __init__(self, make: Callable[[Tape, Any, int | None, bool], Any]) -> None:
        self._make = make
        self.entries: list[Entry] = []
        self._known: dict[Any, Any] = {}
        self._next = NOW + 1
        self.places: dict[int, tuple[Any, int, tuple[str | int, ...], Any]] = {}
        """Objects and lists that stand for data, by id: themselves, where they are, and what they stand for."""
        self.sums: dict[int, tuple[Any, Any]] = {}
        """The two parts of each sum of texts, by its register: registers, and texts of the template."""
        self.fields: dict[int, tuple[int, Origin]] = {}
        """The register of its plain text, and its origin, of each field of text that was read with its origin."""
        self.refused: str | None = None
        self.is_bounded = True
        """True if no step makes much more than it is given, so that a replay needs no meter."""

    def refuse(self, reason: str) -> Refused:
        """The exception to raise; a recording that refused stays refused, whoever catches it."""
        self.refused = self.refused or reason
        return Refused(reason)

    def step(self, name: str, function: Callable[..., Any], *args: Any, is_cut: bool = False) -> Any:
        """The probe for what `function` makes of probes and constants."""
        key, registers, call = self._lowered(name, function, args)
        found = self._known.get(key)
        if found is not None:
            return found
        try:
            value = function(*map(self.concrete, args))
        except Exception as error:
            raise self.refuse(f"{name} fails: {error}") from error
        made = self._added(key, call, registers, value, is_cut)
        if name == "+" and type(value) is Traced:
            self.sums[made.register] = self._part(args[0]), self._part(args[1])
            self.entries[-1].can_wait = True  # of texts, whose whole is measured when it is put together
        made.weight = _weight(name, args)
        if made.weight is None or made.weight > _MOST_WEIGHT:
            made.weight = None
            self.is_bounded = False
        return self._known.setdefault(key, made)

    def _part(self, value: Any) -> Any:
        return self.register_of(value) if isinstance(value, Probe) else value

    def test(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        """The answer of `function`, which every row has to give that is replayed this way."""
        key, registers, call = self._lowered(name, function, args)
        if key in self._known:
            return self._known[key]
        try:
            answer = function(*map(self.concrete, args))
            hash(answer)
        except Exception as error:
            raise self.refuse(f"{name} fails: {error}") from error
        if registers:
            self._append(Entry(key, call, registers, True, answer))
        self._known[key] = answer
        return answer

    def now(self, name: str, function: Callable[[Any], Any], value: Any) -> Any:
        """The probe for what is made of the time."""
        key = (name, NOW)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._added(key, function, (NOW,), value, False)
        return found

    def _added(
        self, key: tuple[Any, ...], call: Callable[..., Any], registers: tuple[int, ...], value: Any, is_cut: bool
    ) -> Any:
        if not registers:
            raise self.refuse(f"{key[0]} of no data")
        # A text is no longer than the field that it is cut out of, which was measured when it was read.
        self._append(Entry(key, call, registers, False, can_wait=is_cut and key[0] in CUTS))
        self._next += 1
        return self._make(self, value, self._next - 1, is_cut)

    def _append(self, entry: Entry) -> None:
        if len(self.entries) >= _MOST_ENTRIES:
            raise self.refuse("the template asks too much")
        self.entries.append(entry)

    def field(self, turn: int, path: tuple[str | int, ...], value: Any, *, plain: bool) -> int:
        """The register of a field of the messages; `plain` is its text without its origin."""
        is_text = type(value) is Traced
        key = ("object" if not is_text else "field" if plain else "traced", turn, path)
        found = self._known.get(key)
        if found is not None:
            return int(found)
        if not is_text:
            owner = value._o if type(value) in _OBJECTS and is_one_piece(value._o) else None
            self._append(Entry(key, _wrapped(turn, path), (MESSAGES,), False, can_wait=owner is not None, origin=owner))
        elif plain:
            self._append(Entry(key, _text(turn, path), (MESSAGES,), False))
        else:
            origin = value._r[0][1]
            read = (self.field(turn, path, value, plain=True),)
            self._append(Entry(key, _with_origin(origin), read, False, can_wait=True, origin=origin))
            self.fields[self._next] = read[0], origin
        self._next += 1
        self._known[key] = self._next - 1
        return self._next - 1

    def register_of(self, value: Probe, *, plain: bool = False) -> int:
        """The register of a probe; a field is read when it is first asked for."""
        if value.place is not None:
            return self.field(*value.place, value.value, plain=plain)
        if value.register is None:
            assert value.later is not None
            value.register = value.later()
        return value.register

    def concrete(self, value: Any) -> Any:
        """A value with what its probes stand for."""
        if isinstance(value, Probe):
            return value.value
        kind = type(value)
        if kind is list or kind is tuple:
            return kind(map(self.concrete, value))
        if kind is dict:
            return {key: self.concrete(item) for key, item in value.items()}
        if kind in _OBJECTS:
            found = self.places.get(id(value))
            return value if found is None else found[3]
        return value

    def _lowered(
        self, name: str, function: Callable[..., Any], args: Sequence[Any]
    ) -> tuple[tuple[Any, ...], tuple[int, ...], Callable[..., Any]]:
        """The key of an operation, the registers that it reads, and the function of their contents."""
        first, rest = args[0], args[1:]
        plain = name.startswith("?")  # tests of text read it without its origin
        if isinstance(first, Probe) and all(type(arg) in _CONSTANTS for arg in rest):
            register = self.register_of(first, plain=plain)
            key = (name, register, *((type(arg), arg) for arg in rest))
            if not rest:
                return key, (register,), function
            if len(rest) == 1:
                return key, (register,), _with_one(function, rest[0])
            return key, (register,), _with_many(function, tuple(rest))
        registers: list[int] = []
        made = [self._operand(arg, registers, plain) for arg in args]
        key = (name, *(part for _, part in made))
        builders = tuple(build for build, _ in made)
        # Of two texts one is mostly the template's, and the other is read without ceremony.
        kinds = ["probe" if isinstance(arg, Probe) else "text" if type(arg) in (str, Traced) else "" for arg in args]
        if kinds == ["probe", "probe"] and len(registers) == len(args):
            return key, tuple(registers), function
        if kinds == ["probe", "text"]:
            return key, tuple(registers), _with_one(function, args[1])
        if kinds == ["text", "probe"]:
            return key, tuple(registers), functools.partial(function, first)
        return key, tuple(registers), lambda *values: function(*[build(values) for build in builders])

    def _operand(
        self, value: Any, registers: list[int], plain: bool
    ) -> tuple[Callable[[Sequence[Any]], Any], tuple[Any, ...]]:
        kind = type(value)
        if isinstance(value, Probe):
            return self._read(self.register_of(value, plain=plain), registers)
        if kind in _CONSTANTS or kind is bool:
            return (lambda values: value), (kind, value)
        if kind is Traced or kind is TracedInt or kind is TracedFloat:
            return (lambda values: value), (kind, value, getattr(value, "_r", None) or id(value))
        if kind in _OBJECTS:
            found = self.places.get(id(value))
            if found is None:
                if _holds(value):
                    raise self.refuse("an object that the template made of data")
                return (lambda values: value), (kind, repr(value))  # of the tools, which are part of the shape
            if not found[2]:
                raise self.refuse("a whole message")
            return self._read(self.field(found[1], found[2], found[3], plain=False), registers)
        if kind is list or kind is tuple:
            items = [self._operand(item, registers, plain) for item in value]
            builders = tuple(build for build, _ in items)
            return (lambda values: kind(build(values) for build in builders)), (kind, *(key for _, key in items))
        if kind is dict:
            pairs = [(key, self._operand(item, registers, plain)) for key, item in value.items()]
            if any(isinstance(key, Probe) for key, _ in pairs):
                raise self.refuse("a key that is data")
            return (
                lambda values: {key: build(values) for key, (build, _) in pairs},
                (kind, *((str(key), part) for key, (_, part) in pairs)),
            )
        raise self.refuse(f"an operation on {kind.__name__}")

    @staticmethod
    def _read(register: int, registers: list[int]) -> tuple[Callable[[Sequence[Any]], Any], tuple[Any, ...]]:
        if register not in registers:
            registers.append(register)
        at = registers.index(register)
        return (lambda values: values[at]), ("register", register)


def _weight(name: str, args: Any) -> int | None:
    times = _GROWING.get(name, 1 if name in _NOT_LONGER or name.startswith("tag ") else None)
    if times is None:
        return None
    weight = 0
    todo = list(args)
    while todo:
        value = todo.pop()
        if isinstance(value, Probe):
            if value.weight is None:
                return None
            weight += value.weight
        elif isinstance(value, list | tuple):
            todo += value
        elif isinstance(value, dict):
            todo += value.values()
        else:
            weight += isinstance(value, str)
    return times * weight


def _holds(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(map(_holds, value.values() if isinstance(value, dict) else value))
    return isinstance(value, Probe)


def _with_one(function: Callable[..., Any], argument: Any) -> Callable[[Any], Any]:
    if isinstance(function, Quick):
        return operator.methodcaller(function.name, argument)
    return lambda value: function(value, argument)


def _with_many(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Callable[[Any], Any]:
    return lambda value: function(value, *arguments)


def _text(turn: int, path: tuple[str | int, ...]) -> Callable[[Sequence[Mapping[str, Any]]], str]:
    if len(path) == 1:
        name = path[0]

        def field(messages: Sequence[Mapping[Any, Any]]) -> str:
            value: str = messages[turn][name]
            if len(value) > BIG:
                raise TooLong
            return value

        return field

    def nested(messages: Sequence[Mapping[str, Any]]) -> str:
        value: str = value_at(messages, turn, path)
        if len(value) > BIG:
            raise TooLong
        return value

    return nested


def written_json(entry: Entry) -> Callable[[Sequence[Mapping[str, Any]]], Traced]:
    """`tojson` of an object of the messages that is one piece; `entry` reads it."""
    _, turn, path = entry.key
    origin = entry.origin
    assert origin is not None

    def written(messages: Sequence[Mapping[str, Any]]) -> Traced:
        text = json_of(value_at(messages, turn, path), origin)
        if len(text) > BIG:
            raise TooLong
        return text

    return written


def _with_origin(origin: Origin) -> Callable[[str], str]:
    return lambda text: traced(text, ((len(text), origin, 0),))


def _wrapped(turn: int, path: tuple[str | int, ...]) -> Callable[[Sequence[Mapping[str, Any]]], Any]:
    return lambda messages: wrap(value_at(messages, turn, path), turn, path)
