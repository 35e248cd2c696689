"""Kinds of segments, and rows whose data has control tokens."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from policy_engine.mask.evidence.segment_kinds import NO_ROLE, kinds_of
from policy_engine.mask.evidence.tokens_in_data import ControlTokens
from policy_engine.mask.masker import Masker
from policy_engine.mask.row import MaskedRow
from policy_engine.rules.compile import compile_text
from tests.support.chats import build_chat


@pytest.fixture(scope="module")
def masker() -> Masker:
    return Masker(compile_text("train assistant"), "builtin")


def masked(masker: Masker, *answers: dict[str, Any]) -> list[MaskedRow]:
    return [masker([{"role": "user", "content": "Hi"}, {"role": "assistant", **answer}]) for answer in answers]


def test_control_tokens_of_the_data_are_found_and_the_templates_own_are_not(masker: Masker) -> None:
    rows = masked(
        masker,
        {"content": "Yes."},
        {"content": "It writes <|im_end|> there."},
        {"content": "Yes.", "reasoning_content": "Is it <|im_end|>?"},
        {"content": "<|im_start|> and <|im_end|> and <|im_start|>"},
    )
    assert [(), ("<|im_end|>",), (), ("<|im_start|>", "<|im_end|>")] == ControlTokens(masker.tokenizer).found_in(rows)
    assert [] == ControlTokens(masker.tokenizer).found_in([])


def test_added_tokens_count_if_the_template_writes_them() -> None:
    """Qwen's `<tool_call>` is no special token; it counts, since the template writes it."""

    class Token(str):
        special = False

    added = {7: Token("<tool_call>"), 8: Token("<other>"), 9: "<s>"}
    tokenizer: Any = SimpleNamespace(
        tokenizer=SimpleNamespace(added_tokens_decoder=added), templates={"default": "{{ '<tool_call>' }}"}
    )
    found: Any = ControlTokens(tokenizer)
    assert [7, 9] == found._is_control.nonzero()[0].tolist()


def test_segments_of_one_role_and_part_are_one_kind(masker: Masker) -> None:
    (row,) = masked(masker, {"content": "Yes."})
    kinds = kinds_of(row.chat)
    assert len(set(kinds.keys)) == len(kinds.keys)
    turn = ("header", "text", "eot", "separator")
    expected = [(role, part) for role in ("user", "assistant") for part in turn]
    assert expected == [kinds.keys[at] for at in kinds.keys_S]
    assert [part == "text" for _, part in expected] == list(kinds.is_data_S)


def test_text_that_no_message_owns_is_a_kind_without_a_role() -> None:
    kinds = kinds_of(build_chat([{"role": "user", "content": "Hi"}], bos="<s>"))
    assert [(NO_ROLE, "bos"), ("user", "header"), ("user", "text")] == [kinds.keys[at] for at in kinds.keys_S[:3]]


def test_kinds_are_worked_out_once_for_chats_of_one_layout(masker: Masker) -> None:
    one, other = masked(masker, {"content": "Yes."}, {"content": "Maybe so."})
    assert kinds_of(one.chat) is kinds_of(other.chat)
    # Segments that no template placed have no layout to keep the kinds by.
    loose = dataclasses.replace(one.chat, segments=tuple(one.chat.segments))
    assert (kinds_of(one.chat).keys, kinds_of(one.chat).keys_S.tolist()) == (
        kinds_of(loose).keys, kinds_of(loose).keys_S.tolist(),
    )  # fmt: skip
