"""Every word of the language is explained to an editor."""

from __future__ import annotations

import sys

import pytest

from policy_engine.core.vocabulary import GROUPS, KEYWORDS, SCOPES, SETTINGS
from policy_engine.lsp.words import GROUP_DOCS, KEYWORD_DOCS, SCOPE_DOCS, SETTING_DOCS
from tests.cli.support import cli


def test_all_words_are_explained() -> None:
    assert set(KEYWORDS) == set(KEYWORD_DOCS)
    assert set(SETTINGS) == set(SETTING_DOCS)
    assert set(GROUPS) == set(GROUP_DOCS)
    assert set(SCOPES) == set(SCOPE_DOCS)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "policy_engine.lsp.server", raising=False)
    monkeypatch.setitem(sys.modules, "pygls", None)
    monkeypatch.setitem(sys.modules, "lsprotocol", None)
    ran = cli("lsp")
    assert 2 == ran.code
    assert "chat-policy-engine[lsp]" in ran.err
