"""The Pygments lexer takes policies apart as the parser does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lark import Lark, Token
from pygments.token import Comment, Keyword, Name, String, Text, _TokenType

from policy_engine.core.errors import PolicyError
from policy_engine.core.vocabulary import KEYWORDS
from policy_engine.lang.check import check_text
from policy_engine.lang.format import format_policy
from policy_engine.lang.library import grammar_text, read_shipped, shipped
from policy_engine.report.lexer import PolicyLexer
from policy_engine.testing.strategies import policies

ROOT = Path(__file__).parents[2]
PARSER = Lark(grammar_text(), parser="lalr", lexer="contextual", start="policy", keep_all_tokens=True)
_BLOCK = re.compile(r"^```policy[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
COMMENT = Comment.Single
CONSTANTS = ("true", "false", "null")


def lexed(text: str) -> list[tuple[int, _TokenType, str]]:
    return list(PolicyLexer().get_tokens_unprocessed(text))


def written() -> list[str]:
    """Policies of the library and of the pages."""
    pages = [page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").rglob("*.md"))]
    found = [text for page in pages for text in _BLOCK.findall(page)]
    return [read_shipped(name).text for name in shipped()] + found


def parsed(text: str) -> dict[int, tuple[str, str]] | None:
    """Terminals and texts by offset, as Lark sees them; None for what is not a policy."""
    try:
        check_text(text)
    except PolicyError:
        return None
    tree = PARSER.parse(text)
    tokens = tree.scan_values(lambda value: isinstance(value, Token) and not value.type.startswith("_"))
    return {t.start_pos: (t.type, str(t)) for t in tokens}


def agree(text: str) -> bool:
    """Whether each terminal of the parser is a token with the same kind; False for what is not a policy."""
    mine = {at: (kind, word) for at, kind, word in lexed(text)}
    assert text == "".join(word for _, _, word in lexed(text))
    theirs = parsed(text)
    if theirs is None:
        return False
    for at, (terminal, word) in theirs.items():
        kind, own = mine[at]
        assert (terminal, word) == (terminal, own), (at, text)
        assert (terminal == "NAME") == (kind in Name or (kind is Keyword.Constant and word not in CONSTANTS))
    others = {kind for at, (kind, word) in mine.items() if at not in theirs and word.strip(" \t\r\n;\ufeff")}
    assert others <= {COMMENT}
    return True


def test_policies_of_the_library_and_the_pages() -> None:
    assert sum(agree(text) for text in written()) >= 150


@given(policies())
def test_generated_policies(policy: object) -> None:
    assert agree(format_policy(policy))  # type: ignore[arg-type]


@given(st.text(max_size=60))
def test_no_text_is_lost(text: str) -> None:
    assert text == "".join(word for _, _, word in lexed(text))


@pytest.mark.parametrize("word", KEYWORDS)
def test_every_keyword_is_coloured(word: str) -> None:
    ((_, kind, text),) = lexed(word)
    assert (word, True) == (text, kind is not Text and kind not in Name)


def test_names_are_told_apart() -> None:
    text = 'train last assistant.eot, critic where message.train == "x"  # why\non straddle mask\n'
    kinds = {word: kind for _, kind, word in lexed(text)}
    assert kinds["assistant"] is Name.Class is kinds["critic"]
    assert kinds["eot"] is Name.Builtin
    assert kinds["message"] is Name.Variable
    assert kinds['"x"'] is String.Double
    assert kinds["# why"] is COMMENT
    assert kinds["straddle"] is Name.Attribute
    assert kinds["mask"] is Keyword.Constant
