"""`dataclass` as in the standard library, in less than half of its time.

    from policy_engine.core.classes import dataclass

    @dataclass(frozen=True, kw_only=True)
    class Place:
        "A line of a file."

        file: str
        line: int = 1

The standard library writes six methods for such a class as text and compiles each: 0.5 ms, and a verb makes 150 classes
before it does anything. Here only `__init__` is compiled; the others are shared. Fields, `replace`, pickles, pattern
matching, errors and results are the same; instances are equal if the tuples of their fields are, as in Python 3.12.

Classes with slots and those that inherit from a dataclass are left to the standard library, but for `__eq__`,
`__hash__` and `__repr__`. Left to it altogether are classes without a docstring, with an `InitVar`, or with other
options than those named in `_made`.
"""

from __future__ import annotations

import dataclasses
import reprlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, FrozenInstanceError
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

# Type checkers know that one, and all that it means.
if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(cls=None, /, **options):
        """See `dataclasses.dataclass`."""
        return partial(_made, **options) if cls is None else _made(cls, **options)


class _New:
    """The default of a field that a factory makes, as `inspect.signature` shows it."""

    def __repr__(self) -> str:
        return "<factory>"


_NEW: Final = _New()


def _made(
    cls: type[Any],
    *,
    frozen: bool = False,
    eq: bool = True,
    repr: bool = True,
    slots: bool = False,
    kw_only: bool = False,
    **rest: Any,
) -> type[Any]:
    # A class without a docstring gets its signature as one, from the standard library's own `__init__`.
    if rest or not cls.__doc__ or any("InitVar" in str(kind) for kind in cls.__annotations__.values()):
        rest |= {"frozen": frozen, "eq": eq, "repr": repr, "slots": slots, "kw_only": kw_only}
        return dataclasses.dataclass(**rest)(cls)
    # As the standard library decides it: a class without `__hash__` of its own gets one.
    own = vars(cls)
    has_hash = "__hash__" in own and not (own["__hash__"] is None and "__eq__" in own)
    whole = slots or any(map(dataclasses.is_dataclass, cls.__mro__[1:]))
    made: Any = dataclasses.dataclass(
        cls, init=whole, frozen=frozen and whole, eq=False, repr=False, slots=slots, kw_only=kw_only
    )
    # As if it had made all of it: `frozen` is read for classes that inherit from this one.
    params = made.__dataclass_params__
    params.init, params.frozen, params.eq, params.repr = True, frozen, eq, repr
    fields = dataclasses.fields(made)
    if not whole:
        _set(made, "__init__", _init(made, fields, frozen=frozen))
        if frozen:
            for name, method in _refusing(made, [field.name for field in fields]):
                if not _set(made, name, method):
                    raise TypeError(f"cannot overwrite `{name}` of the frozen class {cls.__name__}")
    if repr:
        _set(made, "__repr__", _repr)
    if eq:
        _set(made, "__eq__", _eq([field.name for field in fields if field.compare]))
        if not has_hash:
            hashed = [field.name for field in fields if (field.compare if field.hash is None else field.hash)]
            made.__hash__ = _hash(hashed) if frozen else None
    return made  # type: ignore[no-any-return]


def _set(cls: type[Any], name: str, value: Any) -> bool:
    """Sets what the class does not define itself."""
    if name in vars(cls):
        return False
    setattr(cls, name, value)
    return True


def _init(cls: type[Any], fields: Sequence[dataclasses.Field[Any]], *, frozen: bool) -> Any:
    """The class's `__init__`: the one method whose parameters differ from class to class."""
    # No field is called like these: Python gives two leading underscores in a class the name of the class.
    known: dict[str, Any] = {"__set": object.__setattr__, "__new": _NEW}
    positional, keywords, body = ["self"], list[str](), list[str]()
    for field in fields:
        name = value = field.name
        made = field.default_factory is not MISSING
        if made:
            known[f"__new_{name}"] = field.default_factory
            value = f"__new_{name}() if {name} is __new else {name}" if field.init else f"__new_{name}()"
        if field.default is not MISSING:
            known[f"__default_{name}"] = field.default
        if field.init:
            default = "=__new" if made else "" if field.default is MISSING else f"=__default_{name}"
            (keywords if field.kw_only else positional).append(name + default)
        elif not made:
            continue  # its default is the class's own attribute
        body.append(f"__set(self, {name!r}, {value})" if frozen else f"self.{name} = {value}")
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    parameters = ", ".join([*positional, *(["*", *keywords] if keywords else [])])
    text = f"def __init__({parameters}):\n  " + "\n  ".join(body or ["pass"])
    # What is known comes in as parameters: names of the module stay those of the module.
    whole = f"def make({', '.join(known)}):\n {text.replace(chr(10), chr(10) + ' ')}\n return __init__"
    scope: dict[str, Any] = {}
    exec(whole, sys.modules[cls.__module__].__dict__, scope)
    init = scope["make"](**known)
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    init.__annotations__ = {field.name: field.type for field in fields if field.init} | {"return": None}
    return init


def _values(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    if len(names) > 1:
        return attrgetter(*names)
    # Of one name, `attrgetter` gives the value alone.
    get = attrgetter(names[0]) if names else None
    return (lambda self: ()) if get is None else (lambda self: (get(self),))


def _eq(names: Sequence[str]) -> Any:
    values = _values(names)

    def __eq__(self: Any, other: object) -> Any:
        return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

    return __eq__


def _hash(names: Sequence[str]) -> Any:
    values = _values(names)

    def __hash__(self: Any) -> int:
        return hash(values(self))

    return __hash__


@reprlib.recursive_repr()
def _repr(self: Any) -> str:
    shown = [f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self) if field.repr]
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _refusing(cls: type[Any], names: Sequence[str]) -> tuple[tuple[str, Any], tuple[str, Any]]:
    """The methods by which a frozen class refuses changes.

    Classes below it that are no dataclasses may have attributes of their own.
    """

    def __setattr__(self: Any, name: str, value: object) -> None:
        if type(self) is cls or name in names:
            raise FrozenInstanceError(f"cannot assign to field {name!r}")
        super(cls, self).__setattr__(name, value)

    def __delattr__(self: Any, name: str) -> None:
        if type(self) is cls or name in names:
            raise FrozenInstanceError(f"cannot delete field {name!r}")
        super(cls, self).__delattr__(name)

    return ("__setattr__", __setattr__), ("__delattr__", __delattr__)
