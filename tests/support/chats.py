"""Rendered chats built by hand: a ChatML-like layout with exact segments, without any template or tokenizer.

```
<|im_start|>ROLE\n            header
<think>\n … \n</think>\n\n    reasoning.open, reasoning.text, reasoning.close   (or empty_reasoning)
…                             text (one segment per content part), media
\n<tool_call>\n{"name": "…    tool_call, tool_call.name, tool_call.arguments
<|im_end|>                    eot
\n                            separator
```
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from policy_engine.chat.segments import RenderedChat, Segment, TokenizedChat, Unrendered
from policy_engine.core.vocabulary import MEDIA_TYPES

THINK = ("<think>\n", "\n</think>\n\n")
REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")


def build_chat(
    messages: Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    sample: Mapping[str, Any] | None = None,
    bos: str = "",
    preamble: str = "",
    eod: str = "",
    trim: bool = False,
    empty_reasoning: bool = False,
    add_generation_prompt: bool = False,
    unrendered: Sequence[Unrendered] = (),
) -> RenderedChat:
    """A rendered chat whose segments are right by construction.

    `bos`, `preamble` and `eod` (after each assistant turn's end) are template text, left out when empty. `trim` strips
    string content, as many templates do, so that `field_start` is not 0. `empty_reasoning` writes an empty delimiter
    pair into assistant turns without reasoning. Text parts of list content become one segment each; parts of another
    type become a `media` placeholder.
    """
    out = _Writer()
    out.add("bos", bos)
    out.add("preamble", preamble)
    for index, tool in enumerate(tools):
        out.add("preamble.tools", json.dumps(tool), field=("tools", index))
    for turn, message in enumerate(messages):
        out.turn = turn
        out.add("header", f"<|im_start|>{message['role']}\n")
        _reasoning(out, message, empty_reasoning)
        _content(out, message, trim)
        for index, call in enumerate(message.get("tool_calls") or ()):
            _tool_call(out, index, call)
        out.add("eot", "<|im_end|>")
        if message["role"] == "assistant":
            out.add("eod", eod)
        out.add("separator", "\n")
    out.turn = None
    if add_generation_prompt:
        out.add("generation_prompt", "<|im_start|>assistant\n")
    return RenderedChat(
        text="".join(out.texts),
        segments=tuple(out.segments),
        messages=tuple(messages),
        sample={"messages": list(messages)} if sample is None else sample,
        unrendered=tuple(unrendered),
        generation_prompt=add_generation_prompt,
    )


def fake_tokens(chat: RenderedChat, *, width: int | None = None, rng: random.Random | None = None) -> TokenizedChat:
    """Tokens cut without regard for segments: every `width` characters, or at random places, then also with zero-wide
    tokens and with several tokens on one character. Ids depend only on the token's text and are below 50,000.
    """
    if (width is None) == (rng is None):
        raise ValueError("give `width` or `rng`")
    size = len(chat.text)
    bounds: list[tuple[int, int]] = []
    at = 0
    while at < size:
        step = width if width is not None else rng.randint(1, 7)  # type: ignore[union-attr]
        end = min(size, at + step)
        bounds.append((at, end))
        if rng is not None and end - at == 1 and rng.random() < 0.4:
            bounds.append((at, end))
        if rng is not None and rng.random() < 0.05:
            bounds.append((end, end))
        at = end
    return tokens_at(chat, bounds)


def tokens_at(chat: RenderedChat, bounds: Sequence[tuple[int, int]]) -> TokenizedChat:
    """Tokens with the given character ranges."""
    ids = [zlib.crc32(chat.text[a:b].encode("utf-8", "replace")) % 50_000 for a, b in bounds]
    pairs = np.array(bounds, dtype=np.int32).reshape(-1, 2)
    return TokenizedChat(
        chat=chat,
        input_ids=ids,
        starts_T=np.ascontiguousarray(pairs[:, 0]),
        ends_T=np.ascontiguousarray(pairs[:, 1]),
    )


class _Writer:
    """Collects texts and segments; empty text makes no segment."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.segments: list[Segment] = []
        self.turn: int | None = None
        self._at = 0

    def add(self, part: str, text: str, **facts: Any) -> None:
        if text:
            end = self._at + len(text)
            self.segments.append(Segment(start=self._at, end=end, part=part, turn=self.turn, **facts))
            self.texts.append(text)
            self._at = end


def _reasoning(out: _Writer, message: Mapping[str, Any], empty_reasoning: bool) -> None:
    name = next((n for n in REASONING_FIELDS if message.get(n)), None)
    if name is not None:
        out.add("reasoning.open", THINK[0])
        out.add("reasoning.text", message[name], field=(name,), field_exact=True)
        out.add("reasoning.close", THINK[1])
    elif empty_reasoning and message["role"] == "assistant":
        out.add("empty_reasoning", "".join(THINK))


def _content(out: _Writer, message: Mapping[str, Any], trim: bool) -> None:
    content = message.get("content")
    if isinstance(content, str):
        start = len(content) - len(content.lstrip()) if trim else 0
        out.add(
            "text",
            content.strip() if trim else content,
            field=("content",),
            field_start=start,
            field_exact=True,
        )
        return
    for index, part in enumerate(content or ()):
        if part.get("type") == "text":
            out.add("text", part["text"], field=("content", index, "text"), field_exact=True, item=index)
        else:
            kind = MEDIA_TYPES.get(str(part.get("type")))
            out.add("media" if kind is None else f"media.{kind}", f"<|{part.get('type')}_pad|>", item=index)


def _tool_call(out: _Writer, index: int, call: Mapping[str, Any]) -> None:
    inner = call.get("function", call)
    path: tuple[str | int, ...] = ("tool_calls", index, "function") if "function" in call else ("tool_calls", index)
    arguments = inner.get("arguments", {})
    written = arguments if isinstance(arguments, str) else json.dumps(arguments)
    out.add("tool_call", '\n<tool_call>\n{"name": "', call=index)
    out.add("tool_call.name", inner["name"], field=(*path, "name"), field_exact=True, call=index)
    out.add("tool_call", '", "arguments": ', call=index)
    exact = isinstance(arguments, str)
    out.add("tool_call.arguments", written, field=(*path, "arguments"), field_exact=exact, call=index)
    out.add("tool_call", "}\n</tool_call>", call=index)
