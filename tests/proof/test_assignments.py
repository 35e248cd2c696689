from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Sequence
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.proof.model.assignments import Space, TooLarge, _Bitsets, _Diagrams, make_space

SIZES = (2, 3, 2, 5)
EVERYTHING = list(itertools.product(*(range(n) for n in SIZES)))
sets = st.frozensets(st.sampled_from(EVERYTHING), max_size=8)


def diagrams(sizes: Sequence[int]) -> Space:
    return _Diagrams(sizes, pytest.importorskip("dd.bdd").BDD())


@pytest.fixture(params=[_Bitsets, diagrams], ids=["bitsets", "diagrams"])
def space(request: pytest.FixtureRequest) -> Space:
    return request.param(SIZES)  # type: ignore[no-any-return]


def make(space: Space, assignments: frozenset[tuple[int, ...]]) -> int:
    found = space.empty
    for assignment in assignments:
        found = space.either(found, space.one(assignment))
    return found


def members(space: Space, free: int) -> set[tuple[int, ...]]:
    return {a for a in EVERYTHING if space.both(free, space.one(a)) != space.empty}


@pytest.mark.parametrize("kind", [_Bitsets, diagrams])
@given(a=sets, b=sets)
def test_operations_are_those_of_sets(kind: Callable[[Sequence[int]], Space], a: frozenset, b: frozenset) -> None:  # type: ignore[type-arg]
    space = kind(SIZES)
    x, y = make(space, a), make(space, b)
    assert members(space, x) == a
    assert space.both(x, y) == make(space, a & b)
    assert space.either(x, y) == make(space, a | b)
    assert space.without(x, y) == make(space, a - b)
    assert space.forget(x, (1,)) == make(space, frozenset((p, v, q, r) for p, _, q, r in a for v in range(3)))
    assert space.forget(x, ()) == x
    if a:
        assert space.pick(x) in a


def test_cells_and_the_full_set(space: Space) -> None:
    assert members(space, space.cells(3, (1, 4))) == {a for a in EVERYTHING if a[3] in (1, 4)}
    assert members(space, space.full) == set(EVERYTHING)
    assert space.forget(space.full, (0, 1, 2, 3)) == space.full
    assert space.cells(1, ()) == space.empty


def test_low_values_are_picked(space: Space) -> None:
    assert space.pick(space.full) == (0, 0, 0, 0)
    assert space.pick(space.cells(3, (1, 4)))[3] == 1


def test_many_variables_need_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(make_space(()), _Bitsets)
    assert isinstance(make_space((2,) * 14), _Bitsets)
    monkeypatch.setitem(sys.modules, "dd", None)
    assert isinstance(make_space((2,) * 18), _Bitsets)
    with pytest.raises(TooLarge, match="`dd` is not installed") as caught:
        make_space((2,) * 19)
    assert "chat-policy-engine[proof]" in caught.value.why


def test_large_diagrams_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dd")
    monkeypatch.setattr("policy_engine.proof.model.assignments.NODE_LIMIT", 10)
    space = make_space((2,) * 15)
    assert isinstance(space, _Diagrams)
    with pytest.raises(TooLarge, match="nodes"):
        reduce(space.both, (space.cells(variable, (1,)) for variable in range(15)))
