"""What `doctor` does with files of rows: those that fail, rollouts, and settings that no trainer has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from policy_engine.chat.loading import load_tokenizer
from policy_engine.doctor import runners
from policy_engine.doctor.examination import Examination
from policy_engine.doctor.samples import Sample
from tests.cli.support import CHATS, cli

ROW = {"input_ids": [5, 6, 7, 8], "labels": [-100, -100, 7, 8]}


@pytest.mark.parametrize(
    ("policy", "chat", "code", "exit", "message"),
    [
        ("train user\nnever train user\n", CHATS[0], "PE303", 1, "`never train user` does not hold"),
        ("train last 30000 user\nnever train user\n", CHATS[0], "PE301", 1, "chats.jsonl:1: "),
        ("train assistant\n", [{"role": "user", "content": 5}], "PE502", 2, "can be trained on; {data}:1: "),
        ("mask assistant\n", CHATS[0], "PE502", 2, "has anything to train"),
    ],
)
def test_rows_of_which_none_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str, chat: Any, code: str, exit: int, message: str
) -> None:
    monkeypatch.setattr("policy_engine.cli.work.doctor.runner_of", lambda name: None)
    data = tmp_path / "chats.jsonl"
    data.write_text((json.dumps({"messages": chat}) + "\n") * 2)
    rules = tmp_path / "my.policy"
    rules.write_text(policy)
    options = ["--trainer", "transformers", "-p", str(rules), "-t", "builtin", "--format", "json"]
    result = cli("doctor", str(data), *options)
    (finding,) = (d for d in result.document["diagnostics"] if d["severity"] == "error")
    assert (exit, code) == (result.code, finding["code"])
    assert message.format(data=data) in finding["message"]


@pytest.mark.parametrize(
    ("trainer", "setting", "message", "help"),
    [
        ("trl", "max_len=3", "`SFTConfig` of trl has no setting `max_len`", "did you mean `max_length`?"),
        ("transformers", "label_smoothing=1", "has no setting `label_smoothing`", "`label_smoothing_factor`?"),
        ("transformers", "xqzzy=1", "`TrainingArguments` of transformers has no setting `xqzzy`", "leave it out"),
    ],
)
def test_a_setting_that_the_trainer_does_not_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainer: str, setting: str, message: str, help: str
) -> None:
    pytest.importorskip(trainer)
    monkeypatch.setattr("policy_engine.cli.work.doctor.runner_of", lambda name: None)
    data = tmp_path / "masked.jsonl"
    data.write_text(json.dumps(ROW) + "\n")
    result = cli("doctor", str(data), "--trainer", trainer, "--set", setting, "--format", "json")
    (finding,) = result.document["diagnostics"]
    assert 2 == result.code
    assert message in finding["message"]
    assert help in finding["help"]
    runners.check_names(trainer, ["bf16", "pad_token"])


def test_rows_that_fail_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def survived(found: Sample, trainer: str, **options: Any) -> Examination:
        size = sum(len(d.ids) for d in found.documents)
        return Examination(
            trainer=trainer,
            version="1",
            rows=len(found.rows),
            documents=1,
            tokens=size,
            trained=1,
            loss=1.0,
            by_hand=1.0,
        )

    monkeypatch.setattr("policy_engine.cli.work.doctor.runner_of", lambda name: None)
    monkeypatch.setattr("policy_engine.cli.work.doctor.examine", survived)
    data = tmp_path / "chats.jsonl"
    bad, silent = [{"role": "user", "content": 5}], [{"role": "user", "content": "Hi"}]
    data.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in (bad, CHATS[0], silent, bad, bad)))
    result = cli("doctor", str(data), "--trainer", "trl", "-p", "default", "-t", "builtin", "--format", "json")
    assert 0 == result.code
    told = [d for d in result.document["diagnostics"] if "left out" in d["message"]]
    assert ["warning"] == [d["severity"] for d in told]
    assert "3 rows fail and are left out of the batch; the first: " in told[0]["message"]
    assert (1, 3, 1) == tuple(result.document[name] for name in ("rows", "rows_failed", "rows_empty"))
    text = cli("doctor", str(data), "--trainer", "trl", "-p", "default", "-t", "builtin")
    assert f"{data}:1" in text.err


@pytest.mark.parametrize("ids", ["input_ids", "prompt_ids"])
def test_rollouts_are_masked_and_carry_their_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ids: str) -> None:
    """Their ids, and marks of what was sampled, do not make them rows that are masked already, or preferences."""
    seen: list[Sample] = []

    def survived(found: Sample, trainer: str, **options: Any) -> Examination:
        seen.append(found)
        return Examination(
            trainer=trainer, version="1", rows=1, documents=1, tokens=1, trained=1, loss=1.0, by_hand=1.0
        )

    monkeypatch.setattr("policy_engine.cli.work.doctor.runner_of", lambda name: None)
    monkeypatch.setattr("policy_engine.cli.work.doctor.examine", survived)
    tokenizer = load_tokenizer("builtin").tokenizer
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    whole = tokenizer.apply_chat_template(chat, tokenize=True, return_dict=False)
    first = len(tokenizer.apply_chat_template(chat[:1], tokenize=True, return_dict=False, add_generation_prompt=True))
    marks = [0] * first + [1] * (len(whole) - first)
    logs = [-0.5 * mark for mark in marks]
    row: dict[str, Any] = {"messages": chat, "completion_mask": marks, "logprobs": logs}
    row |= (
        {"input_ids": whole} if ids == "input_ids" else {"prompt_ids": whole[:first], "completion_ids": whole[first:]}
    )
    data, policy, dataset = tmp_path / "rollouts.jsonl", tmp_path / "my.policy", tmp_path / "dataset.yaml"
    data.write_text(json.dumps(row) + "\n")
    policy.write_text("train sampled in assistant\n")
    dataset.write_text("carry: [logprobs]\n")
    result = cli(
        "doctor", str(data), "--trainer", "trl-grpo", "-p", str(policy), "-t", "builtin", "--dataset", str(dataset)
    )
    assert 0 == result.code, result.err
    (document,) = seen[0].documents
    assert whole == document.ids
    assert {"logprobs": logs} == document.carried
    assert [*tokenizer("Hello", add_special_tokens=False)["input_ids"]] == [i for i in document.labels if i != -100]
