"""What the tests of importers share: a conversation, an import, and what a policy trains of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from policy_engine.chat.loading import load_tokenizer
from policy_engine.data.dataset import load_dataset_spec
from policy_engine.importers.registry import IMPORTERS
from policy_engine.lang.check import check_text
from policy_engine.mask.masker import Masker
from policy_engine.rules.compile import compile_text

MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Two and two?"},
    {"role": "assistant", "content": "Four."},
    {"role": "user", "content": "And three?"},
    {"role": "assistant", "content": "Seven."},
]


def trained(policy: str, messages: list[dict[str, Any]] = MESSAGES) -> str:
    """The trained text, stretches joined by a bar."""
    row = Masker(compile_text(policy), load_tokenizer("builtin"))(messages)
    out, text = [], row.chat.text
    last = -1
    for start, end, weight in zip(row.tokenized.starts_T, row.tokenized.ends_T, row.mask.weights_T, strict=True):
        if weight:
            out.append(("|" if start > last and out else "") + text[start:end])
            last = int(end)
    return "".join(out)


def imported(system: str, config: Any, tmp_path: Path, name: str = "run.yml") -> Any:
    path = tmp_path / name
    path.write_text(yaml.safe_dump(config) if isinstance(config, dict) else config)
    made = IMPORTERS[system](str(path))
    for item in made:
        check_text(item.policy_text)
        (tmp_path / f"{item.name}.policy").write_text(item.policy_text)
        (tmp_path / f"{item.name}.yaml").write_text(item.dataset_text)
        load_dataset_spec(tmp_path / f"{item.name}.yaml")
    return made
