"""`doctor` on rows with pictures: features and tokens of a batch agree, and labels survive a step.

Needs torch: `make media` runs this in an environment of its own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("torch")

from policy_engine import Masker, MediaOptions, load_policy
from policy_engine.cli.options import Named
from policy_engine.cli.outcome import Exit, Outcome
from policy_engine.cli.records import DoctorOptions
from policy_engine.cli.work.doctor import ask
from policy_engine.core.errors import ConfigError
from policy_engine.run.apply import apply_dataset
from tests.support.pictures import draw, processor

POLICY = "train assistant\ntrain eos after assistant\nnever train user\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A processor, chats with pictures, a policy, and the chats masked."""
    processor("llava_next").save_pretrained(str(tmp_path / "processor"))
    rows = []
    for at in range(3):
        draw(tmp_path / "images", f"{at}.png", 112, 56, seed=at)
        parts = [{"type": "image", "path": f"{at}.png"}, {"type": "text", "text": "What?"}]
        answer = [{"type": "text", "text": f"Cat {at}."}]
        rows.append({"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": answer}]})
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "vlm.policy").write_text(POLICY)
    masker = Masker(
        load_policy(tmp_path / "vlm.policy"), str(tmp_path / "processor"), media=MediaOptions(root=tmp_path / "images")
    )
    apply_dataset(tmp_path / "chats.jsonl", masker, tmp_path / "masked.parquet")
    return tmp_path


def look(folder: Path, data: str = "masked.parquet", **changed: Any) -> Outcome:
    named: dict[str, Any] = {"tokenizer": str(folder / "processor"), "media_root": str(folder / "images")}
    return ask(str(folder / data), Named(**{**named, **changed}), DoctorOptions(trainer="transformers"))


def test_masked_rows_and_chats_survive(folder: Path) -> None:
    masked = look(folder)
    assert Exit.HOLDS == masked.exit, masked.diagnostics
    chats = look(folder, "chats.jsonl", policy=str(folder / "vlm.policy"))
    assert Exit.HOLDS == chats.exit, chats.diagnostics
    for found in (masked, chats):
        assert 3 == found.data["checked"]["media"]
        assert found.data["loss"] == pytest.approx(found.data["loss_by_hand"], abs=1e-5)


def test_tokens_without_features_are_named(folder: Path) -> None:
    draw(folder / "images", "1.png", 336, 336)
    found = look(folder)
    assert Exit.FAILS == found.exit
    assert ["PE702"] == [d.code for d in found.diagnostics if "[media]" in d.message]
    assert "row 1" in found.diagnostics[0].message


def test_trained_placeholders_are_named(folder: Path) -> None:
    table = pq.read_table(folder / "masked.parquet")
    all_trained = table.set_column(table.schema.get_field_index("labels"), "labels", table["input_ids"])
    pq.write_table(all_trained.cast(pa.schema(all_trained.schema)), folder / "all.parquet")
    found = look(folder, "all.parquet")
    assert any("puts what it sees" in d.message for d in found.diagnostics)


def test_a_processor_has_to_be_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match="no processor is given"):
        look(folder, tokenizer=None, media_root=None)
