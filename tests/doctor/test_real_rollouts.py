"""Rollouts whose ids are given, masked and taken through TRL's GRPO and verl's PPO by `doctor`: the mask of their loss
is the policy's bit for bit, and so are log-probabilities; the loss is the one by hand.

Needs torch with trl (`make trainers`) or with verl (`make frameworks`).
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from policy_engine.adapters.rollouts import rollout_of, trl_rollouts, verl_outputs  # noqa: E402
from policy_engine.chat.loading import load_tokenizer  # noqa: E402
from policy_engine.data.files.readers import read_rows  # noqa: E402
from policy_engine.doctor.examination import Examination  # noqa: E402
from policy_engine.doctor.examine import examine  # noqa: E402
from policy_engine.doctor.samples import read_sample  # noqa: E402
from tests.cli.support import cli  # noqa: E402

POLICY = """
train sampled in (assistant, eos of assistant)
mask sampled in assistant where message.void
never train user, tool
"""
CHATS: list[list[dict[str, Any]]] = [
    [
        {"role": "user", "content": "Is it raining in Oslo?"},
        {"role": "assistant", "content": "Let me see.", "void": True},
        {"role": "user", "content": "And?"},
        {"role": "assistant", "content": "Yes, it rains."},
    ],
    [
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": "Counting."},
        {"role": "tool", "content": "4"},
        {"role": "assistant", "content": "It is 4."},
    ],
    [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello there, how are you?"}],
]


def rollout(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """Prompt, completion, marks and log-probabilities; sampled letter by letter."""
    tokenizer = load_tokenizer("builtin").tokenizer
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    ids: list[int] = []
    marks: list[int] = []
    at = 0
    for message in messages:
        if message["role"] != "assistant":
            continue
        start = whole.index(message["content"], at)
        end = start + len(message["content"])
        put = tokenizer(whole[at:start], add_special_tokens=False)["input_ids"]
        own = [i for letter in whole[start:end] for i in tokenizer(letter, add_special_tokens=False)["input_ids"]]
        own += tokenizer.encode(tokenizer.eos_token, add_special_tokens=False)
        at = end + len(tokenizer.eos_token)
        ids, marks = [*ids, *put, *own], [*marks, *[0] * len(put), *[1] * len(own)]
    first = marks.index(1)
    logs = [-0.01 * n * mark for n, mark in enumerate(marks[first:], 1)]
    return {
        "messages": messages,
        "prompt_ids": ids[:first],
        "completion_ids": ids[first:],
        "completion_mask": marks[first:],
        "logprobs": logs,
        "advantages": [0.5 - 0.001 * n for n in range(len(logs))],
    }


ROLLOUTS = [rollout(chat) for chat in CHATS]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("rollouts")
    made = {name: folder / name for name in ("agent.policy", "rollouts.jsonl", "dataset.yaml", "masked.parquet")}
    made["agent.policy"].write_text(POLICY)
    made["rollouts.jsonl"].write_text("".join(json.dumps(row) + "\n" for row in ROLLOUTS))
    made["dataset.yaml"].write_text("carry: [logprobs, advantages, completion_mask]\n")
    given = ["-p", str(made["agent.policy"]), "-t", "builtin", "--dataset", str(made["dataset.yaml"])]
    result = cli("apply", str(made["rollouts.jsonl"]), *given, "-o", str(made["masked.parquet"]))
    assert 0 == result.code, result.err
    return made


@pytest.fixture(params=["trl-grpo", "verl-ppo"])
def trainer(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    pytest.importorskip(name.partition("-")[0])
    if name == "trl-grpo" and not _has_rollouts():
        pytest.skip("the trl that LLaMA-Factory wants takes no rollouts")
    return name


def masked(files: dict[str, Path]) -> list[tuple[int, dict[str, Any]]]:
    return [(number, dict(row)) for number, row in read_rows(str(files["masked.parquet"]))]  # type: ignore[call-overload]


def step(trainer: str, rows: list[tuple[int, dict[str, Any]]], **settings: Any) -> Examination:
    return examine(read_sample(rows, {}), trainer, settings=settings, tokenizer=load_tokenizer("builtin").tokenizer)


def errors(found: Examination) -> list[str]:
    return [f.code for f in found.findings if f.severity == "error"]


def test_the_command(trainer: str, files: dict[str, Path]) -> None:
    result = cli("doctor", str(files["masked.parquet"]), "-t", "builtin", "--trainer", trainer, "--format", "json")
    found = json.loads(result.out)
    assert 0 == result.code, found
    assert found["loss_by_hand"] == pytest.approx(found["loss"], abs=1e-5)
    tokens = sum(len(row["prompt_ids"]) + len(row["completion_ids"]) for row in ROLLOUTS)
    assert tokens == found["checked"]["labels"]
    assert tokens * (2 if trainer == "verl-ppo" else 1) == found["checked"]["carried"]
    unmasked = ["-p", str(files["agent.policy"]), "-t", "builtin", "--dataset", str(files["dataset.yaml"])]
    again = cli("doctor", str(files["rollouts.jsonl"]), "--trainer", trainer, *unmasked, "--format", "json")
    assert found["loss"] == pytest.approx(again.document["loss"], abs=1e-6)


def test_masks_are_the_policys_bit_for_bit(files: dict[str, Path]) -> None:
    tokenizer = load_tokenizer("builtin").tokenizer
    rows = [row for _, row in masked(files)]
    made = trl_rollouts(rows)
    for row, given, mask, logs in zip(rows, ROLLOUTS, made["env_mask"], made["logprobs"], strict=True):
        assert [int(label != -100) for label in row["labels"]][len(given["prompt_ids"]) :] == mask
        assert torch.tensor(given["logprobs"]).tolist() == logs
    assert [row["prompt_ids"] for row in ROLLOUTS] == made["prompt_ids"]
    assert [row["completion_ids"] for row in ROLLOUTS] == made["completion_ids"]
    # All that was sampled has loss, but the turn that did nothing; results of tools have none.
    trained = [
        tokenizer.decode([i for i, m in zip(ids, mask, strict=True) if m])
        for ids, mask in zip(made["completion_ids"], made["env_mask"], strict=True)
    ]
    end = tokenizer.eos_token
    assert [
        f"Yes, it rains.{end}",
        f"Counting.{end}It is 4.{end}",
        f"Hello there, how are you?{end}",
    ] == trained
    assert ["advantages", "completion_ids", "env_mask", "logprobs", "prompt_ids"] == sorted(made)


def test_outputs_of_verls_agent_loop(files: dict[str, Path]) -> None:
    pytest.importorskip("verl")
    rows = [row for _, row in masked(files)]
    for row, output in zip(rows, verl_outputs(rows), strict=True):
        rollout = rollout_of(row)
        made = output.as_dict()
        assert rollout.loss_mask == made["response_mask"].tolist()
        assert row["input_ids"] == [*made["prompts"].tolist(), *made["responses"].tolist()]
        assert rollout.logprobs == made["rollout_log_probs"].tolist()


def test_losses_by_hand(trainer: str, files: dict[str, Path]) -> None:
    name, kinds = {
        "trl-grpo": ("loss_type", ("grpo", "bnpo", "dr_grpo", "dapo", "cispo")),
        "verl-ppo": (
            "actor_rollout_ref.actor.loss_agg_mode",
            ("token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm"),
        ),
    }[trainer]
    found = [step(trainer, masked(files), **{name: kind}) for kind in kinds]
    assert [[]] * len(kinds) == [errors(one) for one in found], [one.findings for one in found]
    assert [one.loss for one in found] == pytest.approx([one.by_hand for one in found], abs=1e-5)
    assert len({round(one.loss or 0, 4) for one in found}) > 3


def test_a_trainer_that_masks_more_is_seen(files: dict[str, Path]) -> None:
    """TRL leaves completions out that do not end; verl stops at those that are longer than its limit."""
    if _has_rollouts():
        rows = [(number, {name: _cut(column) for name, column in row.items()}) for number, row in masked(files)]
        found = step("trl-grpo", rows, mask_truncated_completions=True)
        assert {"labels-changed", "ids-changed", "cut"} & set(errors(found)), found.findings
        assert [] == errors(step("trl-grpo", rows))


def test_numbers_that_moved_are_seen(trainer: str, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def moved(row: Any, **rest: Any) -> Any:
        made = rollout_of(row, **rest)
        return dataclasses.replace(made, columns={name: [*column[1:], 0.0] for name, column in made.columns.items()})

    monkeypatch.setattr("policy_engine.adapters.rollouts.rollout_of", moved)
    found = step(trainer, masked(files))
    assert "carried-changed" in errors(found), found.findings
    moved_columns = " ".join(finding.message for finding in found.findings)
    assert "numbers of `logprobs` are not at the tokens that they belong to" in moved_columns


def test_what_is_longer_than_verls_limit_is_refused(files: dict[str, Path]) -> None:
    pytest.importorskip("verl")
    found = step("verl-ppo", masked(files), **{"actor_rollout_ref.rollout.response_length": 20})
    assert ["refused"] == errors(found)


def test_weights_have_no_place(trainer: str, files: dict[str, Path]) -> None:
    rows = [(n, {**row, "loss_weights": [0.5] * len(row["input_ids"])}) for n, row in masked(files)]
    found = step(trainer, rows)
    assert ["refused", "weights-ignored"] == errors(found)
    assert "the loss of a rollout has no place for them" in found.findings[0].message


def test_supervised_training_on_the_same_rows(files: dict[str, Path]) -> None:
    for name in ("trl", "verl"):
        if importlib.util.find_spec(name) is not None:
            found = step(name, masked(files))
            assert [] == errors(found), found.findings
            assert found.by_hand == pytest.approx(found.loss, abs=1e-5)


def _cut(column: Any) -> Any:
    return column[:-2] if isinstance(column, list) else column


def _has_rollouts() -> bool:
    return importlib.util.find_spec("trl") is not None and version("trl") >= "1"
