"""Classes of data in a process of the command line do what those of `dataclasses` do."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any, get_type_hints

import pytest

from policy_engine.cli.frozen import Later, compile_less

CLASSES = """
from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Kept:
    \"\"\"Has all kinds of fields.\"\"\"

    a: int
    b: list[int] = field(default_factory=list, compare=False)
    c: str = field(default="c", repr=False)

    def __post_init__(self):
        object.__setattr__(self, "b", [*self.b, self.a])


@dataclass(frozen=True)
class More(Kept):
    d: Kept | None = None


@dataclass(order=True, slots=True)
class Ordered:
    a: int
    b: str = ""


@dataclass(eq=False)
class Same:
    a: int = 0

    def __repr__(self):
        return "own"
"""
NAMES = ("Kept", "More", "Ordered", "Same")


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
        for name in ("_frozen_get_del_attr", "_init_fn", "_repr_fn", "_cmp_fn", "_hash_fn"):
            monkeypatch.setattr(dataclasses, name, getattr(dataclasses, name))
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


def made(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of that name with the classes of `CLASSES`."""
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(CLASSES, module.__dict__)
    return module


def outcome(work: Callable[[], object]) -> object:
    try:
        return work()
    except Exception as error:
        return type(error).__name__, str(error)


USES: tuple[Callable[[Any], object], ...] = (
    lambda m: repr(m.Kept(a=1)),
    lambda m: m.Kept(a=1, b=[5]).b,
    lambda m: (m.Kept(a=1) == m.Kept(a=1, b=[3]), m.Kept(a=1) == m.Kept(a=2), m.Kept(a=1) == 1, m.Kept(a=1) != 1),
    lambda m: hash(m.Kept(a=1)) == hash(m.Kept(a=1)),
    lambda m: m.Kept(1),
    lambda m: m.Kept(),
    lambda m: m.Kept(a=1, e=2),
    lambda m: m.Kept.__init__(object(), a=1),
    lambda m: repr(m.More(a=1, d=m.Kept(a=2))),
    lambda m: {m.More(a=1): 1}[m.More(a=1, d=None)],
    lambda m: m.More(a=1) == m.Kept(a=1),
    lambda m: sorted([m.Ordered(2), m.Ordered(1, "b"), m.Ordered(1, "a")]),
    lambda m: m.Ordered(1) < 2,
    lambda m: hash(m.Ordered(1)),
    lambda m: m.Ordered(1) == m.Ordered(1),
    lambda m: (repr(m.Same()), m.Same() == m.Same(), isinstance(hash(m.Same()), int)),
    lambda m: dataclasses.replace(m.Kept(a=1), c="d").c,
    lambda m: copy.deepcopy(m.More(a=1, d=m.Kept(a=2))) == m.More(a=1, d=m.Kept(a=2)),
    lambda m: pickle.loads(pickle.dumps(m.Ordered(1, "b"))),
    lambda m: str(inspect.signature(m.Kept)) + str(inspect.signature(m.Ordered)),
    lambda m: get_type_hints(m.Ordered.__init__),
    lambda m: [m.Kept.__doc__, m.More.__doc__, m.Ordered.__doc__],
    lambda m: [m.Kept.__dict__.keys(), m.Ordered.__dict__.keys()],
    lambda m: [type(getattr(getattr(m, name), method)) for name in NAMES for method in ("__init__", "__repr__")],
    lambda m: [getattr(m, name).__eq__.__qualname__ for name in NAMES],
    lambda m: [m.Kept.__init__.__module__, m.Kept.__hash__.__name__, m.Kept(a=1).__repr__()],
    lambda m: m.Ordered.__match_args__ + m.Kept.__match_args__,
)


@pytest.mark.parametrize("use", USES)
def test_methods_that_are_compiled_later_do_the_same(
    use: Callable[[Any], object], compiling: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each use has classes of its own, none of whose methods was compiled by another one.
    usual, later = made("tests.made_up", monkeypatch), made("policy_engine.made_up", monkeypatch)
    expected, found = outcome(lambda: use(usual)), outcome(lambda: use(later))
    assert str(expected).replace("tests.", "policy_engine.") == str(found)
    # A second time: methods that were compiled are in their places.
    assert str(found) == str(outcome(lambda: use(later)))


def test_methods_are_compiled_when_they_are_first_asked_for(
    compiling: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = made("policy_engine.made_up", monkeypatch).Kept
    # Those of classes without a docstring: their signatures become one.
    assert set(compiling) <= {"__init__"}
    compiling.clear()
    for _ in range(2):
        assert kept(a=1) == kept(a=1)
    # Later versions compile all methods of a class at once.
    at_once = sys.version_info >= (3, 13)
    assert ([] if at_once else ["__init__", "__eq__"]) == compiling
    assert isinstance(kept.__dict__["__eq__"], FunctionType)
    assert isinstance(kept.__dict__["__hash__"], FunctionType if at_once else Later)


def test_two_threads_may_ask_for_a_method_at_once() -> None:
    others = ["another thread, which is done first"]

    def make() -> FunctionType:
        if others:
            others.clear()
            assert Asked().number() == 3
        return lambda self: 3  # type: ignore[return-value]

    class Asked:
        number: Any = Later("number", make)

    assert Asked().number() == 3
    assert isinstance(Asked.__dict__["number"], FunctionType)
