"""Turns of a plan that must agree, since one turn's conditions ask for another's message.

In the policy

    mask assistant where result.content contains "Error"

the rule matches a turn of the assistant only if that turn makes a call, and a turn of the tool behind it answers the
call with a text that has the word. `meet` writes down which turn must meet what; `make_turn` then writes messages that
do.
"""

from __future__ import annotations

from policy_engine.proof.model.positions import OTHER
from policy_engine.proof.model.world import ANSWER_ROLE, World
from policy_engine.proof.witness.plans import Assignment, Plan, Seen, TurnPlan
from policy_engine.rules.conditions.comparison import MISSING
from policy_engine.rules.conditions.conditions import test_of


def meet(world: World, plan: Plan, *, apart: bool = False) -> None:
    """Adds to the turns of a plan what other turns ask of them, and turns where more are needed.

    `apart` takes other messages for results and answers than the ones next to a turn, which may have to meet something
    else as `next` and `previous`.
    """
    target = None if plan.target is None else plan.turns[plan.target]
    # A copy, since tool turns may be added on the way.
    for turn in list(plan.turns):
        if turn.assignment is not None:
            _ask(world, plan.turns, turn, turn.assignment, apart=apart)
    if target is not None:
        # Turns that were added in front have moved it.
        plan.target = next(at for at, turn in enumerate(plan.turns) if turn is target)


def _ask(world: World, turns: list[TurnPlan], turn: TurnPlan, assignment: Assignment, *, apart: bool) -> None:
    at = next(i for i, other in enumerate(turns) if other is turn)
    asked = world.conditions.asks_for
    if "previous" in asked and at > 0:
        turns[at - 1].seen.append(Seen(scope="previous", assignment=assignment))
    if "next" in asked and at + 1 < len(turns):
        turns[at + 1].seen.append(Seen(scope="next", assignment=assignment))
    if turn.role == "tool" and turn.answers is None and is_there(world, "answer", assignment):
        turn.answers = _caller(world, turns, at, assignment, apart=apart)
    # Text of a call has that call's results, so its assignment says what they must be.
    calls = [segment.assignment for segment in turn.segments if segment.part.startswith("tool_call")]
    of_results = calls[0] if calls else assignment
    needed = _results(world, of_results)
    if needed:
        turn.called = True
        # Again, as `_caller` may have put a turn in front.
        at = next(i for i, other in enumerate(turns) if other is turn)
        for number, result in enumerate(_tools(turns, at + apart, needed)):
            result.answers = turn
            result.seen.append(Seen(scope="result", assignment=of_results, number=number))


def _caller(world: World, turns: list[TurnPlan], at: int, assignment: Assignment, *, apart: bool) -> TurnPlan | None:
    """A turn before turn `at` that can have made the call which it answers."""
    before = turns[: max(0, at - apart)]
    # The nearest that can: calls are looked for backwards.
    found = next((turn for turn in reversed(before) if _can_answer(world, turn, assignment)), None)
    if found is None and apart and at:
        callers = (TurnPlan(role=role) for role in (*world.roles, "assistant"))
        found = next((turn for turn in callers if _can_answer(world, turn, assignment)), None)
        if found is not None:
            turns.insert(at - 1, found)
    if found is not None:
        found.seen.append(Seen(scope="answer", assignment=assignment))
    return found


def is_there(world: World, scope: str, assignment: Assignment) -> bool:
    """True if some field of a scope has a value under an assignment."""
    for name, values in world.conditions.fields.items():
        cell = values.cells[values.cell_at(assignment)]
        if name[0] == scope and (cell.kind != "value" or cell.value is not MISSING):
            return True
    return False


def _can_answer(world: World, turn: TurnPlan, assignment: Assignment) -> bool:
    """True if a turn's role is one that `answer.role` may be."""
    values = world.conditions.fields.get(ANSWER_ROLE)
    if values is None:
        return True
    # A role that the policy does not name is any string that its tests do not name.
    if turn.role == OTHER:
        return values.cells[values.cell_at(assignment)].kind == "string"
    return all(test_of(test)(turn.role) == holds for test, holds in values.expected(assignment))


def _results(world: World, assignment: Assignment) -> int:
    """The fewest results that have all the values which an assignment asks for."""
    fields = [values for name, values in world.conditions.fields.items() if name[0] == "result"]
    # One result can show one value of each field, so the field with the most values decides. Cell 0 is the missing
    # field.
    return max((sum(cell > 0 for cell in values.cells_of(assignment)) for values in fields), default=0)


def _tools(turns: list[TurnPlan], at: int, needed: int) -> list[TurnPlan]:
    """Tool turns behind a turn that answer nothing yet.

    If there are too few, more are put behind the last of them, or behind the turn.
    """
    free = [turn for turn in turns[at + 1 :] if turn.role == "tool" and turn.answers is None][:needed]
    while len(free) < needed:
        last = free[-1] if free else turns[min(at, len(turns) - 1)]
        new = TurnPlan(role="tool")
        turns.insert(next(i for i, turn in enumerate(turns) if turn is last) + 1, new)
        free.append(new)
    return free
