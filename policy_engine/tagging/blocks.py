"""The blocks of a template: which outputs and tags are inside which `if` and `for`.

`{% for m in messages %}{% if m.role %}{{ m.content }}{% endif %}{% endfor %}` is a loop with a branch with an output.
A tag can only be written between two pieces of one body, so bodies are what is planned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from policy_engine.core.errors import TemplateError
from policy_engine.tagging.items import Item, Items, Token, depths

_BLOCKS = frozenset({"if", "for", "macro", "call", "filter", "set", "block", "with", "generation", "autoescape"})
"""Tags that another tag ends: `if` and `endif`."""
NodeKind = Literal["gap", "output", "if", "for", "with", "buffered", "statement"]


@dataclass(kw_only=True, eq=False)
class BlockNode:
    """A piece of a body.

    `first` and `last` are the items it begins and ends with (a gap: the item behind it, twice). A `buffered` node is
    a macro, a `set` block or another block whose text is collected before it is written.
    """

    kind: NodeKind
    first: int
    last: int
    bodies: list[list[BlockNode]] = field(default_factory=list)
    stored: frozenset[str] = frozenset()
    """Names that it assigns for what follows it."""


def read_tree(items: Items) -> list[BlockNode]:
    """The nodes of the outermost body; a gap before each item and one at the end.

    Raises TemplateError if the blocks do not nest, which Jinja refuses too.

    >>> import jinja2
    >>> from policy_engine.tagging.items import read_items
    >>> [node.kind for node in read_tree(read_items("a{% if x %}b{% endif %}", jinja2.Environment()))]
    ['gap', 'if', 'gap']
    """
    nodes, stop = _body(items, 0, ())
    if stop != len(items.items):
        raise TemplateError("the template's blocks do not nest")
    return nodes


def _body(items: Items, at: int, ends: tuple[str, ...]) -> tuple[list[BlockNode], int]:
    nodes = [BlockNode(kind="gap", first=at, last=at)]
    while at < len(items.items):
        item = items.items[at]
        if item.kind == "tag" and item.keyword in ends:
            return nodes, at
        if item.kind == "output":
            node = BlockNode(kind="output", first=at, last=at)
        elif item.kind == "tag" and item.keyword in _BLOCKS and not _is_inline_set(item):
            node = _block(items, at)
        else:
            node = BlockNode(kind="statement", first=at, last=at, stored=_stored(item))
        at = node.last + 1
        # A gap between any two, even an empty one: each is a place for a tag.
        nodes += [node, BlockNode(kind="gap", first=at, last=at)]
    return nodes, at


def _block(items: Items, at: int) -> BlockNode:
    keyword = items.items[at].keyword
    end = f"end{keyword}"
    between = {"if": ("elif", "else"), "for": ("else",)}.get(keyword, ())
    bodies: list[list[BlockNode]] = []
    first = at
    while True:
        body, at = _body(items, at + 1, (*between, end))
        if at == len(items.items):
            raise TemplateError("the template's blocks do not nest")
        bodies.append(body)
        if items.items[at].keyword == end:
            break
    # Jinja compiles a recursive loop as a function, whose text is collected before it is written.
    is_recursive = keyword == "for" and any(token.text == "recursive" for token in items.items[first].tokens)
    # Text of these is collected before it is written: a tag inside would count characters of another text.
    if keyword not in ("if", "for", "with") or is_recursive:
        return BlockNode(kind="buffered", first=first, last=at, stored=_stored(items.items[first]))
    # A loop has a scope of its own, so its names end with it; those of a branch stay.
    stored = frozenset().union(*(n.stored for body in bodies for n in body)) if keyword == "if" else frozenset()
    kind: NodeKind = "if" if keyword == "if" else "for" if keyword == "for" else "with"
    return BlockNode(kind=kind, first=first, last=at, bodies=bodies, stored=stored)


def _is_inline_set(item: Item) -> bool:
    outer = (token for token, depth in zip(item.tokens, depths(item.tokens)) if not depth)
    return item.keyword == "set" and any(token.kind == "operator" and token.text == "=" for token in outer)


def _stored(item: Item) -> frozenset[str]:
    """Names that a tag assigns in its scope; attributes of a namespace do not count."""
    tokens = item.tokens
    if item.keyword == "macro":
        return frozenset({tokens[1].text})
    if item.keyword in ("import", "from"):
        return frozenset(token.text for token in tokens[1:] if token.kind == "name")
    if item.keyword != "set":
        return frozenset()
    names: set[str] = set()
    for token, following in zip(tokens[1:], (*tokens[2:], None)):
        if token.text in ("=", "|"):
            break
        if token.kind == "name" and (following is None or following.text != "."):
            names.add(token.text)
        if following is not None and following.text == ".":
            break
    return frozenset(names)


def loaded_names(items: Items, first: int, last: int) -> frozenset[str]:
    """Every name that items `[first, last]` read.

    >>> import jinja2
    >>> from policy_engine.tagging.items import read_items
    >>> sorted(loaded_names(read_items("{% set a = b.c %}", jinja2.Environment()), 0, 0))
    ['b']
    """
    found: set[str] = set()
    for item in items.items[first : last + 1]:
        skip = 0
        if item.keyword == "set":
            skip = next((i for i, token in enumerate(item.tokens) if token.text in ("=", "|")), len(item.tokens))
        found |= names_in(item.tokens[skip:])
    return frozenset(found)


def names_in(tokens: Sequence[Token]) -> set[str]:
    """The names in tokens, without those of attributes."""
    before = ("", *(token.text for token in tokens))
    return {token.text for token, last in zip(tokens, before) if token.kind == "name" and last != "."}


def leaves_loop(items: Items, node: BlockNode) -> bool:
    """True if a node leaves a loop around it, which no generation block can do."""
    if node.kind == "statement":
        return items.items[node.first].keyword in ("break", "continue")
    return node.kind in ("if", "with") and any(leaves_loop(items, n) for body in node.bodies for n in body)
