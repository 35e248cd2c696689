"""Reads the examples of `docs/reference/language.md` and runs them.

`python -m tests.lang.language_doc` writes what comes out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from policy_engine.chat.loading import load_tokenizer
from policy_engine.data.conversation import Conversation
from policy_engine.mask.masker import Masker
from policy_engine.mask.policy_tests import marked_row
from policy_engine.rules.compile import compile_text

DOC = Path(__file__).parents[2] / "docs" / "reference" / "language.md"
_BLOCK = re.compile(r"```policy(?P<on>[^\n]*)\n(?P<text>.*?)```\n(?:\n```text\n(?P<masked>.*?)```\n)?", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Example:
    """A policy of the page; `masked` is what the page says comes out, where it names a conversation.

    With `open`, the last message of the conversation stays open (`continue_final_message`).
    """

    text: str
    conversation: str | None
    weights: bool
    open: bool
    masked: str | None


def examples() -> Iterator[Example]:
    """The policies of the page, in order."""
    for match in _BLOCK.finditer(DOC.read_text(encoding="utf-8")):
        yield _example(match)


def run(example: Example) -> str:
    """The text of the example's conversation, as the page shows it."""
    masker = Masker(compile_text(example.text), load_tokenizer("builtin"))
    messages = conversations()[example.conversation or ""]
    open_field = "content" if example.open else None
    row = masker.mask(Conversation(messages=tuple(messages), continue_final_message=open_field))
    return marked_row(row, weights=example.weights).rstrip("\n") + "\n"


def conversations() -> dict[str, list[dict[str, Any]]]:
    """The conversations of the page by name."""
    blocks = re.findall(r"```yaml conversation=(\w+)\n(.*?)```", DOC.read_text(encoding="utf-8"), flags=re.DOTALL)
    return {name: yaml.safe_load(text) for name, text in blocks}


def _example(match: re.Match[str]) -> Example:
    words = match["on"].split()
    named = next((w.removeprefix("on=") for w in words if w.startswith("on=")), None)
    return Example(
        text=match["text"],
        conversation=named,
        weights="weights" in words,
        open="open" in words,
        masked=match["masked"],
    )


def accept() -> None:
    """Write what comes out into the page."""

    def written(match: re.Match[str]) -> str:
        example = _example(match)
        block = f"```policy{match['on']}\n{match['text']}```\n"
        return block + (f"\n```text\n{run(example)}```\n" if example.conversation else "")

    DOC.write_text(_BLOCK.sub(written, DOC.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    accept()
