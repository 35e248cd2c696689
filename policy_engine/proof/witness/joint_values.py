"""Values that several turns ask for at once: a message's own turn and its neighbours.

Under `where message.score > 3` at one turn and `where previous.score < 5` at the next, the first turn's message has to
have a score that meets both tests, such as 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from policy_engine.lang.ast import Compare
from policy_engine.proof.model.field_values import FieldValues, Test
from policy_engine.proof.model.world import World
from policy_engine.proof.witness.find_values import (
    Seed,
    Wanted,
    find_string,
    put,
    seeds_of,
    value_for,
)
from policy_engine.proof.witness.plans import Assignment, TurnPlan
from policy_engine.rules.conditions.comparison import MISSING
from policy_engine.rules.conditions.conditions import test_of

Path = tuple[str | int, ...]
_ELSEWHERE = (("content",), ("role",))


@dataclass(frozen=True, kw_only=True)
class Wish:
    """One turn's tests of a field, with the answers that they are to have."""

    values: FieldValues
    assignment: Assignment
    number: int = 0

    @property
    def tests(self) -> list[tuple[Test, bool]]:
        """Every test with its answer."""
        return self.values.expected(self.assignment, self.number)

    def plain(self) -> Any:
        """The plainest value for these tests alone; it may be wrong."""
        cell = self.values.cells[self.values.cell_at(self.assignment, self.number)]
        if cell.kind == "list":
            return [t.value for t, holds in self.tests if holds and isinstance(t, Compare) and t.op == "contains"]
        return cell.value


def wishes_of(world: World, turn: TurnPlan) -> dict[Path, list[Wish]]:
    """The wishes of a turn and its neighbours for its message, by path, shortest first."""
    found: dict[Path, list[Wish]] = {}
    # Shortest first: `put` makes the objects around a deeper field, which a shorter path would write over.
    for (scope, path), values in sorted(world.conditions.fields.items(), key=lambda item: len(item[0][1])):
        # The turn's own conditions; without an assignment its data does not matter to itself.
        if scope == "message" and turn.assignment is not None:
            found.setdefault(path, []).append(Wish(values=values, assignment=turn.assignment))
        # Conditions of other turns that look at this message, as `previous` and the like.
        for seen in turn.seen:
            if seen.scope == scope:
                found.setdefault(path, []).append(Wish(values=values, assignment=seen.assignment, number=seen.number))
    return found


def make_message_fields(world: World, turn: TurnPlan, message: dict[str, Any]) -> None:
    """Sets the fields of a message that the policy tests, but not its content and role.

    Raises `Unrealised`.
    """
    for path, wishes in wishes_of(world, turn).items():
        if path not in _ELSEWHERE:
            put(message, path, joint_value(wishes))


def joint_value(wishes: Sequence[Wish], first: Any = MISSING) -> Any:
    """A value that meets all wishes, `first` if it does; it may be MISSING.

    Raises `Unrealised` if no such value was found.
    """
    only = wishes[0] if len(wishes) == 1 and first is MISSING else None
    # One wish alone, and not of a result: its cell has the value.
    if only is not None and only.values.seen is None:
        return value_for(only.values, only.assignment)
    tests = [pair for wish in wishes for pair in wish.tests]
    usual = () if first is MISSING else (first,)
    # The cells' own values first: a weight has no tests that would tell one from another.
    for value in (*usual, *(wish.plain() for wish in wishes), MISSING, *_values(wishes)):
        if all(test_of(test)(value) == holds for test, holds in tests):
            return value
    # Only a text is left that could meet all of them.
    wanted, seeds = texts_wanted(wishes)
    return find_string(wanted, seeds)


def _values(wishes: Sequence[Wish]) -> Iterator[Any]:
    """The values that the tests tell apart."""
    for wish in wishes:
        yield from (cell.value for cell in wish.values.cells if cell.kind == "value")


def texts_wanted(wishes: Sequence[Wish]) -> tuple[list[Wanted], list[Seed]]:
    """The wishes as tests that a text has to pass, and strings that may help."""
    tests = [pair for wish in wishes for pair in wish.tests]
    wanted: list[Wanted] = [lambda s, t=test, h=holds: test_of(t)(s) == h for test, holds in tests]  # type: ignore[misc]
    named = [wish.plain() for wish in wishes]
    return wanted, [*(value for value in named if isinstance(value, str)), *seeds_of(tests)]
