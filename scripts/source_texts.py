"""The prose of a Python file: its docstrings, its comments and the texts it shows to people.

>>> [prose.kind for prose in texts_of("# why\\nraise ValueError('a row is empty')\\n")]
['comment', 'message']
"""

from __future__ import annotations

import ast
import functools
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, kw_only=True)
class Prose:
    """A text and the line it begins in.

    A `note` is the string below an attribute, a `message` any other string.
    """

    kind: Literal["docstring", "note", "comment", "message"]
    line: int
    text: str


def texts_of(source: str) -> list[Prose]:
    """All the prose of a file, in order.

    Strings without a space are names and keys, so they are left out.
    """
    return sorted([*_strings(ast.parse(source)), *_comments(source)], key=lambda prose: prose.line)


def code_lines(source: str) -> int:
    """Number of lines that have code; blank lines, comments and docstrings have no code."""
    prose: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and _string(node.value) is not None:
            prose.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in skipped:
            code.update(range(token.start[0], token.end[0] + 1))
    return len(code - prose)


def comment_lines(source: str) -> int:
    """Number of comments; those that speak to a tool, as `# noqa` does, do not count."""
    return len(_comments(source))


def docstrings_of(source: str) -> Iterator[tuple[str, Prose]]:
    """Name and docstring of the module and of every class and function that has one."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, DOCUMENTED) and (text := ast.get_docstring(node)) is not None:
            line = node.body[0].lineno
            yield getattr(node, "name", "module"), Prose(kind="docstring", line=line, text=text)


def _string(node: ast.AST) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _strings(tree: ast.Module) -> Iterator[Prose]:
    alone: dict[int, Literal["docstring", "note"]] = {}
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for at, statement in enumerate(body if isinstance(body, list) else ()):
            if isinstance(statement, ast.Expr) and _string(statement.value) is not None:
                first = at == 0 and isinstance(node, DOCUMENTED)
                alone[id(statement.value)] = "docstring" if first else "note"
    for node in ast.walk(tree):
        text = _string(node)
        if text is not None and (id(node) in alone or " " in text):
            yield Prose(kind=alone.get(id(node), "message"), line=node.lineno, text=text)  # type: ignore[attr-defined]


_TO_TOOLS = ("type:", "noqa", "fmt:", "pragma:", "!")


@functools.cache
def _comments(source: str) -> tuple[Prose, ...]:
    return tuple(_commented(source))


def _commented(source: str) -> Iterator[Prose]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        text = token.string.lstrip("#").strip()
        if token.type == tokenize.COMMENT and text and not text.startswith(_TO_TOOLS):
            yield Prose(kind="comment", line=token.start[0], text=text)
