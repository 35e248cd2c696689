"""Frozen classes of a process of the command line refuse what those of `dataclasses` refuse."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from policy_engine.cli.frozen import compile_less


@dataclass(frozen=True)
class Usual:
    """Made before."""

    a: int = 0


@pytest.fixture
def compiling(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the functions that `dataclasses` compiles, once it compiles less."""
    names: list[str] = []
    # Later versions compile all methods of a class at once.
    if sys.version_info < (3, 13):
        create = dataclasses._create_fn  # type: ignore[attr-defined]
        monkeypatch.setattr(
            dataclasses, "_create_fn", lambda name, *a, **k: names.append(name) or create(name, *a, **k)
        )
        monkeypatch.setattr(dataclasses, "_frozen_get_del_attr", dataclasses._frozen_get_del_attr)  # type: ignore[attr-defined]
    compile_less()
    return names


def refused(instance: Any, change: Callable[[Any], None]) -> tuple[str, str]:
    with pytest.raises(Exception) as caught:
        change(instance)
    return type(caught.value).__name__, str(caught.value)


def test_frozen_classes_refuse_the_same_and_compile_less(compiling: list[str]) -> None:
    @dataclass(frozen=True)
    class Less:
        a: int = 0

    assert not any(name.endswith("attr__") for name in compiling)

    class UsualMore(Usual):
        pass

    class LessMore(Less):
        pass

    def put(name: str) -> Callable[[Any], None]:
        return lambda instance: setattr(instance, name, 1)

    def drop(name: str) -> Callable[[Any], None]:
        return lambda instance: delattr(instance, name)

    for change in (put("a"), drop("a"), put("b"), drop("b")):
        assert refused(Usual(), change) == refused(Less(), change)
    for change in (put("a"), drop("a"), drop("b")):
        assert refused(UsualMore(), change)[0] == refused(LessMore(), change)[0]
    # A subclass that is not frozen itself takes what is no field.
    more = LessMore()
    put("b")(more)
    assert (more.b, Less(1) == Less(1), hash(Less(1)) == hash(Less(1))) == (1, True, True)  # type: ignore[attr-defined]
    assert Less.__setattr__.__qualname__ == f"{Less.__qualname__}.__setattr__"
