"""Policy text to syntax tree, with every error of the text at once."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Final

from lark import Token, Tree
from lark.exceptions import UnexpectedInput

from policy_engine.core.diagnostics import Diagnostic, error_at
from policy_engine.core.errors import PolicySyntaxError
from policy_engine.core.source import Source, Span
from policy_engine.lang import ast
from policy_engine.lang.build import MAX_NESTING, Builder, too_deep
from policy_engine.lang.split import HIDDEN, Parts, split
from policy_engine.lang.syntax_errors import syntax_error
from policy_engine.lang.tables import parser

MAX_CHARACTERS: Final = 250_000
"""Longer texts are refused: no policy is that long, a dataset given by mistake is."""
_TREES_KEPT: Final = 8_192
"""Statements whose trees an editor's documents share, from version to version."""
MAX_ERRORS: Final = 100
"""Errors reported of one text; the last one then says that there are more."""


def parse(text: str, *, name: str = "<string>") -> ast.Policy:
    """The syntax tree of a policy text.

    `name` is the text's name in diagnostics: a path, or `<string>`. Raises `PolicySyntaxError`, and nothing else, with
    a diagnostic for every statement that does not parse.

    >>> len(parse("train assistant; mask user").statements)
    2
    """
    policy, errors = parse_lenient(text, name=name)
    if errors:
        raise PolicySyntaxError(tuple(errors))
    return policy


def parse_lenient(text: str, *, name: str = "<string>") -> tuple[ast.Policy, list[Diagnostic]]:
    """The statements of a text that parse, and diagnostics for those that do not. Never raises.

    >>> parse_lenient("train assistant")[1]
    []
    """
    source = Source(name=name, text=text)
    if len(text) > MAX_CHARACTERS:
        return _too_long(source)
    parts = split(source)
    errors = _hidden(source)
    builder = Builder(source)
    statements: list[ast.Statement] = []
    try:
        # The whole text first: usually it parses. Statements are taken one by one only to find every error.
        tree = parser().parse(text, start="policy")
    except UnexpectedInput as error:
        # Errors of invisible characters come first; a statement that has one is not reported a second time.
        errors += _one_by_one(source, parts, statements, {e.span.start for e in errors if e.span})
        if not errors:  # the scanner took the text apart in another way than the parser
            errors = [syntax_error(error, source, 0, len(text))]
    else:
        _build(builder, [c for c in tree.children if isinstance(c, Tree)], statements)
        errors += builder.errors
    return ast.Policy(statements=tuple(statements), comments=parts.comments, source=source), _first(errors)


def parse_each(source: Source, parts: Parts) -> tuple[ast.Policy, list[Diagnostic]]:
    """The result of `parse_lenient`, read statement by statement.

    `parts` is the `split` of the text. Trees of statements are kept, so that a long text that is typed costs little
    more than what was typed.

    >>> source = Source(name="a.policy", text="train assistant; mask user")
    >>> len(parse_each(source, split(source))[0].statements)
    2
    """
    if len(source.text) > MAX_CHARACTERS:
        return _too_long(source)
    errors = _hidden(source)
    statements: list[ast.Statement] = []
    errors += _one_by_one(source, parts, statements, {e.span.start for e in errors if e.span})
    return ast.Policy(statements=tuple(statements), comments=parts.comments, source=source), _first(errors)


def _too_long(source: Source) -> tuple[ast.Policy, list[Diagnostic]]:
    span = Span(source=source, start=MAX_CHARACTERS, end=MAX_CHARACTERS)
    help = "is this a policy file? split a long one, and splice the parts with `use`"
    message = f"this text has {len(source.text):,} characters, more than the {MAX_CHARACTERS:,} of a policy"
    return ast.Policy(statements=(), source=source), [error_at("PE109", message, span, help)]


def _first(errors: list[Diagnostic]) -> list[Diagnostic]:
    """The first `MAX_ERRORS` errors of a text; the last then says how many more there are."""
    # From top to bottom, as a reader fixes them, whichever pass found them.
    errors = sorted(errors, key=lambda e: e.span.start if e.span else 0)
    if len(errors) > MAX_ERRORS:
        help = "fix these first; the rest may follow from them"
        message = f"there are {len(errors) - MAX_ERRORS + 1} more errors in this text, from here on"
        errors[MAX_ERRORS - 1 :] = [error_at("PE109", message, errors[MAX_ERRORS - 1].span, help)]
    return errors


def parse_statement(source: Source, start: int, end: int) -> ast.Statement | None:
    """The statement that is the characters `[start, end)` of a text; None if they do not parse.

    Trees of statements are kept by their text, so that the same statement at another place is not parsed again.

    >>> source = Source(name="a.policy", text="train assistant; mask user")
    >>> parse_statement(source, 17, 26).effect, parse_statement(source, 0, 5)
    ('mask', None)
    """
    try:
        tree = _tree(source.text[start:end])
    except UnexpectedInput:
        return None
    found: list[ast.Statement] = []
    # Only the tree is kept: the nodes have places in the text, which differ from use to use.
    _build(Builder(source, offset=start), [tree], found)
    return found[0] if found else None


@functools.lru_cache(maxsize=_TREES_KEPT)
def _tree(text: str) -> Tree[Token]:
    return parser().parse(text, start="statement")


def _one_by_one(source: Source, parts: Parts, into: list[ast.Statement], skip: set[int]) -> list[Diagnostic]:
    """Parse each statement by itself; `skip` are offsets of characters that have an error."""
    errors: list[Diagnostic] = []
    for start, end in parts.statements:
        if any(start <= at < end for at in skip):
            continue
        builder = Builder(source, offset=start)
        try:
            tree = _tree(source.text[start:end])
        except UnexpectedInput as error:
            errors.append(syntax_error(error, source, start, end))
        else:
            _build(builder, [tree], into)
            errors += builder.errors
    return errors


def _build(builder: Builder, trees: Sequence[Tree[Token]], into: list[ast.Statement]) -> None:
    for tree in trees:
        # Before anything that recurses; Lark's own parser does not, so it takes any depth.
        deep = too_deep(tree)
        if deep is None:
            into.append(builder.statement(tree))
        else:
            start = builder.offset + deep.meta.start_pos
            # One character: the whole of such a thing would be quoted over the screen.
            span = Span(source=builder.source, start=start, end=start + 1)
            help = "name inner targets with `let`, or split the rule"
            builder.errors.append(error_at("PE108", f"this is nested more than {MAX_NESTING} deep", span, help))


def _hidden(source: Source) -> list[Diagnostic]:
    found = []
    for match in HIDDEN.finditer(source.text):
        span = Span(source=source, start=match.start(), end=match.end())
        message = f"the character U+{ord(match[0]):04X} is not allowed in a policy: editors do not show it as it is"
        help = "remove it; in a string write it as an escape such as `\\u200e`"
        if match[0] == "\r":
            help = "write line ends as `\\n` or `\\r\\n`"
        found.append(error_at("PE107", message, span, help))
    return found
