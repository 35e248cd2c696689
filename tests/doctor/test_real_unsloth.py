"""What of Unsloth runs without a GPU, which is in unsloth_zoo: its preparation of rows for `SFTTrainer`, the collator
that this chooses, its `train_on_responses_only` on top of our labels, and its fused loss. Transformers' `Trainer` takes
the step, since Unsloth's own trainers and kernels are in the package `unsloth`, which needs a GPU to be imported.

Needs unsloth_zoo, which `make frameworks` installs beside ms-swift.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
# Its own switch: without it, unsloth_zoo looks for the package `unsloth` and a device as soon as it is imported.
os.environ["UNSLOTH_ZOO_DISABLE_GPU_INIT"] = "1"
zoo = pytest.importorskip("unsloth_zoo.dataset_utils")

from datasets import Dataset  # noqa: E402

from policy_engine.builtin import sample_rows  # noqa: E402
from policy_engine.chat.loading import load_tokenizer  # noqa: E402
from policy_engine.core.vocabulary import IGNORE_INDEX  # noqa: E402
from policy_engine.doctor.samples import Document  # noqa: E402
from policy_engine.doctor.steps import by_hand, tiny_model  # noqa: E402
from policy_engine.doctor.trainers.hooks import watched  # noqa: E402
from policy_engine.mask.masker import Masker  # noqa: E402
from policy_engine.rules.compile import compile_text  # noqa: E402

PLAIN = "train assistant; train eos after assistant"
CLOSE = 1e-5
USER, ANSWER = "<|im_start|>user\n", "<|im_start|>assistant\n"
Row = dict[str, list[Any]]


def tokenizer() -> Any:
    return load_tokenizer("builtin").tokenizer


def rows_of(policy: str = PLAIN, count: int = 6) -> list[Row]:
    masker = Masker(compile_text(policy), load_tokenizer("builtin"))
    chats = (r["messages"] for r in sample_rows() if isinstance(r.get("messages"), list) and not r.get("tools"))
    masked = [masker(chat).arrays() for chat in islice(chats, count)]
    return [{name: column.tolist() for name, column in row.items()} for row in masked]


def without(rows: Sequence[Row], *names: str) -> list[Row]:
    return [{name: column for name, column in row.items() if name not in names} for row in rows]


def prepared(rows: Sequence[Row], **settings: Any) -> tuple[list[Row], Any]:
    """What its preparation makes of rows, and the collator that it puts into the trainer."""
    trainer = SimpleNamespace(data_collator=None, model=None)
    given = {"max_length": 2048, "dataset_text_field": "text", "dataset_num_proc": None, **settings}
    made = zoo.sft_prepare_dataset(
        trainer, Dataset.from_list(list(rows)), tokenizer(), SimpleNamespace(**given), False, None, "train"
    )
    return made.to_list(), trainer.data_collator


def trainer_of(rows: Sequence[Row], collator: Any, folder: Path) -> Any:
    from transformers import Trainer, TrainingArguments

    arguments = TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=len(rows), max_steps=1, learning_rate=0.0, use_cpu=True,
        report_to=[], save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    model = tiny_model(len(tokenizer()), tokenizer().pad_token_id)
    dataset = Dataset.from_list(list(rows))
    return Trainer(
        model=model, args=arguments, train_dataset=dataset, data_collator=collator, processing_class=tokenizer()
    )


def step(trainer: Any) -> tuple[dict[str, Any], float, Any]:
    with watched(type(trainer)) as seen:
        trainer.train()
    return seen[0]


def documents(rows: Sequence[Row]) -> list[Document]:
    return [Document(row=at, ids=row["input_ids"], labels=row["labels"], weights=None) for at, row in enumerate(rows)]


def reached(batch: dict[str, Any]) -> list[tuple[list[int], list[int]]]:
    """Ids and labels of the rows of a batch, without padding."""
    found = []
    for ids, labels, mask in zip(*(batch[name].tolist() for name in ("input_ids", "labels", "attention_mask"))):
        assert {IGNORE_INDEX} >= set(labels[sum(mask) :])
        found.append((ids[: sum(mask)], labels[: sum(mask)]))
    return sorted(found)


def expected(rows: Sequence[Row]) -> list[tuple[list[int], list[int]]]:
    return sorted((row["input_ids"], row["labels"]) for row in rows)


def test_rows_and_labels_stay_as_they_are(tmp_path: Path) -> None:
    rows = rows_of()
    made, collator = prepared(rows, max_length=20)  # this part of it cuts nothing
    assert rows == made
    assert "DataCollatorForSeq2Seq" == type(collator).__name__
    batch, loss, model = step(trainer_of(made, collator, tmp_path))
    assert expected(rows) == reached(batch)
    assert by_hand(model, documents(rows), divisor="tokens") == pytest.approx(loss, abs=CLOSE)


def test_its_fused_loss(tmp_path: Path) -> None:
    """Given what its patched models give it: hidden states, the head, labels as they are, and the number of targets."""
    from unsloth_zoo.fused_losses.cross_entropy_loss import unsloth_fused_ce_loss

    rows = rows_of()
    made, collator = prepared(rows)
    batch = collator(made)
    model = tiny_model(len(tokenizer()), tokenizer().pad_token_id)
    hidden = model.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    loss = unsloth_fused_ce_loss(
        None, hidden, model.lm_head.weight, None, batch["labels"],
        n_items=(batch["labels"][:, 1:] != IGNORE_INDEX).sum(), torch_compile=False,
    )  # fmt: skip
    assert by_hand(model, documents(rows), divisor="tokens") == pytest.approx(loss.item(), abs=CLOSE)


def test_without_labels_its_collator_trains_everything() -> None:
    made, collator = prepared(without(rows_of(), "labels"))
    batch = collator(made)
    assert torch.equal(batch["labels"] != IGNORE_INDEX, batch["input_ids"] != tokenizer().pad_token_id)


def test_weights_stop_its_collator() -> None:
    made, collator = prepared(rows_of("train assistant weight 0.5"))
    assert "loss_weights" in made[0]
    with pytest.raises(ValueError, match="Unable to create tensor"):
        collator(made)


@pytest.mark.parametrize("policy", [PLAIN, "train assistant", "train last assistant", "train user, assistant"])
def test_responses_only_on_top_trains_nothing_that_we_mask(policy: str, tmp_path: Path) -> None:
    rows = rows_of(policy)
    trainer = trainer_of(rows, prepared(rows)[1], tmp_path)
    trainer = zoo.train_on_responses_only(trainer, instruction_part=USER, response_part=ANSWER)
    made = trainer.train_dataset.to_list()
    assert [row["input_ids"] for row in rows] == [row["input_ids"] for row in made]
    for ours, theirs in zip(rows, made):
        assert all(label in (mine, IGNORE_INDEX) for mine, label in zip(ours["labels"], theirs["labels"]))
    if "user" not in policy:
        assert [row["labels"] for row in rows] == [row["labels"] for row in made]
    batch, loss, model = step(trainer)
    assert expected(made) == reached(batch)
    assert by_hand(model, documents(made), divisor="tokens") == pytest.approx(loss, abs=CLOSE)


def test_responses_only_drops_rows_that_train_no_response(tmp_path: Path) -> None:
    users = rows_of("train user")[:2]
    trainer = trainer_of([*users, *rows_of()[2:]], prepared(users)[1], tmp_path)
    made = zoo.train_on_responses_only(trainer, instruction_part=USER, response_part=ANSWER).train_dataset.to_list()
    assert expected(rows_of()[2:]) == expected(made)
    trainer = trainer_of(users, prepared(users)[1], tmp_path)
    with pytest.raises(ValueError, match="masked every label to -100"):
        zoo.train_on_responses_only(trainer, instruction_part=USER, response_part=ANSWER)
