"""Other systems' settings become policies that mean the same; what cannot is refused by key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from policy_engine.chat.loading import load_tokenizer
from policy_engine.core.errors import ConfigError, DataError
from policy_engine.importers.registry import IMPORTERS
from policy_engine.importers.trl import from_trl
from policy_engine.mask.explain import explain_pieces
from policy_engine.mask.masker import Masker
from policy_engine.rules.compile import compile_text
from policy_engine.run.truncate import Truncation, truncate
from tests.cli.support import cli
from tests.importers.importing import MESSAGES, imported, trained

ADDS_EMPTY_THINK = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n"
    "{% else %}<think>\n\n</think>\n\n{% endif %}{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
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
        masker = Masker(compile_text(made.policy_text), load_tokenizer("builtin"))
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
    masker = Masker(compile_text(made.policy_text), load_tokenizer("builtin"))
    prompt = [*MESSAGES[:1], {"role": "user", "content": "One?"}, {"role": "assistant", "content": "1"}, MESSAGES[1]]
    labels = masker.batch({"prompt": [prompt], "completion": [MESSAGES[2:]]})["labels"][0]
    assert expected == masker.tokenizer.tokenizer.decode([label for label in labels if label >= 0])


TWO: dict[str, Any] = {"prompt": MESSAGES[:2], "completion": MESSAGES[2:]}


@pytest.mark.parametrize("config", [{}, {"completion_only_loss": False}, {"assistant_only_loss": True}])
@pytest.mark.parametrize(
    ("rows", "absent"),
    [
        ([{"messages": MESSAGES}], "sample."),
        ([PAIR], "sample."),
        ([PAIR, TWO], "has sample.prompt"),
        ([TWO], "sample.completion[4]"),
        ([{"prompt": "Two and two?", "completion": "Four."}], "sample."),
        ([PAIR, {"messages": MESSAGES}], "no such text"),
        # As a file with columns has them.
        ([PAIR, {"messages": MESSAGES, "prompt": None, "completion": None}], "no such text"),
        ([{"messages": MESSAGES, "prompt": None, "completion": None}], "sample."),
    ],
)
def test_trl_for_data_that_is_known(rows: list[Any], absent: str, config: dict[str, Any], tmp_path: Path) -> None:
    data, path = tmp_path / "d.jsonl", tmp_path / "sft.yaml"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    path.write_text(yaml.safe_dump({"learning_rate": 1, **config}))
    (short,), (whole,) = from_trl(path, str(data)), from_trl(path)
    rules = [line for line in short.policy_text.splitlines() if not line.startswith("#")]
    assert absent not in "\n".join(rules)
    if config == {"assistant_only_loss": True} and "messages" in rows[0]:
        assert ["use trl_assistant_only"] == rules
    # Shorter, and the same: token by token, over the rows that it was written for.
    for row in rows:
        one = {name: [value] for name, value in row.items()}
        labels = [
            Masker(compile_text(made.policy_text), load_tokenizer("builtin")).batch(one)["labels"]
            for made in (short, whole)
        ]
        assert labels[0][0].tolist() == labels[1][0].tolist()


def test_trl_with_data_on_the_command_line(tmp_path: Path) -> None:
    data, path = tmp_path / "d.jsonl", tmp_path / "sft.yaml"
    data.write_text(json.dumps({"messages": MESSAGES}) + "\n")
    path.write_text("assistant_only_loss: true\n")
    ran = cli("import", "trl", str(path), "--data", str(data))
    assert (0, True, False) == (ran.code, "use trl_assistant_only" in ran.out, "turn.from_end" in ran.out)
    assert "`policy-engine import trl CONFIG --data DATA` looks at your rows" in " ".join(
        cli("import", "trl", str(path)).out.replace("\n#", " ").split()
    )
    ran = cli("import", "tinker", "TrainOnWhat.LAST_ASSISTANT_TURN", "--data", str(data))
    assert (2, True) == (ran.code, "`import tinker` takes no --data" in ran.err)
    data.write_text("no row\n")
    ran = cli("import", "trl", str(path), "--data", str(data))
    assert (2, True) == (ran.code, f"{data}:1: error[PE501]" in ran.err)


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


@pytest.mark.parametrize(
    ("config", "keep", "keeps"),
    [({}, "keep_start", "first"), ({"train_on_prompt": True}, "keep_start", "first"),
     ({"mask_history": True}, "keep_end", "last")],
)  # fmt: skip
def test_llamafactory_cuts_where_nothing_is_trained(
    config: dict[str, Any], keep: str, keeps: str, tmp_path: Path
) -> None:
    (made,) = imported("llamafactory", {**config, "cutoff_len": 30}, tmp_path)
    assert f"--max-length 30 --truncate {keep}. LLaMA-Factory keeps the {keeps} pairs" in " ".join(made.notes)
    assert "drops rows whose messages" in " ".join(made.notes)
    # The row is longer than that, and what the policy trains of it is not cut away.
    row = Masker(compile_text(made.policy_text), load_tokenizer("builtin"))(MESSAGES[1:])
    cut = truncate(row, Truncation(max_length=30, keep=keep))  # type: ignore[arg-type]
    assert len(row.input_ids) > 30
    assert cut is not None
    assert any(label >= 0 for label in cut.labels)


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
    row = Masker(compile_text(made.policy_text), tokenizer)(MESSAGES[3:])
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
    row = Masker(compile_text(policy), load_tokenizer("builtin"))(
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


_AXOLOTL_CONFIG: dict[str, Any] = {"base_model": "m", "datasets": [{"path": "a.jsonl", "type": "chat_template"}]}


@pytest.mark.parametrize(
    ("system", "config", "what", "help"),
    [
        (
            "llamafactory",
            {"a": {"file_name": "a.json"}, "b": {"hf_hub_url": "x/b"}},
            "dataset_info.json",
            "training YAML",
        ),
        ("trl", {"a": {"file_name": "a.json"}}, "LLaMA-Factory's `dataset_info.json`", "SFTConfig"),
        ("llamafactory", {"a": {"formatting": "sharegpt"}}, "`dataset_info.json`, the list", "training YAML"),
        ("llamafactory", {"a": {"file_name": "a"}, "b": {"columns": {}}}, "`dataset_info.json`, the list", "YAML"),
        ("llamafactory", {"a": {"file_nme": "a.json"}}, "each of its entries is an object", "training YAML"),
        ("trl", _AXOLOTL_CONFIG, "a configuration of axolotl", "`policy-engine import axolotl` reads it"),
        ("llamafactory", _AXOLOTL_CONFIG, "a configuration of axolotl", "`policy-engine import axolotl` reads it"),
        (
            "axolotl",
            {"finetuning_type": "full", "stage": "sft"},
            "LLaMA-Factory",
            "`policy-engine import llamafactory`",
        ),
        ("llamafactory", {"assistant_only_loss": True}, "TRL's `SFTConfig`", "`policy-engine import trl` reads it"),
        ("trl", {"features": {}, "citation": ""}, "the description of a dataset", "SFTConfig"),
        ("trl", {"model_type": "qwen3", "architectures": ["Qwen3"]}, "a model's `config.json`", "SFTConfig"),
        ("axolotl", {"tokenizer_class": "Qwen2Tokenizer"}, "a tokenizer's configuration", "axolotl's own"),
        ("llamafactory", {"peft_type": "LORA"}, "an adapter's", "training YAML"),
    ],
)
def test_files_of_another_kind_are_refused(
    system: str, config: dict[str, Any], what: str, help: str, tmp_path: Path
) -> None:
    path = tmp_path / "given.json"
    path.write_text(json.dumps(config))
    ran = cli("import", system, path)
    assert 2 == ran.code
    assert what in ran.err
    assert help in ran.err
