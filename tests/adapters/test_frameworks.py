"""Strategies and transforms for axolotl, torchtune and verl give the labels a Masker gives."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from policy_engine.adapters import axolotl
from policy_engine.adapters.torchtune import PolicyTransform
from policy_engine.adapters.verl import PolicySFTDataset
from policy_engine.chat.loading import load_tokenizer
from policy_engine.core.errors import ConfigError, PolicyCheckError, RowError
from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.mask.masker import Masker
from policy_engine.rules.compile import compile_file

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Two and two?"},
    {"role": "assistant", "content": "Four."},
    {"role": "user", "content": "And three?"},
    {"role": "assistant", "content": "Seven."},
]


@pytest.fixture(scope="module")
def expected() -> Any:
    return Masker(compile_file("default"), load_tokenizer("builtin"))(MESSAGES)


def test_axolotl_strategy(expected: Any) -> None:
    from datasets import Dataset

    strategy = axolotl.load(load_tokenizer("builtin").tokenizer, cfg={}, ds_cfg={"policy": "default"})
    made = strategy.wrap_dataset(Dataset.from_list([{"messages": MESSAGES, "id": 1}] * 3))
    assert {"input_ids", "attention_mask", "labels"} == set(made.column_names)
    assert expected["labels"] == made[2]["labels"]
    assert expected["input_ids"] == made[0]["input_ids"]


def test_axolotl_entry_without_a_policy() -> None:
    with pytest.raises(ConfigError, match="names no policy"):
        axolotl.load(load_tokenizer("builtin").tokenizer, cfg={}, ds_cfg={"path": "x"})


def test_axolotl_keys_that_say_what_is_trained_are_refused() -> None:
    given = {"policy": "default", "train_on_eos": "all", "roles_to_train": ["user"]}
    with pytest.raises(ConfigError, match="has `roles_to_train`, `train_on_eos` too"):
        axolotl.load(load_tokenizer("builtin").tokenizer, cfg={}, ds_cfg=given)


@pytest.mark.parametrize(
    ("cfg", "entry", "key"),
    [
        ({"train_on_inputs": True}, {}, "train_on_inputs"),
        ({}, {"drop_system_message": True}, "drop_system_message"),
        ({}, {"template_thinking_key": "thoughts"}, "template_thinking_key: thoughts"),
    ],
)
def test_axolotl_keys_that_would_do_nothing_are_refused(cfg: Any, entry: Any, key: str) -> None:
    with pytest.raises(ConfigError, match=f"`{key}`"):
        axolotl.load(load_tokenizer("builtin").tokenizer, cfg=cfg, ds_cfg={"policy": "default", **entry})


def test_axolotl_keys_that_say_where_messages_are(expected: Any) -> None:
    from datasets import Dataset

    names = {"assistant": "bot", "user": "human", "system": "system"}
    chat = [{"who": names[m["role"]], "says": m["content"], "kind": "text"} for m in MESSAGES]
    given = {
        "policy": "default",
        "field_messages": "dialogue",
        "message_property_mappings": {"role": "who", "content": "says"},
        "roles": {"assistant": ["bot"], "user": ["human"]},
    }
    strategy = axolotl.load(load_tokenizer("builtin").tokenizer, cfg={}, ds_cfg=given)
    made = strategy.wrap_dataset(Dataset.from_list([{"dialogue": chat, "other": 1}]))
    assert expected["labels"] == made[0]["labels"]


def test_axolotl_refuses_weights(tmp_path: Path) -> None:
    path = tmp_path / "w.policy"
    path.write_text("train assistant weight 0.5\ntrain eos after assistant\n")
    with pytest.raises(ConfigError, match="no per-token weights"):
        axolotl.load(load_tokenizer("builtin").tokenizer, cfg={}, ds_cfg={"policy": str(path)})


def test_a_policy_whose_guard_fails_starts_no_run(tmp_path: Path) -> None:
    path = tmp_path / "broken.policy"
    path.write_text("train assistant, user\nnever train user\n", encoding="utf-8")
    with pytest.raises(PolicyCheckError, match="never train user"):
        axolotl.load(load_tokenizer("builtin").tokenizer, cfg={}, ds_cfg={"policy": str(path)})
    with pytest.raises(PolicyCheckError, match="never train user"):
        PolicySFTDataset([], load_tokenizer("builtin").tokenizer, config={"policy": str(path)})


def test_torchtune_mask_is_inverted(expected: Any) -> None:
    masker = Masker(compile_file("default"), load_tokenizer("builtin"))
    messages: list[Any] = [
        SimpleNamespace(role=m["role"], content=[{"type": "text", "content": m["content"]}]) for m in MESSAGES
    ]
    made = PolicyTransform(masker=masker)({"messages": messages, "source": "a"})
    assert expected["input_ids"] == made["tokens"]
    assert [label == IGNORE_INDEX for label in expected["labels"]] == made["mask"]
    assert made["source"] == "a"


def test_verl_dataset(expected: Any, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"messages": MESSAGES}) + "\n" for _ in range(2)))
    dataset = PolicySFTDataset(str(data), load_tokenizer("builtin").tokenizer, {"policy": "default", "max_length": 512})
    assert len(dataset) == 2
    item = dataset[1]
    assert expected["input_ids"] == item["input_ids"].tolist()
    assert [float(label != IGNORE_INDEX) for label in expected["labels"]] == item["loss_mask"].tolist()
    assert item["loss_mask"].dtype == torch.float32
    short = PolicySFTDataset(
        str(data), load_tokenizer("builtin").tokenizer, {"policy": "default", "max_length": 9, "truncation": "right"}
    )
    assert expected["input_ids"][:9] == short[0]["input_ids"].tolist()


def test_verl_dataset_of_masked_rows(tmp_path: Path) -> None:
    data = tmp_path / "masked.jsonl"
    rows = [
        {"input_ids": [5, 6, 7, 8], "labels": [5, -100, 7, 8], "loss_weights": [1.0, 0.0, 0.5, 2.0]},
        {"input_ids": [5, 6, 7, 8], "labels": [-100, 6, 7, 8], "position_ids": [0, 1, 0, 1]},
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = PolicySFTDataset(str(data), tokenizer=None, config={})
    assert len(dataset) == 2
    for bad, message in (
        ({"messages": MESSAGES}, "names no policy"),
        ({**rows[0], "loss_weights": [1.0]}, "4 `input_ids` and 1 `loss_weights`"),
    ):
        data.write_text(json.dumps(bad) + "\n")
        with pytest.raises((ConfigError, RowError), match=message):
            PolicySFTDataset(str(data), tokenizer=None, config={})
    pytest.importorskip("torch")
    first, second = dataset[0], dataset[1]
    assert [0.0, 0.0, 0.5, 2.0] == first["loss_mask"].tolist()
    assert [0, 1, 2, 3] == first["position_ids"].tolist()
    assert [0.0, 1.0, 0.0, 1.0] == second["loss_mask"].tolist()
    assert [0, 1, 0, 1] == second["position_ids"].tolist()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"input_ids": [1, 2, 3, 4], "labels": [2, 3, 4, -100]}, "token 0 of row 1 is 1 and its label 2"),
        (
            {"input_ids": [1, 2, 0, 0], "labels": [-100, 2, -100, -100], "attention_mask": [1, 1, 0, 0]},
            "row 1 is padded",
        ),
        ({"input_ids": [1, 2], "labels": [-100, 2], "loss_weights": [0.0, float("inf")]}, "has weight inf"),
    ],
)
def test_verl_takes_no_masked_rows_that_mean_something_else(row: Any, reason: str, tmp_path: Any) -> None:
    file = tmp_path / "masked.jsonl"
    file.write_text(json.dumps(row).replace("Infinity", "1e999") + "\n")
    with pytest.raises(RowError, match=reason):
        PolicySFTDataset(str(file), load_tokenizer("builtin").tokenizer, {})


def test_verl_reads_packed_rows_by_document(tmp_path: Any) -> None:
    file = tmp_path / "masked.jsonl"
    row = {"row": [1, 2], "input_ids": [1, 2, 3, 4], "labels": [-100, 2, 3, 4], "seq_lengths": [2, 2]}
    file.write_text(json.dumps(row) + "\n")
    found = PolicySFTDataset(str(file), load_tokenizer("builtin").tokenizer, {}).columns(0)
    assert (found["position_ids"].tolist(), found["loss_mask"].tolist()) == ([0, 1, 0, 1], [0.0, 1.0, 0.0, 1.0])
