"""Words that can be completed at the cursor."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from policy_engine.core.vocabulary import (
    CONTINUATIONS,
    GROUPS,
    KNOWN_ROLES,
    NEIGHBOURS,
    PART_DOCS,
    PARTS,
    SCOPES,
    SETTINGS,
    STATEMENTS,
    TURN,
)
from policy_engine.lang.library import read_shipped, shipped
from policy_engine.lsp.document import PolicyDocument
from policy_engine.lsp.words import GROUP_DOCS, KEYWORD_DOCS, SCOPE_DOCS, SETTING_DOCS

Kind = Literal["keyword", "role", "part", "let", "field", "setting", "value", "policy"]
_TARGETS: Final = ("first", "last", "trained", "everything", "spans", "sampled")
_BEHIND: Final = (*CONTINUATIONS, "in")
_CONDITIONS: Final = ("not", "has", "and", "or", "in", "contains", "matches", "true", "false", "null")
_WORD: Final = re.compile(r"[\w.]*\Z")
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"|/(?:[^/\\\n]|\\.)+/')
_REASONING: Final = "the thinking, with its delimiters"
_CONDITION: Final = re.compile(r"\b(?:where|unless)\b")
_FIELD: Final = re.compile(r"\b(?:weight|by|spans)\s+\Z")


@dataclass(frozen=True, kw_only=True)
class Word:
    """One completion.

    `label` is inserted for the word, or the part of a dotted name, at the cursor.
    """

    label: str
    kind: Kind
    doc: str = ""


def complete(document: PolicyDocument, offset: int) -> tuple[Word, ...]:
    """Words that are possible at an offset, each once; no words in a comment or a string.

    >>> words = complete(PolicyDocument("train assistant.", None), 16)
    >>> [word.label for word in words][:4]
    ['body', 'eos', 'turn', 'header']
    """
    # What is behind the cursor is often from the statement that is being rewritten, so only what is before it counts.
    text = document.source.text[:offset]
    if any(c.span.start < offset <= c.span.end for c in document.parts.comments):
        return ()
    # Words in closed strings and regexes are no keywords: `train "where"` is about a role.
    statement = _STRING.sub('""', _statement(text))
    # A string that is still open: its text is the user's own.
    if statement.count('"') % 2:
        return ()
    before = _WORD.sub("", statement)
    written = statement[len(before) :]
    return tuple(dict.fromkeys(_words(document, before, written.rpartition(".")[0])))


def _statement(text: str) -> str:
    """Text of the unfinished statement at the end of the text.

    >>> _statement("mask user; train assistant,\\n  tool where "), _statement("mask user\\ntr")
    ('train assistant,   tool where ', 'tr')
    """
    lines = re.split(r"[\n;]", text)
    found = lines.pop()
    # As in the grammar: a comma or an open bracket carries a statement over the end of the line.
    while lines and re.search(r"[,(\[]\s*\Z", lines[-1]) and not found.strip(" \t").startswith("#"):
        found = f"{lines.pop()} {found}"
    # A line that begins with `where` or the like goes on with the statement above.
    while lines and lines[-1].strip() and re.match(rf"\s*(?:{'|'.join(_BEHIND)}|and|or)\b", found):
        found = f"{lines.pop()} {found}"
    return found.lstrip()


def _words(document: PolicyDocument, before: str, scope: str) -> Iterator[Word]:
    if not before:
        yield from _keywords(STATEMENTS)
    elif re.fullmatch(r"use\s+", before):
        yield from (Word(label=name, kind="policy", doc=_first_line(name)) for name in shipped())
    elif re.fullmatch(r"on\s+", before):
        yield from (Word(label=name, kind="setting", doc=SETTING_DOCS[name]) for name in SETTINGS)
    elif setting := re.fullmatch(r"on\s+(\w+)\s+", before):
        yield from (Word(label=value, kind="value") for value in SETTINGS.get(setting[1], ()))
    elif re.fullmatch(r"(never|always)\s+", before):
        yield from _keywords(("train",))
    # What follows here is a name of the user's own, or the statement is complete.
    elif re.match(r"(use|on|language)\b", before) or re.fullmatch(r"let\s+\w*\s*", before):
        return
    elif _CONDITION.search(before) or _FIELD.search(before):
        yield from _fields(document, scope)
        # Behind `weight` and its like there is a single field, and no condition.
        if not scope and not _FIELD.search(before):
            yield from _keywords((*_CONDITIONS, "where", "unless", "weight"))
    elif scope:
        yield from _parts_below(scope)
    else:
        yield from _targets(document)


def _targets(document: PolicyDocument) -> Iterator[Word]:
    schema = document.schema
    # The data's own roles first: they are the likelier ones.
    declared = sorted((schema.roles | schema.trained_roles) - set(KNOWN_ROLES)) if schema else []
    for role in (*declared, *KNOWN_ROLES):
        # A role with a hyphen, or of a reserved name, is written in quotes.
        plain = re.fullmatch(r"[A-Za-z_]\w*", role) and role not in (*PARTS, *GROUPS, *KEYWORD_DOCS)
        yield Word(label=role if plain else f'"{role}"', kind="role", doc="role")
    for name, definition in document.file.lets.items():
        yield Word(label=name, kind="let", doc=definition.let.span.text)
    for group in GROUPS:
        yield Word(label=group, kind="part", doc=GROUP_DOCS[group])
    for part in dict.fromkeys((*(p.split(".")[0] for p in PARTS), *PARTS)):
        yield Word(label=part, kind="part", doc=PART_DOCS.get(part, _REASONING))
    yield from _keywords((*_TARGETS, *_BEHIND))


def _parts_below(scope: str) -> Iterator[Word]:
    """Names that can follow `assistant.`, `reasoning.` or `assistant.reasoning.`.

    >>> [word.label for word in _parts_below("assistant.reasoning")]
    ['open', 'text', 'close']
    """
    first, _, below = scope.partition(".")
    # `assistant.reasoning.` is below a role, `reasoning.` below a part.
    prefix = below if first not in {p.split(".")[0] for p in PARTS} else scope
    if not prefix:
        yield from (Word(label=group, kind="part", doc=GROUP_DOCS[group]) for group in GROUPS)
        names: Iterable[str] = dict.fromkeys(p.split(".")[0] for p in PARTS if p in TURN)
        yield from (Word(label=n, kind="part", doc=PART_DOCS.get(n, _REASONING)) for n in names)
        return
    for part in PARTS:
        if part.startswith(prefix + "."):
            yield Word(label=part[len(prefix) + 1 :], kind="part", doc=PART_DOCS[part])


def _fields(document: PolicyDocument, scope: str) -> Iterator[Word]:
    declared = (document.schema.fields if document.schema else None) or {}
    if not scope:
        yield from (Word(label=name, kind="field", doc=SCOPE_DOCS[name]) for name in SCOPES)
        yield from (Word(label=name, kind="field", doc=kind) for name, kind in declared.items())
        return
    first, _, below = scope.partition(".")
    if first in NEIGHBOURS:
        scope = ".".join(("message", below) if below else ("message",))  # they are messages, and declared as such
    fixed = {"message": ("role", "content"), "call": ("name", "arguments")}.get(scope) or SCOPES.get(scope) or ()
    yield from (Word(label=name, kind="field") for name in fixed)
    for name, kind in declared.items():
        if name.startswith(scope + "."):
            yield Word(label=name[len(scope) + 1 :], kind="field", doc=kind)


def _keywords(words: Iterable[str]) -> Iterator[Word]:
    return (Word(label=word, kind="keyword", doc=KEYWORD_DOCS[word]) for word in words)


def _first_line(name: str) -> str:
    return read_shipped(name).line(1).lstrip("# ")
