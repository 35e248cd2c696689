"""A processor by its name on the hub, out of the local cache of the hub's files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support.pictures import processor

ROOT = Path(__file__).parents[3]
_LOAD = """
from tests.support import pictures  # it lets a torchvision for CUDA be imported beside a torch for CPUs
from policy_engine import load_tokenizer
found = load_tokenizer("maker/model")
print(type(found.media.processor).__name__ if found.media else "a tokenizer", found.name)
"""


def in_cache(home: Path, save: str) -> str:
    """What `-t maker/model` loads where the hub's cache has one snapshot of it."""
    repository = home / "hub" / "models--maker--model"
    snapshot = repository / "snapshots" / ("0" * 40)
    made = processor("llava_next")
    (made if save == "processor" else made.tokenizer).save_pretrained(str(snapshot))
    kind = "llava_next" if save == "processor" else "llama"
    (snapshot / "config.json").write_text(json.dumps({"model_type": kind}))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    return loaded(home)


def loaded(home: Path) -> str:
    """What `-t maker/model` loads with this cache, or its error."""
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    ran = subprocess.run(
        [sys.executable, "-c", _LOAD], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    return ran.stdout.strip() or ran.stderr


def test_a_name_of_a_processor_is_one(tmp_path: Path) -> None:
    assert "LlavaNextProcessor maker/model" == in_cache(tmp_path, "processor")


def test_a_name_of_a_tokenizer_stays_one(tmp_path: Path) -> None:
    assert "a tokenizer maker/model" == in_cache(tmp_path, "tokenizer")


def test_what_else_is_wrong_with_a_cached_model_is_said(tmp_path: Path) -> None:
    in_cache(tmp_path, "tokenizer")
    (file,) = tmp_path.glob("hub/*/snapshots/*/tokenizer.json")
    file.write_text("{broken")
    said = loaded(tmp_path)
    assert "cannot load `maker/model` from the local cache of the Hugging Face hub: " in said
