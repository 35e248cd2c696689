"""Rows for NeMo Automodel, without the package (see `test_real_automodel.py`): what they carry, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from policy_engine.adapters.automodel import automodel_dataset, automodel_rows
from policy_engine.chat.loading import load_tokenizer
from policy_engine.core.errors import ConfigError, RowError
from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.mask.masker import Masker
from policy_engine.rules.compile import compile_text
from tests.cli.support import CHATS, GOOD, cli, write_chats, write_policy

ROW = {"input_ids": [5, 6, 7], "labels": [IGNORE_INDEX, IGNORE_INDEX, 7]}


def test_a_label_stands_beside_the_token_before_it() -> None:
    (made,) = automodel_rows(ROW)
    assert {"input_ids": [5, 6], "labels": [IGNORE_INDEX, 7], "attention_mask": [1, 1]} == made


def test_documents_of_a_packed_row_come_apart() -> None:
    row = {"input_ids": [5, 6, 7, 8], "labels": [5, 6, 7, 8], "seq_lengths": [2, 2]}
    assert [([5], [6]), ([7], [8])] == [(made["input_ids"], made["labels"]) for made in automodel_rows(row)]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"loss_weights": [0, 0, 0.5]}, "has weights"),
        ({"loss_weights": [0, 0, 0]}, "has weights"),
        ({"labels": [6, 7, IGNORE_INDEX]}, "not shifted"),
        ({"seq_lengths": [1, 2]}, "one token"),
    ],
)
def test_what_it_cannot_carry_is_refused(more: dict[str, Any], says: str) -> None:
    with pytest.raises(RowError, match=says):
        automodel_rows({**ROW, **more})


def test_weights_of_one_are_none() -> None:
    assert automodel_rows(ROW) == automodel_rows({**ROW, "loss_weights": [0, 0, 1.0]})


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.parquet", []), ("a.jsonl", []), ("packed.parquet", ["--max-length", "100", "--pack"])],
)
def test_a_dataset_of_files(name: str, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    file = tmp_path / name
    ran = cli("apply", write_chats(tmp_path), "-p", write_policy(tmp_path), "-t", "builtin", "-o", file, *options)
    assert 0 == ran.code, ran.err
    masker = Masker(compile_text(GOOD), load_tokenizer("builtin"))
    expected = [automodel_rows(masker(chat)) for chat in CHATS]
    made = automodel_dataset(str(file))
    assert sorted(map(repr, (row for rows in expected for row in rows))) == sorted(map(repr, made))
    assert {"int32"} == {feature.feature.dtype for feature in made.features.values()}
    assert 2 * len(made) == len(automodel_dataset([str(file), str(file)]))


@pytest.mark.parametrize("path", ["a.csv", "folder/a", [], ["a.parquet", "b.jsonl"]])
def test_other_files_are_refused(path: Any) -> None:
    pytest.importorskip("datasets")
    with pytest.raises(ConfigError, match="`path` is"):
        automodel_dataset(path)
