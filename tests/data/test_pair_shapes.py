"""Preferences as other trainers write them: found in the rows, and read with all that they have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from policy_engine.core.errors import ConfigError, RowError
from policy_engine.data.dataset import Beside, DatasetSpec, load_dataset_spec
from policy_engine.data.pairs import Judged, Pair, read_judged
from policy_engine.data.shapes.detect import detect_format

USER, BOT = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
HUMAN, GPT, WORSE = {"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}, {"from": "gpt", "value": "b"}
ALPACA = {"instruction": "Add.", "input": "2+2?", "chosen": "4", "rejected": "5"}


def texts(row: Any, **spec: Any) -> tuple[str, list[list[tuple[str, str]]], int]:
    """The kind, the messages of each side, and how many of them are the prompt."""
    layout = DatasetSpec(**spec).format_of([row])
    read = read_judged(row, layout)
    sides = (read.conversation,) if isinstance(read, Judged) else (read.chosen, read.rejected)
    return layout.kind, [[(m["role"], m["content"]) for m in side.messages] for side in sides], read.shared


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": [HUMAN], "chosen": GPT, "rejected": WORSE},
        {"conversations": [HUMAN], "chosen": [GPT], "rejected": [WORSE]},
        {"conversations": [HUMAN], "chosen": "a", "rejected": "b"},
        {"conversations": json.dumps([HUMAN]), "chosen": json.dumps([GPT]), "rejected": json.dumps([WORSE])},
        {"talk": [HUMAN], "chosen": GPT, "rejected": WORSE},
        {"prompt": [HUMAN], "chosen": [GPT], "rejected": [WORSE]},
        {"chosen": [HUMAN, GPT], "rejected": [HUMAN, WORSE]},
        {"messages": [USER], "chosen": BOT, "rejected": {"role": "assistant", "content": "b"}},
        {"messages": [USER], "chosen": "a", "rejected": "b"},
        {"instruction": "q", "chosen": "a", "rejected": "b"},
        {"messages": [USER, BOT], "rejected_response": "b"},
        {"messages": [USER, BOT], "rejected_messages": [USER, {"role": "assistant", "content": "b"}]},
        {"conversations": [HUMAN, GPT], "rejected_response": "b"},
    ],
)
@pytest.mark.parametrize("declared", [{}, {"kind": "preference"}, {"pairs": "dpo"}])
def test_pairs_are_found_with_their_prompt(row: Any, declared: dict[str, Any]) -> None:
    sides = [[("user", "q"), ("assistant", "a")], [("user", "q"), ("assistant", "b")]]
    assert ("preference", sides, 1) == texts(row, **declared)


def test_sharegpts_authors_are_read_as_they_are_elsewhere() -> None:
    call = {"from": "function_call", "value": '{"name": "f", "arguments": {}}'}
    talk = [HUMAN, call, {"from": "observation", "value": "3"}]
    row = {"system": "s", "conversations": talk, "chosen": GPT, "rejected": WORSE, "tools": '[{"name": "f"}]'}
    layout = detect_format([row])
    assert "`chosen` and `rejected` answer column `conversations`" in layout.description
    assert "ShareGPT's keys, `from` and `value`" in layout.description
    pair = read_judged(row, layout)
    assert isinstance(pair, Pair)
    assert ["system", "user", "assistant", "tool", "assistant"] == [m["role"] for m in pair.rejected.messages]
    assert pair.chosen.messages[2]["tool_calls"]
    assert pair.chosen.tools
    assert 4 == pair.shared


@pytest.mark.parametrize(
    ("declared", "row"),
    [
        ("{format: preference, prompt: conversations}", {"conversations": [HUMAN], "chosen": GPT, "rejected": WORSE}),
        ("{prompt: conversations}", {"conversations": [HUMAN], "chosen": GPT, "rejected": WORSE}),
        ("{prompt: talk, chosen: good, rejected: bad}", {"talk": [HUMAN], "good": GPT, "bad": WORSE}),
        (
            "{format: preference, prompt: conversations, chosen: chosen, rejected: rejected, role: from, "
            "content: value, roles: {human: user, gpt: assistant}}",
            {"conversations": [HUMAN], "chosen": GPT, "rejected": WORSE},
        ),
        ("{role: from, content: value}", {"conversations": [HUMAN], "chosen": GPT, "rejected": WORSE}),
    ],
)
def test_a_dataset_file_need_not_name_sharegpts_keys(declared: str, row: Any, tmp_path: Path) -> None:
    (tmp_path / "d.yaml").write_text(f"messages: {declared}\npairs: dpo\n")
    pair = read_judged(row, load_dataset_spec(tmp_path / "d.yaml").format_of([row]))
    assert isinstance(pair, Pair)
    assert [("user", "q"), ("assistant", "b")] == [(m["role"], m["content"]) for m in pair.rejected.messages]


@pytest.mark.parametrize("declared", [{}, {"kind": "preference", "names": {"prompt": "instruction"}}])
def test_the_input_of_an_instruction_is_read(declared: dict[str, Any]) -> None:
    kind, sides, shared = texts({**ALPACA, "history": [["h", "i"]], "system": "s"}, **declared)
    before = [("system", "s"), ("user", "h"), ("assistant", "i"), ("user", "Add.\n2+2?")]
    assert ("preference", [[*before, ("assistant", "4")], [*before, ("assistant", "5")]], 4) == (kind, sides, shared)
    assert "answer columns `instruction` and `input`" in detect_format([ALPACA]).description
    assert "`input`" not in detect_format([{**ALPACA, "input": ""}]).description


@pytest.mark.parametrize(
    ("row", "names"),
    [
        ({"question": "Add.", "input": "2+2?", "chosen": "4", "rejected": "5"}, {"prompt": "question"}),
        ({"question": "Add.", "context": "2+2?", "completion": "4"}, {"prompt": "question"}),
        ({"prompt": "Add.", "input": "2+2?", "completion": "4", "label": True}, {}),
    ],
)
def test_text_beside_a_prompt_that_is_not_read_is_named(row: Any, names: dict[str, str]) -> None:
    (said,) = DatasetSpec(names=names).format_of([row]).unused
    name = "context" if "context" in row else "input"
    kind = "preference" if "chosen" in row else "unpaired_preference" if "label" in row else "prompt_completion"
    assert said.startswith(f"column `{name}` is not used: `messages: {{format: {kind}, input: {name}}}`")
    layout = DatasetSpec(kind=kind, names={**names, "input": name}).format_of([row])
    assert () == layout.unused
    from policy_engine.data.pairs import conversations_in

    assert "Add.\n2+2?" == conversations_in(row, layout)[0][1].messages[0]["content"]
    # What the prompt has already is not lost.
    prompt = names.get("prompt", "prompt")
    assert () == DatasetSpec(names=names).format_of([{**row, prompt: "Add.\n2+2?"}]).unused


def test_text_behind_a_list_of_messages_is_refused() -> None:
    row = {"prompt": [USER], "input": "2+2?", "chosen": "4", "rejected": "5"}
    layout = DatasetSpec(kind="preference", names={"input": "input"}).format_of([row])
    with pytest.raises(RowError, match="a list of messages, and what `input` holds has no place in it"):
        read_judged(row, layout)


@pytest.mark.parametrize(
    ("row", "asked"),
    [
        ({"conversations": [HUMAN, GPT], "kto_tag": False}, {}),
        ({"messages": [USER, BOT], "kto_tag": False}, {}),
        ({"instruction": "q", "input": "", "output": "a", "kto_tag": False}, {}),
        ({"prompt": "q", "completion": "a", "kto_tag": False}, {}),
        ({"conversations": [HUMAN, GPT], "label": False}, {"pairs": "kto"}),
        ({"messages": [USER, BOT], "label": False}, {"pairs": "kto"}),
        ({"messages": [USER, BOT], "label": 0}, {"pairs": "kto"}),
        ({"prompt": "q", "completion": "a", "label": 0}, {"pairs": "kto"}),
        ({"messages": [USER, BOT], "label": False}, {"kind": "unpaired_preference"}),
        ({"instruction": "q", "output": "a", "label": False}, {"kind": "unpaired_preference"}),
        ({"question": "q", "completion": "a", "kto_tag": False}, {"names": {"prompt": "question"}}),
        ({"question": "q", "gold": "a", "kto_tag": False}, {"kind": "unpaired_preference",
                                                           "names": {"prompt": "question", "completion": "gold"}}),
    ],
)  # fmt: skip
def test_answers_with_a_judgement(row: Any, asked: dict[str, Any]) -> None:
    assert ("unpaired_preference", [[("user", "q"), ("assistant", "a")]], 1) == texts(row, **asked)
    assert read_judged(row, DatasetSpec(**asked).format_of([row])).label is False  # type: ignore[union-attr]


def test_the_last_message_of_a_judged_conversation_is_the_answer() -> None:
    row = {"conversations": [HUMAN, GPT, HUMAN, WORSE], "kto_tag": True}
    layout = detect_format([row])
    assert "column `kto_tag` judges the last message of column `conversations`" in layout.description
    assert 3 == read_judged(row, layout).shared
    with pytest.raises(RowError, match="`conversations` ends with no answer, but with a message of `user`"):
        read_judged({**row, "conversations": [HUMAN, GPT, HUMAN]}, layout)


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [USER, BOT], "label": False},
        {"conversations": [HUMAN, GPT], "label": True},
        {"instruction": "q", "output": "a", "label": False},
    ],
)
def test_a_truth_value_beside_conversations_is_named(row: Any) -> None:
    (said,) = detect_format([row]).unused
    assert said.startswith("column `label` is not read as whether the answer is wanted")
    assert () == detect_format([{**row, "label": 3}]).unused
    kind = detect_format([row]).kind
    assert f"`format: {kind}` says that it is not that" in said
    assert () == DatasetSpec(kind=kind).format_of([row]).unused


@pytest.mark.parametrize("label", ["label", "kto_tag"])
@pytest.mark.parametrize("answer", ["completion", "response"])
def test_0_and_1_beside_a_question_and_its_answer_are_named(label: str, answer: str) -> None:
    rows = [
        {"prompt": "q", answer: "a", label: 1},
        {"prompt": "q", answer: "b", label: 0.0},
        {"prompt": "q", answer: ""},
    ]
    layout = detect_format(rows)
    (said,) = layout.unused
    assert said.startswith(f"column `{label}` is not read as whether the answer is wanted")
    assert "`format: prompt_completion` says that it is not that" in said
    assert () == DatasetSpec(kind="prompt_completion").format_of(rows).unused
    assert "unpaired_preference" == detect_format(rows, pairs=True).kind
    assert [True, False] == [
        read_judged(row, DatasetSpec(kind="unpaired_preference").format_of(rows)).label for row in rows[:2]
    ]
    # A class, or a score.
    assert () == detect_format([*rows, {"prompt": "q", answer: "c", label: 2}]).unused


@pytest.mark.parametrize("name", ["context", "messages"])
def test_ranked_answers_are_named(name: str) -> None:
    """NeMo-RL's, whose prompt alone would be read, and nothing trained."""
    answers = [{"rank": rank, "completion": [BOT]} for rank in (0, 1)]
    (said,) = detect_format([{name: [USER], "completions": answers}]).unused
    assert said.startswith("column `completions` has ranked answers (NeMo-RL's), and is not used: write one of them as")
    assert f"with column `{name}` as `prompt`" in said
    assert () == detect_format([{name: [USER, BOT], "completions": answers}]).unused


def test_columns_of_a_whole_conversation_are_no_pair_by_themselves() -> None:
    """UltraFeedback: `messages` is the preferred conversation, for training on it alone."""
    row = {"prompt": "q", "messages": [USER, BOT], "chosen": [USER, BOT], "rejected": [USER, {**BOT, "content": "b"}]}
    layout = detect_format([row])
    assert ("messages", 1) == (layout.kind, len(layout.unused))
    sides = [[("user", "q"), ("assistant", "a")], [("user", "q"), ("assistant", "b")]]
    assert ("preference", sides, 1) == texts(row, pairs="dpo")
    gpt = {"conversations": [HUMAN, GPT], "chosen": GPT, "rejected": WORSE}
    assert "columns `chosen` and `rejected` are not used" in detect_format([gpt]).unused[0]


@pytest.mark.parametrize(
    ("row", "spec", "help"),
    [
        ({"messages": [USER, BOT]}, {}, "a pair has two answers, `chosen` and `rejected`"),
        ({"messages": [USER, BOT]}, {"names": {"field": "messages"}}, "a pair has two answers"),
        ({"messages": [USER, BOT]}, {"kind": "messages"}, "a pair has two answers"),
        ({"prompt": "q", "completion": "a"}, {}, "a judged answer has `prompt`, `completion` and `label`"),
        ({"text": "Once."}, {}, "a pair has two answers"),
        ({"q": "q", "better": "a", "worse": "b"}, {}, "prompt: q, chosen: better, rejected: worse}`"),
        ({"talk": [HUMAN], "better": GPT, "worse": WORSE}, {}, "prompt: talk, chosen: better, rejected: worse}`"),
    ],
)
def test_rows_that_are_no_preferences_are_refused_where_these_are_asked_for(
    row: Any, spec: dict[str, Any], help: str
) -> None:
    with pytest.raises(ConfigError, match="columns for a trainer of preferences are asked for") as caught:
        DatasetSpec(pairs="dpo", **spec).format_of([row])
    assert help in str(caught.value.help)
    assert "prompt_completion" not in str(caught.value.help)
    # A class or a score says nothing of whether an answer is wanted.
    with pytest.raises(ConfigError):
        DatasetSpec(pairs="kto", **spec).format_of([{**row, "label": 3}])


def test_messages_that_are_given_alone_are_read_under_pairs_too() -> None:
    spec = DatasetSpec(pairs="dpo", names={"role": "speaker", "content": "text"})
    (message,) = spec.read_given([{"speaker": "user", "text": "q"}], Beside())[0].messages
    assert {"role": "user", "content": "q"} == message
