"""Moves sums from where a template assigns them to where it prints them.

    {% set c = '<|user|>' + m.content %}{% if loop.first %}{% set c = bos + c %}{% endif %}{{ c }}      becomes
    {# set … #}{% if loop.first %}{# set … #}{% endif %}
    {% if loop.first %}{{ '' + bos }}{{ '<|user|>' + m.content }}{% else %}{{ '<|user|>' + m.content }}{% endif %}

A tag can be put between the operands of the second form, not of the first. Text and errors stay the same under three
conditions: nothing but the name is assigned in between, the name is not read later in its loop, and what is added to it
is added to text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import jinja2

from policy_engine.tagging.blocks import BlockNode, loaded_names, names_in, read_tree
from policy_engine.tagging.items import Items, Token, operands_of, read_items, split_sum

_CHANGES = frozenset({"append", "extend", "insert", "pop", "remove", "clear", "update", "setdefault", "popitem"})
"""Methods that change what they are called on."""
_MOST = 24
"""Most outputs that one output becomes."""


@dataclass(frozen=True, kw_only=True)
class _Written:
    """An expression that is printed."""

    source: str
    is_text: bool
    """True if it is text or raises: a sum with a string constant."""
    is_sum: bool = False
    """True if it is a sum by `+`: in one with a text, its operands are all texts, or raise."""


@dataclass(frozen=True, kw_only=True)
class _Choice:
    """Branches, each with the tag that opens it and what it prints."""

    branches: tuple[tuple[str, _Value], ...]


_Value = tuple["_Written | _Choice", ...]
"""The value of a name, as what prints it."""


class _Other(Exception):
    """An assignment that is no sum, or that something else may see."""


def printed_in_place(source: str, environment: jinja2.Environment) -> str | None:
    """A source that prints sums where it printed names for them; None if there is no such name.

    Raises TemplateError for a source that cannot be taken apart.
    """
    found = None
    while True:
        items = read_items(source, environment)
        # One at a time: each changes what is read where.
        edits = next(_edits(items, read_tree(items), ()), None)
        if edits is None:
            return found
        for start, end, text in sorted(edits, reverse=True):
            source = source[:start] + text + source[end:]
        found = source


_Edit = tuple[int, int, str]


def _edits(
    items: Items, body: Sequence[BlockNode], later: tuple[BlockNode, ...], *, loops: int = 0
) -> Iterator[list[_Edit]]:
    """The edits for each output of a name; `later` is what follows the body in its loop."""
    for at, node in enumerate(body):
        rest = (*body[at + 1 :], *later)
        for inner in node.bodies if node.kind in ("if", "for", "with") else ():
            is_loop = node.kind == "for"
            yield from _edits(items, inner, () if is_loop else rest, loops=loops + is_loop)
        name = _printed_name(items, node)
        # Outside of loops macros read names too.
        if name is None or not loops or any(name in _loads(items, other) for other in rest):
            continue
        run = _run(items, body[:at], name)
        # A part of the run serves as well: what it reads is then what was assigned before it.
        for first in range(len(run)):
            try:
                edits = _edits_of(items, run[first:], node, name)
            except _Other:
                continue
            if edits:
                yield edits
            break


def _run(items: Items, before: Sequence[BlockNode], name: str) -> list[BlockNode]:
    """The nodes right before an output that do nothing but assign its name."""
    run: list[BlockNode] = []
    for node in reversed(before):
        if not _only_assigns(items, node, name):
            break
        run.insert(0, node)
        if _assigned(items, node, name) is not None and name not in _loads(items, node):
            break
    return run


def _edits_of(items: Items, run: Sequence[BlockNode], output: BlockNode, name: str) -> list[_Edit]:
    sets = [place for node in run for place in _sets(items, node, name)]
    if not sets:
        return []
    value = _applied(items, run, name, None)
    assert value is not None
    item = items.items[output.first]
    text = _source(value)
    if text.count("{{") > _MOST:
        raise _Other
    # Outputs at both ends keep the signs, and the line break that a tag at the end would take.
    edits = [(item.start, item.end, f"{item.opening} '' }}}}{text}{{{{ '' {item.closing}")]
    for place in sets:
        item = items.items[place]
        inside = items.source[item.tokens[0].start : item.tokens[-1].end]
        if "#}" in inside:
            raise _Other
        opening, closing = item.opening.replace("{%", "{#"), item.closing.replace("%}", "#}")
        edits.append((item.start, item.end, f"{opening} {inside} {closing}"))
    return edits


def _printed_name(items: Items, node: BlockNode) -> str | None:
    tokens = items.items[node.first].tokens if node.kind == "output" else ()
    return tokens[0].text if len(tokens) == 1 and tokens[0].kind == "name" else None


def _loads(items: Items, node: BlockNode) -> frozenset[str]:
    return frozenset() if node.kind == "gap" else loaded_names(items, node.first, node.last)


def _assigned(items: Items, node: BlockNode, name: str) -> tuple[Token, ...] | None:
    """The value that a node assigns to a name, if that is all it does."""
    if node.kind != "statement":
        return None
    tokens = items.items[node.first].tokens
    texts = [token.text for token in tokens[:3]]
    return tokens[3:] if texts == ["set", name, "="] and len(tokens) > 3 else None


def _only_assigns(items: Items, node: BlockNode, name: str) -> bool:
    if node.kind == "gap" or items.items[node.first].kind == "comment":
        return True
    if node.kind == "if":
        heads = (items.items[place] for place in _heads(items, node))
        if any(_is_impure(head.tokens) or name in names_in(head.tokens) for head in heads):
            return False
        return all(_only_assigns(items, inner, name) for body in node.bodies for inner in body)
    value = _assigned(items, node, name)
    return value is not None and not _is_impure(value)


def _sets(items: Items, node: BlockNode, name: str) -> Iterator[int]:
    if _assigned(items, node, name) is not None:
        yield node.first
    for body in node.bodies:
        for inner in body:
            yield from _sets(items, inner, name)


def _heads(items: Items, node: BlockNode) -> list[int]:
    """The tags that open the branches of an `if`."""
    # Each is right before the gap that its body begins with.
    return [body[0].first - 1 for body in node.bodies]


def _applied(items: Items, nodes: Sequence[BlockNode], name: str, value: _Value | None) -> _Value | None:
    """The value of a name after some nodes; None is the value that it had before all of them."""
    for node in nodes:
        assigned = _assigned(items, node, name)
        if assigned is not None:
            value = _set(items.source, assigned, name, value)
        elif node.kind == "if":
            branches = []
            for place, body in zip(_heads(items, node), node.bodies, strict=True):
                tokens = items.items[place].tokens
                branches.append((_one_line(items.source, tokens), _applied(items, body, name, value)))
            if branches[-1][0] != "else":
                branches.append(("else", value))
            old: _Value = (_Written(source=name, is_text=False),)
            if any(own is not None for _, own in branches):
                value = (_Choice(branches=tuple((tag, old if own is None else own) for tag, own in branches)),)
    return value


def _set(source: str, assigned: tuple[Token, ...], name: str, value: _Value | None) -> _Value | None:
    if len(assigned) == 1 and assigned[0].text == name:
        return value
    if value is None:
        return (_written(source, assigned),)
    # What was assigned before is no longer evaluated, so it would not raise.
    if name not in names_in(assigned):
        raise _Other
    pieces = split_sum(assigned)
    if pieces is None or len({joint for joint, _ in pieces[1:]}) != 1:
        raise _Other
    adds = pieces[1][0] == "+"
    names = [len(piece) == 1 and piece[0].text == name and piece[0].kind == "name" for _, piece in pieces]
    if sum(names) != 1 or any(name in names_in(piece) for (_, piece), own in zip(pieces, names) if not own):
        raise _Other
    if adds and not (_has_text(value) or any(_written(source, piece).is_text for _, piece in pieces)):
        raise _Other  # a sum of numbers, or of lists
    found: list[_Written | _Choice] = []
    for (_, piece), own in zip(pieces, names):
        parts = value if own else (_written(source, piece),)
        # A sum raises for what is no text, and an output prints it.
        found += _as_text(parts) if adds else parts
    return tuple(found)


def _written(source: str, tokens: tuple[Token, ...]) -> _Written:
    operands = operands_of(source, tokens)
    is_text = operands[0].joint == "~" or any(operand.literal is not None for operand in operands)
    pieces = split_sum(tokens) or []
    is_sum = len(pieces) > 1 and all(joint == "+" for joint, _ in pieces[1:])
    return _Written(source=_one_line(source, tokens), is_text=is_text, is_sum=is_sum)


def _has_text(value: _Value) -> bool:
    """True if some of it is text, whatever branch is taken."""
    return any(
        part.is_text if isinstance(part, _Written) else all(_has_text(own) for _, own in part.branches)
        for part in value
    )


def _as_text(value: _Value) -> _Value:
    return tuple(
        _Choice(branches=tuple((tag, _as_text(own)) for tag, own in part.branches))
        if isinstance(part, _Choice)
        else part
        if part.is_text
        else _Written(source=f"'' + {part.source}" if part.is_sum else f"'' + ({part.source})", is_text=True)
        for part in value
    )


def _source(value: _Value) -> str:
    made = []
    for part in value:
        if isinstance(part, _Written):
            made.append(f"{{{{ {part.source} }}}}")
        else:
            made += [f"{{% {tag} %}}{_source(own)}" for tag, own in part.branches] + ["{% endif %}"]
    return "".join(made)


def _one_line(source: str, tokens: Sequence[Token]) -> str:
    """The source of tokens on one line, so that lines of the template keep their numbers."""
    made, at = "", tokens[0].start
    for token in tokens:
        made += " " if source[at : token.start] else ""
        made += token.text.replace("\n", "\\n") if token.kind == "string" else token.text
        at = token.end
    return made


def _is_impure(tokens: Sequence[Token]) -> bool:
    """True if an expression may change a value, or calls what may."""
    for index, token in enumerate(tokens):
        if token.text != "(" or not index or tokens[index - 1].kind != "name":
            continue
        called, before = tokens[index - 1].text, tokens[index - 2].text if index > 1 else ""
        if called in _CHANGES or (before not in (".", "|") and called not in ("if", "else", "and", "or", "not", "in")):
            return True
    return False
