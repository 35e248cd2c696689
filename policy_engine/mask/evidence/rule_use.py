"""Evidence of a policy on a run's rows: which rules decide, which fields are there.

    mask assistant where message.traning == "0"

On rows with `{"training": 0}` the evidence is: the rule decides no token, its targets are there and its condition never
holds, no message has `traning`, and messages have a key `training`. `rule_findings` puts it into words.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from policy_engine.chat.label.markers import REASONING
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.errors import PolicyEngineError
from policy_engine.core.vocabulary import NEIGHBOURS
from policy_engine.lang.ast import Compare, Field, Has, Truth, leaves
from policy_engine.lang.checked import Atom, CheckedGuard, CheckedRule, CheckedTarget, Spans
from policy_engine.mask.evidence.answer_ends import EndWatch
from policy_engine.mask.evidence.written_calls import CallsInText, speaks_of_calls
from policy_engine.mask.row import MaskedRow
from policy_engine.rules.conditions.chat_view import ChatView
from policy_engine.rules.conditions.comparison import MISSING, kind_of, step_into
from policy_engine.rules.program import Program
from policy_engine.rules.traces import selected_rules

Evidence: TypeAlias = Counter[tuple[str, ...]]
"""Facts seen in rows, each with how often. Sums of two are the evidence of all the rows together.

`("decided", RULE)` counts rows in which a rule decided a token. Until it has, `("selected", RULE)` counts rows with its
targets, and `("held", RULE)` those in which its condition holds there. `("there", FIELD)`: the field of a test has a
value of a type that the test is meant for. `("type", FIELD, TYPE)`, `("value", FIELD, JSON)`: it has others.
`("whole", FIELD)`: content parts have it, and the template prints their list as one. `("key", SCOPE, NAME)`: names that
data has where a field is not found, SCOPE being `message.meta` below a field that is there. `("thinking", MARKER)`:
rows with thinking as text. Until an answer of a role has an end, `("open", ROLE)` counts rows that train its answers,
`("separated", ROLE)` those of them with a separator of it, and `("followed", ROLE)` those in which another turn follows
an answer; then there is `("ended", ROLE)`. `("called", OPENING, CLOSING)`: rows with calls as text, in that markup, and
`("called in", OPENING, ROW)` the first of them.
"""

_TRACED: Final = 50
"""Rows from the first in which rules that decided nothing yet are looked at one by one."""
_NAMES_FROM: Final = 200
"""Rows from the first that the names of keys are taken from."""
_SEARCHED: Final = 2000
"""Rows from the first that are searched for thinking that is text."""
_VALUES: Final = 4
_ALWAYS: Final = frozenset(
    {"call.name", "call.arguments"}
    | {f"{scope}.{name}" for scope in ("message", "previous", "next") for name in ("content", "role")}
)
_ANY: Final = frozenset({"null", "boolean", "number", "string", "list", "object"})
THINKING: Final = frozenset({"reasoning.open", "reasoning.text", "reasoning.close", "empty_reasoning"})


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A field that some tests of a policy ask for, with the JSON types that they are meant for."""

    field: Field
    types: frozenset[str]

    @property
    def name(self) -> str:
        """The field as a policy writes it."""
        return str(self.field)


class RuleWatch:
    """Gathers the evidence of one process, row by row.

    It costs nothing once every rule has decided some token, every field was seen and an answer had its end; where the
    policy speaks of calls, the content of answers is searched for them to the last row.
    """

    def __init__(self, program: Program, tokenizer: ChatTokenizer) -> None:
        self._program = program
        # Rules that decided nothing yet: each is dropped at its first token, so that rows of a healthy run cost
        # nothing.
        self._rules = {rule.index for rule in program.policy.rules}
        self._batch_T = np.empty(0, dtype=np.int16)
        self._in_batch = frozenset[int]()
        """The tokens of a batch by the rules that decide them, and these rules."""
        self._fields = asked_fields(program)
        self._ends = EndWatch(program)
        self._of_thinking = {rule.index for rule in program.policy.rules if is_of_thinking(rule)}
        self._calls = None if speaks_of_calls(program) is None else CallsInText(tokenizer)

    def look(
        self, row: MaskedRow, seen: Evidence, *, number: int, source: bool = True, place: int | None = None
    ) -> None:
        """Adds what a row shows to `seen`.

        `number` is the row's, from 1: only first rows are looked at closely, whichever process has them. Where rows
        are picked out of the data, it counts those, and `place` is the row's number there. Without `source` its
        messages were found again from ids, so that a field which is not there says nothing, nor who wrote a call."""
        if self._calls is not None and source:
            self._calls.look(row.chat.messages, seen, number=number if place is None else place)
        # The usual case after a few rows.
        if not self._rules and not self._fields and self._ends.is_done:
            return
        self._ends.look(row, seen, number=number)
        if self._rules:
            self._look_at_rules(row, seen, number)
        if self._fields and source:
            self._look_at_fields(row, seen, number)

    def _look_at_rules(self, row: MaskedRow, seen: Evidence, number: int) -> None:
        # Masks of a batch are slices of one array. A rule that decides nothing in it, as most of those that are left,
        # is not looked for in each of its rows.
        rules_T = row.mask.rules_T
        batch_T = rules_T.base if isinstance(rules_T.base, np.ndarray) else rules_T
        if batch_T is not self._batch_T:
            self._batch_T, self._in_batch = batch_T, _rules_in(batch_T)
        if not self._rules.isdisjoint(self._in_batch):
            decided = self._rules & _rules_in(rules_T)
            self._rules -= decided
            for index in decided:
                seen["decided", str(index)] += 1
        if self._rules and number <= _TRACED:
            self._trace(row, seen)
        if number <= _SEARCHED and not self._rules.isdisjoint(self._of_thinking):
            marker = _thinking_in(row)
            if marker is not None:
                seen["thinking", marker] += 1

    def _trace(self, row: MaskedRow, seen: Evidence) -> None:
        try:
            selected, held = selected_rules(self._program, row.chat, self._rules)
        # Evidence comes beside the run: a row that was masked does not fail for it.
        except PolicyEngineError:
            return
        for index in selected:
            seen["selected", str(index)] += 1
        for index in held:
            seen["held", str(index)] += 1

    def _look_at_fields(self, row: MaskedRow, seen: Evidence, number: int) -> None:
        # A copy, since fields that are found are deleted on the way.
        for name, asked in list(self._fields.items()):
            # A field that no message of the data has is asked for in every row of a run.
            key = asked.field.path[0] if asked.field.scope == "message" else None
            if key is not None and not any(key in message for message in row.chat.messages):
                continue
            for value in values_of(asked.field, row):
                kind = kind_of(value)
                if kind in asked.types:
                    seen["there", name] += 1
                    del self._fields[name]
                    break
                seen["type", name, kind] += 1
                # A few values serve as examples in the finding; a manifest is no place for data.
                if sum(1 for fact in seen if fact[:2] == ("value", name)) < _VALUES:
                    seen["value", name, json.dumps(value, ensure_ascii=False, default=str)[:40]] += 1
            if asked.field.scope == "part" and name in self._fields and _prints_parts_whole(asked.field, row):
                seen["whole", name] += 1
        if self._fields and number <= _NAMES_FROM:
            for scope in ("message", "sample", "part", "call"):
                for item in _items(scope, row):
                    seen.update(("key", scope, str(key)) for key in item)
            for asked in self._fields.values():
                _look_below(asked.field, row, seen)


def _rules_in(rules_T: npt.NDArray[np.int16]) -> frozenset[int]:
    """The rules that decide some of the tokens, with -1 for the default.

    >>> sorted(_rules_in(np.array([-1, -1, 3, 3, 0], dtype=np.int16)))
    [-1, 0, 3]
    """
    # One of each stretch of neighbours: there are fifty times as many tokens.
    lasts_N = np.flatnonzero(rules_T[1:] != rules_T[:-1])
    # Not `np.unique`: it imports all of numpy's masked arrays, which nothing here has.
    return frozenset([*sorted(set(rules_T[lasts_N].tolist())), *rules_T[-1:].tolist()])


def asked_fields(program: Program) -> dict[str, Asked]:
    """The fields that a policy asks for, by name and types (`message.weight: number`).

    Those that every conversation has are left out.

    >>> from policy_engine.rules.compile import compile_text
    >>> list(asked_fields(compile_text("train assistant where message.quality > 3 weight sample.w")))
    ['sample.w: number', 'message.quality: number']
    """
    found: dict[str, Asked] = {}
    for field, types in _uses(program):
        asked = Asked(field=field, types=types)
        if field.scope not in ("turn", "segment") and asked.name not in _ALWAYS:
            found.setdefault(f"{asked.name}: {', '.join(sorted(types))}", asked)
    return found


def _uses(program: Program) -> Iterator[tuple[Field, frozenset[str]]]:
    """Each use of a field, with the JSON types that mean something there."""
    policy = program.policy
    for rule in policy.rules:
        if isinstance(rule.weight, Field):
            yield rule.weight, frozenset({"number"})
    statements: list[CheckedRule | CheckedGuard] = [*policy.rules, *policy.guards]
    for statement in statements:
        for field in _span_fields(statement.targets):
            yield field, frozenset({"list"})
        if statement.condition is not None:
            yield from ((leaf.field, types_of(leaf)) for leaf in leaves(statement.condition))


def types_of(leaf: Compare | Has | Truth) -> frozenset[str]:
    """The JSON types of values that a test is meant for.

    >>> from policy_engine.lang.check import check_text
    >>> policy = check_text("train user where message.a == 1 and message.b contains 2")
    >>> [sorted(types_of(leaf)) for leaf in leaves(policy.rules[0].condition)]
    [['number'], ['list', 'string']]
    """
    if isinstance(leaf, Has):
        return _ANY
    if isinstance(leaf, Truth):
        return frozenset({"boolean"})
    if leaf.op == "contains":
        return frozenset({"list", "string"})
    if leaf.op == "matches":
        return frozenset({"string"})
    # `!=` too: it is true of every value of another type, and nobody means that.
    values = leaf.value if isinstance(leaf.value, tuple) else (leaf.value,)
    # A test of null asks for a value, of any type: `!= null` is true of all the others, and `== null` of their lack.
    if None in values:
        return _ANY
    return frozenset({kind_of(value) for value in values})


def _span_fields(targets: tuple[CheckedTarget, ...]) -> Iterator[Field]:
    for target in targets:
        if isinstance(target, Spans):
            if target.field is not None:
                yield target.field
            yield from _span_fields(target.inside)


def values_of(field: Field, row: MaskedRow) -> Iterator[Any]:
    """The values that a field has on the text of a row, as conditions see them."""
    path = field.path
    if field.scope == "part":
        for segment in row.chat.segments:
            if segment.item is not None and segment.turn is not None:
                yield from _found(step_into(row.chat.messages[segment.turn], ("content", segment.item, *path)))
        return
    for item in _items(field.scope, row):
        if field.scope == "call" and path[0] in ("name", "arguments") and "function" in item:
            yield from _found(step_into(item, ("function", *path)))
        else:
            yield from _found(step_into(item, path))


def _look_below(field: Field, row: MaskedRow, seen: Evidence) -> None:
    """Adds the names beside a missing step of a field, where the steps before it are there."""
    for item in _items(field.scope, row) if len(field.path) > 1 else ():
        value: Any = item
        for depth, step in enumerate(field.path):
            if not isinstance(value, Mapping) or step not in value:
                break
            value = value[step]
            if depth + 1 < len(field.path) and isinstance(value, Mapping) and field.path[depth + 1] not in value:
                below = ".".join([field.scope, *map(str, field.path[: depth + 1])])
                seen.update(("key", below, str(key)) for key in value)


def _found(value: Any) -> Iterator[Any]:
    if value is not MISSING:
        yield value


def _items(scope: str, row: MaskedRow) -> Iterator[Mapping[str, Any]]:
    """The objects of a row's data that fields of a scope are looked for in."""
    if scope == "sample":
        yield row.chat.sample
        return
    if scope in NEIGHBOURS:
        yield from _neighbours(scope, row)
        return
    for message in row.chat.messages:
        if scope == "message":
            yield message
            continue
        items = message.get("content" if scope == "part" else "tool_calls")
        for item in items if isinstance(items, list | tuple) else ():
            if isinstance(item, Mapping):
                yield item


def _neighbours(scope: str, row: MaskedRow) -> Iterator[Mapping[str, Any]]:
    """The messages of a row that are `previous`, `next`, `result` or `answer` of some turn."""
    view = ChatView(row.chat)
    turns = range(len(row.chat.messages))
    if scope == "result":
        found = {result for turn in turns for result in view.results_of(turn)}
    else:
        found = {other for turn in turns if (other := view.neighbour(scope, turn)) is not None}
    for turn in sorted(found):
        yield row.chat.messages[turn]


def _prints_parts_whole(field: Field, row: MaskedRow) -> bool:
    """True if content parts have a field, and no text is known to be that of one part."""
    return any(step_into(part, field.path) is not MISSING for part in _items("part", row))


def is_of_thinking(rule: CheckedRule) -> bool:
    """True if a rule selects thinking and nothing else.

    >>> from policy_engine.lang.check import check_text
    >>> [is_of_thinking(rule) for rule in check_text("mask assistant.reasoning; train assistant").rules]
    [True, False]
    """
    return all(isinstance(target, Atom) and target.parts <= THINKING for target in rule.targets)


def _thinking_in(row: MaskedRow) -> str | None:
    """The marker of thinking in content that the template takes for text."""
    text = row.chat.text
    for opening, closing in REASONING:
        # The whole text first, as most rows have neither.
        if opening in text and closing in text:
            for segment in row.chat.segments:
                # A user who writes `<think>` is quoting it; an answer that has it was meant to think.
                is_answer = segment.part == "text" and row.chat.role(segment) == "assistant"
                if is_answer and opening in text[segment.start : segment.end]:
                    return opening
    return None
