"""The syntax tree of a policy, as written: one class for each construct of the grammar.

Nodes compare by meaning: spans and comments are left out of equality, so `parse(format(p)) == p` holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from policy_engine.core.source import Source, Span
from policy_engine.core.vocabulary import RelationKind
from policy_engine.core.wording import field_path


@dataclass(frozen=True, kw_only=True)
class Spanned:
    """A node, and the text that it was read from."""

    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Field(Spanned):
    """A scope and a path below it: `message.train`, `sample.meta.source`, `message.labels[0]`.

    >>> from policy_engine.lang.parse import parse
    >>> parse("train user where has message.labels[0]").statements[0].conditions[0].expr.field
    Field(scope='message', path=('labels', 0))
    """

    scope: str
    path: tuple[str | int, ...]

    def __str__(self) -> str:
        return field_path((self.scope, *self.path))


# Tuples and operands are tuples, never lists: a node is a key of caches, so it has to hash.
Scalar = str | int | float | bool | None
"""A JSON scalar in a condition."""


@dataclass(frozen=True, kw_only=True)
class Compare(Spanned):
    """`FIELD OP VALUE`.

    `value` is a scalar, or for `in` a tuple of scalars or a string to search.

    >>> from policy_engine.lang.parse import parse
    >>> parse("train user where message.n == 2").statements[0].conditions[0].expr
    Compare(op='==', field=Field(scope='message', path=('n',)), value=2, flags='')
    """

    op: Literal["==", "!=", "<", "<=", ">", ">=", "in", "contains", "matches"]
    field: Field
    value: Scalar | tuple[Scalar, ...]
    flags: str = ""
    """RE2 flags of a `matches` pattern written `/…/i`."""


@dataclass(frozen=True, kw_only=True)
class Has(Spanned):
    """`has FIELD`: true if the field is there, whatever its value.

    >>> from policy_engine.lang.parse import parse
    >>> parse("train user where has message.n").statements[0].conditions[0].expr
    Has(field=Field(scope='message', path=('n',)))
    """

    field: Field


@dataclass(frozen=True, kw_only=True)
class Truth(Spanned):
    """A bare FIELD: true only if it is JSON `true`.

    >>> from policy_engine.lang.parse import parse
    >>> parse("train user where message.train").statements[0].conditions[0].expr
    Truth(field=Field(scope='message', path=('train',)))
    """

    field: Field


@dataclass(frozen=True, kw_only=True)
class Not(Spanned):
    """`not EXPR`."""

    operand: Expr


@dataclass(frozen=True, kw_only=True)
class And(Spanned):
    """`EXPR and EXPR …`, two or more operands."""

    operands: tuple[Expr, ...]


@dataclass(frozen=True, kw_only=True)
class Or(Spanned):
    """`EXPR or EXPR …`, two or more operands."""

    operands: tuple[Expr, ...]


Expr = Compare | Has | Truth | Not | And | Or


def leaves(expr: Expr) -> Iterator[Compare | Has | Truth]:
    """The tests of an expression, in the order written.

    >>> from policy_engine.lang.check import check_text
    >>> condition = check_text("train assistant where message.a and not message.b > 1").rules[0].condition
    >>> [leaf.span.text for leaf in leaves(condition)]
    ['message.a', 'message.b > 1']
    """
    if isinstance(expr, Not):
        yield from leaves(expr.operand)
    elif isinstance(expr, (And, Or)):
        for operand in expr.operands:
            yield from leaves(operand)
    else:
        yield expr


@dataclass(frozen=True, kw_only=True)
class Which(Spanned):
    """A choice of turns: `trained`, `first`, `last 2`, `trained last`.

    At least one of `trained` and `end` is set.

    >>> from policy_engine.lang.parse import parse
    >>> parse("train trained last 2 assistant").statements[0].targets[0].primary.which
    Which(trained=True, end='last', count=2)
    """

    trained: bool = False
    end: Literal["first", "last"] | None = None
    count: int = 1
    """Number of turns from that end; 1 when no number is written. It means nothing without `end`."""


@dataclass(frozen=True, kw_only=True)
class Selector(Spanned):
    """Dotted names, as written: `assistant`, `assistant.reasoning`, `eos`, `"tool_call".text`.

    >>> from policy_engine.lang.parse import parse
    >>> parse("train assistant.reasoning").statements[0].targets[0].primary
    Selector(names=('assistant', 'reasoning'), quoted=False, which=None)
    """

    names: tuple[str, ...]
    quoted: bool = False
    """True if the first name is in quotes, which makes it a role whatever its name is."""
    which: Which | None = None


@dataclass(frozen=True, kw_only=True)
class Everything(Spanned):
    """`everything`: all text, preambles and scaffold too."""


@dataclass(frozen=True, kw_only=True)
class Group(Spanned):
    """`( target, target )`."""

    targets: tuple[Target, ...]


@dataclass(frozen=True, kw_only=True)
class RegexIn(Spanned):
    """`/pattern/flags in PRIMARY`.

    >>> from policy_engine.lang.parse import parse
    >>> parse("mask /[0-9]+/ in everything").statements[0].targets[0].primary
    RegexIn(pattern='[0-9]+', flags='', inside=Everything())
    """

    pattern: str
    flags: str
    inside: Primary


@dataclass(frozen=True, kw_only=True)
class SpansIn(Spanned):
    """`spans FIELD in PRIMARY`."""

    field: Field
    inside: Primary


@dataclass(frozen=True, kw_only=True)
class SampledIn(Spanned):
    """`sampled in PRIMARY`.

    >>> from policy_engine.lang.parse import parse
    >>> parse("train sampled in everything").statements[0].targets[0].primary
    SampledIn(inside=Everything())
    """

    inside: Primary


Primary = Selector | Everything | Group | RegexIn | SpansIn | SampledIn


@dataclass(frozen=True, kw_only=True)
class Relation(Spanned):
    """`of ROLE`, `after last user`, `right after tool`, `before first assistant`.

    >>> from policy_engine.lang.parse import parse
    >>> parse("train eos after assistant").statements[0].targets[0].relations[0].kind
    'after'
    """

    kind: RelationKind | Literal["of"]
    selector: Selector


@dataclass(frozen=True, kw_only=True)
class Target(Spanned):
    """A primary and the relations that narrow it."""

    primary: Primary
    relations: tuple[Relation, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Condition(Spanned):
    """`where EXPR` or `unless EXPR`."""

    negated: bool
    expr: Expr


@dataclass(frozen=True, kw_only=True)
class Rule(Spanned):
    """`train …` or `mask …`. `weight` is None when no weight is written.

    >>> from policy_engine.lang.parse import parse
    >>> rule = parse("train assistant weight 0.5").statements[0]
    >>> rule.effect, rule.weight, len(rule.targets)
    ('train', 0.5, 1)
    """

    effect: Literal["train", "mask"]
    targets: tuple[Target, ...]
    conditions: tuple[Condition, ...] = ()
    weight: int | float | Field | None = None


@dataclass(frozen=True, kw_only=True)
class Scale(Spanned):
    """`scale TARGETS by FACTOR`."""

    targets: tuple[Target, ...]
    factor: int | float | Field
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Guard(Spanned):
    """`never train …` or `always train …`."""

    kind: Literal["never", "always"]
    targets: tuple[Target, ...]
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Use(Spanned):
    """`use NAME` (the shipped library) or `use "path.policy"` (beside this file).

    >>> from policy_engine.lang.parse import parse
    >>> parse("use default").statements[0]
    Use(name='default', quoted=False)
    """

    name: str
    quoted: bool


@dataclass(frozen=True, kw_only=True)
class Let(Spanned):
    """`let NAME = TARGETS`."""

    name: str
    targets: tuple[Target, ...]


@dataclass(frozen=True, kw_only=True)
class On(Spanned):
    """`on SETTING VALUE`.

    >>> from policy_engine.lang.parse import parse
    >>> parse("on straddle train").statements[0]
    On(setting='straddle', value='train')
    """

    setting: str
    value: str


@dataclass(frozen=True, kw_only=True)
class Language(Spanned):
    """`language 1`.

    >>> from policy_engine.lang.parse import parse
    >>> parse("language 1").statements[0]
    Language(version=1)
    """

    version: int


Statement = Rule | Scale | Guard | Use | Let | On | Language


@dataclass(frozen=True, kw_only=True)
class Comment(Spanned):
    """A `#` comment. `text` has no `#` and no newline; `span` covers it with its `#`.

    >>> from policy_engine.lang.parse import parse
    >>> parse("train assistant  # answers").comments
    (Comment(text=' answers', own_line=False),)
    """

    text: str
    own_line: bool
    """True if only blanks are before it on its line."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A parsed policy text."""

    statements: tuple[Statement, ...]
    comments: tuple[Comment, ...] = field(default=(), compare=False)
    source: Source = field(compare=False, repr=False)
