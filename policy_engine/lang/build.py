"""Lark's tree of a policy text, turned into the nodes of `lang.ast`."""

from __future__ import annotations

import json
import math
import re
from typing import Final, Literal

from lark import Token, Tree

from policy_engine.core.diagnostics import Diagnostic, error_at
from policy_engine.core.source import Source, Span
from policy_engine.lang import ast
from policy_engine.lang.fields import WEIGHT_HELP, weight_problem

Node = Tree[Token]

MAX_NESTING: Final = 32
"""Brackets, `not`s and `in`s inside each other. Deeper texts are refused, so that every later pass may recurse."""
_NESTS: Final = frozenset({"group", "parens", "not_", "regex_in", "spans_in", "sampled_in"})
# Python refuses to read an integer of more than 4,300 digits, with a ValueError of its own.
_DIGITS: Final = 300
"""Longer numbers are out of every range a weight or a field can have."""


def unescape_pattern(written: str) -> str:
    r"""The RE2 pattern between the slashes: `\/` is a slash, every other escape is RE2's own.

    >>> unescape_pattern("a\\/b")
    'a/b'
    """
    return re.sub(r"\\(.)", lambda m: "/" if m[1] == "/" else m[0], written, flags=re.DOTALL)


def too_deep(tree: Node) -> Node | None:
    """A node nested deeper than `MAX_NESTING`, if there is one. Does not recurse."""
    stack = [(tree, 0)]
    while stack:
        node, depth = stack.pop()
        # Only what brackets, `not` and `in` open counts, not Lark's own levels (`targets`, `target`).
        depth += node.data in _NESTS
        if depth > MAX_NESTING:
            return node
        stack += [(child, depth) for child in node.children if isinstance(child, Tree)]
    return None


class Builder:
    """Builds the statements of one source.

    Text that no node can hold becomes a diagnostic in `errors`. `offset` is the start of the parsed text in the source.
    """

    def __init__(self, source: Source, offset: int = 0) -> None:
        self.source = source
        self.offset = offset
        self.errors: list[Diagnostic] = []

    def statement(self, node: Node) -> ast.Statement:
        """One statement."""
        span = self._span(node)
        tokens = _tokens(node)
        match node.data:
            case "rule":
                clauses = self._clauses(node, "train" if tokens[0].type == "TRAIN" else "mask")
                effect: Literal["train", "mask"] = "train" if tokens[0].type == "TRAIN" else "mask"
                return ast.Rule(
                    effect=effect, targets=self._targets(node), conditions=clauses[0], weight=clauses[1], span=span
                )
            case "scale":
                # The first child is the keyword; a weight behind a scale is a clause, found below, and an error.
                factor = self._amount(next(c for c in node.children[1:] if _is_amount(c)))
                conditions = self._clauses(node, "scale")[0]
                return ast.Scale(targets=self._targets(node), factor=factor, conditions=conditions, span=span)
            case "guard":
                kind: Literal["never", "always"] = "never" if tokens[0].type == "NEVER" else "always"
                conditions = self._clauses(node, f"{kind} train")[0]
                return ast.Guard(kind=kind, targets=self._targets(node), conditions=conditions, span=span)
            case "use":
                quoted = tokens[1].type == "STRING"
                return ast.Use(name=self._string(tokens[1]) if quoted else str(tokens[1]), quoted=quoted, span=span)
            case "let":
                return ast.Let(name=str(tokens[1]), targets=self._targets(node), span=span)
            case "on":
                return ast.On(setting=str(tokens[1]), value=str(tokens[2]), span=span)
            # The grammar has no other statement; `language` comes last because it has no targets.
            case _:
                return ast.Language(version=self._whole(tokens[1], "a language version"), span=span)

    def _targets(self, node: Node) -> tuple[ast.Target, ...]:
        (targets,) = (t for t in _trees(node) if t.data == "targets")
        return tuple(self._target(t) for t in _trees(targets))

    def _target(self, node: Node) -> ast.Target:
        primary, *relations = _trees(node)
        return ast.Target(
            primary=self._primary(primary), relations=tuple(self._relation(r) for r in relations), span=self._span(node)
        )

    def _primary(self, node: Node) -> ast.Primary:
        span = self._span(node)
        match node.data:
            case "selector":
                return self._selector(node)
            case "everything":
                return ast.Everything(span=span)
            case "group":
                return ast.Group(targets=self._targets(node), span=span)
            case "regex_in":
                pattern, flags = self._regex(_tokens(node)[0])
                return ast.RegexIn(pattern=pattern, flags=flags, inside=self._primary(_trees(node)[0]), span=span)
            case "sampled_in":
                return ast.SampledIn(inside=self._primary(_trees(node)[0]), span=span)
            case _:
                field, inside = _trees(node)
                return ast.SpansIn(field=self._field(field), inside=self._primary(inside), span=span)

    def _selector(self, node: Node) -> ast.Selector:
        which = next((self._which(t) for t in _trees(node)), None)
        # A selector is names and dots; which turns (`last 2`) is a tree of its own.
        first, *rest = (t for t in _tokens(node) if t.type != "DOT")
        quoted = first.type == "STRING"
        name = self._string(first) if quoted else str(first)
        return ast.Selector(names=(name, *map(str, rest)), quoted=quoted, which=which, span=self._span(node))

    def _which(self, node: Node) -> ast.Which:
        trained, end, count = False, None, 1
        for token in _tokens(node):
            if token.type == "TRAINED":
                trained = True
            elif token.type == "NUMBER":
                count = self._whole(token, "a number of turns", least=1)
            else:
                end = str(token)
        return ast.Which(trained=trained, end=end, count=count, span=self._span(node))  # type: ignore[arg-type]

    def _relation(self, node: Node) -> ast.Relation:
        # `right after` is two tokens, whatever blanks or line breaks are between them.
        kind = " ".join(_tokens(node))
        return ast.Relation(kind=kind, selector=self._selector(_trees(node)[0]), span=self._span(node))  # type: ignore[arg-type]

    def _clauses(
        self, node: Node, verb: str
    ) -> tuple[tuple[ast.Condition, ...], int | float | ast.Field | None]:  # fmt: skip
        conditions: list[ast.Condition] = []
        weight: int | float | ast.Field | None = None
        for clause in _trees(node):
            if clause.data == "condition":
                negated = _tokens(clause)[0].type == "UNLESS"
                expr = self._expr(_trees(clause)[0])
                conditions.append(ast.Condition(negated=negated, expr=expr, span=self._span(clause)))
            # The grammar allows a weight on every statement, so that the message can say what to do instead.
            elif clause.data == "weight" and verb != "train":
                help = "remove it; `train … weight N` sets a weight"
                if verb == "scale":
                    help = "write the factor after `by` only"
                self._error("PE112", f"`{verb}` takes no weight", self._span(clause), help)
            elif clause.data == "weight" and weight is not None:
                help = "keep one; `scale … by` multiplies what the rules above decided"
                self._error("PE113", "this rule has a weight already", self._span(clause), help)
            elif clause.data == "weight":
                weight = self._amount(clause.children[1])
        return tuple(conditions), weight

    def _amount(self, node: Node | Token) -> int | float | ast.Field:
        if not isinstance(node, Token):
            return self._field(node)
        value = self._number(node)
        if problem := weight_problem(value):
            self._error("PE227", problem, self._span(node), WEIGHT_HELP)
            # Any sound number: the error stops the policy, and building on finds further errors.
            return 1
        return value

    def _expr(self, node: Node) -> ast.Expr:
        span = self._span(node)
        trees = _trees(node)
        match node.data:
            case "disjunction":
                return ast.Or(operands=tuple(self._expr(t) for t in trees), span=span)
            case "conjunction":
                return ast.And(operands=tuple(self._expr(t) for t in trees), span=span)
            case "not_":
                return ast.Not(operand=self._expr(trees[0]), span=span)
            case "parens":
                # Brackets leave no node: `format` writes those that precedence needs.
                return self._expr(trees[0])
            case "has":
                return ast.Has(field=self._field(trees[0]), span=span)
            case "truth":
                return ast.Truth(field=self._field(trees[0]), span=span)
            case _:
                return self._compare(node)

    def _compare(self, node: Node) -> ast.Compare:
        field, operator, right = node.children
        assert isinstance(field, Tree)
        value: ast.Scalar | tuple[ast.Scalar, ...]
        flags = ""
        if isinstance(right, Tree) and right.data == "list":
            value = tuple(self._scalar(t) for t in _trees(right))
        elif isinstance(right, Tree):
            value = self._scalar(right)
        elif right.type == "REGEX":
            value, flags = self._regex(right)
        # `matches "a\\/b"` and `matches /a\/b/` are one condition, so their trees are equal too.
        elif isinstance(operator, Token) and operator.type == "MATCHES":
            value = unescape_pattern(self._string(right))
        else:
            value = self._string(right)
        return ast.Compare(
            op=str(operator), field=self._field(field), value=value, flags=flags, span=self._span(node)  # type: ignore[arg-type]
        )  # fmt: skip

    def _scalar(self, node: Node) -> ast.Scalar:
        (token,) = _tokens(node)
        match token.type:
            case "STRING":
                return self._string(token)
            case "NUMBER":
                return self._number(token)
            case "TRUE" | "FALSE":
                return token.type == "TRUE"
            case _:
                return None

    def _field(self, node: Node) -> ast.Field:
        scope, *rest = _tokens(node)
        path: list[str | int] = []
        for token in rest:
            if token.type == "NAME":
                path.append(str(token))
            elif token.type == "STRING":
                path.append(self._string(token))
            elif token.type == "NUMBER":
                path.append(self._whole(token, "an index", least=0))
        return ast.Field(scope=str(scope), path=tuple(path), span=self._span(node))

    def _string(self, token: Token) -> str:
        value: str = json.loads(token, strict=False)  # a tab may be in a string as it is
        # JSON allows half a pair, and no UTF-8 file, no tokenizer and no RE2 takes it.
        if re.search("[\ud800-\udfff]", value):
            help = "write the character itself, or both halves of its surrogate pair"
            self._error("PE104", "this string has half of a surrogate pair", self._span(token), help)
        return value

    def _regex(self, token: Token) -> tuple[str, str]:
        # From the right: the pattern may have slashes, the flags are letters.
        written, _, flags = token[1:].rpartition("/")
        return unescape_pattern(written), flags

    def _number(self, token: Token) -> int | float:
        # An integer stays one: `turn.index == 2` has no float in it, and 2**60 keeps its last digit.
        if re.fullmatch("-?[0-9]+", token) and len(token) <= _DIGITS:
            return int(token)
        value = float(token)
        if not math.isfinite(value):
            self._error("PE106", "this number is too large", self._span(token), "write a number below 1e308")
            return 1
        return value

    def _whole(self, token: Token, what: str, least: int = 1) -> int:
        value = self._number(token)
        # A billion turns or items is past every conversation, so such a number is a slip.
        if isinstance(value, int) and least <= value <= 1_000_000_000:
            return value
        help = f"write `{least}`, `{least + 1}`, …"
        self._error("PE106", f"{what} is a whole number from {least} on", self._span(token), help)
        return least

    def _span(self, node: Node | Token) -> Span:
        if isinstance(node, Token):
            start, end = node.start_pos or 0, node.end_pos or 0
        else:
            start, end = node.meta.start_pos, node.meta.end_pos
        return Span(source=self.source, start=self.offset + start, end=self.offset + end)

    def _error(self, code: str, message: str, span: Span, help: str) -> None:
        self.errors.append(error_at(code, message, span, help))


def _trees(node: Node) -> list[Node]:
    return [c for c in node.children if isinstance(c, Tree)]


def _tokens(node: Node) -> list[Token]:
    return [c for c in node.children if isinstance(c, Token)]


def _is_amount(child: Node | Token) -> bool:
    return child.type == "NUMBER" if isinstance(child, Token) else child.data == "field"
