"""Small boards for the tests of the live page."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from policy_engine.chat.loading import load_tokenizer
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.play.loaded_rows import NO_FILE, Board, load_board

CHATS: tuple[Any, ...] = (
    {"messages": [{"role": "user", "content": "Hi there"}, {"role": "assistant", "content": "Hello, friend."}]},
    {"messages": [{"role": "user", "content": "A zebra?"}, {"role": "assistant", "content": "Yes, two zebras. " * 6}]},
    {"messages": [{"role": "user", "content": "Only me."}]},
    {"messages": [{"content": "no role"}]},
    {"messages": [{"role": "assistant", "content": "Bye", "extra": "lost"}]},
)
"""Rows that are masked, that train nothing, that fail, and that lose a field."""
POLICY = "train assistant; train eos of assistant"


@functools.cache
def tokenizer() -> ChatTokenizer:
    return load_tokenizer("builtin")


def board(
    folder: Path, chats: Sequence[Any] = CHATS, *, name: str = NO_FILE, limit: int = 50, file: str = "c.jsonl"
) -> Board:
    path = folder / file
    path.write_text("".join(f"{json.dumps(chat)}\n" for chat in chats), encoding="utf-8")
    return load_board(str(path), tokenizer(), limit=limit, opening=POLICY, policy_name=name)
