"""Classes of `core.classes` are those that the standard library makes."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, InitVar, field
from typing import Any, ClassVar, get_type_hints

import pytest

from policy_engine.core.classes import dataclass

Decorator = Callable[..., Any]
OPTIONS: list[dict[str, bool]] = [
    {"frozen": True, "kw_only": True},
    {"frozen": True, "kw_only": True, "eq": False},
    {"frozen": True, "kw_only": True, "slots": True},
    {"frozen": True},
    {"kw_only": True},
    {},
]


def classes(dataclass: Decorator, options: dict[str, bool]) -> list[type[Any]]:
    @dataclass(**options)
    class Whole:
        """With all kinds of fields."""

        a: int
        b: str = "b"
        c: list[int] = field(default_factory=list, hash=False)
        d: Any = field(default=None, compare=False, repr=False)
        e: int = field(default=7, init=False)
        f: ClassVar[int] = 3

        def __post_init__(self) -> None:
            if self.a < 0:
                raise ValueError("negative")

        @functools.lru_cache  # noqa: B019
        def twice(self) -> int:
            return self.a * 2

    @dataclass(**options)
    class One:
        """With one field."""

        a: int

    @dataclass(**options)
    class Nothing:
        """Without fields."""

    @dataclass(**options)
    class Own:
        """With methods of its own."""

        a: int

        def __repr__(self) -> str:
            return f"<{self.a}>"

        def __eq__(self, other: object) -> bool:
            return isinstance(other, type(self))

        def __hash__(self) -> int:
            return 5

    class Further(One):
        pass

    @dataclass(**options)
    class Inherits(One):
        """With a field more."""

        z: int = 2

    @dataclass(**options)
    class Names:
        """With names that a generated method may have taken."""

        a: int
        _set: int = 1
        _missing: int = 2
        _new_b: int = 3
        b: list[int] = field(default_factory=list)

    @dataclass(**options)
    class Undocumented:
        a: int
        b: list[int] = field(default_factory=list)

    @dataclass(**options)
    class Given:
        """With a value for `__post_init__` alone."""

        a: int
        b: InitVar[int] = 4

        def __post_init__(self, b: int) -> None:
            object.__setattr__(self, "a", self.a + b)

    return [Whole, One, Nothing, Own, Further, Inherits, Names, Undocumented, Given]


def outcome(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception as error:
        return type(error), str(error)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_they_do_what_those_of_the_standard_library_do(options: dict[str, bool]) -> None:
    facts = []
    for decorator in (dataclasses.dataclass, dataclass):
        found: list[Any] = []
        for cls in classes(decorator, options):
            names = [f.name for f in dataclasses.fields(cls) if f.init and f.default is dataclasses.MISSING][:1]
            make = functools.partial(cls, **dict.fromkeys(names, 1))
            one, same = make(), make()
            other = outcome(lambda cls=cls: cls(a=2))
            found += [
                repr(one), one == same, one != same, one == other, one == 1, outcome(lambda cls=cls: cls(5, 6, 7, 8)),
                outcome(lambda cls=cls: cls(a=-1)), outcome(lambda one=one, same=same: hash(one) == hash(same)),
                outcome(lambda one=one: setattr(one, "a", 3)), outcome(lambda one=one: delattr(one, "b")),
                cls.__match_args__, [(f.name, f.kw_only) for f in dataclasses.fields(cls)],
                inspect.signature(cls), cls.__doc__, cls.__dataclass_params__,
                outcome(lambda cls=cls: get_type_hints(cls.__init__)),
                outcome(lambda one=one: dataclasses.asdict(dataclasses.replace(one, a=9))),
                outcome(lambda one=one: copy.copy(one) == one), dataclasses.is_dataclass(cls),
            ]  # fmt: skip
        facts.append([str(fact) for fact in found])
    assert facts[0] == facts[1]


def test_options_of_the_standard_library_that_are_left_to_it() -> None:
    @dataclass(frozen=True, order=True)
    class Ordered:
        """With an order."""

        a: int

    assert [Ordered(1), Ordered(2)] == sorted([Ordered(2), Ordered(1)])

    @dataclass(unsafe_hash=True, match_args=False)
    class Hashed:
        """With a hash, though it changes."""

        a: int

    assert hash((1,)) == hash(Hashed(1))
    assert not hasattr(Hashed, "__match_args__")


def test_a_text_of_itself_ends() -> None:
    @dataclass()
    class Node:
        """One that may be in itself."""

        next: Any = None

    node = Node()
    node.next = node
    assert "Node(next=...)" == repr(node).rpartition(".<locals>.")[2]


@dataclass(frozen=True, kw_only=True)
class Kept:
    """With a property that is computed once."""

    a: int
    b: tuple[int, ...] = ()

    @functools.cached_property
    def twice(self) -> int:
        return self.a * 2


def test_they_pickle_and_keep_what_they_computed() -> None:
    kept = Kept(a=1, b=(2,))
    assert 2 == kept.twice
    assert kept == pickle.loads(pickle.dumps(kept)) == copy.deepcopy(kept)
    match kept:
        case Kept(a=1, b=(two,)):
            assert 2 == two
        case _:
            pytest.fail("no match")


def test_classes_of_both_kinds_inherit_from_each_other() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Standard(Kept):
        """Of the standard library."""

        c: int = 3

    @dataclass(frozen=True, kw_only=True)
    class Ours(Standard):
        """Of this one."""

        d: int = 4

    assert "(a=1, b=(), c=3, d=4)" == repr(Ours(a=1)).split("Ours")[-1]
    with pytest.raises(FrozenInstanceError):
        Ours(a=1).d = 5  # type: ignore[misc]
