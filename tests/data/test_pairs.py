"""Rows of preferences, read as TRL writes them, or refused with what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from policy_engine.core.errors import ConfigError, RowError
from policy_engine.data.conversation import read_row
from policy_engine.data.dataset import load_dataset_spec
from policy_engine.data.formats import named_format
from policy_engine.data.pairs import Judged, Pair, conversations_in, read_judged
from policy_engine.data.shapes.detect import detect_format


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def bot(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


SYSTEM = {"role": "system", "content": "s"}


def read(row: Any) -> Pair | Judged:
    return read_judged(row, detect_format([row]))


@pytest.mark.parametrize(
    ("row", "chosen", "rejected", "shared"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, [user("q"), bot("a")], [user("q"), bot("b")], 1),
        ({"prompt": [user("q")], "chosen": [bot("a")], "rejected": [bot("b")]},
         [user("q"), bot("a")], [user("q"), bot("b")], 1),
        ({"prompt": [SYSTEM, user("q")], "chosen": "a", "rejected": "b"},
         [SYSTEM, user("q"), bot("a")], [SYSTEM, user("q"), bot("b")], 2),
        ({"chosen": [user("q"), bot("a")], "rejected": [user("q"), bot("b")]},
         [user("q"), bot("a")], [user("q"), bot("b")], 1),
        # The prompt once as text, and once more in both answers: UltraFeedback.
        ({"prompt": "q", "chosen": [user("q"), bot("a")], "rejected": [user("q"), bot("b")]},
         [user("q"), bot("a")], [user("q"), bot("b")], 1),
        ({"prompt": "q", "chosen": [SYSTEM, user("q"), bot("a")], "rejected": [SYSTEM, user("q"), bot("b")]},
         [SYSTEM, user("q"), bot("a")], [SYSTEM, user("q"), bot("b")], 2),
        ({"prompt": [user("q")], "chosen": [user("q"), bot("x"), user("r"), bot("a")],
          "rejected": [user("q"), bot("x"), user("r"), bot("b")]},
         [user("q"), bot("x"), user("r"), bot("a")], [user("q"), bot("x"), user("r"), bot("b")], 3),
        ({"system": "s", "prompt": "q", "chosen": "a", "rejected": "b"},
         [SYSTEM, user("q"), bot("a")], [SYSTEM, user("q"), bot("b")], 2),
        ({"prompt": "q", "chosen": "[1]", "rejected": "b"}, [user("q"), bot("[1]")], [user("q"), bot("b")], 1),
        ({"prompt": "q", "chosen": "a", "rejected": [bot("b")]}, [user("q"), bot("a")], [user("q"), bot("b")], 1),
    ],
)  # fmt: skip
def test_pairs(row: Any, chosen: Any, rejected: Any, shared: int) -> None:
    found = read(row)
    assert isinstance(found, Pair)
    sides = [[dict(message) for message in side.messages] for side in (found.chosen, found.rejected)]
    assert (sides, found.shared) == ([chosen, rejected], shared)
    assert found.chosen.sample == row


def test_tools_and_arguments_are_those_of_both_sides() -> None:
    row = {"prompt": "q", "chosen": "a", "rejected": "b", "tools": [{"name": "f"}]}
    found = read({**row, "chat_template_kwargs": {"enable_thinking": False}})
    assert isinstance(found, Pair)
    tool = {"type": "function", "function": {"name": "f"}}
    assert [side.tools for side in (found.chosen, found.rejected)] == [(tool,)] * 2
    assert [side.template_kwargs for side in (found.chosen, found.rejected)] == [{"enable_thinking": False}] * 2


@pytest.mark.parametrize("label", [True, False])
def test_judged_answers(label: bool) -> None:
    found = read({"prompt": "q", "completion": "a", "label": label})
    assert isinstance(found, Judged)
    assert ([dict(m) for m in found.conversation.messages], found.shared) == ([user("q"), bot("a")], 1)
    assert found.label is label


def test_a_label_that_is_no_truth_value_makes_no_preference() -> None:
    assert detect_format([{"prompt": "q", "completion": "a", "label": "spam"}]).kind == "prompt_completion"
    spec = named_format("unpaired_preference")
    assert [read_judged({"prompt": "q", "completion": "a", "label": n}, spec).label for n in (0, 1)] == [False, True]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "a"}, "are the same, so neither is preferred"),
        ({"chosen": [user("q"), bot("a")], "rejected": [user("r"), bot("b")]}, "no prompt in common"),
        ({"chosen": [user("q")], "rejected": [user("q"), bot("b")]}, "`chosen` has no message behind the prompt"),
        ({"prompt": "q", "chosen": [], "rejected": [bot("b")]}, "`chosen` has no message behind the prompt"),
        ({"chosen": "a", "rejected": "b"}, "`chosen` is text, and no column `prompt` says what it answers"),
        ({"chosen": [bot("a")], "rejected": "b"}, "`rejected` is text, and no column `prompt` says what"),
        ({"chosen": "a", "rejected": [user("q"), bot("b")]}, "`chosen` is text, and no column `prompt` says what"),
        ({"prompt": "q", "chosen": "a"}, "column `rejected` is missing"),
        ({"prompt": "q", "chosen": "a", "rejected": None}, "column `rejected` is null"),
        ({"prompt": 3, "chosen": "a", "rejected": "b"}, "column `prompt` is a number"),
        ({"prompt": "q", "chosen": [{"content": "a"}], "rejected": [bot("b")]}, r"chosen\[0\] has no `role`"),
        ({"prompt": "q", "chosen": '[{"role": 1}', "rejected": "b"}, "column `chosen` is text that is not JSON"),
        (3, "the row is a number"),
    ],
)
def test_refused_pairs(row: Any, reason: str) -> None:
    with pytest.raises(RowError, match=reason):
        read_judged(row, named_format("preference"))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "q", "completion": "a", "label": None}, "column `label` is null"),
        ({"prompt": "q", "completion": "a"}, "column `label` is missing"),
        ({"prompt": "q", "completion": "a", "label": 2}, "has to be true or false"),
        ({"completion": "a", "label": True}, "column `prompt` is missing"),
        ({"prompt": "q", "completion": [], "label": True}, "`completion` has no message"),
    ],
)
def test_refused_labels(row: Any, reason: str) -> None:
    with pytest.raises(RowError, match=reason):
        read_judged(row, named_format("unpaired_preference"))


def test_one_conversation_is_not_read_of_a_pair() -> None:
    row = {"prompt": "q", "chosen": "a", "rejected": "b"}
    with pytest.raises(RowError, match="two answers"):
        read_row(row, named_format("preference"))
    assert [side for side, _ in conversations_in(row, named_format("preference"))] == ["chosen", "rejected"]
    assert [side for side, _ in conversations_in({"messages": [user("q")]}, named_format("messages"))] == [""]


def test_names_of_a_dataset_file(tmp_path: Any) -> None:
    file = tmp_path / "data.yaml"
    file.write_text("messages: {prompt: q, chosen: good, rejected: bad}\npairs: reward\n")
    spec = load_dataset_spec(file)
    row = {"q": "x", "good": "a", "bad": "b", "messages": [user("other")]}
    layout = spec.format_of([row])
    assert (layout.kind, spec.pairs) == ("preference", "reward")
    assert read_judged(row, layout).shared == 1
    file.write_text("messages: {label: tag}\n")
    assert load_dataset_spec(file).format_of([{"prompt": "x"}]).kind == "unpaired_preference"
    file.write_text("pairs: ppo\n")
    with pytest.raises(ConfigError, match=r"(?s)data.yaml:1.*unknown columns `ppo` for pairs"):
        load_dataset_spec(file)


def test_shared_conversations_of_other_formats() -> None:
    """LLaMA-Factory's ranking data: a prompt of ShareGPT, and two messages."""
    row = {
        "conversations": [{"from": "human", "value": "q"}],
        "chosen": {"from": "gpt", "value": "a"},
        "rejected": {"from": "gpt", "value": "b"},
    }
    roles = {"human": "user", "gpt": "assistant"}
    spec = named_format("preference", prompt="conversations", role="from", content="value", roles=roles)
    found = read_judged(row, spec)
    assert isinstance(found, Pair)
    assert [[m["role"] for m in side.messages] for side in (found.chosen, found.rejected)] == [
        ["user", "assistant"]
    ] * 2


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, "`chosen` and `rejected` answer column `prompt`"),
        ({"chosen": [user("q"), bot("a")], "rejected": [user("q"), bot("b")]}, "begin with the same messages"),
        (
            {"prompt": "q", "chosen": "a", "rejected": "b"},
            "`messages: {format: prompt_completion, completion: chosen}` in a dataset file reads the preferred answer",
        ),
        (
            {"chosen": [user("q"), bot("a")], "rejected": [user("q"), bot("b")]},
            "`messages: {field: chosen}` in a dataset file reads the preferred answer alone",
        ),
        ({"prompt": "q", "completion": "a", "label": True}, "columns `prompt` and `completion` and `label`"),
        (
            {"messages": [user("q"), bot("a")], "chosen": [bot("a")], "rejected": [bot("b")]},
            "`messages: {format: preference}` in a dataset file reads them as a pair of answers",
        ),
    ],
)
def test_what_is_read_is_said(row: Any, said: str) -> None:
    assert said in detect_format([row]).description


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"question": "Hi?", "chosen": "Yes.", "rejected": "No."}, "preference"),
        ({"question": "Hi?", "completion": "No.", "label": False}, "unpaired_preference"),
        ({"question": "Hi?", "completion": "No.", "label": 3}, "prompt_completion"),
        ({"question": "Hi?", "completion": "Yes.", "chosen": "Yes.", "rejected": "No."}, "prompt_completion"),
    ],
)
def test_a_named_prompt_leaves_the_kind_to_the_other_columns(row: dict[str, Any], kind: str, tmp_path: Path) -> None:
    file = tmp_path / "data.yaml"
    file.write_text("messages: {prompt: question}\n")
    assert load_dataset_spec(file).format_of([row, row, "broken"]).kind == kind


def test_a_named_answer_is_one_answer(tmp_path: Path) -> None:
    file = tmp_path / "data.yaml"
    file.write_text("messages: {prompt: question, completion: chosen}\n")
    row = {"question": "Hi?", "chosen": "Yes.", "rejected": "No."}
    assert load_dataset_spec(file).format_of([row]).kind == "prompt_completion"


ANSWERED = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
CHOSEN, REJECTED = {"from": "gpt", "value": "Good day"}, {"from": "gpt", "value": "What?"}


@pytest.mark.parametrize("more", [{"rejected": REJECTED, "chosen": CHOSEN}, {"completion": [CHOSEN], "label": True}])
def test_a_prompt_that_is_answered_already_is_refused(more: dict[str, Any]) -> None:
    """It was read as a prompt, and an answer was trained that follows another answer."""
    asked = {"prompt": ANSWERED[:1], **more}
    spec = detect_format([asked], pairs=True)
    assert 1 == read_judged(asked, spec).shared
    with pytest.raises(RowError, match="column `prompt` ends with an answer") as refused:
        read_judged({**asked, "prompt": ANSWERED}, spec)
    assert "take the answer out of `prompt`, or drop the row" in str(refused.value.help)


def test_a_prompt_that_ends_with_a_call_and_an_answer_with_its_result() -> None:
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    behind = [[{"role": "tool", "content": "1"}, {"role": "assistant", "content": text}] for text in ("One.", "Two.")]
    row = {"prompt": [{"role": "user", "content": "Hi"}, call], "chosen": behind[0], "rejected": behind[1]}
    assert 2 == read_judged(row, named_format("preference")).shared
