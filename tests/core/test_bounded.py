"""A mapping that forgets."""

from __future__ import annotations

import pickle

from policy_engine.core.bounded import Bounded


def test_it_forgets_everything_past_its_bound() -> None:
    known: Bounded[str, int] = Bounded(2)
    assert [1, 2] == [known.keep("a", 1), known.keep("b", 2)]
    assert {"a": 1, "b": 2} == known
    known.keep("c", 3)
    assert {"c": 3} == known
    known.keep("d", 4)
    assert {"c": 3, "d": 4} == known


def test_entries_weigh_what_they_are_said_to() -> None:
    known: Bounded[str, str] = Bounded(10)
    known.keep("a", "", weight=6)
    known.keep("b", "", weight=4)
    assert ["a", "b"] == list(known)
    known.keep("c", "", weight=20)
    assert ["c"] == list(known)


def test_it_pickles_empty() -> None:
    known: Bounded[str, int] = Bounded(3)
    known.keep("a", 1)
    again = pickle.loads(pickle.dumps(known))
    assert ({}, 3) == (again, again.most)
