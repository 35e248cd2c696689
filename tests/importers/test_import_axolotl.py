"""axolotl's settings become policies that mean the same; what cannot is refused by key."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from policy_engine.chat.loading import load_tokenizer
from policy_engine.core.errors import ConfigError
from policy_engine.data.dataset import load_dataset_spec
from tests.cli.support import cli
from tests.importers.importing import MESSAGES, imported, trained


def _axolotl(**entry: Any) -> dict[str, Any]:
    top = {
        key: entry.pop(key)
        for key in ("train_on_inputs", "eot_tokens", "sequence_len", "base_model", "rl")
        if key in entry
    }
    return {"datasets": [{"path": "x.jsonl", "type": "chat_template", **entry}], **top}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "Four.<|im_end|>|Seven.<|im_end|>"),
        ({"train_on_eos": "none"}, "Four.|Seven."),
        ({"train_on_eos": "last"}, "Four.|Seven.<|im_end|>"),
        ({"train_on_eos": "all"}, "<|im_end|>|<|im_end|>|Four.<|im_end|>|<|im_end|>|Seven.<|im_end|>"),
        (
            {"train_on_eos": "last", "roles_to_train": ["user", "assistant"]},
            "Two and two?|Four.|And three?|Seven.<|im_end|>",
        ),
        ({"roles_to_train": ["user"]}, "Two and two?<|im_end|>|And three?<|im_end|>"),
        (
            {"train_on_inputs": True, "train_on_eos": "none"},
            "Be brief.|Two and two?|Four.|And three?|Seven.",
        ),
        (
            {"train_on_eos": "none", "train_on_eot": "turn", "eot_tokens": ["<|im_end|>"]},
            "Four.<|im_end|>|Seven.<|im_end|>",
        ),
        ({"train_on_eos": "turn", "train_on_eot": "none", "eot_tokens": ["<|im_end|>"]}, "Four.|Seven."),
    ],
)
def test_axolotl_settings(settings: dict[str, Any], expected: str, tmp_path: Path) -> None:
    (made,) = imported("axolotl", _axolotl(**settings), tmp_path)
    assert expected == trained(made.policy_text)


def test_axolotl_message_flags(tmp_path: Path) -> None:
    (made,) = imported("axolotl", _axolotl(message_field_training="train"), tmp_path)
    messages = [dict(m) for m in MESSAGES]
    messages[1]["train"] = True
    messages[2]["train"] = False
    assert "Two and two?<|im_end|>|Seven.<|im_end|>" == trained(made.policy_text, messages)


_SPAN = {"begin_offset": 0, "end_offset": 2, "train": True}
_OUT = {**_SPAN, "train": False}


@pytest.mark.parametrize(
    ("ends", "said", "expected"),
    [
        # Ranges decide within a turn that is trained, whatever trains it.
        ("turn", {2: {"train": True, "detail": [{**_SPAN, "end_offset": 3}]}},
         "Four|<|im_end|>|Seven.<|im_end|>"),
        ("turn", {2: {"train": False, "detail": [_SPAN]}}, "Seven.<|im_end|>"),
        ("turn", {2: {"train": True, "detail": []}}, "Four.<|im_end|>|Seven.<|im_end|>"),
        # An empty list says that nothing is trained, the end too.
        ("turn", {2: {"detail": []}}, "Seven.<|im_end|>"),
        ("turn", {1: {"detail": [_OUT]}}, "<|im_end|>|Four.<|im_end|>|Seven.<|im_end|>"),
        ("turn", {2: {"detail": None, "train": None}}, "Four.<|im_end|>|Seven.<|im_end|>"),
        # Values that are false in Python, and those that are not.
        *[("turn", {2: {"train": value}}, "Seven.<|im_end|>") for value in (False, 0, 0.0, "")],
        *[("none", {2: {"train": False}, 3: {"train": value}}, "And three?|Seven.") for value in (True, 1, "no")],
        # The last end is that of the last turn that is trained.
        ("last", {4: {"train": False}}, "Four.<|im_end|>"),
        ("last", {3: {"train": True}, 4: {"train": 0}}, "Four.|And three?<|im_end|>"),
        ("last", {4: {"detail": [_OUT]}}, "Four.|<|im_end|>"),
        ("last", {4: {"detail": []}}, "Four.<|im_end|>"),
        # All ends are all ends.
        ("all", {2: {"train": False}}, "<|im_end|>|<|im_end|>|<|im_end|>|<|im_end|>|Seven.<|im_end|>"),
    ],
)  # fmt: skip
def test_axolotl_what_messages_say(ends: str, said: dict[int, dict[str, Any]], expected: str, tmp_path: Path) -> None:
    fields = {"message_field_training": "train", "message_field_training_detail": "detail"}
    (made,) = imported("axolotl", _axolotl(**fields, train_on_eos=ends), tmp_path)
    messages = [{**message, **said.get(at, {})} for at, message in enumerate(MESSAGES)]
    assert expected == trained(made.policy_text, messages)


def test_axolotl_inputs_with_a_message_left_out(tmp_path: Path) -> None:
    (made,) = imported("axolotl", _axolotl(train_on_inputs=True, message_field_training="train"), tmp_path)
    messages = [MESSAGES[1], {**MESSAGES[2], "train": False}]
    assert "Two and two?<|im_end|>" == trained(made.policy_text, messages)


def test_axolotl_last_beside_all_is_the_last_of_any_turn(tmp_path: Path) -> None:
    settings = {"train_on_eos": "all", "train_on_eot": "last", "eot_tokens": ["<|im_end|>"]}
    (made,) = imported("axolotl", _axolotl(**settings), tmp_path)
    assert "Four.|<|im_end|>" == trained(made.policy_text, [*MESSAGES[:3], MESSAGES[3]])


PARTS: list[dict[str, Any]] = [
    {"role": "user", "content": [{"type": "text", "text": "Ask this.", "train": True}]},
    {
        "role": "assistant",
        "content": [
            {"type": "text", "text": "Yes."},
            {"type": "text", "text": " No.", "train": False},
            {"type": "text", "text": " Well.", "weight": 1},
            {"type": "text", "text": " Hm.", "weight": 0},
        ],
    },
    {"role": "user", "content": "And?"},
    {"role": "assistant", "content": "Then."},
]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "Ask this.<|im_end|>|Yes.| Well.|<|im_end|>|Then.<|im_end|>"),
        ({"train_on_eos": "none"}, "Ask this.|Yes.| Well.|Then."),
        ({"roles_to_train": []}, "Ask this.<|im_end|>|Yes.| Well.|<|im_end|>"),
    ],
)
def test_axolotl_content_parts_that_say_it_themselves(settings: dict[str, Any], expected: str, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(json.dumps({"messages": PARTS}) + "\n")
    (made,) = imported("axolotl", _axolotl(**settings), tmp_path)
    assert expected == trained(made.policy_text, PARTS)
    assert any("content parts decide for their part" in note for note in made.notes)


@pytest.mark.parametrize(
    ("content", "settings", "told"),
    [
        (json.dumps({"messages": MESSAGES}), {}, False),
        (json.dumps({"talk": [{"text": PARTS[0]["content"], "role": "user"}]}), {}, False),
        ("{", {}, True),
        (None, {}, True),
    ],
)
def test_axolotl_data_without_such_parts(
    content: str | None, settings: dict[str, Any], told: bool, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "x.jsonl").write_text(content + "\n")
    (made,) = imported("axolotl", _axolotl(**settings), tmp_path)
    assert "part." not in "".join(made.rules)
    assert told == any("the data is not here" in note for note in made.notes)


def test_axolotl_content_parts_under_other_names(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(json.dumps({"talk": [{"text": PARTS[0]["content"], "role": "user"}]}) + "\n")
    settings = {"field_messages": "talk", "message_property_mappings": {"role": "role", "content": "text"}}
    (made,) = imported("axolotl", _axolotl(**settings), tmp_path)
    assert "part.train" in made.policy_text


def test_axolotl_details(tmp_path: Path) -> None:
    (made,) = imported("axolotl", _axolotl(message_field_training_detail="detail"), tmp_path)
    messages = [dict(m) for m in MESSAGES[:3]]
    detail = [
        {"begin_offset": 0, "end_offset": 11, "train": True},
        {"begin_offset": 12, "end_offset": 15, "train": False},
    ]
    messages[2] = {"role": "assistant", "content": "Hello world! Yes", "detail": detail}
    assert "Hello world!|<|im_end|>" == trained(made.policy_text, messages)


def test_axolotl_details_that_train_nothing_still_train_the_end(tmp_path: Path) -> None:
    (made,) = imported("axolotl", _axolotl(message_field_training_detail="detail"), tmp_path)
    detail = [{"begin_offset": 0, "end_offset": 15, "train": False}]
    messages = [*MESSAGES[:2], {"role": "assistant", "content": "Hello world! Yes", "detail": detail}]
    assert "<|im_end|>" == trained(made.policy_text, messages)


def test_axolotl_finds_no_turn_without_text(tmp_path: Path) -> None:
    messages = [*MESSAGES[:4], {"role": "assistant", "content": ""}]
    (made,) = imported("axolotl", _axolotl(train_on_eos="last"), tmp_path)
    assert "Four.<|im_end|>" == trained(made.policy_text, messages)
    (made,) = imported("axolotl", _axolotl(train_on_eos="all"), tmp_path)
    assert "<|im_end|>|<|im_end|>|Four.<|im_end|>|<|im_end|>" == trained(made.policy_text, messages)


def test_axolotl_fields_and_notes(tmp_path: Path) -> None:
    entry = {
        "field_messages": "conversations",
        "message_property_mappings": {"role": "from", "content": "value"},
        "roles": {"assistant": ["gpt", "model"], "user": ["human"]},
        "split_thinking": True,
    }
    (made,) = imported(
        "axolotl", {**_axolotl(**entry), "adapter": "lora", "sequence_len": 2048, "base_model": "builtin"}, tmp_path
    )
    spec = load_dataset_spec(tmp_path / f"{made.name}.yaml")
    conversation = spec.format_of([{"conversations": [{"from": "human", "value": "hi"}]}])
    assert conversation.field == "conversations"
    assert "--max-length 2048 --truncate drop" in made.policy_text
    assert "left behind: adapter" in made.policy_text


def test_axolotl_drops_empty_settings(tmp_path: Path) -> None:
    (made,) = imported("axolotl", _axolotl(roles_to_train=None, train_on_eos=None), tmp_path)
    assert "Four.<|im_end|>|Seven.<|im_end|>" == trained(made.policy_text)
    assert any("drops empty settings" in note for note in made.notes)


def test_axolotl_roles_by_the_data_s_names(tmp_path: Path) -> None:
    (made,) = imported("axolotl", _axolotl(roles_to_train=["gpt"]), tmp_path)
    assert "Four.<|im_end|>|Seven.<|im_end|>" == trained(made.policy_text)


def test_axolotl_only_what_messages_say(tmp_path: Path) -> None:
    (made,) = imported("axolotl", _axolotl(roles_to_train=[], message_field_training="train"), tmp_path)
    messages = [dict(m) for m in MESSAGES]
    messages[2]["train"] = True
    assert "Four.<|im_end|>" == trained(made.policy_text, messages)


_INPUTS = "Be brief.<|im_end|>|Two and two?<|im_end|>|Four.<|im_end|>|And three?<|im_end|>|Seven.<|im_end|>"


# What axolotl 0.19.0 trains of these messages, its configuration validated and its strategy made by its own loader.
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ""),
        ({"train_on_eos": None}, ""),
        ({"train_on_eos": "turn"}, ""),
        ({"train_on_eos": "last"}, ""),
        ({"train_on_eos": "none"}, ""),
        ({"train_on_eos": "all"}, "<|im_end|>|<|im_end|>|<|im_end|>|<|im_end|>|<|im_end|>"),
        ({"train_on_inputs": True}, _INPUTS),
        ({"train_on_inputs": True, "train_on_eos": "all"}, _INPUTS),
    ],
)
def test_axolotl_an_empty_list_of_roles(settings: dict[str, Any], expected: str, tmp_path: Path) -> None:
    (made,) = imported("axolotl", _axolotl(roles_to_train=[], **settings), tmp_path)
    assert expected == trained(made.policy_text)
    assert ["PE254"] * (not expected) == [warning.code for warning in made.warnings]
    assert (not expected) == ("axolotl trains nothing of this data" in " ".join(made.notes))


def test_axolotl_says_every_key(tmp_path: Path) -> None:
    top = {"chat_template": "qwen3", "lora_r": 8, "chat_template_kwargs": {"enable_thinking": False}}
    (made,) = imported("axolotl", {**_axolotl(split="train[:1%]", field_system="sys"), **top}, tmp_path)
    assert "left behind: path, split." in " ".join(made.notes)
    assert "left behind: lora_r." in " ".join(made.notes)
    assert {"enable_thinking": False} == made.dataset["template_kwargs"]
    assert "sys" == made.dataset["messages"]["system"]
    assert "axolotl itself reads `system` whatever it says" in " ".join(made.notes)


@pytest.mark.parametrize(
    ("top", "told"),
    [
        ({"chat_template": "qwen3"}, "`chat_template: qwen3` is one of axolotl's own"),
        ({"chat_template": "qwen_3"}, "`chat_template: qwen_3` is no template of axolotl 0.19 (did you mean `qwen3`?)"),
        ({"chat_template": "jinja"}, "`chat_template: jinja` without `chat_template_jinja` names no template"),
        ({"chat_template": "tokenizer_default_fallback_chatml"}, "the tokenizer's own, which is what is taken here"),
        ({"excess_length_strategy": "truncate"}, "`sequence_len` is not set, and 512 in axolotl: apply with "
         "--max-length 512 --truncate keep_start (`excess_length_strategy`)"),
        ({"sequence_len": 9}, "`sequence_len: 9`: apply with --max-length 9 --truncate drop."),
        ({}, "axolotl masks the `<think>` that opens a last answer's own thinking"),
    ],
)  # fmt: skip
def test_axolotl_what_is_said_of_text_and_lengths(top: dict[str, Any], told: str, tmp_path: Path) -> None:
    (made,) = imported("axolotl", {**_axolotl(), **top}, tmp_path)
    assert told in " ".join(made.notes)


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ({"roles_to_train": ["asistant"]}, "did you mean `assistant` for `asistant`?"),
        ({"roles_to_train": ["user", "Assistant"]}, "did you mean `assistant` for `Assistant`?"),
        ({"roles_to_train": ["gtp"]}, "did you mean `gpt` for `gtp`?"),
        ({"roles_to_train": ["modle"], "roles": {"assistant": ["model"]}}, "did you mean `model` for `modle`?"),
    ],
)
def test_axolotl_a_role_that_looks_misspelled(entry: dict[str, Any], named: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`roles_to_train` cannot be carried over: nobody declares") as error:
        imported("axolotl", _axolotl(**entry), tmp_path)
    assert named in error.value.message
    assert "`datasets[0]`" in error.value.message


@pytest.mark.parametrize(
    "entry",
    [
        {"roles_to_train": ["asistant"], "roles": {"asistant": ["bot"]}},
        {"roles_to_train": ["asistant"], "roles": {"assistant": ["asistant"]}},
        {"roles_to_train": ["narrator"]},
    ],
)
def test_axolotl_a_role_that_is_declared_or_like_none(entry: dict[str, Any], tmp_path: Path) -> None:
    imported("axolotl", _axolotl(**entry), tmp_path)


def test_axolotl_tells_all_wrong_keys_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`roles_to_train`, `train_on_eos` cannot be carried over"):
        imported("axolotl", {**_axolotl(), "train_on_eos": "all", "roles_to_train": ["user"]}, tmp_path)
    slips = {"train_on_input": True, "sequence_length": 3, "eot_token": ["a"]}
    with pytest.raises(
        ConfigError, match="`eot_token`, `train_on_input` cannot be carried over: nobody knows them"
    ) as e:
        imported("axolotl", {**_axolotl(), **slips}, tmp_path)
    assert "did you mean `eot_tokens` for `eot_token`, `train_on_inputs` for `train_on_input`?" in e.value.message


def test_axolotl_keys_of_the_top_in_an_entry(tmp_path: Path) -> None:
    (made,) = imported("axolotl", _axolotl(chat_template_kwargs={"a": 1}), tmp_path)
    assert "template_kwargs" not in made.dataset
    assert "`chat_template_kwargs` of the dataset is left behind" in " ".join(made.notes)
    for wrong in ({"eot_tokens": ["a"]}, {"lora_r": 8, "train_on_inputs": True}, {"sequence_len": 9}):
        config = _axolotl()
        config["datasets"][0] |= wrong
        with pytest.raises(ConfigError) as error:
            imported("axolotl", config, tmp_path)
        named = "`, `".join(wrong)
        assert f"`datasets[0]`: `{named}` cannot be carried over: axolotl reads that at the top" in error.value.message
        assert "move it there" == error.value.help


def test_axolotl_several_datasets(tmp_path: Path) -> None:
    config = _axolotl()
    config["datasets"].append({"path": "y.jsonl", "type": "chat_template", "train_on_eos": "none"})
    assert ["run-0", "run-1"] == [item.name for item in imported("axolotl", config, tmp_path)]


def test_what_a_refused_type_advises_masks_alpaca_rows(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        imported("axolotl", _axolotl(type="alpaca"), tmp_path)
    command = re.search(r"`policy-engine (apply .*?)`", error.value.help or "")
    assert command is not None
    rows, out = tmp_path / "alpaca.jsonl", tmp_path / "out.jsonl"
    rows.write_text('{"instruction": "Add", "input": "2 + 2", "output": "4"}\n')
    given = {"DATA": str(rows), "TOKENIZER": "builtin", "OUT": str(out)}
    ran = cli(*(given.get(word, word) for word in command[1].split()))
    assert 0 == ran.code, ran.err
    row = json.loads(out.read_text())
    trained = [label for label in row["labels"] if label >= 0]
    assert "4<|im_end|>" == load_tokenizer("builtin").tokenizer.decode(trained)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"type": "alpaca"}, "`alpaca`"),
        ({"train_on_eoss": "all"}, "`train_on_eoss`"),
        ({"train_on_eos": "sometimes"}, "`sometimes`"),
        ({"train_on_eos": "all", "train_on_eot": "none"}, "`train_on_eot`"),
        ({"rl": "dpo"}, "`rl`"),
        ({"roles_to_trian": ["user"], "top": True}, "`roles_to_trian`"),
        ({"train_on_eos": "all", "top": True}, "`train_on_eos`"),
    ],
)
def test_axolotl_refuses_by_key(settings: dict[str, Any], named: str, tmp_path: Path) -> None:
    config = _axolotl(**settings)
    if config["datasets"][0].pop("top", False):  # the settings at the top of the file, where axolotl reads none of them
        config |= {key: config["datasets"][0].pop(key) for key in settings if key != "top"}
    with pytest.raises(ConfigError) as error:
        imported("axolotl", config, tmp_path)
    assert named in error.value.message
