"""The language reference: every example runs and shows what comes out, every construct has one."""

from __future__ import annotations

import re

import pytest
from lark import Lark, Token

from policy_engine.core.vocabulary import GROUPS, KEYWORDS, KNOWN_ROLES, PARTS, SCOPES, SETTINGS
from policy_engine.lang.check import check_text
from policy_engine.lang.library import grammar_text
from tests.lang.language_doc import DOC, Example, examples, run

EXAMPLES = list(examples())


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.text.split("\n")[0])
def test_an_example_is_valid_and_comes_out_as_shown(example: Example) -> None:
    assert () == check_text(example.text).warnings
    if example.conversation is not None:
        assert run(example) == example.masked
        assert "⟦" in run(example)


def test_every_construct_has_an_example() -> None:
    parser = Lark(grammar_text(), parser="lalr", lexer="contextual", start="policy")
    seen: set[str] = set()
    for example in EXAMPLES:
        for tree in parser.parse(example.text).iter_subtrees():
            seen.add(str(tree.data))
            seen |= {t.value for t in tree.children if isinstance(t, Token) and t.type not in ("NAME", "STRING")}
    constructs = {str(t.alias or t.origin.name) for t in parser.rules if not t.origin.name.startswith("_")}
    inlined = {"expr", "negation", "test", "primary", "amount", "statement"}
    assert constructs - inlined - seen == set()
    assert set(KEYWORDS) - seen == set()
    assert {"==", "!=", "<", "<=", ">", ">="} - set(re.findall("`([=!<>]+)`", DOC.read_text(encoding="utf-8"))) == set()


def test_every_part_scope_and_setting_is_described() -> None:
    text = DOC.read_text(encoding="utf-8")
    missing = [p for p in (*PARTS, *GROUPS, *SCOPES) if f"`{p}`" not in text]
    missing += [s for s in SETTINGS if f"`on {s}`" not in text]
    missing += [f"{s}.{f}" for s, fields in SCOPES.items() for f in fields or () if f"`{s}.{f}`" not in text]
    assert missing == []


def test_the_roles_that_are_known() -> None:
    listed = re.search(r"Known are (.*?), and those", DOC.read_text(encoding="utf-8"), re.DOTALL)
    assert listed is not None
    assert list(KNOWN_ROLES) == re.findall(r"`(\w+)`", listed[1])
