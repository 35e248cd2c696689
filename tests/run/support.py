"""Maskers and data for the tests of the data floor."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from policy_engine.chat.loading import load_tokenizer
from policy_engine.data.conversation import Conversation, read_row
from policy_engine.data.formats import named_format
from policy_engine.mask.masker import Masker
from policy_engine.mask.row import MaskedRow
from policy_engine.rules.compile import compile_text
from policy_engine.run import apply as run
from policy_engine.run.run_options import RunOptions

CARD = "train assistant; mask system,user; train eos after assistant"


@functools.cache
def masker(policy: str = CARD) -> Masker:
    return Masker(compile_text(policy), load_tokenizer("builtin"))


def apply_dataset(data, bound, output, *, engine=None, say=lambda text: None, progress=lambda done: None, **options):
    """A run, with the fields of its `RunOptions` by name."""
    return run.apply_dataset(data, bound, output, RunOptions(**options), engine=engine, say=say, progress=progress)


def chat(*texts: str, system: str | None = None) -> list[dict[str, str]]:
    """User and assistant in turn."""
    messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
    return messages if system is None else [{"role": "system", "content": system}, *messages]


def conversation(messages: list[dict[str, str]]) -> Conversation:
    return read_row({"messages": messages}, named_format("messages"))


def masked(*texts: str, policy: str = CARD) -> MaskedRow:
    return masker(policy).mask(conversation(chat(*texts)))


def write_lines(path: Path, rows: list[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
