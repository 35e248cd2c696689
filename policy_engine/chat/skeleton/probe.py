"""Probes: the values that a recorded template works with in place of data.

    {{ 'x' in content }}       a test, answered by the text itself
    {{ content.strip() }}      a step, whose probe is printed
    {{ content.encode() }}     refused

A probe is no `str`: what is not written here fails, and cannot look at the data unseen.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator, Mapping
from types import BuiltinMethodType, MethodType
from typing import Any, Final, NoReturn

from policy_engine.chat.skeleton.tape import Probe, Quick, Tape
from policy_engine.chat.trace.call_bounds import charged, check_call
from policy_engine.chat.trace.computed import KEEPING_METHODS, called
from policy_engine.chat.trace.text import Traced
from policy_engine.chat.trace.values import TracedDict, TracedFloat, TracedInt, TracedList, TracedMessage

_CUTTING: Final = frozenset({"lstrip", "removeprefix", "removesuffix", "rstrip", "strip"})
"""Methods whose result was only cut out of the text."""
_LISTING: Final = frozenset({"rsplit", "split", "splitlines"})
_PARTING: Final = frozenset({"partition", "rpartition"})
_TESTING: Final = frozenset({"endswith", "isdigit", "isspace", "startswith"})
_STEPS: Final = KEEPING_METHODS - _LISTING - _PARTING - {"join"} | {"count", "find", "rfind"}
METHODS: Final = _STEPS | _TESTING | _LISTING | _PARTING
"""Methods of text that are replayed."""
_QUICK: Final = (KEEPING_METHODS - {"join"}) | _TESTING
_NEVER_EQUAL: Final = (type(None), bool, list, tuple, dict, TracedDict, TracedList, TracedMessage)
_MOST_DEEP: Final = 8
_PLAIN: Final = (str, int, type(None), tuple)
_ARGUMENTS: Final = (str, Traced, int, type(None))


def make(tape: Tape, value: Any, register: int | None, is_cut: bool) -> Any:
    """The probe of a value that was made."""
    kind = type(value)
    made: Probe
    if isinstance(value, str):
        made = Text()
    elif kind is TracedInt or kind is TracedFloat or kind is int or kind is float:
        made = Number()
    elif kind is list or kind is TracedList:
        made = List()
        made.is_filled, made.split = False, None
    elif kind is dict or kind is TracedDict:
        made = Object()
    else:
        raise tape.refuse(f"a {kind.__name__} made of data")
    made.tape, made.value, made.register, made.is_cut, made.place = tape, value, register, is_cut, None
    made.later, made.weight = None, 1
    return made


def placed(tape: Tape, value: Any, turn: int, path: tuple[str | int, ...]) -> Probe:
    """The probe of a field of the messages."""
    made: Probe = make(tape, value, None, True)
    made.place = (turn, path)
    return made


class _Value(Probe):
    """Operations that all probes refuse or answer."""

    __slots__ = ()

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise self.tape.refuse(f"an operation on {type(self.value).__name__} that is not replayed")

    __hash__ = None  # type: ignore[assignment]
    __str__ = __repr__ = __format__ = __index__ = __int__ = __float__ = __getitem__ = _refuse

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and hasattr(self.value, name):
            self._refuse()
        raise AttributeError(name)

    def __bool__(self) -> bool:
        return bool(self.tape.test("?bool", bool, self))

    def _compared(self, name: str, other: Any) -> Any:
        return self.tape.test(f"?{name}", getattr(operator, name), self, other)

    def __eq__(self, other: object) -> bool:
        return not self._is_never(other) and bool(self._compared("eq", other))

    def __ne__(self, other: object) -> bool:
        return self._is_never(other) or bool(self._compared("ne", other))

    __lt__ = functools.partialmethod(_compared, "lt")
    __le__ = functools.partialmethod(_compared, "le")
    __gt__ = functools.partialmethod(_compared, "gt")
    __ge__ = functools.partialmethod(_compared, "ge")

    def _is_never(self, other: object) -> bool:
        """True if this is text, which is never equal to the other value."""
        return isinstance(self, Text) and isinstance(other, _NEVER_EQUAL)


class Number(_Value):
    """Stands for a number."""

    __slots__ = ()


class _Sized(_Value):
    """Operations of what has a length and can be looked into."""

    __slots__ = ()

    def __len__(self) -> int:
        return int(self.tape.test("?len", len, self))

    def __contains__(self, item: Any) -> bool:
        return bool(self.tape.test("?contains", operator.contains, self, item))


class Text(_Sized):
    """Stands for text."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        self._refuse()

    def called(self, name: str, args: tuple[Any, ...]) -> Any:
        """A method of the text."""
        if name not in METHODS:
            self._refuse()
        for value in args:
            if name in _TESTING and type(value) is tuple and all(type(item) is str for item in value):
                continue
            if type(value) not in _ARGUMENTS and not isinstance(value, Text):
                raise self.tape.refuse(f"{name} with a {type(value).__name__}")
        method = _method(name, args)
        if name in _TESTING:
            return self.tape.test(f"?{name}", method, self, *args)
        if name in _PARTING:
            parts = self.tape.step(name, _three(method), self, *args)
            return tuple(self.tape.step("item", operator.getitem, parts, at) for at in range(3))
        if name == "split" and self.is_cut and len(args) == 1 and _cuts_alike(args[0]):
            return self._split(args[0])
        made = self.tape.step(name, method, self, *args, is_cut=self.is_cut and name in _CUTTING)
        if name in _LISTING:
            made.is_cut = self.is_cut
            made.is_filled = name != "splitlines" and bool(args) and args[0] is not None
        return made

    def _split(self, separator: str) -> List:
        """The pieces of a text, of which the first and the last are cut out without the others."""
        made: List = make(self.tape, self.value.split(separator), None, True)
        split = _method("split", (separator,))
        made.later = lambda: self.tape.register_of(self.tape.step("split", split, self, separator))
        made.is_filled = True
        made.split = (self, separator)
        made.weight = self.weight
        return made


class List(_Sized):
    """Stands for a list; one that `is_filled` has an item in every row.

    `split` is the text and the separator that it was made of, where its ends can be cut out alone.
    """

    __slots__ = ("is_filled", "split")
    is_filled: bool
    split: tuple[Text, str] | None

    def at(self, index: int) -> Any:
        """The item at a place. Raises IndexError as the list does."""
        if not self.is_filled or index not in (0, -1):
            size = len(self)
            if not -size <= index < size:
                raise IndexError("list index out of range")
        elif self.split is not None:
            name, function = ("cut behind", _behind) if index else ("cut before", _before)
            return self.tape.step(name, function, *self.split, is_cut=True)
        return _item(self, index)

    def __iter__(self) -> Iterator[Any]:
        for index in range(len(self)):
            yield _item(self, index)


class Object(_Sized):
    """Stands for an object."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self.names())

    def names(self) -> list[Any]:
        """Its keys in order, which a test asks for."""
        self.tape.test("?keys", _keys, self)
        return list(self.value)

    def at(self, key: str) -> Any:
        """The value of a key. Raises KeyError if it is missing."""
        if key not in self:
            raise KeyError(key)
        return _item(self, key)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.names())

    def pairs(self) -> list[tuple[Any, Any]]:
        """Its keys and values."""
        return [(key, _item(self, str.__str__(key))) for key in self.names()]


def _keys(value: dict[str, Any]) -> tuple[str, ...]:
    return tuple(map(str.__str__, value))


def _cuts_alike(separator: Any) -> bool:
    """True for text that cannot overlap itself: a search from either side finds the last one."""
    return (
        type(separator) is str
        and bool(separator)
        and not any(separator.startswith(separator[at:]) for at in range(1, len(separator)))
    )


def _before(text: Traced, separator: str) -> str:
    """`text.split(separator)[0]` of a text of one run."""
    at = str.find(text, separator)
    return text if at < 0 else text._sub(0, at)


def _behind(text: Traced, separator: str) -> str:
    """`text.split(separator)[-1]` of a text of one run."""
    at = str.rfind(text, separator)
    return text if at < 0 else text._sub(at + len(separator), len(text))


def _three(method: Callable[..., Any]) -> Callable[..., Any]:
    return lambda text, *args: list(method(text, *args))


def _kind(value: Any, key: Any) -> Any:
    found = value[key]
    kind = type(found)
    return (kind, found) if kind is bool else kind


def _item(value: List | Object, key: Any) -> Any:
    """The value of a key that is there; a test asks for its type."""
    tape = value.tape
    if type(value.value) is list:  # pieces of a text
        return tape.step("item", operator.getitem, value, key, is_cut=value.is_cut)
    kind = tape.test("?kind", _kind, value, key)
    if kind is type(None):
        return None
    if type(kind) is tuple:
        return kind[1]
    return tape.step("item", operator.getitem, value, key, is_cut=value.is_cut)


def _method(name: str, args: tuple[Any, ...]) -> Callable[..., Any]:
    """A method of text as a template calls it."""
    if name in _QUICK and not args:
        return operator.methodcaller(name)
    if name in _QUICK and all(type(value) in _PLAIN for value in args):
        return Quick(name)

    def checked(text: str, *args: Any) -> Any:
        method = getattr(text, name)
        check_call(method, args)
        return called(method, charged(method(*args)), args)

    return checked


def has_data(value: Any, depth: int = 0) -> bool:
    """True if there is a probe in a value, or may be one."""
    if isinstance(value, Probe):
        return True
    kind = type(value)
    if kind in (str, Traced, int, bool, float, type(None)):
        return False
    if depth > _MOST_DEEP:
        return True
    if isinstance(value, Mapping):
        return any(has_data(item, depth + 1) for pair in value.items() for item in pair)
    if isinstance(value, list | tuple):
        return any(has_data(item, depth + 1) for item in value)
    contents = getattr(kind, "pe_contents", None)
    if contents is not None:
        return any(has_data(item, depth + 1) for item in contents(value))
    return hasattr(value, "__next__") or isinstance(value, MethodType | BuiltinMethodType)
