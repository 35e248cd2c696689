"""The values of a field, as a finite partition by a policy's tests, "missing" included.

`message.quality > 3` has two cells: the field is missing (or no number above 3), shown by MISSING; and it is above 3,
shown by 5. Every test is decided once for each cell, by the engine's own comparison. Strings that no test names are one
cell, on which regexes and substring tests stay *free*: each gets a variable of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import pairwise
from typing import Any, Final, Literal

from policy_engine.core.vocabulary import MESSAGE_SCOPES
from policy_engine.lang.ast import Compare, Has, Truth
from policy_engine.proof.model.assignments import Free, Space, cube
from policy_engine.rules.conditions.comparison import MISSING, kind_of
from policy_engine.rules.conditions.conditions import test_of

Test = Compare | Has | Truth
Name = tuple[str, tuple[str | int, ...]]
"""A field: scope and path."""


@dataclass(frozen=True, kw_only=True)
class ValueCell:
    """Values that no test of the policy tells apart."""

    kind: Literal["value", "string", "list"]
    """One representative `value`; any string between `low` and `high` that no test names; or any list."""
    value: Any = None
    low: str | None = None
    """The strings are strictly above this one, by code points; None is no bound."""
    high: str | None = None
    """The strings are strictly below this one."""
    blank: bool | None = None
    """True if a segment's text is white space; None where no test asks for that."""


@dataclass(kw_only=True)
class FieldValues:
    """The partition of one field (for `segment`, of text and emptiness together)."""

    name: Name
    cells: list[ValueCell]
    variable: int = -1
    """Variable of the space whose value is the index of a cell."""
    seen: list[int] | None = None
    """For a field of `result`, of which there can be several: a variable (false, true) for each cell but the first,
    which is the missing field. It says if some result has a value of the cell."""
    free: dict[str, int] = field(default_factory=dict)
    """Variables (false, true) of the tests that the cells leave open, by test key."""
    tests: dict[str, Test] = field(default_factory=dict)
    _true: dict[str, list[int]] = field(default_factory=dict)
    _open: dict[str, list[int]] = field(default_factory=dict)

    def open_tests(self) -> list[str]:
        """Keys of the tests that some cell leaves open."""
        return [key for key, cells in self._open.items() if cells]

    def holds(self, space: Space, key: str) -> Free:
        """The assignments under which a test holds."""
        found = self._in(space, self._true[key])
        if key in self.free:
            maybe = space.both(self._in(space, self._open[key]), space.cells(self.free[key], (1,)))
            found = space.either(found, maybe)
        return found

    def _in(self, space: Space, cells: Iterable[int]) -> Free:
        """The assignments that have one of some cells."""
        if self.seen is None:
            return space.cells(self.variable, cells)
        seen = self.seen
        found = (space.cells(seen[cell - 1], (1,)) if cell else self._none(space) for cell in cells)
        return reduce(space.either, found, space.empty)

    def _none(self, space: Space) -> Free:
        """The assignments in which no result has the field."""
        return cube(space, dict.fromkeys(self.seen or (), 0))

    def only(self, space: Space, test: Callable[[ValueCell], bool]) -> Free:
        """The assignments that have cells which pass `test`, and no other."""
        found = self.where(space, test)
        return space.without(found, self.where(space, lambda cell: not test(cell))) if self.seen else found

    def cells_of(self, assignment: Sequence[int]) -> list[int]:
        """The cells that the field has under an assignment: one, or for `result` several."""
        if self.seen is None:
            return [assignment[self.variable]]
        # Cell 0 is the missing field: no result has it.
        return [cell for cell, variable in enumerate(self.seen, 1) if assignment[variable]] or [0]

    def expected(self, assignment: Sequence[int], number: int = 0) -> list[tuple[Test, bool]]:
        """Every test on the field with its answer under an assignment of all variables.

        For `result` it is the answer on the value of the result with this number.
        """
        cell = self.cell_at(assignment, number)
        return [
            (
                test,
                cell in self._true[key]
                or (key in self.free and cell in self._open[key] and assignment[self.free[key]] == 1),
            )
            for key, test in self.tests.items()
        ]

    def cell_at(self, assignment: Sequence[int], number: int = 0) -> int:
        """The cell of the result with this number, or of the one value that there is."""
        cells = self.cells_of(assignment)
        # Further results may repeat the last value.
        return cells[min(number, len(cells) - 1)]

    def where(self, space: Space, test: Callable[[ValueCell], bool]) -> Free:
        """The assignments whose cell passes `test`; for `result`, some cell of theirs."""
        return self._in(space, (i for i, cell in enumerate(self.cells) if test(cell)))


def test_key(test: Test) -> str:
    """A key that is equal for tests of one meaning.

    The tests themselves are no keys, since Python takes `1`, `1.0` and `true` for equal.
    """
    return repr(test)


def values_of(name: Name, tests: Sequence[Test], *, as_weight: bool = False, parents: bool = False) -> FieldValues:
    """The partition of a field by its tests.

    `as_weight` keeps zero, absent, and non-numbers apart; `parents` keeps objects and lists apart from other values,
    since a field below this one is tested too.

    >>> from policy_engine.lang.check import check_text
    >>> leaf = check_text("train assistant where message.quality > 3").rules[0].condition
    >>> [cell.value for cell in values_of(("message", ("quality",)), [leaf]).cells]
    [missing, 5]
    """
    cells = [cell for cell in _candidates(name, tests) if _exists(name, cell)]
    unique = {test_key(test): test for test in tests}
    answers = [{key: _answer(name, test, cell) for key, test in unique.items()} for cell in cells]
    groups: dict[Any, int] = {}
    kept: list[int] = []
    for index, cell in enumerate(cells):
        # A string and a list that leave the same test open need values of different kinds.
        open_kind = cell.kind if None in answers[index].values() else ""
        # Cells on which all tests agree may still differ for a weight, for a field below, or for a text's length.
        apart = (as_weight and weight_class(cell), parents and json_kind(cell), _is_no_chars(name, cell))
        # The first cell of a group stays, and candidates come with the plainest value first: witnesses then read well.
        if groups.setdefault((tuple(answers[index].values()), open_kind, apart, cell.blank), index) == index:
            kept.append(index)
    values = FieldValues(name=name, cells=[cells[i] for i in kept], tests=unique)
    for key in unique:
        values._true[key] = [at for at, i in enumerate(kept) if answers[i][key] is True]
        values._open[key] = [at for at, i in enumerate(kept) if answers[i][key] is None]
    return values


def weight_class(cell: ValueCell) -> Literal["one", "zero", "number", "bad"]:
    """The values of a cell as a weight: one, zero, another number, or no number.

    A field that is missing or null counts as one; a value that is no number fails the row. Only for fields whose
    partition was made `as_weight`.

    >>> [weight_class(ValueCell(kind="value", value=value)) for value in (None, 0, 0.5, "much")]
    ['one', 'zero', 'number', 'bad']
    """
    if cell.kind != "value":
        return "bad"
    if cell.value is MISSING or cell.value is None:
        return "one"
    if kind_of(cell.value) != "number":
        return "bad"
    return "number" if cell.value else "zero"


def json_kind(cell: ValueCell) -> Literal["missing", "object", "list", "string", "other"]:
    """The JSON kind of a cell's values, as far as fields below them ask.

    Only for fields whose partition was made with `parents`.

    >>> [json_kind(ValueCell(kind="value", value=value)) for value in (MISSING, {}, 1)]
    ['missing', 'object', 'other']
    """
    if cell.kind != "value":
        return cell.kind
    if cell.value is MISSING:
        return "missing"
    return "object" if kind_of(cell.value) == "object" else "other"


def _is_no_chars(name: Name, cell: ValueCell) -> bool:
    # Kept apart, since a turn with text in its body has at least one character there.
    return name == ("turn", ("chars",)) and cell.value == 0


def _exists(name: Name, cell: ValueCell) -> bool:
    """True if the field can have the cell's values at all, by its scope."""
    value = cell.value if cell.kind == "value" else None
    if name == ("turn", ("chars",)):
        # A number of characters.
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if name[0] == "segment":
        # The text of a segment; empty segments are no case, since no character is decided there.
        return cell.kind == "string" or (cell.kind == "value" and isinstance(value, str) and value != "")
    if name[0] in MESSAGE_SCOPES and name[1][:1] == ("role",):
        # A role is text, and nothing is below text.
        return value is MISSING or (len(name[1]) == 1 and (cell.kind == "string" or isinstance(value, str)))
    if name[0] in MESSAGE_SCOPES and name[1][:1] == ("content",):
        if len(name[1]) > 1:
            return value is MISSING
        return cell.kind == "string" or isinstance(value, str) or value is MISSING
    return True


def _candidates(name: Name, tests: Sequence[Test]) -> list[ValueCell]:
    """One cell for each value that a test could tell apart, the plainest first.

    Some may be values that the field cannot have.
    """
    constants = [c for test in tests for c in _constants(test)]
    if name == ("result", ("role",)):
        # A result is a turn of role `tool`, by definition.
        return [ValueCell(kind="value", value=MISSING), ValueCell(kind="value", value="tool")]
    strings = sorted({c for c in constants if isinstance(c, str)})
    numbers = _numbers(constants, whole=name == ("turn", ("chars",)))
    found = [ValueCell(kind="value", value=v) for v in (MISSING, *numbers, False, True, None)]
    bounds: list[tuple[str | None, str | None]] = [(None, None)]
    # Without `<` and its like, the place of a string among others does not matter: one cell for all.
    if any(isinstance(t, Compare) and t.op in _ORDER and isinstance(t.value, str) for t in tests):
        edges = [None, *strings, None]
        bounds = [(a, b) for a, b in pairwise(edges) if _is_between(a, b)]
    if name[0] == "segment":
        other = [ValueCell(kind="string", low=a, high=b, blank=blank) for blank in (False, True) for a, b in bounds]
        return [*other, *(ValueCell(kind="value", value=s, blank=not s.strip()) for s in strings)]
    other = [ValueCell(kind="string", low=a, high=b) for a, b in bounds]
    named = [ValueCell(kind="value", value=s) for s in strings]
    # A message without content is the exception.
    found = [*other, *named, *found] if name == ("message", ("content",)) else [*found, *named, *other]
    # An object has no test that could tell it from another, so one stands for all.
    return [*found, ValueCell(kind="list"), ValueCell(kind="value", value={})]


def _is_between(low: str | None, high: str | None) -> bool:
    """True if some string is strictly between two bounds.

    The least string above `low` is `low` with a NUL behind it.

    >>> _is_between("a", "b"), _is_between("a", "a\\0"), _is_between(None, "")
    (True, False, False)
    """
    return high is None or (high > "" if low is None else high != low + "\0")


_ORDER: Final = frozenset({"<", "<=", ">", ">="})


def _constants(test: Test) -> Iterable[Any]:
    # These look inside a value; the literal is not one of the values that they tell apart.
    if not isinstance(test, Compare) or test.op in ("matches", "contains"):
        return ()
    if isinstance(test.value, tuple):
        return test.value
    return () if test.op == "in" else (test.value,)


def _numbers(constants: Iterable[Any], *, whole: bool) -> list[int | float]:
    """The numbers that comparisons name, and one in each gap; zero is among them, for weights.

    >>> _numbers([3], whole=False), _numbers([3], whole=True)
    ([5, 0, 3, 1.5, -2], [5, 4, 3, 2, 1, 0])
    """
    named = sorted({0, *(c for c in constants if kind_of(c) == "number")})
    if whole:
        # The whole numbers on either side of each bound.
        near = {int(n) + step for n in named if n >= 0 for step in (-1, 0, 1, 2)}
        return sorted((n for n in near if n >= 0), reverse=True)  # more is easier to write
    gaps = [a + (b - a) / 2 for a, b in pairwise(named)]
    # Not the next number: as a weight, 1 would be no different from the usual one.
    return [named[-1] + 2, *named, *gaps, named[0] - 2]


def _answer(name: Name, test: Test, cell: ValueCell) -> bool | None:
    """The answer of a test on a cell; None if the cell leaves it open."""
    if name[0] == "segment" and test.field.path == ("empty",):
        return test_of(test)(cell.blank)
    if cell.kind == "value":
        return test_of(test)(cell.value)
    if isinstance(test, Has):
        return True
    if isinstance(test, Truth):
        return False
    if cell.kind == "list":
        # A list equals no literal, so `!=` alone is true of it.
        return None if test.op == "contains" else test.op == "!="
    return _on_string(test, cell)


def _on_string(test: Compare, cell: ValueCell) -> bool | None:
    """A comparison on the strings of a cell, none of which is named by a test."""
    if test.op in ("==", "!="):
        return test.op == "!="
    if test.op in _ORDER:
        # The bound is no value of the cell, so `<` and `<=` are the same here.
        below = isinstance(test.value, str) and cell.high is not None and cell.high <= test.value
        return isinstance(test.value, str) and below == (test.op in ("<", "<="))
    if test.op == "in":
        return None if isinstance(test.value, str) else False
    if test.op == "contains":
        # Every string contains the empty one.
        return (test.value == "" or None) if isinstance(test.value, str) else False
    return None
