"""Classes of data, made with less work while a verb starts.

Python 3.10 to 3.12 write each method of such a class as text and compile it: six methods for each of 150 classes, which
took a third of the time of their imports. Most of these methods are never called, so each is compiled when it is
first asked for. Later versions compile all methods of a class at once.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from dataclasses import FrozenInstanceError
from functools import partial
from types import FunctionType
from typing import Any, Final

_OURS: Final = "policy_engine."
"""Classes of other packages are made as ever: nobody here knows how they are looked into."""


def compile_less() -> None:
    """Has `dataclasses` take the methods of `refusals`, and compile others later.

    Where Python compiles all methods at once, everything stays as it is.
    """
    # Later versions have functions of these names too, with other parameters.
    if sys.version_info >= (3, 13):
        return
    made: Any = dataclasses
    made._frozen_get_del_attr = refusals
    made._init_fn = _later(made._init_fn, "__init__")
    made._repr_fn = _later(made._repr_fn, "__repr__")
    made._hash_fn = _later(made._hash_fn, "__hash__")
    made._cmp_fn = _later(made._cmp_fn)


def refusals(cls: Any, fields: Sequence[dataclasses.Field[Any]], _: object) -> tuple[Callable[..., None], ...]:
    """The methods `__setattr__` and `__delattr__` of a frozen class.

    They do what those that `dataclasses` compiles do.
    """
    names = frozenset(field.name for field in fields)

    def __setattr__(self: Any, name: str, value: object) -> None:
        if type(self) is cls or name in names:
            raise FrozenInstanceError(f"cannot assign to field {name!r}")
        super(cls, self).__setattr__(name, value)

    def __delattr__(self: Any, name: str) -> None:
        if type(self) is cls or name in names:
            raise FrozenInstanceError(f"cannot delete field {name!r}")
        super(cls, self).__delattr__(name)

    return __setattr__, __delattr__


def _later(make: Callable[..., FunctionType], name: str | None = None) -> Callable[..., FunctionType | Later]:
    """The same function of `dataclasses`, which gives a `Later` for a class of this package.

    Without a name, the method's is the first thing it is given.
    """

    def made(*given: Any, **named: Any) -> FunctionType | Later:
        # Each has the globals of the class's module as its last argument, `_init_fn` as its last but one.
        module = named.get("globals") or next(g for g in reversed(given) if isinstance(g, dict))
        if not module.get("__name__", "").startswith(_OURS):
            return make(*given, **named)
        return Later(name or given[0], partial(make, *given, **named))

    return made


class Later:
    """A method that is compiled when it is first asked for, by a call or by name.

    The compiled one then takes its place.
    """

    __slots__ = ("make", "name")

    def __init__(self, name: str, make: Callable[[], FunctionType]) -> None:
        self.name = name
        self.make = make

    def __get__(self, instance: object, owner: type) -> Any:
        """The compiled method, of an instance or of a class."""
        method = self.make()
        # With `slots=True` a class is made twice, and the second has what was put into the first.
        cls = next((c for c in owner.__mro__ if c.__dict__.get(self.name) is self), None)
        # None if another thread was first, whose method does the same.
        if cls is not None:
            method.__qualname__ = f"{cls.__qualname__}.{self.name}"
            setattr(cls, self.name, method)
        return method.__get__(instance, owner)
