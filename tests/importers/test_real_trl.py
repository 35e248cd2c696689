"""`import trl` held against the labels that TRL's own `SFTTrainer` prepares, of data of either kind.

Needs torch and trl, which no default install has: `make trainers` runs this in an environment of its own.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("torch")
trl = pytest.importorskip("trl")

from policy_engine.chat.loading import load_tokenizer  # noqa: E402
from policy_engine.importers.known_keys import TRL  # noqa: E402
from policy_engine.importers.trl import MASKS, from_trl  # noqa: E402
from policy_engine.mask.masker import Masker  # noqa: E402
from policy_engine.rules.compile import compile_text  # noqa: E402

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}<|im_end|>\n{% endgeneration %}{% else %}{{ m.content }}<|im_end|>\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Two and two?"},
    {"role": "assistant", "content": "Four."},
    {"role": "user", "content": "And three?"},
    {"role": "assistant", "content": "Seven."},
]
ROWS: dict[str, dict[str, Any]] = {
    "messages": {"messages": MESSAGES},
    "pair": {"prompt": MESSAGES[:-1], "completion": MESSAGES[-1:]},
    "pair of several": {"prompt": MESSAGES[:2], "completion": MESSAGES[2:]},
}


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("completion_only", [None, True, False])
@pytest.mark.parametrize("assistant_only", [True, False])
def test_labels(assistant_only: bool, completion_only: bool | None, kind: str, tmp_path: Path) -> None:
    settings = {"assistant_only_loss": assistant_only, "completion_only_loss": completion_only}
    path = tmp_path / "sft.yaml"
    path.write_text(yaml.safe_dump(settings))
    (made,) = from_trl(path)
    masker = Masker(compile_text(made.policy_text), load_tokenizer("builtin", template=TEMPLATE))
    ours = masker.batch({name: [value] for name, value in ROWS[kind].items()})
    theirs = prepared(ROWS[kind], settings, tmp_path)
    assert theirs["input_ids"] == list(ours["input_ids"][0])
    assert theirs["labels"][1:] == list(ours["labels"][0])[1:]  # the first token is no target of anything


def prepared(row: dict[str, Any], settings: dict[str, Any], folder: Path) -> Any:
    from datasets import Dataset
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = load_tokenizer("builtin").tokenizer
    tokenizer.chat_template = TEMPLATE
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=4, intermediate_size=4, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1,
    ))  # fmt: skip
    config = trl.SFTConfig(output_dir=str(folder), max_length=None, report_to=[], use_cpu=True, bf16=False, **settings)
    trainer = trl.SFTTrainer(
        model=model, args=config, processing_class=tokenizer, train_dataset=Dataset.from_list([row])
    )
    return trainer.train_dataset[0]


def test_known_keys_are_those_of_the_trainer_and_its_command_line() -> None:
    classes = (trl.SFTConfig, trl.ScriptArguments, trl.ModelConfig)
    theirs = {field.name for kind in classes for field in dataclasses.fields(kind)}
    # A mixture of data sets, in `ScriptArguments` of the command line alone.
    assert theirs | {"datasets"} == TRL | MASKS
