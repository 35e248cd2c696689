"""Generators of conditions, weights and regexes over the fields of `conversations`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

from policy_engine.core.source import Source, Span
from policy_engine.core.vocabulary import NEIGHBOURS
from policy_engine.lang import ast
from policy_engine.testing.choices import Choices

_NOWHERE: Final = Span(source=Source(name="<generated>", text=""), start=0, end=0)

FieldName = tuple[str, tuple[str | int, ...]]

NUMBERS: Final[Sequence[int | float]] = (1, 2, 0.5, 0, -1, 0.25, -2)
"""Weights and factors; products of several stay exact in float32."""
WEIGHT_FIELDS: Final[Sequence[FieldName]] = (
    ("message", ("weight",)),
    ("sample", ("score",)),
    ("message", ("meta", "score")),
)
SPAN_FIELDS: Final[Sequence[FieldName]] = (("message", ("spans",)),)
BOOLEANS: Final[Sequence[FieldName]] = (
    ("message", ("train",)), ("part", ("train",)), ("segment", ("empty",)), ("message", ("labels", 0)),
)  # fmt: skip
STRINGS: Final[Sequence[FieldName]] = (
    ("message", ("role",)), ("message", ("name",)), ("message", ("content",)), ("segment", ("text",)),
    ("part", ("type",)), ("part", ("text",)), ("call", ("name",)), ("call", ("id",)), ("call", ("function", "name")),
    ("call", ("arguments", "city")), ("sample", ("source",)), ("message", ("meta", "lang")), ("message", ("labels", 1)),
)  # fmt: skip
_ALWAYS_STRINGS: Final = (
    ("segment", ("text",)),
    ("message", ("role",)),
    ("message", ("content",)),
    ("call", ("name",)),
)
"""Fields that a comparison with anything but a string is an error of."""
INTEGERS: Final[Sequence[FieldName]] = (
    ("turn", ("index",)), ("turn", ("from_end",)), ("turn", ("round",)), ("turn", ("chars",)),
)  # fmt: skip
DATA_NUMBERS: Final[Sequence[FieldName]] = (
    ("message", ("weight",)),
    ("sample", ("score",)),
    ("call", ("arguments", "n")),
)
LISTS: Final[Sequence[FieldName]] = (("message", ("labels",)), ("sample", ("meta",)), ("message", ("content",)))
WORDS: Final = (
    "gold", "a", "ann", "en", "Paris", "search", "assistant", "user", "call_1", "text", "<|im_end|>", "web", "日本", "",
    "line\nbreak", 'quote " and \\',
)  # fmt: skip
PATTERNS: Final = (
    "a", "[a-z]+", "Hello|yes", "answer.*", "\\n", "(<\\|)[a-z_]+(\\|>)", "o", "日本", "^a", "x*", "[^ ]+ ", ".",
    "e{1,2}", "<think>", "\\{\"", "gold|go", "a/b",
)  # fmt: skip
"""Patterns that RE2 and Python's `re` read alike."""


def field(choices: Choices, names: Sequence[FieldName]) -> ast.Field:
    """One of some fields; one of a message is now and then a neighbour's (`previous.train`).

    >>> from policy_engine.testing.choices import RandomChoices
    >>> str(field(RandomChoices(1), STRINGS))
    'message.content'
    """
    scope, path = choices.pick(names)
    if scope == "message" and choices.chance(30):
        scope = choices.pick(NEIGHBOURS)
    return ast.Field(scope=scope, path=path, span=_NOWHERE)


def pattern(choices: Choices) -> tuple[str, str]:
    """A regex and its flags.

    >>> from policy_engine.testing.choices import RandomChoices
    >>> pattern(RandomChoices(1))
    ('Hello|yes', '')
    """
    flags = choices.pick(("", "", "s", "m", "i"))
    # Case folding beyond ASCII differs between regex engines.
    return choices.pick([p for p in PATTERNS if "i" not in flags or p.isascii()]), flags


def expression(choices: Choices, depth: int) -> ast.Expr:
    """A condition, nested up to `depth`."""
    # Low numbers are plain tests: conditions shrink to one of them.
    kind = choices.integer(0, 9) if depth else 0
    if kind >= 7:
        return ast.Not(operand=expression(choices, depth - 1), span=_NOWHERE)
    if kind >= 4:
        operands = tuple(choices.many(lambda c: expression(c, depth - 1), 2, 3))
        if kind == 4:
            return ast.And(operands=operands, span=_NOWHERE)
        return ast.Or(operands=operands, span=_NOWHERE)
    return test(choices)


def test(choices: Choices) -> ast.Expr:
    """A single test of a field."""
    kind = choices.integer(0, 9)
    if kind == 0:
        return ast.Truth(field=field(choices, BOOLEANS), span=_NOWHERE)
    if kind == 1:
        anything = (*BOOLEANS, *STRINGS, *DATA_NUMBERS, *LISTS)
        return ast.Has(field=field(choices, [n for n in anything if n[0] not in ("turn", "segment")]), span=_NOWHERE)
    if kind == 2:
        name = choices.pick(BOOLEANS)
        # Data may hold anything under a name; fields of the engine's own have one type, and another is an error.
        literals: Sequence[Any] = (True, False) if name[0] == "segment" else (True, False, 1, 0, "true", None)
        return _compare(choices, field(choices, (name,)), ("==", "!="), literals)
    if kind <= 4:
        return _compare(choices, field(choices, INTEGERS), ("==", "!=", "<", "<=", ">", ">="), (0, 1, 2, 3, 8))
    if kind == 5:
        return _compare(choices, field(choices, DATA_NUMBERS), ("==", "!=", "<", ">=", ">"), (1, 0, 0.5, 2, -1, 1.0))
    return _of_strings(choices)


test.__test__ = False  # type: ignore[attr-defined]


def _of_strings(choices: Choices) -> ast.Expr:
    kind = choices.integer(0, 9)
    if kind <= 3:
        # Data of other types than the literal's, null among them: comparisons are type-strict.
        values = (*WORDS, *WORDS, None, 1, True)
        name = choices.pick(STRINGS)
        literals = WORDS if name in _ALWAYS_STRINGS else values
        return _compare(choices, field(choices, (name,)), ("==", "!="), literals)
    if kind == 4:
        name = choices.pick((*STRINGS, *DATA_NUMBERS, *BOOLEANS[:1]))
        anything: Sequence[Any] = WORDS if name in _ALWAYS_STRINGS else (*WORDS, 1, True, None, 0)
        items = tuple(choices.many(lambda c: c.pick(anything), 1, 3))
        return _compare(choices, field(choices, (name,)), ("in",), (items,))
    if kind == 5:
        return _compare(choices, field(choices, STRINGS), ("in",), ("ann bob gold en search", "user, assistant"))
    if kind == 6:
        name = choices.pick(LISTS)
        anything = WORDS if name in _ALWAYS_STRINGS else (*WORDS, 1, True, None)
        return _compare(choices, field(choices, (name,)), ("contains",), anything)
    if kind == 7:
        return _compare(choices, field(choices, STRINGS), ("contains",), WORDS)
    if kind == 8:
        return _compare(choices, field(choices, STRINGS), ("<", ">=", "<=", ">"), WORDS)
    text, flags = pattern(choices)
    return ast.Compare(op="matches", field=field(choices, STRINGS), value=text, flags=flags, span=_NOWHERE)


def _compare(choices: Choices, left: ast.Field, ops: Sequence[Any], values: Sequence[Any]) -> ast.Compare:
    op: Literal["==", "!=", "<", "<=", ">", ">=", "in", "contains", "matches"] = choices.pick(ops)
    return ast.Compare(op=op, field=left, value=choices.pick(values), span=_NOWHERE)
