"""What every way out of the package holds: files, arrays, `datasets`, and what trainers' own classes are given.

* the first label of every document is -100, and its weight 0;
* labels are not shifted: each is its token's own id. A target that wants the next token's id beside each token gets
  that, and shifted back within each document nothing is missing;
* columns are cut and packed together: each document is an unbroken part of a conversation, all its columns of it;
* ids and labels are int32, weights float32, where the way out declares types.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from policy_engine.adapters import axolotl
from policy_engine.adapters.automodel import automodel_data, automodel_rows
from policy_engine.adapters.collate import PaddingCollator
from policy_engine.adapters.megatron import write_megatron
from policy_engine.adapters.swift import swift_row
from policy_engine.adapters.tinker import tinker_data
from policy_engine.adapters.torchtune import PolicyTransform, policy_dataset
from policy_engine.adapters.verl import PolicySFTDataset
from policy_engine.builtin import sample_rows
from policy_engine.chat.loading import load_tokenizer
from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.mask.masker import Masker
from policy_engine.rules.compile import compile_text
from policy_engine.run.pack import pack
from tests.cli.support import cli

PLAIN = "train everything"
"""Trains even what opens a document, so that something has to keep its first token out."""
WEIGHTED = "train everything weight 0.5\ntrain assistant weight 2\n"
CHATS = [row["messages"] for row in sample_rows() if isinstance(row.get("messages"), list) and not row.get("tools")][
    :12
]
PER_TOKEN = ("input_ids", "labels", "attention_mask", "loss_weights", "position_ids")


@dataclass(frozen=True, kw_only=True)
class Work:
    """What an exporter is given."""

    policy: str
    folder: Path

    @property
    def masker(self) -> Masker:
        return masker_of(self.policy)

    @property
    def policy_file(self) -> str:
        path = self.folder / "my.policy"
        path.write_text(self.policy)
        return str(path)

    @property
    def data(self) -> str:
        path = self.folder / "chats.jsonl"
        path.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in CHATS))
        return str(path)


@functools.cache
def masker_of(policy: str) -> Masker:
    return Masker(compile_text(policy), load_tokenizer("builtin"))


Rows = Sequence[Mapping[str, Any]]
Export = Callable[[Work], tuple[Rows, Mapping[str, str]]]
"""The rows that came out, and the types that are declared for them by column."""


def of_arrays(rows: Sequence[Mapping[str, Any]]) -> tuple[Rows, Mapping[str, str]]:
    return [{n: c.tolist() for n, c in row.items()} for row in rows], {n: str(c.dtype) for n, c in rows[0].items()}


def arrays(work: Work) -> tuple[Rows, Mapping[str, str]]:
    return of_arrays([work.masker(chat).arrays() for chat in CHATS])


def mappings(work: Work) -> tuple[Rows, Mapping[str, str]]:
    return [dict(work.masker(chat)) for chat in CHATS], {}


def packed(work: Work) -> tuple[Rows, Mapping[str, str]]:
    rows = [work.masker(chat).arrays() for chat in CHATS]
    return of_arrays(pack(rows, max(len(row["input_ids"]) for row in rows) * 2))


def mapped(work: Work) -> tuple[Rows, Mapping[str, str]]:
    from datasets import Dataset

    made = Dataset.from_list([{"messages": chat} for chat in CHATS]).map(
        work.masker.batch, batched=True, remove_columns=["messages"]
    )
    return list(made), {name: feature.feature.dtype for name, feature in made.features.items()}


def apply_to(name: str, *options: str) -> Export:
    def export(work: Work) -> tuple[Rows, Mapping[str, str]]:
        out = work.folder / name
        arguments = ["-p", work.policy_file, "-t", "builtin", "-o", f"{out}/" if out.suffix == "" else str(out)]
        result = cli("apply", work.data, *arguments, *options)
        assert result.code == 0, result.err
        if name.endswith(".jsonl"):
            return [json.loads(line) for line in out.read_text().splitlines()], {}
        table = pq.read_table(out)
        lists = (field for field in table.schema if pa.types.is_list(field.type))
        return table.to_pylist(), {field.name: field.type.value_type.to_pandas_dtype().__name__ for field in lists}

    return export


def axolotl_strategy(work: Work) -> tuple[Rows, Mapping[str, str]]:
    from datasets import Dataset

    strategy = axolotl.load(load_tokenizer("builtin").tokenizer, cfg={}, ds_cfg={"policy": work.policy_file})
    made = strategy.wrap_dataset(Dataset.from_list([{"messages": chat} for chat in CHATS]))
    return list(made), {name: feature.feature.dtype for name, feature in made.features.items()}


def torchtune_transform(work: Work) -> tuple[Rows, Mapping[str, str]]:
    transform = PolicyTransform(masker=work.masker)
    samples = [transform({"messages": chat}) for chat in CHATS]
    # torchtune makes labels of these: -100 where its mask is True, else the token.
    return [
        {
            "input_ids": sample["tokens"],
            "labels": [IGNORE_INDEX if no else i for i, no in zip(sample["tokens"], sample["mask"], strict=True)],
        }
        for sample in samples
    ], {}


def torchtune_dataset(work: Work) -> tuple[Rows, Mapping[str, str]]:
    tokenizer = SimpleNamespace(max_seq_len=None)
    rows = policy_dataset(
        tokenizer, source="json", data_files=work.data, policy=work.policy_file, chat_tokenizer="builtin"
    )
    return [{"input_ids": rows[at]["tokens"], "labels": rows[at]["labels"]} for at in range(len(rows))], {}


def swift_rows(work: Work) -> tuple[Rows, Mapping[str, str]]:
    made = [swift_row(work.masker(chat).arrays())["messages"][0]["content"] for chat in CHATS]
    # ms-swift masks a token whose scale is 0.
    return [
        {
            "input_ids": row["token_ids"],
            "loss_weights": row["loss_scale"],
            "labels": [i if w else IGNORE_INDEX for i, w in zip(row["token_ids"], row["loss_scale"], strict=True)],
        }
        for row in made
    ], {}


def verl_dataset(**config: Any) -> Export:
    def export(work: Work) -> tuple[Rows, Mapping[str, str]]:
        given = {"policy": work.policy_file, **config}
        dataset = PolicySFTDataset(work.data, load_tokenizer("builtin").tokenizer, given)
        rows, types = of_arrays([dataset.columns(index) for index in range(len(dataset))])
        # Its mask is the weight of each token, for a loss over the ids themselves; its tensors are int64 everywhere.
        return [
            {
                "input_ids": row["input_ids"],
                "position_ids": row["position_ids"],
                "loss_weights": row["loss_mask"],
                "labels": [i if w else IGNORE_INDEX for i, w in zip(row["input_ids"], row["loss_mask"], strict=True)],
            }
            for row in rows
        ], {"loss_weights": types["loss_mask"]}

    return export


def collated(side: Any) -> Export:
    def export(work: Work) -> tuple[Rows, Mapping[str, str]]:
        pytest.importorskip("torch")
        rows = [work.masker(chat).arrays() for chat in CHATS]
        # A first label that is none of ours, and must not get behind the padding.
        rows = [{**row, "labels": np.concatenate([row["input_ids"][:1], row["labels"][1:]])} for row in rows]
        batch = PaddingCollator(pad_token_id=0, side=side)(rows)
        kept = batch["attention_mask"].bool()
        made = [{name: column[b][kept[b]].tolist() for name, column in batch.items()} for b in range(len(rows))]
        return made, {
            "loss_weights": str(batch["loss_weights"].dtype).removeprefix("torch.")
        } if "loss_weights" in batch else {}

    return export


def unshifted(
    inputs: Sequence[int], targets: Sequence[int], trained: Sequence[bool], weights: Sequence[float] | None
) -> Mapping[str, Any]:
    """The row that a target was given shifted: every id but the first is a target, beside the token before it."""
    assert len(inputs) == len(targets) == len(trained)
    assert inputs[1:] == targets[:-1]
    row: dict[str, Any] = {
        "input_ids": [*inputs, targets[-1]],
        "labels": [IGNORE_INDEX, *(i if t else IGNORE_INDEX for i, t in zip(targets, trained, strict=True))],
    }
    return row if weights is None else {**row, "loss_weights": [0.0, *weights]}


def rows_to_shift(work: Work, packs: bool) -> Rows:
    rows = [work.masker(chat).arrays() for chat in CHATS]
    return pack(rows, max(len(row["input_ids"]) for row in rows) * 2) if packs else rows


def tinker_datums(packs: bool) -> Export:
    def export(work: Work) -> tuple[Rows, Mapping[str, str]]:
        pytest.importorskip("tinker")
        made = []
        for row in rows_to_shift(work, packs):
            for datum in tinker_data(row, reduction="none"):
                targets, weights = (datum.loss_fn_inputs[name].tolist() for name in ("target_tokens", "weights"))
                made.append(unshifted(datum.model_input.to_ints(), targets, [w != 0 for w in weights], weights))
        return made, {"loss_weights": datum.loss_fn_inputs["weights"].dtype}

    return export


def automodel_documents(packs: bool) -> Export:
    def export(work: Work) -> tuple[Rows, Mapping[str, str]]:
        made = [document for row in rows_to_shift(work, packs) for document in automodel_rows(row)]
        # Its labels are the targets, where everything is trained.
        return [
            unshifted(document["input_ids"], document["labels"], [i != IGNORE_INDEX for i in document["labels"]], None)
            for document in made
        ], {}

    return export


def automodel_datums(packs: bool) -> Export:
    def export(work: Work) -> tuple[Rows, Mapping[str, str]]:
        pytest.importorskip("nemo_automodel")
        made = []
        for row in rows_to_shift(work, packs):
            for datum in automodel_data(row):
                targets, weights = (datum.loss_fn_inputs[name].tolist() for name in ("target_tokens", "weights"))
                made.append(unshifted(datum.input_ids.tolist(), targets, [w != 0 for w in weights], weights))
        return made, {"loss_weights": str(datum.loss_fn_inputs["weights"].dtype).removeprefix("torch.")}

    return export


def megatron_file(packs: bool) -> Export:
    def export(work: Work) -> tuple[Rows, Mapping[str, str]]:
        rows = rows_to_shift(work, packs)
        # It takes whole weights alone, and divides by their sum.
        rows = [{n: c * 2 if n == "loss_weights" else c for n, c in row.items()} for row in rows]
        file = work.folder / "train.npy"
        # An end marker that the tokenizer has not: what it would do to ours is in test_megatron.py.
        write_megatron(rows, file, packed_sequence_size=10_000, eos_token_id=-1)
        content, made = np.load(file, allow_pickle=True), []
        for item in content:
            ends = [*item["seq_start_id"][1:], len(item["input_ids"])]
            for start, end in zip(item["seq_start_id"], ends, strict=True):
                # What its loader gives: a document's ids but the last, its ids but the first, its mask but the last.
                ids, mask = item["input_ids"][start:end].tolist(), item["loss_mask"][start : end - 1].tolist()
                weights = [weight / 2 for weight in mask] if "loss_weights" in rows[0] else None
                made.append(unshifted(ids[:-1], ids[1:], [m != 0 for m in mask], weights))
        return made, {"input_ids": str(content[0]["input_ids"].dtype)}

    return export


EXPORTERS: dict[str, Export] = {
    "MaskedRow.arrays": arrays,
    "MaskedRow as a mapping": mappings,
    "pack": packed,
    "datasets.map": mapped,
    "Parquet": apply_to("a.parquet"),
    "JSON Lines": apply_to("a.jsonl"),
    "folder": apply_to("shards"),
    "unrolled": apply_to("a.parquet", "--unroll"),
    "packed file": apply_to("a.parquet", "--max-length", "300", "--pack"),
    "packed JSON Lines": apply_to("a.jsonl", "--max-length", "300", "--pack"),
    "unrolled and packed": apply_to("a.parquet", "--max-length", "300", "--unroll", "--pack"),
    **{
        f"cut, {keep}": apply_to("a.parquet", "--max-length", "30", "--truncate", keep)
        for keep in ("keep_start", "keep_end", "turn", "drop")
    },
    "cut and packed": apply_to("a.parquet", "--max-length", "40", "--truncate", "keep_end", "--pack"),
    "axolotl": axolotl_strategy,
    "torchtune": torchtune_transform,
    "torchtune, its dataset": torchtune_dataset,
    "ms-swift": swift_rows,
    "verl": verl_dataset(),
    **{f"verl, cut {side}": verl_dataset(max_length=30, truncation=side) for side in ("left", "right")},
    "Tinker": tinker_datums(packs=False),
    "Tinker, packed": tinker_datums(packs=True),
    "Automodel": automodel_documents(packs=False),
    "Automodel, packed": automodel_documents(packs=True),
    "Automodel's Datum": automodel_datums(packs=False),
    "Automodel's Datum, packed": automodel_datums(packs=True),
    "Megatron-Bridge": megatron_file(packs=False),
    "Megatron-Bridge, packed": megatron_file(packs=True),
    "PaddingCollator, right": collated("right"),
    "PaddingCollator, left": collated("left"),
}
WITHOUT_WEIGHTS = ("axolotl", "torchtune", "torchtune, its dataset", "Automodel", "Automodel, packed")
"""Of these, tests/adapters/test_frameworks.py and test_automodel.py say what becomes of weights."""
SHIFTED = tuple(name for name in EXPORTERS if name.startswith(("Tinker", "Automodel", "Megatron")))
"""Of these, documents come back whole, and none is missing."""
CASES = [(name, WEIGHTED) for name in EXPORTERS if name not in WITHOUT_WEIGHTS]
CASES += [(name, PLAIN) for name in (*WITHOUT_WEIGHTS, "datasets.map", "packed file", "verl")]
CASES += [(name, PLAIN) for name in SHIFTED if name not in WITHOUT_WEIGHTS]


@pytest.mark.parametrize(("name", "policy"), CASES)
def test_every_way_out(name: str, policy: str, tmp_path: Path) -> None:
    weighted = policy == WEIGHTED
    work = Work(policy=policy, folder=tmp_path)
    rows, types = EXPORTERS[name](work)
    wanted = [dict(work.masker(chat)) for chat in CHATS]
    assert rows
    for row in rows:
        sizes = {column: len(row[column]) for column in PER_TOKEN if column in row}
        assert len(set(sizes.values())) == 1, sizes
        for start, end in documents(row):
            ids, labels = row["input_ids"][start:end], row["labels"][start:end]
            assert labels[0] == IGNORE_INDEX
            assert all(label in (i, IGNORE_INDEX) for i, label in zip(ids, labels, strict=True))
            assert any(label != IGNORE_INDEX for label in labels[1:])
            weights = row["loss_weights"][start:end] if weighted else None
            assert weights is None or weights[0] == 0
            assert any(is_part(ids, labels, weights, whole) for whole in wanted)
    if name in SHIFTED:
        assert sorted(row["input_ids"] for row in rows) == sorted(whole["input_ids"] for whole in wanted)
        assert trained(rows) == trained(wanted)
    declared = {"input_ids": "int32", "labels": "int32", "loss_weights": "float32"}
    assert {column: kind for column, kind in declared.items() if column in types} == {
        column: kind for column, kind in types.items() if column in declared
    }


def trained(rows: Rows) -> int:
    return sum(label != IGNORE_INDEX for row in rows for label in row["labels"][1:])


def documents(row: Mapping[str, Any]) -> list[tuple[int, int]]:
    size = len(row["input_ids"])
    if "seq_lengths" not in row:
        return [(0, size)]
    ends = np.cumsum(row["seq_lengths"]).tolist()
    assert ends[-1] == size
    starts = [0, *ends[:-1]]
    if "position_ids" in row:
        assert row["position_ids"] == [at for start, end in zip(starts, ends) for at in range(end - start)]
    return list(zip(starts, ends))


def is_part(ids: Any, labels: Any, weights: Any, whole: Mapping[str, Any]) -> bool:
    """Whether a document is an unbroken part of a conversation, with that part's labels and weights behind its first
    token."""
    size = len(ids)
    for start in range(len(whole["input_ids"]) - size + 1):
        part = slice(start, start + size)
        if whole["input_ids"][part] != ids or whole["labels"][part][1:] != labels[1:]:
            continue
        if weights is None or whole["loss_weights"][part][1:] == pytest.approx(weights[1:]):
            return True
    return False
