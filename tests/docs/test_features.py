"""Every policy of the feature table is one."""

from __future__ import annotations

import re
from pathlib import Path

from policy_engine.lang.check import check_text
from policy_engine.lang.library import shipped
from policy_engine.rules.load import load_policy

PAGE = (Path(__file__).parents[2] / "docs" / "features.md").read_text(encoding="utf-8")
_POLICY = re.compile(r"`((?:train|use|mask|scale|never) [^`]*)`")


def test_policies_are_sound() -> None:
    found = _POLICY.findall(PAGE)
    assert 15 <= len(found)
    for text in found:
        check_text(text)


def test_shipped_policies_exist() -> None:
    names = set(re.findall(r"\*\*(\w+)\*\*", PAGE))
    assert names <= set(shipped())
    for name in names:
        load_policy(name)


def test_every_row_has_a_policy_or_says_why_not() -> None:
    for row in re.findall(r"^\| (?!---|setting|asked)(.*) \|$", PAGE, re.MULTILINE):
        answer = row.split(" | ", 1)[1]
        assert _POLICY.search(answer) or re.search(r"\*\*\w+\*\*|not said: |\]\(\w+\.md\)", answer), row
