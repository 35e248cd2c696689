"""LLaMA-Factory, torchtune and verl themselves: their dataset classes, collators and losses take our rows, and the loss
of a batch is the masked cross entropy computed by hand.

Needs these packages, which `make frameworks` installs in an environment of its own.
"""

from __future__ import annotations

import json
import sys
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from policy_engine.adapters.doctor.samples import Document, read_sample  # noqa: E402
from policy_engine.adapters.doctor.steps import by_hand, tiny_model  # noqa: E402
from policy_engine.adapters.torchtune import PolicyTransform  # noqa: E402
from policy_engine.builtin import sample_rows  # noqa: E402
from policy_engine.chat.tokenize import load_tokenizer  # noqa: E402
from policy_engine.core.vocabulary import IGNORE_INDEX  # noqa: E402
from policy_engine.mask.masker import Masker  # noqa: E402
from policy_engine.rules.load import policy_from_text  # noqa: E402

PLAIN = "train assistant; train eos after assistant"
WEIGHTED = "train assistant weight 0.5; train eos after assistant weight 2"
CLOSE = 1e-5


def masker(policy: str = PLAIN) -> Masker:
    return Masker(policy_from_text(policy), load_tokenizer("builtin"))


def chats(count: int = 4) -> list[dict[str, Any]]:
    return list(islice((r for r in sample_rows() if isinstance(r.get("messages"), list) and not r.get("tools")), count))


def rows(policy: str = PLAIN) -> list[dict[str, Any]]:
    masked = (masker(policy)(row["messages"]).arrays() for row in chats())
    return [{name: column.tolist() for name, column in row.items()} for row in masked]


def flat(name: str, given: list[dict[str, Any]]) -> list[int]:
    return [value for row in given for value in row[name]]


def documents(policy: str = PLAIN) -> list[Document]:
    return read_sample(list(enumerate(rows(policy), 1)), {}).documents


@pytest.fixture(scope="module")
def model() -> Any:
    tokenizer = load_tokenizer("builtin").tokenizer
    made = tiny_model(len(tokenizer), tokenizer.pad_token_id)
    made.eval()
    return made


def test_torchtune_dataset_collator_and_loss(model: Any) -> None:
    pytest.importorskip("torchtune")
    from torchtune.data import padded_collate_sft
    from torchtune.datasets import PackedDataset
    from torchtune.datasets._sft import SFTTransform
    from torchtune.modules.loss import CEWithChunkedOutputLoss

    transform = SFTTransform(model_transform=PolicyTransform(masker=masker()))
    made = [transform({"messages": row["messages"]}) for row in chats()]
    assert [row["labels"] for row in rows()] == [list(map(int, sample["labels"])) for sample in made]
    batch = padded_collate_sft(made, padding_idx=0, ignore_idx=IGNORE_INDEX)
    # As its recipes do: shifted here, and the logits in chunks.
    ahead = torch.full_like(batch["labels"][:, :1], IGNORE_INDEX)
    labels = torch.hstack((batch["labels"][:, 1:], ahead))
    loss_of = CEWithChunkedOutputLoss(num_output_chunks=4, ignore_index=IGNORE_INDEX)
    with torch.no_grad():
        logits = model(input_ids=batch["tokens"]).logits
    loss = float(loss_of(list(logits.chunk(4, dim=1)), labels))
    assert by_hand(model, documents(), divisor="tokens") == pytest.approx(loss, abs=CLOSE)
    packed = PackedDataset(made, max_seq_len=400)
    pack = packed[0]
    assert flat("labels", rows())[:20] == pack["labels"].tolist()[:20]
    assert int((pack["input_pos"] == 0).sum()) >= len(made)


def test_verl_dataset_collator_and_loss(model: Any, tmp_path: Path) -> None:
    pytest.importorskip("verl")
    from tensordict import TensorDict
    from verl.utils.dataset.dataset_utils import DatasetPadMode, SFTTensorCollator
    from verl.utils.tensordict_utils import assign_non_tensor
    from verl.utils.torch_functional import logprobs_from_logits
    from verl.workers.utils.losses import sft_loss

    from policy_engine.adapters.verl import PolicySFTDataset

    data = tmp_path / "chats.jsonl"
    data.write_text("".join(json.dumps({"messages": row["messages"]}) + "\n" for row in chats()))
    policy = tmp_path / "w.policy"
    policy.write_text(WEIGHTED)
    tokenizer = load_tokenizer("builtin").tokenizer
    dataset = PolicySFTDataset(str(data), tokenizer, {"policy": str(policy), "max_length": 4096})
    batch = SFTTensorCollator(DatasetPadMode.NO_PADDING)([dataset[i] for i in range(len(dataset))])
    logs = []
    with torch.no_grad():
        for ids in batch["input_ids"].unbind():
            logs.append(logprobs_from_logits(model(input_ids=ids[None]).logits[0], torch.roll(ids, -1)))
    weights = batch["loss_mask"]
    given = TensorDict({"loss_mask": weights}, batch_size=[len(logs)])
    assign_non_tensor(given, dp_size=1, batch_num_tokens=float(weights.values().sum()))
    loss, _ = sft_loss(None, {"log_probs": torch.nested.as_nested_tensor(logs, layout=torch.jagged)}, given)
    assert by_hand(model, documents(WEIGHTED), divisor="weights") == pytest.approx(float(loss), abs=CLOSE)


@pytest.fixture
def llamafactory(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("llamafactory")
    # It imports torchaudio for audio data, of which there is no build for the CPU's torch.
    monkeypatch.setitem(sys.modules, "torchaudio", ModuleType("torchaudio"))


@pytest.mark.usefixtures("llamafactory")
@pytest.mark.parametrize("packed", [False, True])
def test_llamafactory_collator_and_loss(model: Any, packed: bool) -> None:
    from llamafactory.data.collator import SFTDataCollatorWith4DAttentionMask
    from llamafactory.data.template import TEMPLATES

    tokenizer = load_tokenizer("builtin").tokenizer
    collator = SFTDataCollatorWith4DAttentionMask(
        template=TEMPLATES["empty"],
        tokenizer=tokenizer,
        label_pad_token_id=IGNORE_INDEX,
        block_diag_attn=packed,
        attn_implementation="sdpa",
    )
    made = rows()
    if packed:  # as its neat packing writes rows: documents counted in the attention mask
        made = [
            {
                "input_ids": flat("input_ids", made),
                "labels": flat("labels", made),
                "attention_mask": [n for n, row in enumerate(made, 1) for _ in row["input_ids"]],
                "position_ids": [at for row in made for at in range(len(row["input_ids"]))],
            }
        ]
    batch = collator(made)
    with torch.no_grad():
        loss = float(model(**batch).loss)
    assert by_hand(model, documents(), divisor="tokens") == pytest.approx(loss, abs=CLOSE)


@pytest.mark.usefixtures("llamafactory")
def test_llamafactory_loads_a_tokenized_folder(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict, load_from_disk
    from llamafactory.data.data_utils import get_dataset_module

    DatasetDict({"train": Dataset.from_list(rows())}).save_to_disk(str(tmp_path / "tokenized"))
    module = get_dataset_module(load_from_disk(str(tmp_path / "tokenized")))
    assert rows()[0]["labels"] == module["train_dataset"][0]["labels"]
