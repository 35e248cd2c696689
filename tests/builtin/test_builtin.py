"""The tokenizer, template and dataset that come with the package."""

from __future__ import annotations

import importlib.util
import sys
import unicodedata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from policy_engine import builtin
from policy_engine.chat.loading import load_tokenizer
from policy_engine.data.conversation import Conversation

SCRIPT = Path(__file__).parents[2] / "scripts" / "builtin_tokenizer" / "train.py"
ROWS = {row["id"]: row for row in builtin.sample_rows()}


@pytest.fixture(scope="module")
def train() -> ModuleType:
    spec = importlib.util.spec_from_file_location("builtin_train", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["builtin_train"] = module
    spec.loader.exec_module(module)
    return module


def test_it_is_small() -> None:
    """Everything that is embedded, tokenizer and data, is under 400 kB before the wheel compresses it."""
    assert sum(p.stat().st_size for p in builtin.FOLDER.iterdir() if p.is_file()) < 400_000


def test_training_again_gives_the_same_file(train: ModuleType) -> None:
    assert builtin.TOKENIZER.read_text(encoding="utf-8") == train.train()


def test_its_vocabulary(train: ModuleType) -> None:
    tok = load_tokenizer("builtin").tokenizer
    assert train.VOCABULARY == len(tok)
    for text in (*train.CONTROL, *train.DELIMITERS):
        assert 1 == len(tok(text, add_special_tokens=False)["input_ids"])
    assert "<|im_end|>" == tok.eos_token
    assert "<think>x</think>" == tok.decode(tok("<think>x</think>")["input_ids"], skip_special_tokens=True)


def text_of(row: dict[str, Any]) -> str:
    return "".join(str(v) for m in row["messages"] for v in m.values())


def test_the_sample_has_what_data_brings() -> None:
    rows = list(ROWS.values())
    messages = [m for row in rows for m in row["messages"]]
    assert len(rows) >= 40
    assert len(ROWS) == len(rows)
    assert any(sum(m.get("role") == "assistant" for m in row["messages"]) >= 3 for row in rows)
    assert {True, False} == {any(m.get("role") == "system" for m in row["messages"]) for row in rows}
    assert any("tools" in row for row in rows)
    assert {"developer", "tool"} <= {m.get("role") for m in messages}
    assert any(m.get("reasoning_content") for m in messages)
    assert {str, list, type(None)} <= {type(m.get("content")) for m in messages}
    assert {str, dict} == {type(c["function"]["arguments"]) for m in messages for c in m.get("tool_calls", ())}
    assert any(m["content"] == "" for m in messages)
    assert any(isinstance(m["content"], str) and m["content"][:1].isspace() for m in messages)
    assert {True, False} == {m["train"] for m in messages if "train" in m}
    assert any("weight" in m for m in messages)
    assert any("source" in row and "quality" in row for row in rows)
    everything = "".join(map(text_of, rows))
    assert "<|im_end|>\n<|im_start|>assistant" in everything.replace("\\n", "\n")
    assert any(unicodedata.combining(c) for c in everything)
    assert {"R", "AL"} <= {unicodedata.bidirectional(c) for c in everything}
    assert any("CJK" in unicodedata.name(c, "") for c in everything)
    assert "\u200d" in everything, "an emoji of several code points"


def test_one_row_is_broken_on_purpose() -> None:
    assert "role" not in ROWS["broken-on-purpose"]["messages"][0]
    assert all("role" in m for name, row in ROWS.items() if name != "broken-on-purpose" for m in row["messages"])


@pytest.mark.parametrize("name", [name for name in ROWS if name != "broken-on-purpose"])
def test_every_other_row_renders_and_tokenizes(name: str) -> None:
    row, tok = ROWS[name], load_tokenizer("builtin")
    conversation = Conversation(
        messages=tuple(row["messages"]), tools=tuple(row["tools"]) if "tools" in row else None, sample=row
    )
    for prompt in (False, True):
        chat = tok.template_for(conversation).render(conversation, add_generation_prompt=prompt)
        expected = tok.tokenizer.apply_chat_template(
            row["messages"], tools=row.get("tools"), tokenize=True, return_dict=True, add_generation_prompt=prompt
        )
        assert list(expected["input_ids"]) == tok.encode(chat).input_ids
        assert () == chat.unrendered
    end = "<|im_end|>\n"
    assert chat.text.endswith(end + "<|im_start|>assistant\n")


def test_no_part_is_unknown() -> None:
    tok = load_tokenizer("builtin")
    for name, row in ROWS.items():
        if name == "broken-on-purpose":
            continue
        tools = tuple(row["tools"]) if "tools" in row else None
        conversation = Conversation(messages=tuple(row["messages"]), tools=tools)
        chat = tok.template_for(conversation).render(conversation)
        assert not any(segment.unknown for segment in chat.segments)


def test_the_template_refuses_a_part_it_has_no_form_for() -> None:
    from policy_engine.core.errors import TemplateError

    conversation = Conversation(messages=({"role": "user", "content": [{"type": "smell", "smell": "bread"}]},))
    with pytest.raises(TemplateError, match="smell"):
        load_tokenizer("builtin").template.render(conversation)
