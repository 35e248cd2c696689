"""`import llamafactory` held against LLaMA-Factory's own templates and processor: thinking that is added empty.

Needs the package, which `make frameworks` installs in an environment of its own.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("torch")

from policy_engine.chat.loading import load_tokenizer
from policy_engine.importers.known_keys import LLAMAFACTORY
from policy_engine.importers.others import CARRIED, from_llamafactory
from policy_engine.mask.masker import Masker
from policy_engine.rules.compile import compile_text

pytestmark = pytest.mark.usefixtures("without_sound")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n"
    "{% else %}<think>\n\n</think>\n\n{% endif %}{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ASKED = [{"role": "user", "content": "Two and two?"}, {"role": "assistant", "content": "Four."}]
MESSAGES = [*ASKED, {"role": "user", "content": "And three?"}, {"role": "assistant", "content": "Seven."}]


@pytest.mark.parametrize("mask_history", [False, True])
@pytest.mark.parametrize("thinking", [{}, {"enable_thinking": True}, {"enable_thinking": False},
                                      {"enable_thinking": None}])  # fmt: skip
def test_labels(thinking: dict[str, Any], mask_history: bool, tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump({"template": "qwen3", "mask_history": mask_history, **thinking}))
    (made,) = from_llamafactory(path)
    # With masked history it writes no empty thinking into earlier answers, so there is one answer.
    messages = ASKED if mask_history else MESSAGES
    ours = Masker(compile_text(made.policy_text), load_tokenizer("builtin", template=TEMPLATE))(messages)
    ids, labels = theirs(messages, mask_history, thinking)
    assert ids == ours.input_ids
    assert labels == list(ours.labels)


def theirs(
    messages: list[dict[str, Any]], mask_history: bool, thinking: dict[str, Any], *, cutoff_len: int = 4096
) -> tuple[list[int], list[int]]:
    pytest.importorskip("llamafactory")
    from llamafactory.data.processor.supervised import SupervisedDatasetProcessor
    from llamafactory.data.template import get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments

    data = DataArguments(template="qwen3", mask_history=mask_history, cutoff_len=cutoff_len, **thinking)
    tokenizer = load_tokenizer("builtin").tokenizer
    processor = SupervisedDatasetProcessor(
        template=get_template_and_fix_tokenizer(tokenizer, data), tokenizer=tokenizer, processor=None, data_args=data
    )
    made: tuple[list[int], list[int]] = processor._encode_data_example(
        prompt=messages[:-1], response=messages[-1:], system="", tools="", images=[], videos=[], audios=[]
    )
    return made


@pytest.mark.parametrize("mask_history", [False, True])
def test_the_pairs_that_cutoff_len_keeps(mask_history: bool, tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump({"template": "qwen3", "mask_history": mask_history, "cutoff_len": 48}))
    (made,) = from_llamafactory(path)
    plain = [{"role": m["role"], "content": m["content"] * 5} for m in MESSAGES]
    whole, _ = theirs(plain, mask_history, {"enable_thinking": False})
    ids, labels = theirs(plain, mask_history, {"enable_thinking": False}, cutoff_len=48)
    assert len(ids) <= 48 < len(whole)
    assert any(label >= 0 for label in labels)
    note = next(note for note in made.notes if "cutoff_len" in note)
    assert ("keep_end" in note) == mask_history
    # One pair is whole, the last or the first; of the other the beginning is left.
    side = whole[-24:] if mask_history else whole[:24]
    assert side == (ids[-24:] if mask_history else ids[:24])


def test_known_keys_are_those_of_its_arguments() -> None:
    hparams = pytest.importorskip("llamafactory.hparams")
    names = ("ModelArguments", "DataArguments", "TrainingArguments", "FinetuningArguments", "GeneratingArguments")
    fields = [field for name in names for field in dataclasses.fields(getattr(hparams, name)) if field.init]
    assert {field.name for field in fields} == LLAMAFACTORY | CARRIED
