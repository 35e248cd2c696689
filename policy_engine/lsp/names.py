"""Places that define and use names, and rules for the name of a `let`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from policy_engine.core.errors import ConfigError, PolicyEngineError
from policy_engine.core.source import Source, Span
from policy_engine.core.vocabulary import GROUPS, KEYWORDS, PART_NAMES
from policy_engine.lang import ast
from policy_engine.lang.library import path_of, policies_folder, read_shipped
from policy_engine.lsp.document import PolicyDocument, walk


def definition(document: PolicyDocument, offset: int) -> tuple[Source, Span | None] | None:
    """File and place that define the name at an offset: a `let` name, or a policy of `use`."""
    # The innermost first: a selector inside a `let` is the nearer meaning.
    for node in reversed(document.around(offset)):
        if isinstance(node, ast.Use):
            return _used(document, node)
        if isinstance(node, ast.Selector) and not node.quoted and node.names[0] in document.file.lets:
            let = document.file.lets[node.names[0]].let
            return let.span.source, name_of(let)
    return None


def _used(document: PolicyDocument, use: ast.Use) -> tuple[Source, None] | None:
    try:
        if not use.quoted:
            path = policies_folder().resolve() / f"{use.name}.policy"
            return Source(name=str(path), text=read_shipped(use.name).text), None
    except PolicyEngineError:
        return None
    if document.path is None:
        return None
    path = document.path.parent / use.name
    return (Source(name=str(path), text=""), None) if path.is_file() else None


def name_of(node: ast.Let | ast.Selector) -> Span:
    """The characters of a `let`'s name, or of the first name of a selector.

    >>> let = PolicyDocument("let answers = assistant", None).policy.statements[0]
    >>> name_of(let).text
    'answers'
    """
    start = node.span.start
    name = node.name if isinstance(node, ast.Let) else node.names[0]
    # Behind the keyword: `let let = user` is wrong, and its name is still the second word.
    behind = re.match(r"let\s+", node.span.text) if isinstance(node, ast.Let) else None
    found = re.compile(rf"\b{re.escape(name)}\b").search(node.span.text, behind.end() if behind else 0)
    at = start + (found.start() if found else 0)
    return Span(source=node.span.source, start=at, end=at + len(name))


@dataclass(frozen=True, kw_only=True)
class Defined:
    """A `let` name and the file that defines it; `home` is None for a text that is in no file."""

    name: str
    home: Path | None


def defined_at(document: PolicyDocument, offset: int) -> Defined | None:
    """The `let` name at an offset, or None.

    Raises `ConfigError` for a name of a shipped policy.
    """
    name = _let_at(document, offset)
    if name is None:
        return None
    home = _home(document, name)
    # Shipped policies are part of the package, and used by other projects.
    if home is not None and home.is_relative_to(policies_folder().resolve()):
        raise ConfigError(
            f"`{name}` is defined in the shipped policy `{home.stem}`", help="a copy of it can be changed"
        )
    return Defined(name=name, home=home)


def occurrences(document: PolicyDocument, defined: Defined) -> tuple[Span, ...]:
    """Every place of a document that names a `let`; empty if the name means another there.

    >>> document = PolicyDocument("let answers = assistant; train answers; mask user after answers", None)
    >>> [place.start for place in occurrences(document, Defined(name="answers", home=None))]
    [4, 31, 56]
    """
    name = defined.name
    # Another file may define the same name for itself.
    if name not in document.file.lets or _home(document, name) != defined.home:
        return ()
    spans = [name_of(s) for s in document.policy.statements if isinstance(s, ast.Let) and s.name == name]
    for statement in document.policy.statements:
        for node in walk(statement):
            if isinstance(node, ast.Selector) and not node.quoted and node.names[0] == name:
                spans.append(name_of(node))
    return tuple(sorted(spans, key=lambda s: s.start))


def _home(document: PolicyDocument, name: str) -> Path | None:
    source = document.file.lets[name].let.span.source
    if source.name == document.source.name:
        return None if document.path is None else document.path.resolve()
    return path_of(source)


def _let_at(document: PolicyDocument, offset: int) -> str | None:
    for node in reversed(document.around(offset)):
        if isinstance(node, (ast.Let, ast.Selector)):
            span = name_of(node)
            name = node.name if isinstance(node, ast.Let) else node.names[0]
            inside = span.start <= offset <= span.end and not (isinstance(node, ast.Selector) and node.quoted)
            return name if inside and name in document.file.lets else None
    return None


def refuse_name(document: PolicyDocument, name: str) -> None:
    """Raises `ConfigError` for a name that a `let` of this document cannot get."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ConfigError(f"`{name}` is no name", help="letters, digits and `_`, not starting with a digit")
    if name in (*KEYWORDS, *GROUPS, *PART_NAMES):
        raise ConfigError(f"`{name}` is a word of the language", help="choose another name")
    taken = {n.names[0] for s in document.policy.statements for n in walk(s) if isinstance(n, ast.Selector)}
    # A role of that name would turn into the `let`, since names are looked up first among these.
    if name in document.file.lets or name in taken:
        raise ConfigError(f"`{name}` already means something in this policy", help="choose another name")
