"""Chats made without a template or a tokenizer: every layout that segments allow.

Real templates write orderly text; these chats also leave parts out, write a turn late or twice, put nothing between
turns, and cut tokens without regard for segments. What holds on them holds for any template.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from policy_engine.chat.segments import RenderedChat, Segment, TokenizedChat
from policy_engine.data.conversation import Conversation
from policy_engine.testing.choices import Choices
from policy_engine.testing.conversations import REASONING_FIELDS, conversation


def rendered_chat(choices: Choices, *, most: int = 6, bad: bool = False) -> RenderedChat:
    """A conversation laid out as some template might.

    `bad` allows data in it that fails a row under some policies.
    """
    return lay_out(choices, conversation(choices, most=most, bad=bad))


def lay_out(choices: Choices, made: Conversation) -> RenderedChat:
    """A rendered chat of a conversation, by a layout of the generator's own."""
    out = _Layout(choices)
    out.maybe(50, "bos", "<s>")
    out.maybe(20, "preamble", choices.pick(("You are helpful.\n", "\n", "Today is Monday")))
    for index, schema in enumerate(made.tools or ()):
        out.add("preamble.tools", json.dumps(schema)[:30], field=("tools", index))
    sure = choices.pick((100, 100, 100, 70, 0))  # orderly, with parts left out, nothing but data
    order = list(range(len(made.messages)))
    if choices.chance(10):
        order.insert(0, choices.pick(order))  # a system prompt printed early and again, or a turn written in two places
    for turn in order:
        out.turn = turn
        out.sure = sure
        _turn(out, made.messages[turn])
    # What comes now belongs to no message.
    out.turn = None
    opened = choices.chance(15)
    if opened:
        out.add("generation_prompt", choices.pick(("<|im_start|>assistant\n", "<|assistant|>")))
    return RenderedChat(
        text="".join(out.texts),
        segments=tuple(out.segments),
        messages=made.messages,
        sample=made.sample,
        generation_prompt=opened,
        sampled=sampled_ranges(choices, sum(map(len, out.texts))),
    )


def sampled_ranges(choices: Choices, size: int) -> tuple[tuple[int, int], ...]:
    """Ranges of sampled characters in a text of `size` characters, in order and apart.

    >>> from policy_engine.testing.choices import RandomChoices
    >>> sampled_ranges(RandomChoices(1), 40)
    ((2, 3), (13, 14))
    """
    found: list[tuple[int, int]] = []
    at = choices.integer(0, 8)
    for _ in range(choices.integer(0, 6)):
        end = min(at + choices.pick((1, 3, 10, 40)), size)
        # Apart by at least one character: ranges that touch would be one.
        if at < end:
            found.append((at, end))
        at = end + choices.pick((1, 2, 10, 40))
    return tuple(found)


def tokenized_chat(choices: Choices, *, most: int = 6, bad: bool = False) -> TokenizedChat:
    """A rendered chat with tokens cut anywhere."""
    return cut(choices, rendered_chat(choices, most=most, bad=bad))


def cut(choices: Choices, chat: RenderedChat) -> TokenizedChat:
    """Tokens that cover a chat in order, cut anywhere: zero wide, or several on a character.

    A few widths are chosen and repeated over the text; a fresh choice for every token would make cases slow to shrink.
    """
    widest = choices.pick((1, 3, 8, 30))
    widths = choices.many(lambda c: c.integer(1, widest), 1, 7)
    often = choices.pick((2, 5, 9))  # how often a one-character token comes several times, or a zero-wide one follows
    # Byte-level tokenizers give several tokens the same character, and tokens without any.
    odd = choices.chance(40)
    # Now and then tokens stop at segments, as with templates whose markers are special tokens.
    ends = {segment.end for segment in chat.segments} if choices.chance(30) else frozenset()
    starts_T: list[int] = []
    ends_T: list[int] = []
    at = 0
    for turn in itertools.count():
        if at >= len(chat.text):
            break
        end = min(len(chat.text), at + widths[turn % len(widths)])
        end = min((e for e in ends if at < e < end), default=end)
        times = 2 + turn % 2 if odd and end - at == 1 and turn % often == 0 else 1
        starts_T += [at] * times
        ends_T += [end] * times
        if odd and turn % often == 1:
            starts_T.append(end)
            ends_T.append(end)
        at = end
    return TokenizedChat(
        chat=chat,
        # Ids mean nothing here, but repeat, as real ones do.
        input_ids=[7 * i % 10 for i in range(len(starts_T))],
        starts_T=np.array(starts_T, dtype=np.int32),
        ends_T=np.array(ends_T, dtype=np.int32),
    )


class _Layout:
    """Text and segments written so far.

    `sure` is the chance that a part is written at all, in a hundred.
    """

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self.texts: list[str] = []
        self.segments: list[Segment] = []
        self.turn: int | None = None
        self.sure = 100
        self._at = 0

    def add(self, part: str, text: str, **facts: Any) -> None:
        """Write a segment; an empty text has no token."""
        if text:
            end = self._at + len(text)
            self.segments.append(Segment(start=self._at, end=end, part=part, turn=self.turn, **facts))
            self.texts.append(text)
            self._at = end

    def maybe(self, percent: int, part: str, text: str) -> None:
        """Write a segment in so many of a hundred cases."""
        if self.choices.chance(percent):
            self.add(part, text)

    def data(self, part: str, value: str, field: tuple[str | int, ...], **facts: Any) -> None:
        """Writes a field's text: whole, stripped, in two segments, or (now and then) changed."""
        start, end = 0, len(value)
        how = self.choices.integer(0, 9)
        if how >= 7:  # a template that trims
            start, end = len(value) - len(value.lstrip()), len(value.rstrip())
        if how == 6:  # one that changes the text keeps the owner, not the offsets
            self.add(part, value.upper(), field=field, **facts)
            return
        middle = self.choices.integer(start, end) if how == 5 and start < end else end
        for a, b in ((start, middle), (middle, end)):
            self.add(part, value[a:b], field=field, field_start=a, field_exact=True, **facts)


def _turn(out: _Layout, message: Mapping[str, Any]) -> None:
    out.maybe(out.sure, "header", f"<|im_start|>{message['role']}\n")
    name = next((n for n in REASONING_FIELDS if isinstance(message.get(n), str)), None)
    if name is not None:
        out.maybe(out.sure, "reasoning.open", "<think>\n")
        out.data("reasoning.text", message[name], (name,))
        out.maybe(out.sure, "reasoning.close", "\n</think>\n\n")
    elif message["role"] == "assistant":
        out.maybe(25, "empty_reasoning", "<think>\n\n</think>\n\n")
    _content(out, message.get("content"))
    out.maybe(out.sure // 10, "markup", "<|message|>")
    for index, call in enumerate(message.get("tool_calls") or ()):
        _call(out, index, call)
    # Seldom left out, even in orderly chats: a last turn may be open.
    out.maybe(out.sure and out.sure - 5, "eot", out.choices.pick(("<|im_end|>", "<|eom_id|>")))
    out.maybe(out.sure // 12, "eod", "<|end_of_text|>")
    out.maybe(out.sure * 3 // 4, "separator", "\n")


def _content(out: _Layout, content: str | Sequence[Mapping[str, Any]] | None) -> None:
    if isinstance(content, str):
        out.data("text", content, ("content",))
        return
    for index, part in enumerate(content or ()):
        if "text" in part:
            out.data("text", part["text"], ("content", index, "text"), item=index)
        else:
            out.add("media.image", "<|image|>", item=index)


def _call(out: _Layout, index: int, call: Mapping[str, Any]) -> None:
    function = call["function"]
    path: tuple[str | int, ...] = ("tool_calls", index, "function")
    out.add("tool_call", '<tool_call>{"name": "', call=index)
    out.data("tool_call.name", function["name"], (*path, "name"), call=index)
    out.add("tool_call", '", "arguments": ', call=index)
    arguments = function["arguments"]
    if isinstance(arguments, str):
        out.data("tool_call.arguments", arguments, (*path, "arguments"), call=index)
    else:
        out.add("tool_call.arguments", json.dumps(arguments), field=(*path, "arguments"), call=index)
    out.maybe(out.sure, "tool_call", "}</tool_call>")
