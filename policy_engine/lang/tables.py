"""The parser of the grammar: from tables that an installation saved, or made again.

Lark needs 0.2 s of CPU time to make its tables from `grammars/policy.lark`, and 5 ms to read them. An installation
saves them beside the grammar; tables of another grammar or of another Lark are not read.

    >>> from policy_engine.lang.tables import parser
    >>> [str(tree.data) for tree in parser().parse("train assistant; on empty drop", start="policy").children]
    ['rule', 'on']
"""

from __future__ import annotations

import functools
import hashlib
import io
from pathlib import Path

import lark
from lark import Lark

from policy_engine.lang.library import grammar_text, tables_path


@functools.cache
def parser() -> Lark:
    """The parser of policies (start `policy`) and of single statements (start `statement`)."""
    saved = _saved(tables_path())
    return saved if saved is not None else _made()


def save_tables(path: Path) -> None:
    """Writes the tables of the grammar to `path`; wheel builds and editable installs call it."""
    body = io.BytesIO()
    _made().save(body)
    path.write_bytes(_key() + b"\n" + body.getvalue())


def _made() -> Lark:
    return Lark(
        grammar_text(),
        parser="lalr",
        # A contextual lexer looks only for the terminals that may follow: a keyword can then be a key
        # (`message.train`).
        lexer="contextual",
        start=["policy", "statement"],
        propagate_positions=True,
        # Without placeholders: the builder asks children by type, never by position.
        maybe_placeholders=False,
    )


def _saved(path: Path) -> Lark | None:
    try:
        key, _, body = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    # The file is part of the installation, as the package's own bytecode is: Lark reads it with pickle.
    return Lark.load(io.BytesIO(body)) if key == _key() else None


def _key() -> bytes:
    # Lark's version too: its tables are a pickle of its own classes.
    return f"lark {lark.__version__} sha256 {hashlib.sha256(grammar_text().encode()).hexdigest()}".encode()
