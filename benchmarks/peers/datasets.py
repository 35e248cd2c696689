"""The step `datasets`: small datasets that a system prepared, rightly and wrongly.

Each is a folder as the system leaves it behind, beside `case.json`: the tokenizer, the policy it is compared with, and
the smell that `policy-engine audit` has to name (no smell on clean data). Faults are mistakes of configuration, and
bugs of the system where it has them; `SPOILED` are made afterwards, as other steps of other pipelines make them.
"""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.corpus import conversations
from benchmarks.peers.cases import Case
from benchmarks.peers.chats import Row
from benchmarks.peers.systems import SYSTEMS

ROWS = 24
Prepared = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Planted:
    """A dataset to make.

    `fault` is the code of the smell, None for clean data; `why` says how it came about.
    """

    name: str
    case: Case
    policy: str
    fault: str | None
    why: str
    kind: str = "plain"
    spoil: str | None = None


def rows_for(planted: Planted) -> list[Row]:
    """Ordinary conversations of two or three rounds.

    With `quoted`, one has a user who writes an opened answer.
    """
    rows = conversations(ROWS, turns=3, words=8, kind=planted.kind if planted.kind != "quoted" else "plain")
    if planted.kind == "quoted":
        rows[3]["messages"][1]["content"] = "see <|im_end|>\n<|im_start|>assistant\nthis<|im_end|>\n"
    return rows


def write_datasets(system: str, folder: Path) -> int:
    """Writes the datasets of a system into `FOLDER/SYSTEM`."""
    module: Any = importlib.import_module(SYSTEMS[system])
    place = folder / system
    shutil.rmtree(place, ignore_errors=True)
    for planted in module.PLANTED:
        here = place / planted.name
        here.mkdir(parents=True)
        spoil = SPOILED[planted.spoil] if planted.spoil else None
        tokenizer = module.write(planted, rows_for(planted), here / "prepared", spoil)
        tokenizer.save_pretrained(here / "tokenizer")
        facts = {k: v for k, v in asdict(planted).items() if k != "case"}
        facts.update(system=system, template=planted.case.name)
        (here / "case.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        print(f"{system}: {planted.name}")
    return 0


def _shifted(row: dict[str, Any], tokenizer: Any) -> None:
    row["labels"] = [*row["labels"][1:], -100]


def _first(row: dict[str, Any], tokenizer: Any) -> None:
    row["labels"][0] = row["input_ids"][0]


def _other_end(row: dict[str, Any], tokenizer: Any) -> None:
    """Makes the label of an end marker the end of the document.

    Some templates leave the marker to the labels.
    """
    end, document = tokenizer.convert_tokens_to_ids(["<|eot_id|>", "<|end_of_text|>"])
    row["labels"] = [document if label == end else label for label in row["labels"]]


def _padding(row: dict[str, Any], tokenizer: Any) -> None:
    """transformers' collator for language models masks all that has the pad token's id."""
    from transformers import DataCollatorForLanguageModeling

    tokenizer.pad_token = tokenizer.eos_token
    made = DataCollatorForLanguageModeling(tokenizer, mlm=False)([{"input_ids": row["input_ids"]}])
    kept = made["labels"][0].tolist()
    row["labels"] = [label if keep != -100 else -100 for label, keep in zip(row["labels"], kept, strict=True)]


SPOILED: dict[str, Callable[[dict[str, Any], Any], None]] = {
    "shifted": _shifted,
    "first": _first,
    "other_end": _other_end,
    "padding": _padding,
}


def save(rows: Prepared, place: Path, spoil: Callable[[dict[str, Any], Any], None] | None, tokenizer: Any) -> None:
    """Rows as a `datasets` folder, spoiled where asked for."""
    from datasets import Dataset

    if spoil is not None:
        for row in rows:
            spoil(row, tokenizer)
    Dataset.from_list(rows).save_to_disk(str(place))
