"""Megatron-Bridge itself, as far as it runs on a CPU: its builder of fine-tuning data finds our file and metadata, its
packed dataset collates batches whose loss mask is ours, and its loss function makes the loss computed by hand of them.

Needs the package, which `make frameworks` installs in an environment of its own, without its requirements. Importing
`megatron.bridge` itself needs Transformer Engine, which needs a GPU; so that one file is not run, the modules in the
package are.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("megatron.core")
megatron = pytest.importorskip("megatron")

from policy_engine.adapters.megatron import METADATA, write_megatron  # noqa: E402
from policy_engine.builtin import sample_rows  # noqa: E402
from policy_engine.chat.loading import load_tokenizer  # noqa: E402
from policy_engine.core.vocabulary import IGNORE_INDEX  # noqa: E402
from policy_engine.mask.masker import Masker  # noqa: E402
from policy_engine.rules.compile import compile_text  # noqa: E402
from policy_engine.run.pack import pack  # noqa: E402

FOLDER = next((Path(p) / "bridge" for p in megatron.__path__ if (Path(p) / "bridge").is_dir()), None)
if FOLDER is None:
    pytest.skip("could not import 'megatron.bridge': no such package", allow_module_level=True)

PLAIN = "train assistant; train eos after assistant"
WEIGHTED = "train assistant; train eos after assistant weight 3"
SIZE = 1000
CLOSE = 1e-5


@pytest.fixture(scope="module", autouse=True)
def bridge() -> None:
    package = ModuleType("megatron.bridge")
    package.__path__ = [str(FOLDER)]
    sys.modules["megatron.bridge"] = package


def module(name: str) -> Any:
    return importlib.import_module(f"megatron.bridge.{name}")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = str(tmp_path_factory.mktemp("tokenizer"))
    load_tokenizer("builtin").tokenizer.save_pretrained(folder)
    return module("training.tokenizers.tokenizer")._HuggingFaceTokenizer(folder)


@pytest.fixture(scope="module")
def model() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(load_tokenizer("builtin").tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=4096,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def rows_of(policy: str) -> list[Any]:
    masker = Masker(compile_text(policy), load_tokenizer("builtin"))
    chats = [row["messages"] for row in sample_rows() if isinstance(row.get("messages"), list) and not row.get("tools")]
    return [masker(chat) for chat in chats[:6]]


def built(folder: Path, tokenizer: Any, **specs: Any) -> Any:
    """The training dataset that a configuration naming our files is built to."""
    packed = module("data.datasets.packed_sequence")
    named = {"packed_train_data_path": folder / "train.npy", "packed_metadata_path": folder / METADATA}
    specs = {"packed_sequence_size": SIZE, **named, **specs}
    arguments = {"pad_to_max_length": True} if specs.get("pad_cu_seqlens") else {}
    builder = module("data.builders.finetuning_dataset").FinetuningDatasetBuilder(
        dataset_root=folder, tokenizer=tokenizer, packed_sequence_specs=packed.PackedSequenceSpecs(**specs),
        dataset_kwargs=arguments, do_validation=False, do_test=False,
    )  # fmt: skip
    return builder.build()[0]


def documents(batch: dict[str, Any]) -> list[tuple[list[int], list[int], list[int], list[int]]]:
    """Of a batch of one sequence: inputs, labels, mask and positions of each document, and of what fills it up."""
    ends = [end for end in batch["cu_seqlens"][0].tolist() if end >= 0]
    names = ("tokens", "labels", "loss_mask", "position_ids")
    return [
        tuple(batch[name][0, start:end].tolist() for name in names)  # type: ignore[misc]
        for start, end in pairwise(ends)
    ]


def expected(row: Any) -> tuple[list[int], list[int], list[int], list[int]]:
    weights = row.loss_weights or [int(label != IGNORE_INDEX) for label in row.labels]
    return row.input_ids[:-1], row.input_ids[1:], weights[1:], list(range(len(row.input_ids) - 1))


@pytest.mark.parametrize("packs", [False, True])
@pytest.mark.parametrize("policy", [PLAIN, WEIGHTED])
def test_a_batch_and_its_loss(model: Any, tokenizer: Any, tmp_path: Path, policy: str, packs: bool) -> None:
    rows = rows_of(policy)
    packed = pack([row.arrays() for row in rows], SIZE) if packs else rows
    count = write_megatron(packed, tmp_path / "train.npy", packed_sequence_size=SIZE, eos_token_id=tokenizer.eos_id)
    dataset = built(tmp_path, tokenizer)
    assert (len(packed), len(packed)) == (count, len(dataset))
    found = []
    for at in range(len(dataset)):
        batch = dataset.collate_fn([dataset[at]])
        assert (torch.int64, 0) == (batch["loss_mask"].dtype, batch["tokens"].shape[1] % 16)
        apart = documents(batch)
        own = [document for document in apart if any(document[2])]
        assert all(set(tokens) == {tokenizer.eos_id} for tokens, _, mask, _ in apart if not any(mask))
        found += own
        assert loss_of(model, own) == pytest.approx(theirs(model, batch, apart), abs=CLOSE)
    assert sorted(map(expected, rows)) == sorted(found)
    assert sum(label != IGNORE_INDEX for row in rows for label in row.labels) == sum(
        mask != 0 for _, _, masks, _ in found for mask in masks
    )


def losses(model: Any, document: tuple[list[int], list[int], list[int], list[int]]) -> Any:
    tokens, labels, _, positions = document
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([tokens]), position_ids=torch.tensor([positions])).logits[0].float()
    return torch.nn.functional.cross_entropy(logits, torch.tensor(labels), reduction="none")


def loss_of(model: Any, rows: Sequence[Any]) -> float:
    """Weight times negative log likelihood over the sum of the weights, token by token."""
    total = weight = 0.0
    for row in rows:
        for loss, mask in zip(losses(model, row).tolist(), row[2], strict=True):
            total += mask * loss
            weight += mask
    return total / weight


def theirs(model: Any, batch: dict[str, Any], apart: Sequence[Any]) -> float:
    """Their loss function over the losses of a batch, divided as Megatron's schedules divide it."""
    output = torch.cat([losses(model, document) for document in apart])
    loss, tokens, _ = module("training.losses").masked_next_token_loss(batch["loss_mask"], output)
    return float(loss / tokens)


def written(folder: Path, rows: Sequence[Any], tokenizer: Any, **settings: Any) -> None:
    write_megatron(rows, folder / "train.npy", packed_sequence_size=SIZE, eos_token_id=tokenizer.eos_id, **settings)


def test_documents_filled_up_for_context_parallelism(tokenizer: Any, tmp_path: Path) -> None:
    rows = rows_of(WEIGHTED)
    written(tmp_path, pack([row.arrays() for row in rows], SIZE - 100), tokenizer, pad_to_multiple_of=8)
    dataset = built(tmp_path, tokenizer, pad_seq_to_mult=8, pad_cu_seqlens=True)
    found, lengths = [], []
    for at in range(len(dataset)):
        batch = dataset.collate_fn([dataset[at]])
        apart = documents(batch)
        assert {0} == {len(tokens) % 8 for tokens, *_ in apart}
        found += [(tokens, mask) for tokens, _, mask, _ in apart if any(mask)]
        lengths += [end - start for start, end in pairwise(batch["cu_seqlens_unpadded"][0].tolist()) if end > start]
    wanted = [expected(row) for row in rows]
    for (tokens, mask), (ids, _, weights, _) in zip(sorted(found), sorted(w for w in wanted), strict=True):
        size = len(ids)
        # Behind the document: what its last token was, and end markers, none of which is a target.
        assert (ids, weights) == (tokens[:size], mask[:size])
        assert {tokenizer.eos_id} >= set(tokens[size + 1 :])
        assert {0} >= set(mask[size:])
    assert len(rows) == len(lengths)


def test_their_metadata_says_the_same(tokenizer: Any, tmp_path: Path) -> None:
    rows = pack([row.arrays() for row in rows_of(PLAIN)], SIZE)
    written(tmp_path, rows, tokenizer)
    (ours,) = json.loads((tmp_path / METADATA).read_text())
    lengths = [int(n) - 1 for row in rows for n in row["seq_lengths"]]
    histogram = np.bincount(lengths, minlength=SIZE + 1).tolist()
    _, wanted = module("data.datasets.packing_utils").create_packing_strategy(histogram, SIZE, "first_fit_decreasing")
    assert set(wanted) == set(ours) - {"file"}
    assert (wanted["dataset_max_seqlen"], wanted["pack_size"]) == (ours["dataset_max_seqlen"], ours["pack_size"])


def test_without_metadata_their_builder_fails(tokenizer: Any, tmp_path: Path) -> None:
    written(tmp_path, rows_of(PLAIN), tokenizer)
    (tmp_path / METADATA).unlink()
    with pytest.raises(FileNotFoundError):
        built(tmp_path, tokenizer)


def collated(folder: Path, tokenizer: Any, **settings: Any) -> list[int]:
    """The loss mask of a file as it is, which nothing has checked."""
    ids = [5, tokenizer.eos_id, 6, 7]
    content = np.array([{"input_ids": ids, "loss_mask": [1, 1, 0.5, 0], "seq_start_id": [0]}], dtype=object)
    np.save(folder / "raw.npy", content, allow_pickle=True)
    dataset = module("data.datasets.sft").create_sft_dataset(folder / "raw.npy", tokenizer, **settings)
    mask: list[int] = dataset.collate_fn([dataset[0]])["loss_mask"][0, :3].tolist()
    return mask


def test_why_some_rows_are_refused(tokenizer: Any, tmp_path: Path) -> None:
    """The end marker stays trained, what follows it does not, and of 0.5 nothing is left."""
    assert [1, 0, 0] == collated(tmp_path, tokenizer)


def test_a_setting_that_trains_everything(tokenizer: Any, tmp_path: Path) -> None:
    assert [1, 0, 1] == collated(tmp_path, tokenizer, answer_only_loss=False)
