"""Free conditions of policies: fields, texts, regexes, spans and sampled text as variables.

`train assistant where message.quality > 3` has one variable, the field `message.quality`, with two values: 0 if it is
missing, 1 if it is above 3. A regex or a data span is a variable too: it matches a character or does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from policy_engine.core.vocabulary import MESSAGE_SCOPES
from policy_engine.lang.ast import Compare, Field, Has, Truth
from policy_engine.lang.checked import Atom, CheckedRule, CheckedStatement, CheckedTarget, Spans, TurnSet
from policy_engine.proof.model.assignments import Free, all_of, make_space
from policy_engine.proof.model.field_values import (
    Name,
    Test,
    ValueCell,
    json_kind,
    test_key,
    values_of,
    weight_class,
)
from policy_engine.proof.model.positions import OTHER, Turns
from policy_engine.proof.model.trained_bits import target_key, turn_sets
from policy_engine.rules.conditions.comparison import MISSING
from policy_engine.rules.conditions.conditions import test_of

Resolve = Callable[[TurnSet], Turns]
"""Resolves a set of turns as a statement means it, by the rules above the statement."""
PLACED_ROLES: tuple[Name, ...] = tuple((scope, ("role",)) for scope in ("message", "previous", "next"))
"""The roles that the place of a turn decides."""
SAMPLED = "sampled"
"""The key of what `sampled in` selects."""
CHARS: Name = ("turn", ("chars",))
_WANTS = {"train": True, "always": True, "mask": False, "never": False, "scale": None}


class Conditions:
    """The space of everything that is free, and the assignments under which each test holds.

    Only values that rows can have count: a span is never true of a field that is missing, and a field below another
    needs the other to be an object or a list.
    """

    def __init__(self, tests: Sequence[Test], statements: Sequence[tuple[CheckedStatement, Resolve]]) -> None:
        weights = [s.weight for s, _ in statements if isinstance(s, CheckedRule) and isinstance(s.weight, Field)]
        spans = [(span, span_key(span, s, r)) for s, r in statements for target in s.targets for span in _spans(target)]
        # The roles of a turn and of its neighbours are decided by the place, so they are no variables.
        self.role_tests = [t for t in tests if name_of(t.field) in PLACED_ROLES]
        # A weight's field is told apart even if no test asks for it.
        by_field: dict[Name, list[Test]] = {name_of(field): [] for field in weights}
        for test in tests:
            if name_of(test.field) not in PLACED_ROLES:
                by_field.setdefault(name_of(test.field), []).append(test)
        weighted = {name_of(field) for field in weights}
        spanned = {name_of(span.field) for span, _ in spans if span.field is not None}
        self.fields = {
            name: values_of(
                name,
                found,
                as_weight=name in weighted,
                parents=name in spanned or any(_is_below(other, name) for other in by_field),
            )
            # Sorted, so that witnesses are the same in every process.
            for name, found in sorted(by_field.items(), key=repr)
        }
        self.scopes: list[str] = []
        """Scope of each variable; `span` for a regex, a list of spans, or `sampled`."""
        sizes: list[int] = []

        def variable(scope: str, size: int) -> int:
            self.scopes.append(scope)
            sizes.append(size)
            return len(sizes) - 1

        for name, values in self.fields.items():
            # Several results may have different values at once, so each cell is true or false by itself.
            if name[0] == "result":
                values.seen = [variable("result", 2) for _ in values.cells[1:]]
            else:
                values.variable = variable(name[0], len(values.cells))
            # A test that the cells leave open may be true or false of a value there.
            for key in values.open_tests():
                values.free[key] = variable(name[0], 2)
        self.spans: dict[str, int] = {}
        self.span_fields: dict[str, Name] = {}
        for span, key in spans:
            if key not in self.spans:
                self.spans[key] = variable("span", 2)
                if span.field is not None:
                    self.span_fields[key] = name_of(span.field)
        self.regexes = [(span, self.spans[key]) for span, key in spans if span.pattern is not None]
        """The regexes, each with its variable."""
        self.sampled = self.spans.get(SAMPLED)
        """The variable of a character that was sampled; None if nothing asks."""
        self.roles: dict[str, int] = {}
        """Variables of tests on the role that a role without a name of its own leaves open."""
        for test in self.role_tests:
            # `message.role matches /x/` is decided for roles that the policy names, and open for all others.
            if _is_open_on_role(test) and test_key(test) not in self.roles:
                self.roles[test_key(test)] = variable(test.field.scope, 2)
        self.space = make_space(sizes)
        self.sizes = sizes
        self.asks_for_calls = any(name[0] == "call" for name in self.fields)
        self.no_call = self.all_missing("call")
        self.asks_for = frozenset({name[0] for name in self.fields} | {t.field.scope for t in self.role_tests})
        """The scopes of the fields that some test or weight asks for."""

    def holds(self, test: Test) -> Free:
        """The assignments under which a test on the data or a text holds."""
        return self.fields[name_of(test.field)].holds(self.space, test_key(test))

    def on_role(self, test: Test, role: str) -> Free:
        """The assignments under which a test on a message's role holds for a role, or for `OTHER`."""
        if role != OTHER:
            return self.space.full if test_of(test)(role) else self.space.empty
        key = test_key(test)
        if key in self.roles:
            return self.space.cells(self.roles[key], (1,))
        # `==`, `!=` and `in [..]`: a role that the policy does not name is equal to none of its literals.
        return self.space.full if test_of(test)(OTHER) else self.space.empty

    def role_variable(self, test: Test) -> int | None:
        """The variable of a test on a message's role that roles outside the policy leave open."""
        return self.roles.get(test_key(test))

    def span(self, key: str) -> Free:
        """The assignments under which a character is one of a regex's or a field's, by `span_key`."""
        return self.space.cells(self.spans[key], (1,))

    def weight(self, field: Field, kind: str) -> Free:
        """The assignments under which a field is a weight of a kind (see `weight_class`)."""
        return self.fields[name_of(field)].only(self.space, lambda cell: weight_class(cell) == kind)

    def possible(self, *, in_body: bool, in_part: bool, owned: bool) -> Free:
        """The assignments that text in a turn's body, of a content part, or other text, can have."""
        space = self.space
        free = space.full
        for name, values in self.fields.items():
            if not owned and name[0] not in ("sample", "segment"):
                continue
            for parent in self.fields:
                if _is_below(name, parent):
                    # The step below the parent says which kind the parent has to be.
                    needed = "object" if isinstance(name[1][len(parent[1])], str) else "list"
                    holds = self.fields[parent].where(space, lambda cell, n=needed: json_kind(cell) == n)  # type: ignore[misc]
                    missing = values.only(space, _is_missing)
                    free = space.both(free, space.either(holds, missing))
        # Text in a body counts among its characters, so there is at least one.
        if in_body and CHARS in self.fields:
            free = space.both(free, self.fields[CHARS].where(space, lambda cell: cell.value != 0))
        # Headers and ends are of no content part.
        if not in_part:
            free = space.both(free, self.all_missing("part"))
        for scope in ("result", "answer"):
            # A message that is there has a role.
            if (role := self.fields.get((scope, ("role",)))) is not None:
                there = space.without(space.full, role.only(space, _is_missing))
                free = space.both(free, space.either(there, self.all_missing(scope)))
        for key, name in self.span_fields.items():
            if not owned:
                # Text without an owner has no field that could list it.
                free = space.both(free, space.cells(self.spans[key], (0,)))
            elif name in self.fields:
                # Spans come from a list; where tests say that the field is something else, nothing is listed.
                lists = self.fields[name].where(space, lambda cell: json_kind(cell) == "list")
                free = space.both(free, space.either(lists, space.cells(self.spans[key], (0,))))
        return free

    def all_missing(self, scope: str) -> Free:
        """The assignments in which every field of a scope is absent."""
        fields = (values for name, values in self.fields.items() if name[0] == scope)
        return all_of(self.space, (values.only(self.space, _is_missing) for values in fields))

    def variables(self, *scopes: str) -> tuple[int, ...]:
        """The variables of some scopes."""
        return tuple(i for i, scope in enumerate(self.scopes) if scope in scopes)


def name_of(field: Field) -> Name:
    """The field as a key.

    A segment's text and its emptiness are one field, since the second follows from the first.

    >>> from policy_engine.lang.check import check_text
    >>> leaf = check_text("train assistant where message.meta.source == 1").rules[0].condition
    >>> name_of(leaf.field)
    ('message', ('meta', 'source'))
    """
    return (field.scope, ()) if field.scope == "segment" else (field.scope, field.path)


def span_key(span: Spans, statement: CheckedStatement, resolve: Resolve) -> str:
    """A key that is equal for spans which select the same characters.

    Entries of a data field do not depend on what the span is `in`, but can count for one effect only. Matches of a
    regex depend on the run it is searched in: on the parts it is `in`, and where these differ by turn, on the turns.
    """
    if span.sampled:
        return SAMPLED  # a fact of the character, whatever it is asked `in`
    if span.field is not None:
        verb = statement.effect if isinstance(statement, CheckedRule) else statement.kind
        return f"{span.field!r}:{_WANTS[verb]}"
    if len(span.inside) == 1 and isinstance(span.inside[0], Atom):
        # One atom: which of its turns are meant is decided by the atom, and the run is that of its parts.
        return f"{span.pattern!r}:{span.flags}:{sorted(span.inside[0].parts)}"
    inside = [
        f"{target_key(t)}:{[resolve(turns).bit for turns in turn_sets((t,))]}"
        if isinstance(t, Atom)
        else span_key(t, statement, resolve)
        for t in span.inside
    ]
    return f"{span.pattern!r}:{span.flags}:{sorted(inside)}"


def _spans(target: CheckedTarget) -> list[Spans]:
    if not isinstance(target, Spans):
        return []
    return [target, *(span for inner in target.inside for span in _spans(inner))]


def _is_below(name: Name, other: Name) -> bool:
    """True if `name` is a field inside `other`."""
    return (
        name[0] == other[0]
        and len(name[1]) > len(other[1]) > 0
        and name[1][: len(other[1])] == other[1]
        and not (other[0] in MESSAGE_SCOPES and other[1] == ("content",))
    )


def _is_missing(cell: ValueCell) -> bool:
    return cell.kind == "value" and cell.value is MISSING


def _is_open_on_role(test: Test) -> bool:
    if isinstance(test, (Has, Truth)) or not isinstance(test, Compare):
        return False
    return test.op in ("matches", "contains", "<", "<=", ">", ">=") or (test.op == "in" and isinstance(test.value, str))
