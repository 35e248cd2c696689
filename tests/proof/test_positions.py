"""Surroundings against a definitional reading of the relations, on all short conversations."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import get_args

import pytest

from policy_engine.core.source import Source, Span
from policy_engine.core.vocabulary import RelationKind
from policy_engine.lang.ast import Compare, Field
from policy_engine.proof.model.assignments import TooLarge
from policy_engine.proof.model.automaton import Summaries
from policy_engine.proof.model.places import Points, numbers
from policy_engine.proof.model.positions import ALL, AtLeast, CountTest, Letter, Turns, count_field, counted, related

HERE = Span(source=Source(name="", text=""), start=0, end=0)
ROLES = ("user", "assistant", "\0other")
LETTERS = [Letter(role) for role in ROLES]
SETS = [Turns(role, end, n, None) for role in ("user", None) for end, n in ((None, 0), *itertools.product(("first", "last"), (1, 2)))]  # fmt: skip  # noqa: E501
SETS += [Turns(role, end, 3, None) for role in ("user", None) for end in ("first", "last")]
KINDS: tuple[RelationKind | None, ...] = (None, *get_args(RelationKind))


def definition(kind: RelationKind | None, turns: Turns, roles: Sequence[str], at: int) -> bool:
    chosen = [i for i, role in enumerate(roles) if turns.role in (None, role)]
    if turns.end == "first":
        chosen = chosen[: turns.count]
    elif turns.end == "last":
        chosen = chosen[-turns.count :]
    if kind is None:
        return at in chosen
    if not chosen:
        return False
    return {"after": at > chosen[0], "before": at < chosen[-1], "right after": at - 1 in chosen}[kind]


def facts(pairs: Sequence[tuple[RelationKind | None, Turns]]) -> list:  # type: ignore[type-arg]
    found = set()
    for letter in LETTERS:
        for kind, turns in pairs:
            holds = related(kind, turns, letter)
            found |= {fact for fact, _ in holds or ()}
    return sorted(found, key=repr)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("turns", SETS, ids=str)
def test_a_place_is_what_the_words_say(kind: RelationKind | None, turns: Turns) -> None:
    points = Points(LETTERS, facts([(kind, turns)]), merge=True)
    where = points.where(lambda letter: related(kind, turns, letter))
    for number in numbers(points.full):
        place = points.place(number)
        before = [letter.role for letter in points.prefixes.turns(place.prefix)]
        behind = [letter.role for letter in points.suffixes.turns(place.suffix)]
        roles = [*before, place.letter.role, *behind]
        assert bool(where >> number & 1) == definition(kind, turns, roles, len(before)), roles


def test_every_place_of_every_short_conversation_is_a_point() -> None:
    """All pairs of questions at once: what is asked together has one answer at a point, and each answer occurs."""
    pairs = [(kind, turns) for kind in KINDS for turns in SETS[:5]]
    points = Points(LETTERS, facts(pairs), merge=True)
    sets = [
        points.where(lambda letter, k=kind, t=turns: related(k, t, letter))  # type: ignore[misc]
        for kind, turns in pairs
    ]
    on_points = {(points.place(n).letter.role, tuple(bool(s >> n & 1) for s in sets)) for n in numbers(points.full)}
    on_chats = {
        (roles[at], tuple(definition(kind, turns, roles, at) for kind, turns in pairs))
        for length in range(1, 8)
        for roles in itertools.product(ROLES, repeat=length)
        for at in range(length)
    }
    assert on_points == on_chats


def test_counts_of_turns() -> None:
    def test(name: str, op: str, value: object) -> Compare:
        return Compare(op=op, field=Field(scope="turn", path=(name,), span=HERE), value=value, span=HERE)  # type: ignore[arg-type]

    tests = [
        test("index", "==", 2), test("index", "<", 1.5), test("from_end", ">=", 2), test("round", "!=", 1),
        test("round", "in", (0, 2)), test("index", "==", "2"), test("index", ">", -1),
    ]  # fmt: skip
    wanted = {fact for t in tests for letter in LETTERS for fact, _ in counted(count_field(t.field), t, letter)}
    points = Points(LETTERS, sorted(wanted, key=repr), merge=True)
    for t in tests:
        name = count_field(t.field)
        where = points.where(lambda letter, n=name, c=t: counted(n, c, letter))  # type: ignore[misc]
        for number in numbers(points.full):
            place = points.place(number)
            before = points.prefixes.turns(place.prefix)
            value = {
                "index": len(before),
                "from_end": len(points.suffixes.turns(place.suffix)),
                "round": sum(x.role == "user" for x in (*before, place.letter)),
            }[name]
            fact = CountTest("prefix", ALL, 0, t)
            assert bool(where >> number & 1) == fact.holds(value)


def test_large_numbers_are_past_the_limit() -> None:
    with pytest.raises(TooLarge, match="cases"):
        Summaries("prefix", [AtLeast("prefix", ALL, 30_000)], LETTERS)

    def sides(most: int) -> list[AtLeast]:
        return [AtLeast("prefix", ALL, most), AtLeast("suffix", ALL, most)]

    # Three letters between 1,154 states on each side are just below four million places.
    assert 3 * 1154**2 == Points(LETTERS, sides(1153), merge=False).full.bit_length()
    with pytest.raises(TooLarge, match="more than 4000000 places"):
        Points(LETTERS, sides(1154), merge=False)
