"""Checks of conditions, weights, regexes and data spans."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from policy_engine.core.schema import FieldType, Schema, json_type
from policy_engine.core.source import Span
from policy_engine.core.suggest import did_you_mean
from policy_engine.core.vocabulary import NEIGHBOURS, SCOPES
from policy_engine.core.wording import article
from policy_engine.lang import ast
from policy_engine.lang.findings import Findings

_BUILT_IN: Final[dict[str, FieldType]] = {
    "message.role": "string",
    "message.content": "string",
    "call.name": "string",
    "turn.index": "integer",
    "turn.from_end": "integer",
    "turn.round": "integer",
    "turn.chars": "integer",
    "segment.text": "string",
    "segment.empty": "boolean",
}
"""Fields that mean the same whatever the data is."""
_SCALARS: Final = frozenset({"string", "number", "integer", "boolean"})
_NUMBERS: Final = frozenset({"number", "integer"})
_ORDERED: Final = ("<", "<=", ">", ">=")
_FLAGS: Final = {"i": "ignores case", "m": "`^` and `$` match at lines", "s": "`.` matches newlines too"}
# The largest and the smallest number above 0 that float32 has; the second is subnormal.
_FLOAT32_MAX: Final = 3.4028234663852886e38
_FLOAT32_MIN: Final = 1.401298464324817e-45
WEIGHT_HELP: Final = "write a number of ordinary size, or `mask` for weight 0"
# Words of other languages for numbers and for nothing; a name like these is not a misspelt scope.
_WORDS: Final = frozenset({"nan", "inf", "infinity", "true", "false", "null", "none"})


@functools.lru_cache(maxsize=1024)
def pattern_problem(pattern: str, flags: str) -> str | None:
    """Why RE2 does not take a pattern; None if it does.

    >>> pattern_problem("a(", "")
    'missing ): a('
    """
    # Imported by the first pattern: few policies have one.
    import re2

    options = re2.Options()
    # RE2 writes errors to stderr by itself, where they would mix with the diagnostic.
    options.log_errors = False
    try:
        re2.compile(f"(?{flags}){pattern}" if flags else pattern, options)
    except re2.error as error:
        # google-re2 gives its message as bytes.
        reason: Any = error.args[0] if error.args else error
        return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
    return None


def weight_problem(value: int | float) -> str | None:
    """Why a number cannot be a weight, which is a 32-bit floating point number; None if it can.

    >>> weight_problem(0.5) is None, weight_problem(1e300) is None
    (True, False)
    """
    # No comparison with NaN is true. What is too small would become 0, and mask in silence.
    if abs(value) <= _FLOAT32_MAX and (value == 0 or abs(value) >= _FLOAT32_MIN):
        return None
    return f"{value!r:.40} is not a weight: it is not a 32-bit floating point number"


class FieldChecker:
    """Checks everything in a policy that names a field of the data or a pattern.

    Without declared fields, any field is allowed and may have any type, but for those whose meaning is fixed.
    """

    def __init__(self, findings: Findings, schema: Schema | None) -> None:
        self.findings = findings
        self.declared = dict(schema.fields) if schema and schema.fields is not None else {}
        # One declared field closes its scope; the others stay open.
        self.closed = {name.split(".")[0] for name in self.declared}

    def condition(self, expr: ast.Expr) -> None:
        """Report what can never work in a condition.

        >>> from policy_engine.lang.parse import parse
        >>> findings = Findings()
        >>> rule = parse('train user where turn.index == "x"').statements[0]
        >>> FieldChecker(findings, None).condition(rule.conditions[0].expr)
        >>> findings.errors[0].message
        '`turn.index` is an integer, so it never equals `"x"`, a string'
        """
        for test in ast.leaves(expr):
            match test:
                case ast.Has(field=field):
                    self._type(field)
                case ast.Truth(field=field):
                    self._truth(field)
                case _:
                    self._compare(test)

    def amount(self, amount: int | float | ast.Field, span: Span) -> None:
        """Report a weight that is no finite 32-bit number, or a field that cannot be one."""
        if isinstance(amount, ast.Field):
            kind = self._type(amount)
            if kind not in (None, "any", *_NUMBERS):
                message = f"`{amount}` is {_a(kind)}, and a weight has to be a number"
                self.findings.error("PE224", message, amount.span, "name a field of numbers, or write a number")
        elif problem := weight_problem(amount):
            self.findings.error("PE227", problem, span, WEIGHT_HELP)

    def spans(self, field: ast.Field) -> bool:
        """True if a field may hold spans; else an error is reported."""
        kind = self._type(field)
        if kind not in (None, "any", "list"):
            message = f"`{field}` is {_a(kind)}, and spans are a list"
            help = "name a field that holds `[begin, end)` pairs, such as `message.training_detail`"
            self.findings.error("PE224", message, field.span, help)
        # A field that does not exist is reported by `_type`, and holds no spans either.
        return kind in ("any", "list")

    def regex(self, pattern: str, flags: str, span: Span) -> bool:
        """True if RE2 takes a pattern with these flags; else an error is reported.

        >>> from policy_engine.core.source import Source
        >>> findings = Findings()
        >>> span = Span(source=Source(name="a.policy", text="/a/ix"), start=0, end=5)
        >>> FieldChecker(findings, None).regex("a", "ix", span)
        False
        >>> findings.errors[0].message
        '`ix` are not flags of a regex'
        """
        # A flag written twice is a slip as well: RE2 would take it.
        wrong = "".join(f for i, f in enumerate(flags) if f not in _FLAGS or f in flags[:i])
        if wrong:
            listed = ", ".join(f"`{f}` ({meaning})" for f, meaning in _FLAGS.items())
            message = f"`{flags}` are not flags of a regex" if len(flags) > 1 else f"`{flags}` is not a flag of a regex"
            self.findings.error("PE226", message, span, f"flags are {listed}, each at most once")
            return False
        problem = pattern_problem(pattern, flags)
        if problem is None:
            return True
        help = "patterns are RE2's: without lookahead, lookbehind and backreferences"
        self.findings.error("PE225", f"this regex is not valid: {problem}", span, help)
        return False

    def _truth(self, field: ast.Field) -> None:
        kind = self._type(field)
        if kind not in (None, "any", "boolean"):
            example = "1" if kind in _NUMBERS else '"x"'
            help = f"write what it has to be, for example `{field} == {example}`"
            if kind in ("list", "object"):
                help = f"write `has {field}` to ask whether it is there"
            message = f"`{field}` is {_a(kind)}, and a field alone has to be `true`"
            self.findings.error("PE224", message, field.span, help)

    def _compare(self, compare: ast.Compare) -> None:
        kind = self._type(compare.field)
        name = str(compare.field)
        value, op = compare.value, compare.op
        if op == "matches":
            self.regex(str(value), compare.flags, compare.span)
            self._needs(kind, {"string"}, compare, f"`matches` searches text, and `{name}` is {_a(kind)}")
        # `FIELD in "text"` asks for a part of the text; only a list has members of other types.
        elif op == "in" and isinstance(value, str):
            self._needs(kind, {"string"}, compare, f"only text can be in a text, and `{name}` is {_a(kind)}")
        elif op == "in" and isinstance(value, tuple):
            if not value:
                help = "list the values it may have"
                self.findings.error("PE224", "nothing is in an empty list", compare.span, help)
            for item in value:
                self._comparable(kind, item, compare)
        elif op == "contains":
            message = f"only text and lists contain something, and `{name}` is {_a(kind)}"
            if self._needs(kind, {"string", "list"}, compare, message) and kind == "string":
                self._comparable(kind, value, compare)
        else:
            # `type`, not `isinstance`: a bool is an int of Python, and `< true` orders nothing.
            if op in _ORDERED and type(value) not in (int, float, str):
                message = f"`{op}` compares two numbers or two strings"
                self.findings.error("PE224", message, compare.span, "write `==` or `!=`")
                return
            self._comparable(kind, value, compare)

    def _needs(self, kind: FieldType | None, kinds: set[str], compare: ast.Compare, message: str) -> bool:
        if kind is None or kind == "any" or kind in kinds:
            return True
        self.findings.error("PE224", message, compare.span, "name another field, or compare it with `==`")
        return False

    def _comparable(self, kind: FieldType | None, value: Any, compare: ast.Compare) -> None:
        """Comparisons are type-strict: report one whose sides can never have the same type."""
        # `null` is compared with anything: a declared field may be null in a row.
        if kind is None or kind == "any" or value is None:
            return
        has = json_type(value)
        if kind == has or (kind in _NUMBERS and has in _NUMBERS):
            return
        name = str(compare.field)
        does = {"contains": "contains", "==": "equals", "!=": "equals", "in": "equals"}.get(compare.op, "compares with")
        message = f"`{name}` is {_a(kind)}, so it never {does} {_shown(value)}, {_a(has)}"
        help = {
            "string": f'write a string: `"{str(value).lower()}"`',
            "boolean": f"write `{name}` alone, or `not {name}`",
        }.get(kind, "write a number" if kind in _NUMBERS else f"write `{name} contains …`, or `has {name}`")
        self.findings.error("PE224", message, compare.span, help)

    def _type(self, field: ast.Field) -> FieldType | None:
        """The type of a field, `any` where nothing declares it.

        None, with an error reported, if there is no such field.
        """
        if field.scope not in SCOPES:
            self._no_scope(field)
            return None
        known = SCOPES[field.scope]
        if not field.path:
            example = f"{field.scope}.{known[0] if known else 'name'}"
            message = f"`{field.scope}` is a scope, and a condition needs a field of it"
            self.findings.error("PE222", message, field.span, f"write a field such as `{example}`")
            return None
        # An index may come first (`turn[0]`).
        first = str(field.path[0])
        if known is not None and field.path[0] not in known:
            listed = ", ".join(f"`{field.scope}.{k}`" for k in known)
            help = did_you_mean(first, known) or f"write one of {listed}"
            if field.scope == "turn" and first in ("tokens", "length", "len", "size"):
                help = "did you mean `turn.chars`? It counts the characters of the turn's text; no field counts tokens"
            self.findings.error("PE222", f"`{field.scope}` has no field `{first}`", field.span, help)
            return None
        # A neighbour is a message: it has the fields that messages have.
        declared = replace(field, scope="message") if field.scope in NEIGHBOURS else field
        built_in = _BUILT_IN.get(f"{declared.scope}.{first}")
        if built_in is not None:
            if len(field.path) > 1:
                message = f"`{field.scope}.{first}` is {_a(built_in)} and has nothing below it"
                self.findings.error("PE222", message, field.span, f"write `{field.scope}.{first}`")
                return None
            return built_in
        return self._declared_type(declared) if declared.scope in self.closed else "any"

    def _no_scope(self, field: ast.Field) -> None:
        name = field.scope
        help = did_you_mean(name, SCOPES)
        # `weight nan`: the grammar reads a bare word as a field.
        if help is None and not field.path and name.lower() in _WORDS:
            help = f"`{name}` is no number and no field"
        elif help is None:
            listed = ", ".join(f"`{s}`" for s in SCOPES)
            help = f"write `message.{field}` for a field of the message; scopes are {listed}"
        self.findings.error("PE221", f"there is no scope `{name}`", field.span, help)

    def _declared_type(self, field: ast.Field) -> FieldType | None:
        for name, rest in _prefixes(field):
            kind = self.declared.get(name)
            if kind is None:
                continue
            if not rest:
                return kind
            if kind == "any" or kind == ("list" if isinstance(rest[0], int) else "object"):
                return "any"
            message = f"the dataset file declares `{name}` as {_a(kind)}, which has nothing such below it"
            self.findings.error("PE223", message, field.span, f"write `{name}`, or declare it as an object")
            return None
        whole = str(field)
        # `sample.meta.source` declares that `sample.meta` is an object.
        if any(name.startswith(whole + ".") for name in self.declared):
            return "object"
        help = did_you_mean(whole, self.declared) or f"declare it under `fields` of the dataset file: `{whole}: string`"
        self.findings.error("PE223", f"the dataset file declares no field `{whole}`", field.span, help)
        return None


def _prefixes(field: ast.Field) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    """The field and the fields it is below, longest first, each with the path that is left.

    >>> from policy_engine.lang.parse import parse
    >>> field = parse("train user where sample.meta.tags[0]").statements[0].conditions[0].expr.field
    >>> list(_prefixes(field))
    [('sample.meta.tags.0', ()), ('sample.meta.tags', (0,)), ('sample.meta', ('tags', 0))]
    """
    for length in range(len(field.path), 0, -1):
        yield ".".join((field.scope, *map(str, field.path[:length]))), field.path[length:]


def _a(kind: str | None) -> str:
    return f"{article(str(kind))} {kind}"


def _shown(value: Any) -> str:
    text = f'"{value}"' if isinstance(value, str) else str(value).lower()
    return f"`{text if len(text) <= 40 else text[:39] + '…'}`"
