"""Unrolled samples start as inference would, and train what the policy trains."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policy_engine.chat.loading import load_tokenizer
from policy_engine.core.errors import PolicyEngineError, RowError
from policy_engine.data.conversation import Conversation
from policy_engine.mask.masker import Masker
from policy_engine.mask.unrendered import lost_of
from policy_engine.mask.unroll import UnrolledRow, lost_fields
from policy_engine.rules.compile import compile_text
from policy_engine.testing import conversations
from policy_engine.testing.choices import RandomChoices
from tests.support.templates import trl_templates

ALL = "train assistant; train eos after assistant"
TURNS = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
BARE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
CHAT = tuple({"role": role, "content": content} for role, content in TURNS)


def _masker(template: str, policy: str = ALL) -> Masker:
    return Masker(compile_text(policy), load_tokenizer("builtin", template=trl_templates()[f"trl/{template}"]))


def test_rewritten_history_gives_one_sample_per_turn() -> None:
    samples = _masker("qwen3").unroll(Conversation(messages=CHAT))
    assert [(s.turns, s.of) for s in samples] == [((1,), 2), ((3,), 2)]


def test_the_policy_decides_on_the_whole_conversation() -> None:
    samples = _masker("qwen3", "train last assistant").unroll(Conversation(messages=CHAT))
    assert [s.turns for s in samples] == [(3,)]
    not_last = _masker("qwen3", "train assistant; mask last assistant").unroll(Conversation(messages=CHAT))
    assert [s.turns for s in not_last] == [(1,)]


def test_turns_that_no_generation_prompt_asks_for_are_samples_too() -> None:
    for policy, first in (("train user", 0), (ALL, 1)):
        (sample,) = _masker("qwen3", policy).unroll(Conversation(messages=CHAT[first:]))
        assert sample.turns == (0, 2)
        assert sample.row.chat.text.startswith(f"<|im_start|>{CHAT[first]['role']}\n")


def test_stable_history_is_one_sample() -> None:
    (sample,) = _masker("qwen2_5").unroll(Conversation(messages=CHAT))
    assert (sample.turns, sample.of) == ((1, 3), 1)
    assert sample.row.chat.text.endswith("d<|im_end|>\n")


def test_one_sample_is_the_whole_conversation_with_what_comes_after_the_last_answer() -> None:
    chat, masker = Conversation(messages=(*CHAT, {"role": "user", "content": "e"})), _masker("qwen2_5")
    (sample,) = masker.unroll(chat)
    assert masker.mask(chat).input_ids == sample.row.input_ids


def test_what_was_lost_is_counted_of_all_turns_or_of_some() -> None:
    masker = Masker(compile_text("on unrendered ignore\ntrain assistant"), load_tokenizer("builtin", template=BARE))
    row = masker.mask(Conversation(messages=tuple({**message, "reasoning_content": "hm"} for message in CHAT[1::2])))
    assert {("assistant", "reasoning_content"): 2} == lost_of(row.chat)
    assert {("assistant", "reasoning_content"): 1} == lost_of(row.chat, (1,))


def _thinking_in_content(chat: Conversation) -> Conversation:
    """Every answer as DeepSeek-R1 writes it: thinking, delimiter, text; without calls, which its template mixes up."""
    messages = [
        {
            "role": "assistant",
            "content": f"<think>\nHm {i}.\n</think>\n\n{str(m.get('content') or 'Yes').strip() or 'No'}",
        }
        if m["role"] == "assistant"
        else {"role": "user", "content": str(m.get("content"))}
        for i, m in enumerate(chat.messages)
    ]
    return replace(chat, messages=tuple(messages), tools=None)


@pytest.mark.parametrize(
    ("template", "least"),
    [("qwen3", 125), ("gptoss", 60), ("deepseek_r1_distill", 100), ("llama3_training", 50), ("qwen2_5", 100)],
)
def test_every_sample_starts_with_its_generation_prompt(template: str, least: int) -> None:
    """On 100 generated conversations, with tools and thinking; those that the template refuses aside."""
    masker = _masker(template)
    tokenizer = masker.tokenizer
    checked = refused = 0
    for seed in range(100):
        chat = conversations.conversation(RandomChoices(seed), parts=False, marks=False)
        if template == "deepseek_r1_distill":
            chat = _thinking_in_content(chat)
        try:
            samples = masker.unroll(chat)
        except PolicyEngineError as error:
            refused += "does not continue" in error.message
            continue
        turns = [turn for sample in samples for turn in sample.turns]
        assert sorted(set(turns)) == turns
        for sample in samples:
            row = sample.row
            assert set(sample.turns) == {
                row.chat.segments[i].turn for i in row.mask.segments_T[row.mask.weights_T != 0].tolist()
            }
            assert not any(o is not sample and o.row.input_ids[: len(row.input_ids)] == row.input_ids for o in samples)
            assert "".join(row.chat.segment_text(s) for s in row.chat.segments) == row.chat.text
            for turn in filter(None, sample.turns):
                before = replace(chat, messages=chat.messages[:turn])
                rendered = tokenizer.template_for(chat).render(before, add_generation_prompt=True)
                prompt = tokenizer.encode(rendered).input_ids
                assert row.input_ids[: len(prompt)] == prompt
                checked += 1
    assert checked >= least
    assert refused == 0


def test_thinking_that_the_template_takes_out() -> None:
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nOne"},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "oh\n</think>\n\nTwo"},
    ]
    first, second = _masker("deepseek_r1_distill").unroll(Conversation(messages=tuple(messages)))
    eos = "<｜end▁of▁sentence｜>"
    assert first.row.chat.text.endswith(f"<｜User｜>a<｜Assistant｜><think>\nhm\n</think>\n\nOne{eos}")
    assert second.row.chat.text.endswith(f"One{eos}<｜User｜>b<｜Assistant｜><think>\noh\n</think>\n\nTwo{eos}")
    parts = [(s.part, second.row.chat.segment_text(s)) for s in second.row.chat.segments if s.turn == 3]
    assert parts == [
        ("header", "<｜Assistant｜>"),
        ("header", "<think>\n"),
        ("reasoning.text", "oh"),
        ("reasoning.close", "\n</think>\n\n"),
        ("text", "Two"),
        ("eot", eos),
    ]
    assert "oh\n</think>\n\nTwo" + eos == _trained_text(second)


def test_spans_of_thinking_that_was_put_back() -> None:
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "oh\n</think>\n\nTwo three", "gold": [[13, 16]]},
    ]
    policy = "train spans message.gold in assistant"
    (sample,) = _masker("deepseek_r1_distill", policy).unroll(Conversation(messages=tuple(messages)))
    assert "Two" == _trained_text(sample)


def test_thinking_before_a_call_stays_where_the_template_drops_it_later() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": {}}}
    messages = (
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "", "thinking": "I call.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
        {"role": "assistant", "content": "It is 42."},
    )
    (sample,) = _masker("gptoss").unroll(Conversation(messages=messages))
    assert (1, 3) == sample.turns
    assert "I call." in _trained_text(sample)
    whole = _masker("gptoss").mask(Conversation(messages=messages)).chat
    assert "I call." not in whole.text
    # What a sample has is not counted as lost.
    assert {("assistant", "thinking"): 1} == lost_of(whole)
    assert {} == lost_fields(sample)
    assert () == sample.row.chat.unrendered


def _trained_text(sample: UnrolledRow) -> str:
    row = sample.row
    spans = zip(row.tokenized.starts_T, row.tokenized.ends_T, row.mask.weights_T, strict=True)
    covered = sorted({at for start, end, weight in spans if weight for at in range(start, end)})
    return "".join(row.chat.text[at] for at in covered)


def test_a_conversation_of_nothing() -> None:
    chat = Conversation(messages=CHAT)
    assert [] == _masker("qwen3", "train system").unroll(chat)
    (kept,) = _masker("qwen3", "on empty keep\ntrain system").unroll(chat)
    assert ((), 1, -1) == (kept.turns, kept.of, kept.names["turn"])
    with pytest.raises(RowError, match="nothing of the row is trained"):
        _masker("qwen3", "on empty error\ntrain system").unroll(chat)


def test_tokens_that_merge_over_the_start_of_an_answer() -> None:
    messages = ({"role": "user", "content": "a"}, {"role": "assistant", "content": " \n b"})
    with pytest.raises(RowError, match="merge with what the message begins with"):
        _masker("qwen2_5").unroll(Conversation(messages=messages))


def test_map_repeats_the_columns_of_a_row() -> None:
    from datasets import Dataset

    rows = [{"id": "x", "messages": list(CHAT)}, {"id": "y", "messages": list(CHAT[:2])}]
    made = Dataset.from_list(rows).map(_masker("qwen3").unrolled().batch, batched=True)
    assert ["x", "x", "y"] == made["id"]
    assert [1, 3, 1] == made["turn"]
    assert [2, 2, 1] == made["samples"]
    removed = Dataset.from_list(rows).map(
        _masker("qwen3").unrolled().batch, batched=True, remove_columns=["id", "messages"]
    )
    assert {"input_ids", "labels", "attention_mask", "turn", "samples"} == set(removed.column_names)
    assert _masker("qwen3").fingerprint != _masker("qwen3").unrolled().fingerprint


def test_a_turn_that_leaves_its_prompt_is_refused() -> None:
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
    )
    masker = Masker(compile_text(ALL), load_tokenizer("builtin", template=template))
    with pytest.raises(RowError, match="message 1 does not continue its generation prompt"):
        masker.unroll(Conversation(messages=CHAT))
    given = {"messages": [CHAT[:2]], "input_ids": [masker(CHAT[:2]).input_ids]}
    with pytest.raises(RowError, match="writes what is before message 1 otherwise than for the model"):
        masker.unrolled().batch(given)
