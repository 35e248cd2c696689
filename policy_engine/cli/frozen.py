"""Frozen classes of data, made with less work while a verb starts.

Python 3.10 to 3.12 write both methods that refuse a change of a frozen class as text, and compile it for each class:
a fifth of what importing 110 of them takes. Later versions compile all methods of a class at once.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from dataclasses import FrozenInstanceError
from typing import Any


def compile_less() -> None:
    """Has `dataclasses` take the methods of `refusals`, where that saves time."""
    # Later versions have a function of that name too, with other parameters.
    if sys.version_info < (3, 13):
        dataclasses._frozen_get_del_attr = refusals  # type: ignore[attr-defined]


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
