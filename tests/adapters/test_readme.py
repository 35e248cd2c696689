"""The README's way from a file of chats to a trained step, with TRL's trainer and a tiny model.

Needs torch and trl: `make trainers` runs this in an environment of its own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from policy_engine import load_tokenizer  # noqa: E402
from tests.test_docs import CHATS, ROOT, blocks  # noqa: E402

SMALL = 'output_dir="out", max_steps=1, use_cpu=True, bf16=False, report_to=[], save_strategy="no"'


def test_from_a_file_to_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    monkeypatch.chdir(tmp_path)
    tokenizer = load_tokenizer("builtin").tokenizer
    tokenizer.save_pretrained("path/to/model")
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained("path/to/model")
    policy = next(text for text in blocks(ROOT / "README.md", "") if text.startswith("# chat.policy"))
    Path("chat.policy").write_text(policy, encoding="utf-8")
    Path("chats.jsonl").write_text("".join(json.dumps({"messages": c}) + "\n" for c in CHATS), encoding="utf-8")
    (code,) = blocks(ROOT / "README.md", "python with=trl")
    names: dict[str, Any] = {}
    exec(code.replace('output_dir="out"', SMALL), names)
    assert 1 == names["trainer"].state.global_step
    assert any(label != -100 for row in names["rows"] for label in row["labels"])
    assert ["input_ids", "labels", "attention_mask"] == names["trainer"].train_dataset.column_names
