"""The text under the cursor, explained in Markdown."""

from __future__ import annotations

import re
from typing import Any

from policy_engine.core.errors import PolicyEngineError
from policy_engine.core.vocabulary import NEIGHBOURS, PART_DOCS, PARTS, SETTINGS, parts_of
from policy_engine.lang import ast
from policy_engine.lang.checked import Atom
from policy_engine.lang.findings import Findings
from policy_engine.lang.library import read_shipped
from policy_engine.lang.resolve import Resolver, Verb
from policy_engine.lsp.document import PolicyDocument
from policy_engine.lsp.words import KEYWORD_DOCS, SCOPE_DOCS, SETTING_DOCS

_WORD = re.compile(r"[A-Za-z_]\w*")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|#.*')
_REGEX = re.compile(r"/(?:[^/\\\n]|\\.)+/[a-zA-Z]*")


def hover(document: PolicyDocument, offset: int) -> str | None:
    """Meaning of the word at an offset; None if there is nothing to say.

    >>> print(hover(PolicyDocument("train assistant where turn.index > 0", None), 2))
    **train**: gives text loss; the last rule that matches a character decides it
    """
    nodes = document.around(offset)
    if not nodes:
        return None
    text = document.source.text
    line = text.rfind("\n", 0, offset) + 1
    end = text.find("\n", offset)
    words = _WORD.finditer(text, line, len(text) if end < 0 else end)
    word = next((m for m in words if m.start() <= offset < m.end()), None)
    innermost = nodes[-1]
    # Before strings: a regex is in slashes, and its words mean nothing by themselves.
    if literal := _regex_at(innermost, offset):
        return literal
    # A quoted role and the file of a `use` have a meaning, other strings do not.
    if _is_quoted(document, offset) and not isinstance(innermost, (ast.Selector, ast.Use)):
        return None
    if isinstance(innermost, ast.Field) and len(nodes) > 1 and isinstance(nodes[-2], ast.SpansIn):
        return f"{_field(document, innermost)}\n\n{_SPANS}"
    # The words of a `which` are inside its selector, and mean something of their own.
    if isinstance(innermost, ast.Which) or not isinstance(innermost, (ast.Selector, ast.Field, ast.Use, ast.On)):
        return _keyword(word[0]) if word else None
    if isinstance(innermost, ast.Field):
        return _field(document, innermost)
    if word is not None and word[0] in ("use", "on") and word.start() == innermost.span.start:
        return _keyword(word[0])
    if isinstance(innermost, ast.Use):
        return _use(innermost)
    if isinstance(innermost, ast.On):
        values = ", ".join(f"`{v}`" for v in SETTINGS.get(innermost.setting, ()))
        return f"**{innermost.setting}**: {SETTING_DOCS[innermost.setting]}. Values: {values}." if values else None
    in_relation = any(isinstance(node, ast.Relation) for node in nodes)
    return _selector(document, innermost, nodes[0], in_relation)


_SPANS = (
    "It lists characters of the message's content: `[begin, end)` pairs, or objects with inclusive `begin_offset` and "
    "`end_offset` and an optional `train`. Offsets count in the field as it is in the data."
)
_FLAGS = {"i": "case is ignored", "m": "`^` and `$` match at lines", "s": "`.` matches a newline too", "U": "ungreedy"}


def _regex_at(node: Any, offset: int) -> str | None:
    """Text that a regex is searched in, if the offset is inside its literal."""
    if isinstance(node, ast.RegexIn):
        end = node.inside.span.start
        where = f"searched in each run of characters that `{node.inside.span.text}` selects, as rendered"
        flags = node.flags
    elif isinstance(node, ast.Compare) and node.op == "matches":
        end = node.span.end
        where = f"searched in `{node.field.span.text}`, which has to be a text"
        flags = node.flags
    else:
        return None
    text = node.span.source.text
    found = next((m for m in _REGEX.finditer(text, node.span.start, end) if m.start() <= offset <= m.end()), None)
    if found is None:
        return None
    said = "".join(f"; {_FLAGS[flag]}" for flag in flags if flag in _FLAGS)
    return f"**{found[0]}**: an RE2 regex, {where}{said}"


def _is_quoted(document: PolicyDocument, offset: int) -> bool:
    """True if an offset is inside a string or a comment, whose words mean nothing."""
    text = document.source.text
    start = text.rfind("\n", 0, offset) + 1
    end = text.find("\n", start)
    quoted = (m for m in _QUOTED.finditer(text, start, len(text) if end < 0 else end))
    return any(m.start() <= offset < m.end() for m in quoted)


def _keyword(word: str) -> str | None:
    return f"**{word}**: {KEYWORD_DOCS[word]}" if word in KEYWORD_DOCS else None


def _field(document: PolicyDocument, field: ast.Field) -> str:
    name = ".".join((field.scope, *map(str, field.path)))
    fields = document.schema.fields if document.schema else None
    if field.scope in NEIGHBOURS:
        kind = (fields or {}).get(".".join(("message", *map(str, field.path))))
        declared = f"; {kind}, as the dataset file declares for `message`" if kind else ""
        return f"**{name}**: {SCOPE_DOCS[field.scope]}{declared}"
    kind = (fields or {}).get(name)
    return f"**{name}**: {kind}, as the dataset file declares" if kind else f"**{name}**: a field of the data"


def _use(use: ast.Use) -> str | None:
    if use.quoted:
        return f"the policy in the file `{use.name}`"
    try:
        text = read_shipped(use.name).text
    except PolicyEngineError:
        return None
    return f"the shipped policy **{use.name}**\n\n```policy\n{text.rstrip()}\n```"


def verb_of(statement: Any) -> Verb:
    """Verb by which a bare role of a statement is read; for a `let`, `mask`: it covers most."""
    match statement:
        case ast.Rule(effect=effect):
            return effect
        case ast.Guard(kind=kind):
            return kind
        case ast.Scale():
            return "scale"
    return "mask"


def _selector(document: PolicyDocument, selector: ast.Selector, statement: Any, in_relation: bool) -> str | None:
    name = selector.names[0]
    lines = []
    definition = None if selector.quoted else document.file.lets.get(name)
    written = ".".join(selector.names)
    if definition is not None:
        lines.append(f"**{written}**: `{definition.let.span.text}` ({definition.let.span})")
    elif in_relation:
        return f"**{written}**: the turns that the relation counts from"
    elif parts_of(written) is not None and not selector.quoted:
        lines.append(f"**{written}**: of any role's turns")
    elif len(selector.names) > 1:
        lines.append(f"**{written}**: `{'.'.join(selector.names[1:])}` of turns of the role `{name}`")
    else:
        lines.append(f"**{written}**: turns of the role `{name}`")
    verb = verb_of(statement)
    target = ast.Target(primary=selector, span=selector.span)
    # The checker's own resolution, so that a hover cannot say something else.
    found = Resolver(Findings(), document.schema).targets((target,), verb, document.file)
    parts = frozenset[str]().union(*(atom.parts for atom in found if isinstance(atom, Atom)))
    if parts:
        said = f"{verb} train" if verb in ("never", "always") else verb
        # Only a bare role depends on the verb: `mask assistant` covers more than `train assistant`.
        role_only = len(selector.names) == 1 and (selector.quoted or parts_of(name) is None)
        by = f" (`{said}` decides what a bare role covers)" if role_only and not isinstance(statement, ast.Let) else ""
        lines += ["", f"Segments{by}:", "", *(f"- `{p}`: {PART_DOCS[p]}" for p in PARTS if p in parts)]
    return "\n".join(lines)
