"""Tagged templates in TRL's own trainer, `assistant_only_loss=True`: its labels are ours.

Needs torch and trl: `make trainers` runs this in an environment of its own.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from datasets import Dataset  # noqa: E402

from policy_engine import Masker, load_policy  # noqa: E402
from policy_engine.chat.reference import reference_mask  # noqa: E402
from policy_engine.chat.tokenizer import ChatTokenizer  # noqa: E402
from policy_engine.core.vocabulary import IGNORE_INDEX  # noqa: E402
from policy_engine.data.conversation import Conversation  # noqa: E402
from policy_engine.tagging import tag_template  # noqa: E402
from tests.support.tokenizers import load  # noqa: E402

FAMILIES = ("qwen", "llama3", "llama4", "mistral-v3", "deepseek")
CHATS: tuple[list[dict[str, Any]], ...] = (
    [{"role": "user", "content": "Where is it?"}, {"role": "assistant", "content": "It is here."}],
    [
        {"role": "user", "content": "One <|im_end|> and </s>?"},
        {"role": "assistant", "content": "Ja, naïve 日本."},
        {"role": "user", "content": "Two?"},
        {"role": "assistant", "content": "Two.\n\n- yes"},
    ],
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "So."},
    ],
)


def trainer_for(tokenizer: Any, rows: Dataset, folder: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer

    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    arguments = SFTConfig(
        output_dir=str(folder), assistant_only_loss=True, max_steps=1, per_device_train_batch_size=len(rows),
        use_cpu=True, bf16=False, report_to=[], save_strategy="no", max_length=None,
    )  # fmt: skip
    return SFTTrainer(model=LlamaForCausalLM(config), args=arguments, train_dataset=rows, processing_class=tokenizer)


@pytest.mark.parametrize("family", FAMILIES)
def test_labels_of_trl_are_ours(family: str, tmp_path: Any) -> None:
    program = load_policy("default")
    ours = ChatTokenizer.from_transformers(load(family))
    tokenizer = copy.deepcopy(ours.tokenizer)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    tokenizer.chat_template = tag_template(ours.template, program).source
    masker = Masker(program, ours)

    trainer = trainer_for(tokenizer, Dataset.from_list([{"messages": chat} for chat in CHATS]), tmp_path)
    rows = list(trainer.train_dataset)
    assert len(CHATS) == len(rows)
    for chat, row in zip(CHATS, rows, strict=True):
        expected = masker(chat)
        assert expected.input_ids == row["input_ids"]
        batch = trainer.data_collator([row])
        # No loss is counted at a first token, which a policy never trains.
        assert expected.labels[1:] == batch["labels"][0].tolist()[1:]
        assert {IGNORE_INDEX} < set(expected.labels)
        ids, mask = reference_mask(tokenizer, tokenizer.chat_template, Conversation(messages=tuple(chat)))
        assert expected.input_ids == ids
        assert [label != IGNORE_INDEX for label in expected.labels] == list(map(bool, mask))
    assert torch.isfinite(torch.tensor(trainer.train().training_loss))
