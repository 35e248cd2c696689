"""Other systems' settings become policies that mean the same; what cannot is refused by key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from policy_engine.adapters.importers import IMPORTERS
from policy_engine.chat.dataset import load_dataset_spec
from policy_engine.chat.tokenize import load_tokenizer
from policy_engine.core.errors import ConfigError, DataError
from policy_engine.lang.check import check_text
from policy_engine.mask.explain import explain_pieces
from policy_engine.mask.masker import Masker
from policy_engine.rules.load import policy_from_text

ADDS_EMPTY_THINK = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n"
    "{% else %}<think>\n\n</think>\n\n{% endif %}{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Two and two?"},
    {"role": "assistant", "content": "Four."},
    {"role": "user", "content": "And three?"},
    {"role": "assistant", "content": "Seven."},
]


def trained(policy: str, messages: list[dict[str, Any]] = MESSAGES) -> str:
    """The trained text, stretches joined by a bar."""
    row = Masker(policy_from_text(policy), load_tokenizer("builtin"))(messages)
    out, text = [], row.chat.text
    last = -1
    for start, end, weight in zip(row.tokenized.starts_T, row.tokenized.ends_T, row.mask.weights_T, strict=True):
        if weight:
            out.append(("|" if start > last and out else "") + text[start:end])
            last = int(end)
    return "".join(out)


def imported(system: str, config: Any, tmp_path: Path, name: str = "run.yml") -> Any:
    path = tmp_path / name
    path.write_text(yaml.safe_dump(config) if isinstance(config, dict) else config)
    made = IMPORTERS[system](str(path))
    for item in made:
        check_text(item.policy_text)
        (tmp_path / f"{item.name}.policy").write_text(item.policy_text)
        (tmp_path / f"{item.name}.yaml").write_text(item.dataset_text)
        load_dataset_spec(tmp_path / f"{item.name}.yaml")
    return made


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
    config = _axolotl()
    config["datasets"][0]["eot_tokens"] = ["a"]
    with pytest.raises(ConfigError, match=r"`datasets\[0\]`: `eot_tokens` cannot be carried"):
        imported("axolotl", config, tmp_path)


def test_axolotl_several_datasets(tmp_path: Path) -> None:
    config = _axolotl()
    config["datasets"].append({"path": "y.jsonl", "type": "chat_template", "train_on_eos": "none"})
    assert ["run-0", "run-1"] == [item.name for item in imported("axolotl", config, tmp_path)]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"type": "alpaca"}, "`alpaca`"),
        ({"train_on_eoss": "all"}, "`train_on_eoss`"),
        ({"train_on_eos": "sometimes"}, "`sometimes`"),
        ({"train_on_eos": "all", "train_on_eot": "none"}, "`train_on_eot`"),
        ({"roles_to_train": []}, "`roles_to_train`"),
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


PAIR: dict[str, Any] = {"prompt": MESSAGES[:-1], "completion": MESSAGES[-1:]}
EVERYTHING = "".join(
    f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n" for message in MESSAGES
)  # fmt: skip


@pytest.mark.parametrize(
    ("config", "of_messages", "of_pairs"),
    [
        ({}, EVERYTHING, "Seven.<|im_end|>\n"),
        ({"completion_only_loss": None}, EVERYTHING, "Seven.<|im_end|>\n"),
        ({"completion_only_loss": True}, EVERYTHING, "Seven.<|im_end|>\n"),
        ({"completion_only_loss": False}, EVERYTHING, EVERYTHING),
        ({"assistant_only_loss": True}, "Four.<|im_end|>\nSeven.<|im_end|>\n", "Seven.<|im_end|>\n"),
        ({"assistant_only_loss": True, "completion_only_loss": True},
         "Four.<|im_end|>\nSeven.<|im_end|>\n", "Seven.<|im_end|>\n"),
        ({"assistant_only_loss": True, "completion_only_loss": False},
         "Four.<|im_end|>\nSeven.<|im_end|>\n", "Four.<|im_end|>\nSeven.<|im_end|>\n"),
    ],
)  # fmt: skip
def test_trl(config: dict[str, Any], of_messages: str, of_pairs: str, tmp_path: Path) -> None:
    (made,) = imported("trl", {"learning_rate": 1, **config}, tmp_path)
    for row, expected in (({"messages": MESSAGES}, of_messages), (PAIR, of_pairs)):
        masker = Masker(policy_from_text(made.policy_text), load_tokenizer("builtin"))
        labels = masker.batch({name: [value] for name, value in row.items()})["labels"][0]
        text = masker.tokenizer.tokenizer.decode([label for label in labels if label >= 0])
        assert expected.removeprefix("<|im_start|>") == text  # the first token is never a target


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, "Four.<|im_end|>\n<|im_start|>user\nAnd three?<|im_end|>\n<|im_start|>assistant\nSeven.<|im_end|>\n"),
        ({"assistant_only_loss": True}, "Four.<|im_end|>\nSeven.<|im_end|>\n"),
    ],
)
def test_trl_a_completion_of_several_messages(config: dict[str, Any], expected: str, tmp_path: Path) -> None:
    (made,) = imported("trl", {"learning_rate": 1, **config}, tmp_path)
    masker = Masker(policy_from_text(made.policy_text), load_tokenizer("builtin"))
    prompt = [*MESSAGES[:1], {"role": "user", "content": "One?"}, {"role": "assistant", "content": "1"}, MESSAGES[1]]
    labels = masker.batch({"prompt": [prompt], "completion": [MESSAGES[2:]]})["labels"][0]
    assert expected == masker.tokenizer.tokenizer.decode([label for label in labels if label >= 0])


@pytest.mark.parametrize(
    ("key", "trainer"),
    [("beta", "preference or reward"), ("desirable_weight", "KTO"), ("num_generations", "GRPO"),
     ("center_rewards_coefficient", "reward"), ("f_divergence_type", "DPO")],
)  # fmt: skip
def test_trl_of_another_trainer_is_refused(key: str, trainer: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"`{key}` cannot be carried over: of .*{trainer}.* training"):
        imported("trl", {key: 1, "learning_rate": 1}, tmp_path)


def test_trl_says_what_it_leaves_behind(tmp_path: Path) -> None:
    config = {"dataset_kwargs": {"skip_prepare_dataset": True}, "chat_template_path": "t.jinja", "max_length": 9}
    (made,) = imported("trl", config, tmp_path)
    text = " ".join(made.notes)
    assert '`dataset_kwargs: {"skip_prepare_dataset": true}`' in text
    assert "`chat_template_path: t.jinja`" in text
    assert "--max-length 9 --truncate keep_start" in text


def test_llamafactory(tmp_path: Path) -> None:
    info = {
        "mine": {"file_name": "x.json", "formatting": "sharegpt", "tags": {"role_tag": "who", "content_tag": "what"}}
    }
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    (made,) = imported("llamafactory", {"dataset": "mine", "mask_history": True, "template": "qwen"}, tmp_path)
    assert "Seven.<|im_end|>\n" == trained(made.policy_text)
    assert made.dataset["messages"]["role"] == "who"
    with pytest.raises(ConfigError, match="no dataset `other`"):
        imported("llamafactory", {"dataset": "other"}, tmp_path)
    with pytest.raises(ConfigError, match="exclude each other"):
        imported("llamafactory", {"train_on_prompt": True, "mask_history": True}, tmp_path)


EMPTY_THINK = "<think>\n\n</think>\n\n"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        # Trained unless it is switched off: that is its default.
        ({}, f"{EMPTY_THINK}Seven.<|im_end|>\n"),
        ({"enable_thinking": True}, f"{EMPTY_THINK}Seven.<|im_end|>\n"),
        ({"enable_thinking": False}, "Seven.<|im_end|>\n"),
        ({"enable_thinking": None}, "Seven.<|im_end|>\n"),
        ({"mask_history": True, "stage": "sft"}, f"{EMPTY_THINK}Seven.<|im_end|>\n"),
        ({"mask_history": True, "enable_thinking": False}, "Seven.<|im_end|>\n"),
    ],
)
def test_llamafactory_thinking_that_is_added_empty(config: dict[str, Any], expected: str, tmp_path: Path) -> None:
    (made,) = imported("llamafactory", {**config, "template": "qwen3"}, tmp_path)
    tokenizer = load_tokenizer("builtin", template=ADDS_EMPTY_THINK)
    row = Masker(policy_from_text(made.policy_text), tokenizer)(MESSAGES[3:])
    assert expected == tokenizer.tokenizer.decode([label for label in row.labels if label >= 0])


@pytest.mark.parametrize("stage", ["pt", "rm", "ppo", "dpo", "kto"])
def test_llamafactory_of_another_stage_is_refused(stage: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"`stage` cannot be carried over: `{stage}`"):
        imported("llamafactory", {"stage": stage}, tmp_path)


def test_swift() -> None:
    (made,) = IMPORTERS["swift"]("last_round+ignore_empty_think")
    assert "Seven.<|im_end|>\n" == trained(made.policy_text)
    with pytest.raises(ConfigError, match="ms-swift has no loss_scale `hermess`") as error:
        IMPORTERS["swift"]("default+hermess")
    assert "did you mean `hermes`?" in str(error.value.help)
    with pytest.raises(ConfigError, match="ms-swift has no loss_scale `nonsense`") as error:
        IMPORTERS["swift"]("nonsense")
    assert "the names are default, last_round, all" in str(error.value.help)
    for wrong in ("default+all", "hermes+default"):
        with pytest.raises(ConfigError, match="behind another name"):
            IMPORTERS["swift"](wrong)
    with pytest.raises(
        ConfigError, match="`agentflan` cannot be carried over: it weighs an answer by words of the que"
    ):
        IMPORTERS["swift"]("agentflan")
    with pytest.raises(ConfigError, match="cut those of the other"):
        IMPORTERS["swift"]("react+hermes")


def _weighted(policy: str, answer: str) -> str:
    """The answer's stretches, each with its weight."""
    row = Masker(policy_from_text(policy), load_tokenizer("builtin"))(
        [{"role": "user", "content": "x"}, {"role": "assistant", "content": answer}]
    )
    pieces: list[tuple[str, float]] = []
    for piece in explain_pieces(row.program, row.chat):
        if piece.turn == 1 and piece.part not in ("header", "separator"):
            text, weight = pieces.pop() if pieces and pieces[-1][1] == piece.weight else ("", piece.weight)
            pieces.append((text + piece.text, weight))
    return "".join(f"[{text}]{weight:g}" for text, weight in pieces)


@pytest.mark.parametrize(
    ("name", "answer", "expected"),
    [
        ("react", "Observation: one\ntwo", "[Observation:]2[ one\ntwo]0[<|im_end|>]1"),
        ("react", "hm Action Input: {\n}\nThought: so", "[hm ]1[Action Input: {\n}\n]2[Thought: so<|im_end|>]1"),
        ("react", "Observation: a Observation: b", "[Observation:]2[ a ]0[Observation:]2[ b]0[<|im_end|>]1"),
        ("alpha_umi", "Next: go\non", "[Next: go\non]2[<|im_end|>]1"),
        ("qwen", "✿RESULT✿: a\n✿RETURN✿: b", "[✿RESULT✿:]2[ a\n]0[✿RETURN✿: b<|im_end|>]1"),
        ("last_round+hermes", "so <tool_call>\n</tool_call>", "[so ]1[<tool_call>\n</tool_call>]2[<|im_end|>]1"),
    ],
)
def test_swift_words(name: str, answer: str, expected: str) -> None:
    (made,) = IMPORTERS["swift"](name)
    assert expected == _weighted(made.policy_text, answer)


def test_swift_says_what_messages_can_say() -> None:
    (made,) = IMPORTERS["swift"]("react")
    assert "train assistant weight message.loss_scale" in made.notes[0]
    (made,) = IMPORTERS["swift"]("last_round+ignore_empty_think")
    assert "`mask assistant where message.loss_scale == 0`" in made.notes[0]
    assert "above the last two rules" in made.notes[0]


def test_swift_words_in_the_last_round_only() -> None:
    (made,) = IMPORTERS["swift"]("last_round+react")
    messages = [
        {"role": "user", "content": "a"}, {"role": "assistant", "content": "Action: b"},
        {"role": "user", "content": "c"}, {"role": "assistant", "content": "Action: d"},
    ]  # fmt: skip
    assert "Action: d<|im_end|>\n" == trained(made.policy_text, messages)


@pytest.mark.parametrize(
    ("config", "answer", "expected"),
    [
        ({"Thought:": [0.5, 1.0], "Action:": [2.0, 2.0]}, "Thought: hm Action: go\non",
         "[Thought:]0.5[ hm ]1[Action: go\non]2[<|im_end|>]1"),
        ({"Thought:": [0, 0.5], "Action:": [3, 0]}, "Thought: hm Action: go",
         "[Thought:]0[ hm ]0.5[Action:]3[ go]0[<|im_end|>]1"),
        ({"<b>.+?</b>": [3], "x": [0]}, "a <b>b\nc</b>", "[a ]1[<b>b\nc</b>]3[<|im_end|>]1"),
        ({"Action:": [2, 2], "<b>.+?</b>": [3]}, "<b>b</b> Action: c", "[<b>b</b> ]1[Action: c]2[<|im_end|>]1"),
    ],
)  # fmt: skip
def test_swift_json(config: dict[str, list[float]], answer: str, expected: str, tmp_path: Path) -> None:
    (made,) = imported("swift", json.dumps(config), tmp_path, "w.json")
    assert expected == _weighted(made.policy_text, answer)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"Action:": 2.0}, "`Action:` has 2.0"),
        ({"Action:": [1, 2, 3]}, "`Action:` has"),
        ({"Action Input:": [1, 2], "Input:": [1, 3]}, "`Action Input:` cannot be carried over"),
        ({"response": {}, "query": {}}, "`query` cannot be carried over"),
    ],
)
def test_swift_json_is_refused_by_key(config: dict[str, Any], named: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        imported("swift", json.dumps(config), tmp_path, "w.json")
    assert named in error.value.message


def test_tinker_and_openai(tmp_path: Path) -> None:
    (made,) = IMPORTERS["tinker"]("TrainOnWhat.ALL_ASSISTANT_MESSAGES")
    assert "Four.<|im_end|>|Seven.<|im_end|>" == trained(made.policy_text)
    with pytest.raises(ConfigError, match="`everything`"):
        IMPORTERS["tinker"]("everything")
    path = tmp_path / "ft.jsonl"
    path.write_text(json.dumps({"messages": MESSAGES}) + "\n")
    (made,) = IMPORTERS["openai"](str(path))
    assert "Four.<|im_end|>|Seven.<|im_end|>" == trained(made.policy_text)
    with pytest.raises(DataError):
        IMPORTERS["openai"](str(tmp_path / "none.jsonl"))


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ({"messages": MESSAGES, "metadata": 1}, "ft.jsonl:2 has keys that cannot be carried over: `metadata`"),
        ({"messages": [{**MESSAGES[0], "wieght": 0}]}, "ft.jsonl:2: a message has keys .*: `wieght`"),
        ({"messages": [{**MESSAGES[0], "weight": 0.5}]}, "ft.jsonl:2: `weight` cannot be carried over: it is 0.5"),
        ({"prompt": "a", "completion": "b"}, "ft.jsonl:2: the row has no `messages`"),
        ({"messages": ["a"]}, "ft.jsonl:2: a message is no object"),
    ],
)
def test_every_row_of_an_openai_file_is_read(tmp_path: Path, row: dict[str, Any], error: str) -> None:
    path = tmp_path / "ft.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in ({"messages": MESSAGES}, row)))
    with pytest.raises((ConfigError, DataError), match=error):
        IMPORTERS["openai"](str(path))
