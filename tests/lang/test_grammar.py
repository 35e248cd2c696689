"""The grammar: free of conflicts, keywords that are words, statements that end where a reader thinks they do."""

from __future__ import annotations

import functools
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lark import Lark

from policy_engine.core.errors import PolicySyntaxError
from policy_engine.core.source import Source
from policy_engine.core.vocabulary import KEYWORDS
from policy_engine.lang.ast import Policy, Rule, Selector
from policy_engine.lang.library import grammar_text
from policy_engine.lang.parse import parse
from policy_engine.lang.split import split
from policy_engine.testing import strategies

CARD = "train assistant; mask system,user; train eos after assistant"
"""The first policy of the design, as it is written there."""


def lark(*, strict: bool = False) -> Lark:
    return Lark(grammar_text(), parser="lalr", lexer="contextual", start=["policy", "statement"], strict=strict)


def test_strict_mode_finds_no_conflict_and_no_collision() -> None:
    lark(strict=True)


def test_keywords_are_those_of_the_vocabulary() -> None:
    words = {t.name.lower() for t in lark().terminals if t.priority == 2}
    assert set(KEYWORDS) == words


@functools.cache
def basic() -> Lark:
    """The grammar with the lexer that takes any terminal anywhere."""
    return Lark(grammar_text(), parser="lalr", lexer="basic", start="policy")


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_every_keyword_beats_name(keyword: str) -> None:
    parser = basic()
    (token,) = parser.lex(keyword)
    assert keyword.upper() == token.type
    assert ["NAME"] == [t.type for t in parser.lex(keyword + "s")]
    assert ["NAME"] == [t.type for t in parser.lex(keyword + "_1")]


@pytest.mark.parametrize(
    "text",
    [
        "train last 2 assistant",
        "train trained first assistant.text, eos right after user where has message.a and not message.b",
        "mask everything unless message.a in [true, false, null] or message.b contains 1",
        "scale assistant by message.a where message.b matches /x/",
        "train spans message.a in assistant weight 2",
        "never train user",
        "always train eos of assistant",
        "let a = assistant before tool",
        "use default",
        "on straddle mask",
        "language 1",
    ],
)
def test_no_two_keywords_may_touch(text: str) -> None:
    """Taking out a space between words, one of them a keyword, never leaves the same policy."""
    whole = parse(text)
    words = text.split(" ")
    for i, (left, right) in enumerate(itertools.pairwise(words)):
        if not (left.isalnum() and right[:1].isalnum() and (left in KEYWORDS or right in KEYWORDS)):
            continue
        touching = " ".join([*words[:i], left + right, *words[i + 2 :]])
        try:
            assert whole != parse(touching), touching
        except PolicySyntaxError:
            continue


@pytest.mark.parametrize(
    "text",
    [
        CARD,
        CARD + ";",
        CARD.replace("; ", "\n"),
        CARD.replace("; ", ";\n"),
        CARD.replace("; ", ";"),
        CARD.replace(",", ", "),
        CARD.replace(",", " , "),
        CARD.replace(",", ",\n\t"),
        CARD.replace("; ", "\r\n") + "\r\n",
        CARD.replace("; ", "  # why\n\n# more; of it\n"),
        "\n;;" + CARD.replace("; ", " ;\n; ") + "\n;",
        CARD.replace(" after", "\n  after"),
    ],
)
def test_the_first_policy_however_it_is_laid_out(text: str) -> None:
    assert parse(CARD) == parse(text)
    assert 3 == len(parse(text).statements)


@pytest.mark.parametrize(
    ("broken", "whole"),
    [
        ("train a,\n\n# b\n\nb", "train a, b"),
        ("train (\n a, b\n)", "train (a, b)"),
        (
            "train a\n  where message.x\n # y\n  and message.y\n  or message.z",
            "train a where message.x and message.y or message.z",
        ),
        ("train a # why\n# still\n\nunless message.x", "train a unless message.x"),
        ("train a\nweight\n2".replace("\n2", " 2"), "train a weight 2"),
        ("scale a\n  by 2", "scale a by 2"),
        ("train eos\n of a\nright after b\nbefore c", "train eos of a right after b before c"),
        ("train a where message.x in [\n1,\n2\n]", "train a where message.x in [1, 2]"),
        ("train a where (\nmessage.x\n)", "train a where (message.x)"),
    ],
)
def test_a_newline_that_does_not_end_a_statement(broken: str, whole: str) -> None:
    assert parse(whole) == parse(broken)


@pytest.mark.parametrize(
    "text", ["train\na", "train a.\ntext", "train a where message.x ==\n1", "let x\n= a", "mask /x/\nin a"]
)
def test_a_newline_that_ends_one(text: str) -> None:
    with pytest.raises(PolicySyntaxError):
        parse(text)
    assert parse(text.replace("\n", " ")).statements


@pytest.mark.parametrize("name", ["whereas", "of_", "bytes", "and1", "Where", "trained_by", "inner", "ones"])
def test_names_that_begin_like_keywords(name: str) -> None:
    (statement,) = parse(f"train {name}").statements
    assert isinstance(statement, Rule)
    assert isinstance(statement.targets[0].primary, Selector)
    assert (name,) == statement.targets[0].primary.names
    assert 2 == len(parse(f"train a\n{'train' if name else ''} {name}").statements)


@given(strategies.policy_texts() | st.text(alphabet='train a,;\n#"/()[]where.', max_size=60))
def test_the_scanner_and_the_parser_agree_on_statements(text: str) -> None:
    try:
        policy: Policy = parse(text)
    except PolicySyntaxError:
        return
    parts = split(Source(name="", text=text))
    assert [(s.span.start, s.span.end) for s in policy.statements] == list(parts.statements)
