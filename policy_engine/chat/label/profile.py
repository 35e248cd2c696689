"""What is true of a template rather than of a row, learned by rendering a few synthetic conversations.

The generation prompt by what precedes it, the marker that ends a turn, how a model turn opens, and text that is written
one turn late. Learned once per template, arguments and presence of tools, then cached; a row is rendered once.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from policy_engine.chat.label.markers import Markers, is_closing_tag
from policy_engine.chat.label.sources import Bit


@dataclass(frozen=True, kw_only=True)
class Raw:
    """One rendering before parts are told apart: the text and its bits, owners set."""

    text: str
    bits: Sequence[Bit]


Renderer = Callable[[Sequence[Mapping[str, Any]], bool, bool], "Raw | None"]
"""(messages, with tools, with generation prompt) → the rendering, or None where the template raises."""


@dataclass(frozen=True, kw_only=True)
class TemplateProfile:
    """Learned facts. Texts are scaffold only.

    `prompts`: generation prompt after a turn of a role. `openings`: how a model turn opens after one, up to its data.
    `user_opening`: how a user turn opens in mid conversation. `marker`: the marker that ends model turns, None if the
    template writes none. `opener_ends`: whether the next turn's opener ends a model turn (GLM). `late`: how the
    turn after a model's opens with what belongs to the model's. `early`: what the opening of a model turn begins with
    where the turn before it writes that opening; empty where model turns write their own. `varies`: the prompt after
    one user turn is not that after another (it counts turns, or heeds the system prompt), so each has to be asked for.
    """

    prompts: Mapping[str, str] = field(default_factory=dict)
    openings: Mapping[str, str] = field(default_factory=dict)
    user_opening: str = ""
    marker: str | None = None
    opener_ends: bool = False
    late: str = ""
    early: str = ""
    varies: bool = False

    def prompt(self, before: str | None) -> str:
        """The generation prompt after a turn of role `before`; after a role that was not tried, the user's."""
        return self.prompts.get(before or "user", self.prompts.get("user", ""))

    def opening(self, before: str | None) -> str:
        """How a model turn opens after a turn of role `before`."""
        return self.openings.get(before or "user", self.openings.get("user", ""))


_SYSTEM = {"role": "system", "content": "ss"}


def _turns(model: str) -> dict[str, list[dict[str, Any]]]:
    def user(text: str) -> dict[str, Any]:
        return {"role": "user", "content": text}

    def answer(text: str) -> dict[str, Any]:
        return {"role": model, "content": text}

    call = {"id": "abcdefgh1", "type": "function", "function": {"name": "lookup", "arguments": {"key": "vv"}}}
    calling = {"role": model, "content": "", "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "abcdefgh1", "name": "lookup", "content": "rr"}
    return {
        "plain": [user("ua"), answer("aa"), user("ub"), answer("ab"), user("uc"), answer("ac")],
        "tools": [user("ua"), calling, result, answer("aa"), user("ub"), answer("ab")],
    }


def learn(render: Renderer, markers: Markers, *, model: str, tools: bool) -> TemplateProfile:
    """Render the synthetic conversations and read the facts off them."""
    conversations = _turns(model)
    plain = _first(render, _variants(conversations["plain"]), tools)
    prompts: dict[str, str] = {}
    openings: dict[str, str] = {}
    if plain is None:
        return TemplateProfile()
    messages, raw = plain
    lead = len(messages) - 6
    openings["user"] = _opening(raw, lead + 3)
    asked = prompts["user"] = _prompt(render, messages[: lead + 3], tools, markers) or ""
    others: list[str | None] = []
    if asked:
        others = [_prompt(render, messages[: lead + at], tools, markers) for at in (1, 5)]
        if not lead:
            others.append(_prompt(render, [_SYSTEM, *messages[:3]], tools, markers))
    else:
        prompts["user"] = _appended(render, messages[: lead + 3], tools, raw)
    after_answer = _prompt(render, messages[: lead + 4], tools, markers)
    if after_answer is not None and (asked or not prompts["user"]):
        prompts[model] = after_answer
    late = _late(raw, lead)
    closings = [_closing(raw, lead + at) + late for at in (1, 3)]
    calling = _first(render, [conversations["tools"], _with_string_arguments(conversations["tools"])], True)
    if calling is not None:
        openings["tool"] = _opening(calling[1], 3)
        prompt = _prompt(render, calling[0][:3], True, markers)
        if prompt is not None and (asked or not prompts["user"]):
            prompts["tool"] = prompt
    marker = _marker(closings, markers)
    opener = _opening(raw, lead + 2)
    opener_ends = False
    if marker is None and not any(c.strip() for c in closings):
        # Only a marker that the model's own opening does not share (`<|im_start|>`) says that a turn ended.
        spans, own = markers.spans(opener), markers.spans(prompts["user"] or openings["user"])
        if spans and own and not opener[: spans[0][0]].strip():
            opener_ends = (prompts["user"] or openings["user"])[slice(*own[0])] != opener[slice(*spans[0])]
    return TemplateProfile(
        prompts=prompts,
        openings=openings,
        user_opening=opener.removeprefix(late),
        marker=marker,
        opener_ends=opener_ends,
        late=late,
        early=_early(prompts["user"], _closing(raw, lead + 2), openings["user"], marker, markers),
        varies=any(other is not None and other != asked for other in others),
    )


def _variants(messages: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    parts = [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages]
    return [messages, [_SYSTEM, *messages], parts]


def _with_string_arguments(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    # Some templates concatenate the arguments, which only a string allows.
    changed = []
    for message in messages:
        calls = [
            {**call, "function": {**call["function"], "arguments": json.dumps(call["function"]["arguments"])}}
            for call in message.get("tool_calls", ())
        ]
        changed.append({**message, "tool_calls": calls} if calls else message)
    return changed


def _first(
    render: Renderer, candidates: Sequence[list[dict[str, Any]]], tools: bool
) -> tuple[list[dict[str, Any]], Raw] | None:
    for messages in candidates:
        raw = render(messages, tools, False)
        if raw is not None:
            return messages, raw
    return None


def _prompt(render: Renderer, messages: Sequence[Mapping[str, Any]], tools: bool, markers: Markers) -> str | None:
    """The text that `add_generation_prompt` adds after `messages`; None where that raises."""
    without = render(messages, tools, False)
    with_prompt = render(messages, tools, True)
    return None if without is None or with_prompt is None else added_prompt(without.text, with_prompt.text, markers)


def _appended(render: Renderer, messages: Sequence[Mapping[str, Any]], tools: bool, whole: Raw) -> str:
    """The prompt of a template that does not ask for the flag: what ends every conversation and opens the next answer.

    `whole` is a longer conversation with these messages in front.
    """
    made = render(messages, tools, False)
    if made is None or not whole.text.startswith(made.text):
        return ""
    found = made.text[max((b.end for b in whole.bits if b.turn == len(messages) - 1), default=0) :]
    head, opening = found.rstrip(), _opening(whole, len(messages)).rstrip()
    if not opening or not (opening.startswith(head) or head.startswith(opening)):
        return ""
    # What opens other turns too is what separates turns.
    return "" if _opening(whole, len(messages) + 1).startswith(head) else found


def added_prompt(without: str, with_prompt: str, markers: Markers) -> str:
    """What a text with a generation prompt has that the same without one lacks."""
    if with_prompt.startswith(without):
        return with_prompt[len(without) :]
    # The template ends its last turn differently once a prompt follows (`<|return|>` becomes `<|end|>`).
    return with_prompt[markers.back_to_boundary(with_prompt, common_prefix(with_prompt, without)) :]


def common_prefix(a: str, b: str) -> int:
    """Length of the longest common prefix of two strings."""
    low, high = 0, min(len(a), len(b))
    if a[:high] == b[:high]:
        return high
    while low < high:
        middle = (low + high + 1) // 2
        if a[:middle] == b[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _own(raw: Raw, turn: int) -> tuple[list[Bit], list[Bit], list[Bit]]:
    """Scaffold of a turn before, and after, its data; and the data."""
    data = [b for b in raw.bits if b.turn == turn and b.is_data]
    scaffold = [b for b in raw.bits if b.turn == turn and not b.is_data]
    if not data:
        return scaffold, [], []
    return (
        [b for b in scaffold if b.end <= data[0].start],
        [b for b in scaffold if b.start >= data[-1].end],
        data,
    )


def _text(raw: Raw, bits: Sequence[Bit]) -> str:
    return "".join(raw.text[b.start : b.end] for b in bits)


def _opening(raw: Raw, turn: int) -> str:
    return _text(raw, _own(raw, turn)[0])


def _closing(raw: Raw, turn: int) -> str:
    return _text(raw, _own(raw, turn)[1])


def _late(raw: Raw, lead: int) -> str:
    """Text that the user turn after an answer opens with and the first user turn does not."""
    first, later = _opening(raw, lead), _opening(raw, lead + 2)
    return later.removesuffix(first) if later != first and first.strip() and later.endswith(first) else ""


def _early(prompt: str, closing: str, opening: str, marker: str | None, markers: Markers) -> str:
    """What the prompt begins with, if user turns end with it before an answer and answers do not open with it."""
    head = prompt.lstrip()
    if marker is not None:
        head = head.removeprefix(marker).lstrip()  # which ended the user's turn
    spans = markers.spans(head)
    head = head[: spans[0][1]] if spans and spans[0][0] == 0 else head.rstrip()
    return head if head and not is_closing_tag(head) and head in closing and head not in opening else ""


def _marker(closings: Sequence[str], markers: Markers) -> str | None:
    found: Counter[str] = Counter()
    for closing in closings:
        spans = [closing[slice(*s)] for s in markers.spans(closing)]
        if not spans:
            continue
        last = spans[-1]
        if len(spans) > 1 and last == markers.eos and not is_closing_tag(spans[0]):
            last = spans[0]
        found[last] += 1
    if found:
        return found.most_common(1)[0][0]
    plain = {closing.strip() for closing in closings}
    # An end marker of plain text: the same words after every answer.
    return plain.pop() if len(plain) == 1 and "" not in plain else None
