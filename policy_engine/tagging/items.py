"""A template's source in items, each with its place: outputs, tags and comments.

`{%- if x %}⏎  {{- 'Hi ' + name }}` is a tag, text that renders as nothing, and an output of two operands. Jinja's
own lexer finds them; between two items there is always a gap, which is text or empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import jinja2

from policy_engine.core.errors import TemplateError

Kind = Literal["output", "tag", "comment"]

_OPENS = {"variable_begin": "output", "block_begin": "tag", "comment_begin": "comment"}
_CLOSES = frozenset({"variable_end", "block_end", "comment_end"})
_PAIRS = {"(": ")", "[": "]", "{": "}"}
_NOT_A_SUM = frozenset({"if", "else", "or", "and", "not", "in", "is"})
_OTHER_OPERATORS = frozenset({"-", "*", "/", "//", "%", "**", "==", "!=", "<", ">", "<=", ">=", ","})


@dataclass(frozen=True, kw_only=True)
class Token:
    """A token inside an item: its kind as Jinja's lexer names it, its text and place."""

    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        """The place behind it."""
        return self.start + len(self.text)


@dataclass(frozen=True, kw_only=True)
class Item:
    """Source `[start, end)` of one item, with the whitespace that its end takes.

    `sign` is the `-` or `+` behind its opening bracket, or empty; `tokens` are those inside, without blanks.
    """

    kind: Kind
    start: int
    end: int
    sign: str
    tokens: tuple[Token, ...]
    opening: str
    """The opening bracket with its sign: `{{-`."""
    closing: str
    """The closing bracket, with its sign and the whitespace it takes: `-}}⏎`."""

    @property
    def keyword(self) -> str:
        """The first word of a tag: `if`, `endfor`; empty for other items.

        >>> read_items("{%- endif %}", jinja2.Environment()).items[0].keyword
        'endif'
        """
        return self.tokens[0].text if self.kind == "tag" and self.tokens else ""


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Text between two items: `text` is what is rendered of source `[start, end)`.

    What is lost at its end, to the next item's `-` or to `lstrip_blocks`, is whitespace.
    """

    start: int
    end: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Operand:
    """One operand of an output's sum.

    `literal` is the value of a string constant, None for anything else. `joint` is the operator that joins the
    operands, `+` or `~`; empty for an output of one.
    """

    source: str
    literal: str | None
    joint: str


@dataclass(frozen=True, kw_only=True)
class Items:
    """The whole source: `gaps[i]` is before `items[i]`, and there is one gap more at the end."""

    source: str
    items: tuple[Item, ...]
    gaps: tuple[Gap, ...]

    def line(self, place: int) -> int:
        """The line of a place, from 1.

        >>> read_items("a\\nb{{ c }}", jinja2.Environment()).line(3)
        2
        """
        return self.source.count("\n", 0, place) + 1


def normal(source: str) -> str:
    """A source as Jinja reads it: lines end in `\\n`, and the last line's end is dropped.

    >>> normal("a\\r\\nb")
    'a\\nb'
    """
    text = source.replace("\r\n", "\n").replace("\r", "\n")
    return text[:-1] if text.endswith("\n") else text


def read_items(source: str, environment: jinja2.Environment) -> Items:
    """The items of a normal source.

    Raises TemplateError for `{% raw %}`, inside which no tag can be written.

    >>> found = read_items("{% if x %}Hi {{ name }}{% endif %}", jinja2.Environment())
    >>> [item.kind for item in found.items], [gap.text for gap in found.gaps]
    (['tag', 'output', 'tag'], ['', 'Hi ', '', ''])
    """
    items: list[Item] = []
    gaps: list[Gap] = []
    at = 0
    text = ""
    opened: tuple[str, str, int] | None = None
    inside: list[Token] = []
    gap_start = 0
    for lineno, kind, value in environment.lexer.tokeniter(source, None):
        start = at
        while not source.startswith(value, start):
            start += 1  # whitespace that a sign took
        if source[at:start].strip():
            raise TemplateError(f"line {lineno} of the template cannot be placed")
        at = start + len(value)
        # Line statements are off in transformers' environment; they are refused and not guessed at.
        if kind.startswith(("raw", "linestatement", "linecomment")):
            raise TemplateError("the template uses `{% raw %}`, inside which no tag can be written")
        if kind == "data":
            text += value
        elif kind in _OPENS:
            opened, inside = (kind, value, start), []
            gaps.append(Gap(start=gap_start, end=start, text=text))
            text = ""
        elif kind in _CLOSES:
            assert opened is not None
            items.append(
                Item(
                    kind=_OPENS[opened[0]],  # type: ignore[arg-type]
                    start=opened[2],
                    end=at,
                    sign=opened[1][2:] if opened[1][-1] in "+-" else "",
                    tokens=tuple(inside),
                    opening=opened[1],
                    closing=value,
                )
            )
            opened, gap_start = None, at
        elif kind != "whitespace":
            inside.append(Token(kind=kind, text=value, start=start))
    gaps.append(Gap(start=gap_start, end=len(source), text=text))
    return Items(source=source, items=tuple(items), gaps=tuple(gaps))


def without_tags(items: Items) -> str:
    """A source whose own generation tags are comments, which take the same whitespace.

    >>> without_tags(read_items("{% generation %}Hi{% endgeneration %}", jinja2.Environment()))
    '{# #}Hi{# #}'
    """
    source = items.source
    for item in reversed(items.items):
        if item.keyword in ("generation", "endgeneration"):
            closing = item.closing.replace("%}", "#}")
            source = source[: item.start] + item.opening.replace("%", "#") + f" {closing}" + source[item.end :]
    return source


def operands_of(source: str, tokens: tuple[Token, ...]) -> tuple[Operand, ...]:
    """The operands of an output that adds texts, in order; one operand for anything else.

    `'<' + m.role + '>'` has three. A sum counts only if a string constant is in it, or if `~` joins it: else it can
    be one of numbers.

    >>> found = read_items("{{ '<' + m.role + '>' }}", jinja2.Environment())
    >>> [operand.source for operand in operands_of(found.source, found.items[0].tokens)]
    ["'<'", 'm.role', "'>'"]
    """
    whole = (_operand(source, tokens, ""),)
    pieces = split_sum(tokens)
    if pieces is None or len(pieces) < 2:
        return whole
    joint = pieces[1][0]
    # `~` binds tighter than `+`: mixed sums are left whole.
    if any(other != joint for other, _ in pieces[1:]):
        return whole
    found: list[Operand] = []
    for _, piece in pieces:
        inner = _without_brackets(piece)
        nested = () if inner is None else operands_of(source, inner)
        found += nested if len(nested) > 1 and nested[0].joint == joint else [_operand(source, piece, joint)]
    if joint == "+" and not any(operand.literal is not None for operand in found):
        return whole
    return tuple(found)


def _operand(source: str, tokens: tuple[Token, ...], joint: str) -> Operand:
    text = source[tokens[0].start : tokens[-1].end] if tokens else ""
    literal = string_value(text) if len(tokens) == 1 and tokens[0].kind == "string" else None
    return Operand(source=text, literal=literal, joint=joint)


def string_value(literal: str) -> str:
    """The value of a string constant as Jinja reads it.

    >>> string_value("'a'")
    'a'
    """
    # As Jinja's lexer does.
    return str(literal[1:-1]).encode("ascii", "backslashreplace").decode("unicode-escape")


def depths(tokens: Sequence[Token]) -> list[int]:
    """The number of brackets that are open behind each token."""
    brackets = (token.text if token.kind == "operator" else "" for token in tokens)
    return list(accumulate((text in _PAIRS) - (text in _PAIRS.values()) for text in brackets))


def split_sum(tokens: tuple[Token, ...]) -> list[tuple[str, tuple[Token, ...]]] | None:
    """Tokens cut at the outer `+` and `~`, with the joint before each; None if they are no sum."""
    found: list[tuple[str, tuple[Token, ...]]] = []
    start, joint = 0, ""
    for index, (token, depth) in enumerate(zip(tokens, depths(tokens))):
        if depth:
            continue
        if token.kind == "name" and token.text in _NOT_A_SUM:
            return None
        if token.kind == "operator" and token.text in _OTHER_OPERATORS:
            return None
        if token.kind == "operator" and token.text in ("+", "~"):
            if start == index:
                return None
            found.append((joint, tokens[start:index]))
            joint, start = token.text, index + 1
    if start >= len(tokens):
        return None
    return [*found, (joint, tokens[start:])]


def _without_brackets(tokens: tuple[Token, ...]) -> tuple[Token, ...] | None:
    """Tokens without the brackets around them; None without brackets."""
    if len(tokens) < 3 or tokens[0].text != "(" or tokens[-1].text != ")":
        return None
    if not all(depths(tokens)[:-1]):
        return None
    return tokens[1:-1]


def cut_literal(literal: str, at: int) -> tuple[str, str]:
    """A string constant in two: the first `at` characters of its value, and the rest.

    >>> cut_literal("'<end>\\\\n'", 5)
    ("'<end>'", "'\\\\n'")
    """
    quote, body = literal[0], literal[1:-1]
    for place in range(len(body) + 1):
        first, second = quote + body[:place] + quote, quote + body[place:] + quote
        try:
            values = string_value(first), string_value(second)
        # The cut would go through an escape such as `\n`.
        except UnicodeDecodeError:
            continue
        if len(values[0]) == at and "".join(values) == string_value(literal):
            return first, second
    raise ValueError(f"{literal} cannot be cut at {at}")


def joined(operands: Iterable[Operand]) -> str:
    """The expression that writes operands one after another, and refuses what their sum refuses.

    A sum with a text raises for what is no text, so an operand that stands alone is added to an empty text.

    >>> joined([Operand(source="m.content", literal=None, joint="+")])
    "'' + m.content"
    """
    pieces = list(operands)
    joint = pieces[0].joint
    text = f" {joint} ".join(piece.source for piece in pieces)
    return f"'' + {text}" if joint == "+" and all(piece.literal is None for piece in pieces) else text
