"""Files for Megatron-Bridge, without the package (see `test_real_megatron.py`): what they hold, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from policy_engine.adapters.megatron import METADATA, write_megatron
from policy_engine.builtin import sample_rows
from policy_engine.chat.loading import load_tokenizer
from policy_engine.core.errors import ConfigError, DataError, RowError
from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.mask.masker import Masker
from policy_engine.rules.compile import compile_text

EOS = 2
ROW = {"input_ids": [5, 6, 7, EOS], "labels": [IGNORE_INDEX, IGNORE_INDEX, 7, EOS]}
PACKED = {"input_ids": [5, 6, 7, 8, 9], "labels": [5, 6, 7, IGNORE_INDEX, 9], "seq_lengths": [2, 3]}


def write(folder: Path, *rows: dict[str, Any], name: str = "train.npy", **settings: Any) -> list[dict[str, Any]]:
    given = {"packed_sequence_size": 4, "eos_token_id": EOS, **settings}
    assert len(rows) == write_megatron(iter(rows), folder / name, **given)
    content = np.load(folder / name, allow_pickle=True)
    assert (len(rows),) == content.shape
    return [{n: c.tolist() if isinstance(c, np.ndarray) else c for n, c in item.items()} for item in content]


def test_a_mask_is_the_next_token_s(tmp_path: Path) -> None:
    alone, packed = write(tmp_path, ROW, PACKED)
    assert {"input_ids": [5, 6, 7, EOS], "loss_mask": [0, 1, 1, 0], "seq_start_id": [0]} == alone
    assert {"input_ids": [5, 6, 7, 8, 9], "loss_mask": [1, 0, 0, 1, 0], "seq_start_id": [0, 2]} == packed


def test_one_sequence_alone(tmp_path: Path) -> None:
    """Numpy makes a table of one dict's items, unless told otherwise."""
    assert [[5, 6, 7, EOS]] == [item["input_ids"] for item in write(tmp_path, ROW)]


def test_whole_weights_stay(tmp_path: Path) -> None:
    (made,) = write(tmp_path, {**ROW, "loss_weights": [0, 0, 1.0, 3.0]})
    assert [0, 1, 3, 0] == made["loss_mask"]


def test_documents_are_filled_up(tmp_path: Path) -> None:
    (made,) = write(tmp_path, PACKED, pad_to_multiple_of=2)
    assert [5, 6, EOS, 7, 8, 9] == made["input_ids"]
    assert [1, 0, 0, 0, 1, 0] == made["loss_mask"]
    assert [0, 3] == made["seq_start_id"]


def test_metadata_of_several_files(tmp_path: Path) -> None:
    write(tmp_path, ROW, name="validation.npy")
    for _ in range(2):
        write(tmp_path, ROW, PACKED)
    described = json.loads((tmp_path / METADATA).read_text())
    assert ["validation.npy", "train.npy"] == [entry["file"] for entry in described]
    assert [(1, 3, 3), (2, 3, 3)] == [
        (entry["max_samples_per_bin"], entry["dataset_max_seqlen"], entry["min_packed_seqlen"]) for entry in described
    ]
    assert [(1.0, 75.0), (1.5, 75.0)] == [(e["packing_factor"], e["packing_efficiency"]) for e in described]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"loss_weights": [0, 0, 0.5, 1]}, "^row 2: token 2 of a document of a row has weight 0.5"),
        ({"loss_weights": [0, 0, 1, -1]}, "token 3 of a document of a row has weight -1"),
        ({"input_ids": [5, EOS, 7, 8], "labels": [-100, -100, 7, 8]}, r"token 2 .* behind an end marker \(2\)"),
        ({"input_ids": [EOS, 6], "labels": [EOS, 6], "row": 7}, "token 1 of a document of row 7 is trained behind"),
        ({"input_ids": [5, 6, 7, 8, 9, 10], "labels": [-100] * 6}, "row 2: 5 predictions"),
        ({"seq_lengths": [3, 1]}, "one token"),
        ({"labels": [6, 7, EOS, IGNORE_INDEX]}, "not shifted"),
    ],
)
def test_what_it_would_change_is_refused(row: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(RowError, match=says):
        write(tmp_path, ROW, {**ROW, **row})
    assert [] == list(tmp_path.iterdir())


def test_a_policy_that_trains_what_follows_end_markers(tmp_path: Path) -> None:
    tokenizer = load_tokenizer("builtin")
    settings = {"packed_sequence_size": 1000, "eos_token_id": tokenizer.tokenizer.eos_token_id}
    chats = [row["messages"] for row in sample_rows()[:4]]
    trained, masked = (
        [Masker(compile_text(text), tokenizer)(chat).arrays() for chat in chats]
        for text in ("use swift", "use swift; mask separator")
    )
    with pytest.raises(RowError, match="mask separator"):
        write(tmp_path, *trained, **settings)
    assert sum(sum(item["loss_mask"]) for item in write(tmp_path, *masked, **settings)) == sum(
        int((row["labels"] != IGNORE_INDEX).sum()) for row in masked
    )


def test_what_follows_a_masked_end_marker_may_be_masked(tmp_path: Path) -> None:
    (made,) = write(tmp_path, {"input_ids": [EOS, 6, EOS, 8], "labels": [-100, -100, EOS, -100]})
    assert [0, 1, 0, 0] == made["loss_mask"]


@pytest.mark.parametrize("settings", [{"name": "a.npz"}, {"eos_token_id": None}, {"pad_to_multiple_of": 0}])
def test_arguments_that_do_not_fit(settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        write(tmp_path, ROW, **settings)


def test_no_rows(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no rows"):
        write(tmp_path)
