"""The rendered examples in docstrings of `chat.trace` are what the code makes of them.

An example is a line `TEMPLATE  ->  TEXT`. In TEMPLATE, `u` and `v` are the contents of two users' messages, `n` a
number and `t` a list of the first one's. In TEXT, `‹…›` is around data of the first message, `«…»` around the
second's, `?…?` around text of unknown owner; `refused` stands for an error.
"""

from __future__ import annotations

import ast
import re
from itertools import groupby
from pathlib import Path

import pytest

import policy_engine.chat.trace
from policy_engine.chat.template import ChatTemplate
from policy_engine.core.errors import TemplateError
from policy_engine.data.conversation import Conversation

FOLDER = Path(policy_engine.chat.trace.__file__).parent
EXAMPLE = re.compile(r"^ *(\{[{%].*[}%]\})\s+->\s+(\S.*)$", re.MULTILINE)
CHAT = Conversation(
    messages=({"role": "user", "content": "Hi, Bob", "n": 12, "t": ["x", "y"]}, {"role": "user", "content": "Yes"})
)
MARKS = {0: "‹›", 1: "«»", None: "??"}
GIVEN = (
    "{% set u = messages[0].content %}{% set n = messages[0].n %}{% set t = messages[0].t %}"
    "{% set v = messages[1].content %}"
)


def examples() -> list[tuple[str, str, str]]:
    found = []
    for path in sorted(FOLDER.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node, clean=False) or ""
                found += [(path.stem, match[1], match[2].strip()) for match in EXAMPLE.finditer(text)]
    return found


def rendered(source: str) -> str:
    try:
        chat = ChatTemplate(GIVEN + source).render(CHAT, in_other_words=False)
    except TemplateError:
        return "refused"
    shown = [("?" if s.unknown else s.turn if s.from_data else "own", chat.segment_text(s)) for s in chat.segments]
    out = []
    for owner, pieces in groupby(shown, key=lambda pair: pair[0]):
        text = "".join(piece for _, piece in pieces)
        before, after = ("", "") if owner == "own" else MARKS.get(owner, "??")  # type: ignore[call-overload]
        out.append(f"{before}{text}{after}")
    return "".join(out).replace("\n", "⏎")


@pytest.mark.parametrize(("module", "source", "expected"), examples())
def test_an_example_is_what_the_code_makes(module: str, source: str, expected: str) -> None:
    assert expected == rendered(source)


def test_each_module_opens_with_an_example() -> None:
    for path in sorted(FOLDER.glob("*.py")):
        opening = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")), clean=False) or ""
        assert EXAMPLE.search(opening) or ">>> " in opening, path.name
