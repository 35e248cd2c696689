"""Unrolled samples start as inference would, and train what the policy trains."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policy_engine.chat.conversation import Conversation
from policy_engine.chat.tokenize import load_tokenizer
from policy_engine.core.errors import PolicyEngineError, RowError
from policy_engine.data.unroll import unroll
from policy_engine.mask.masker import Masker
from policy_engine.rules.load import policy_from_text
from policy_engine.testing import conversations
from policy_engine.testing.choices import RandomChoices
from tests.support.templates import trl_templates

ALL = "train assistant; train eos after assistant"
TURNS = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
CHAT = tuple({"role": role, "content": content} for role, content in TURNS)


def _masker(template: str, policy: str = ALL) -> Masker:
    return Masker(policy_from_text(policy), load_tokenizer("builtin", template=trl_templates()[f"trl/{template}"]))


def test_rewritten_history_gives_one_sample_per_turn() -> None:
    samples = unroll(Conversation(messages=CHAT), _masker("qwen3"))
    assert [(s.turn, s.of) for s in samples] == [(1, 2), (3, 2)]


def test_the_policy_decides_on_the_whole_conversation() -> None:
    samples = unroll(Conversation(messages=CHAT), _masker("qwen3", "train last assistant"))
    assert [s.turn for s in samples] == [None]
    not_last = unroll(Conversation(messages=CHAT), _masker("qwen3", "train assistant; mask last assistant"))
    assert [s.turn for s in not_last] == [1]


def test_stable_history_is_one_sample() -> None:
    (sample,) = unroll(Conversation(messages=CHAT), _masker("qwen2_5"))
    assert (sample.turn, sample.of) == (None, 1)


@pytest.mark.parametrize("template", ["qwen3", "llama3_training", "gptoss", "qwen2_5"])
def test_every_sample_starts_with_its_generation_prompt(template: str) -> None:
    masker = _masker(template)
    tokenizer = masker.tokenizer
    checked = 0
    for seed in range(120):
        chat = conversations.conversation(RandomChoices(seed), parts=False, marks=False)
        try:
            samples = unroll(chat, masker)
        except PolicyEngineError:
            continue
        for sample in samples:
            row = sample.row
            trained = {row.chat.segments[i].turn for i in row.mask.segments_T[row.mask.weights_T != 0].tolist()}
            assert trained
            assert sample.turn is None or trained == {sample.turn}
            for turn in trained:
                assert turn is not None
                before = replace(chat, messages=chat.messages[:turn])
                rendered = tokenizer.template_for(chat).render(before, add_generation_prompt=True)
                prompt = tokenizer.encode(rendered).input_ids
                assert row.input_ids[: len(prompt)] == prompt
                checked += 1
    assert checked > 50


def test_a_turn_that_leaves_its_prompt_is_refused() -> None:
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
    )
    masker = Masker(policy_from_text(ALL), load_tokenizer("builtin", template=template))
    with pytest.raises(RowError, match="message 1 does not continue its generation prompt"):
        unroll(Conversation(messages=CHAT), masker)
