"""Audits of rows whose prompt and answer have ids of their own: rollouts, and preferences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from policy_engine.audit.audit import Audit, Auditor
from policy_engine.chat.loading import load_tokenizer
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.errors import RowError
from policy_engine.mask.masker import Masker
from policy_engine.rules.compile import compile_text
from tests.cli.support import cli

POLICY = "train assistant; train eos after assistant"
SAMPLED = "train sampled in (assistant, eos of assistant); never train user, tool"
MESSAGES = [
    {"role": "user", "content": "2+2?"},
    {"role": "assistant", "content": "Counting."},
    {"role": "tool", "content": "4"},
    {"role": "assistant", "content": "It is 4."},
]


@pytest.fixture(scope="module")
def builtin() -> ChatTokenizer:
    return load_tokenizer("builtin")


@pytest.fixture(scope="module")
def rollout(builtin: ChatTokenizer) -> dict[str, Any]:
    """Ids of prompt and completion, and marks of the tokens that the policy trains."""
    row = Masker(compile_text(POLICY), builtin)(MESSAGES)
    ids, marks = row["input_ids"], [int(label >= 0) for label in row["labels"]]
    at = marks.index(1)
    return {"prompt_ids": ids[:at], "completion_ids": ids[at:], "completion_mask": marks[at:]}


def audited(tokenizer: ChatTokenizer, row: dict[str, Any], policy: str = POLICY) -> Audit:
    auditor = Auditor(tokenizer, compile_text(policy), presets=("default",))
    auditor.add(1, row)
    return auditor.finish()


def named(rollout: dict[str, Any], prompt: str, answer: str, mask: str) -> dict[str, Any]:
    return {prompt: rollout["prompt_ids"], answer: rollout["completion_ids"], mask: rollout["completion_mask"]}


def trl(rollout: dict[str, Any]) -> dict[str, Any]:
    """A row of TRL's batch: `completion_mask` says what is padding, and padding is at both ends."""
    size = len(rollout["completion_ids"])
    return {
        "prompt_ids": [0, 0, *rollout["prompt_ids"]],
        "prompt_mask": [0, 0, *[1] * len(rollout["prompt_ids"])],
        "completion_ids": [*rollout["completion_ids"], 0],
        "completion_mask": [1] * size + [0],
        "tool_mask": [*rollout["completion_mask"], 1],
    }


def verl(rollout: dict[str, Any]) -> dict[str, Any]:
    """A row of verl's batch."""
    ids, size = rollout["completion_ids"], len(rollout["prompt_ids"])
    return {
        "input_ids": [0, *rollout["prompt_ids"], *ids, 0],
        "prompts": [0, *rollout["prompt_ids"]],
        "responses": [*ids, 0],
        "response_mask": [*rollout["completion_mask"], 0],
        "attention_mask": [0, *[1] * (size + len(ids)), 0],
    }


def test_rollouts_are_found_again_and_compared(builtin: ChatTokenizer, rollout: dict[str, Any]) -> None:
    rows = {
        "completion_mask": rollout,
        "env_mask": named(rollout, "prompt_ids", "completion_ids", "env_mask"),
        "response_loss_mask": named(rollout, "prompt_ids", "response_token_ids", "response_loss_mask"),
        "response_mask": verl(rollout),
        "tool_mask": trl(rollout),
        "labels": named(rollout, "prompt_ids", "completion_ids", "labels")
        | {"labels": [i if m else -100 for i, m in zip(rollout["completion_ids"], rollout["completion_mask"])]},
    }
    for column, row in rows.items():
        for messages, exact in (({}, 0), ({"messages": MESSAGES}, 1)):
            for policy in (POLICY, SAMPLED):
                found = audited(builtin, {**row, **messages}, policy)
                # Padding is left out, and the text is found again from ids alone, too.
                assert (1, 1, exact) == (found.rows, found.recovered, found.exact), column
                assert [column] == list(found.columns)
                assert [] == found.breaches
                assert [] == found.smells
                assert 0 == found.trained["tool", "text"] < found.trained["assistant", "text"]


def test_a_rollout_that_trains_what_a_tool_said(builtin: ChatTokenizer, rollout: dict[str, Any]) -> None:
    # Without marks, all of a completion counts, as in TRL.
    row = {name: rollout[name] for name in ("prompt_ids", "completion_ids")}
    for policy in (POLICY, SAMPLED):
        found = audited(builtin, {**row, "prompt": MESSAGES[:1], "completion": MESSAGES[1:]}, policy)
        assert ["completion_ids"] == list(found.columns)
        assert 1 == found.exact == len(found.breaches)
        assert "tool-trained" in [smell.code for smell in found.smells]
        assert found.trained["tool", "text"] > 0


def test_answers_of_a_preference_are_conversations_of_their_own(builtin: ChatTokenizer) -> None:
    masker = Masker(compile_text(POLICY), builtin)
    pair = masker.pair(prompt=MESSAGES[:1], chosen=MESSAGES[1:], rejected=[{"role": "assistant", "content": "Five."}])
    found = audited(builtin, dict(pair))
    assert (2, 2, []) == (found.rows, found.recovered, found.breaches)
    assert {"chosen_labels": 1, "rejected_labels": 1} == found.columns
    # Without the labels, as TRL trains: every token of an answer.
    plain = {name: pair[name] for name in ("prompt_ids", "chosen_ids", "rejected_ids")}
    found = audited(builtin, plain)
    assert {"chosen_ids": 1, "rejected_ids": 1} == found.columns
    assert ["tool-trained"] == [smell.code for smell in found.smells if smell.code == "tool-trained"]
    with pytest.raises(RowError, match="has `chosen_ids`, and no `prompt_ids` beside it"):
        audited(builtin, {"chosen_ids": plain["chosen_ids"], "rejected_ids": plain["rejected_ids"]})


def test_columns_of_other_lengths_and_ids_that_are_none(builtin: ChatTokenizer, rollout: dict[str, Any]) -> None:
    cut = {**rollout, "completion_mask": rollout["completion_mask"][1:]}
    with pytest.raises(
        RowError, match=r"row 1 has \d+ ids of the answer, \d+ of the prompt, and \d+ `completion_mask`"
    ):
        audited(builtin, cut)
    with pytest.raises(RowError, match="row 1: `completion_ids` has -100, which no token has"):
        audited(builtin, {**rollout, "completion_ids": [-100, *rollout["completion_ids"][1:]]})


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"labels": 5}, "`labels` is a number, not a list of numbers"),
        ({"labels": ["a", "b"]}, r"`labels`\[0\] is text, not a number"),
        ({"input_ids": [5, 6.5]}, r"`input_ids`\[1\] is a fraction, not a whole number"),
        ({"input_ids": [[5, 6]]}, r"`input_ids`\[0\] is a list, not a whole number"),
        ({"input_ids": [-200, 6]}, "`input_ids` is a list of negative numbers, not of token ids"),
        ({"attention_mask": 1}, "`attention_mask` is a number, not a list of numbers"),
        ({"seq_lengths": 2}, "`seq_lengths` is a number, not a list of numbers"),
        (
            {"input_ids": None, "prompt_ids": [5], "completion_ids": [6], "labels": 5},
            "`labels` is a number, not a list",
        ),
        ({"input_ids": None, "prompt_ids": 5, "completion_ids": [6]}, "and no `prompt_ids` beside it"),
    ],
)
def test_columns_that_are_no_numbers(builtin: ChatTokenizer, broken: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowError, match=f"^row 1:? .*{reason}"):
        audited(builtin, {"input_ids": [5, 6], "labels": [-100, 6], **broken})


def test_the_command_reads_them(tmp_path: Path, rollout: dict[str, Any]) -> None:
    data = tmp_path / "rollouts.jsonl"
    data.write_text(json.dumps({**rollout, "messages": MESSAGES}) + "\n" + json.dumps({"completion_mask": [1]}) + "\n")
    (tmp_path / "my.policy").write_text(POLICY)
    done = cli("audit", str(data), "-t", "builtin", "-p", str(tmp_path / "my.policy"), "--format", "json")
    found = done.document
    assert {"rows": 1, "exact": 1, "failed": 1, "columns": {"completion_mask": 1}, "breaches": []} == {
        key: found[key] for key in ("rows", "exact", "failed", "columns", "breaches")
    }
    assert "the row has no `input_ids`, and no `completion_ids`" in found["diagnostics"][-1]["message"]
