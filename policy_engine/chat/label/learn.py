"""The profile of a template, learned by rendering a few synthetic conversations.

An answer that a user follows is rendered to `aa<|im_end|>⏎<|im_start|>user⏎`, the last one to `aa<|im_end|>⏎`: what
both have ends it. The generation prompt by what precedes it, text that is written one turn late and the rest are found
likewise. Learned once per template, arguments and presence of tools, then cached; a row is rendered once.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from policy_engine.chat.label.markers import REASONING, Markers, closing_tag, is_closing_tag
from policy_engine.chat.label.profile import TemplateProfile, added_prompt, shared_end
from policy_engine.chat.label.sources import Bit
from policy_engine.core.source import common_prefix


@dataclass(frozen=True, kw_only=True)
class Raw:
    """One rendering before parts are told apart: the text and its bits, owners set."""

    text: str
    bits: Sequence[Bit]


Renderer = Callable[[Sequence[Mapping[str, Any]], bool, bool], "Raw | None"]
"""(messages, with tools, with generation prompt) → the rendering, or None where the template raises."""


# Short texts, one for each turn: no template has such words of its own, so each is found again.
_SYSTEM = {"role": "system", "content": "ss"}
_DELIMITERS = frozenset(delimiter for pair in REASONING for delimiter in pair)
TOOL = {
    "type": "function",
    "function": {
        "name": "lookup",
        "description": "d",
        "parameters": {
            "type": "object",
            "properties": {"key": {"type": "string", "description": "k"}},
            "required": ["key"],
        },
    },
}
"""The tool that a template is profiled with."""
_MOST_WORDS = 8
"""Most words of a template that its prompt is asked for with."""


def _turns(model: str) -> dict[str, list[dict[str, Any]]]:
    def user(text: str) -> dict[str, Any]:
        return {"role": "user", "content": text}

    def answer(text: str) -> dict[str, Any]:
        return {"role": model, "content": text}

    # Nine letters and digits, which Mistral's templates ask of an id.
    call = {"id": "abcdefgh1", "type": "function", "function": {"name": "lookup", "arguments": {"key": "vv"}}}
    calling = {"role": model, "content": "", "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "abcdefgh1", "name": "lookup", "content": "rr"}
    return {
        "plain": [user("ua"), answer("aa"), user("ub"), answer("ab"), user("uc"), answer("ac")],
        "tools": [user("ua"), calling, result, answer("aa"), user("ub"), answer("ab")],
    }


def learn(render: Renderer, markers: Markers, *, model: str, tools: bool, words: Sequence[str] = ()) -> TemplateProfile:
    """Render the synthetic conversations and read the facts off them.

    `words` are texts that the template looks for in messages.
    """
    conversations = _turns(model)
    plain = _first(render, _variants(conversations["plain"]), tools)
    prompts: dict[str, str] = {}
    openings: dict[str, str] = {}
    if plain is None:
        # A template that renders no plain conversation has nothing to learn from.
        return TemplateProfile()
    messages, raw = plain
    # 1 where the template renders only with a system prompt in front, else 0; turns are counted behind it.
    lead = len(messages) - 6
    openings["user"] = _opening(raw, lead + 3)
    asked = prompts["user"] = _prompt(render, messages[: lead + 3], tools, markers) or ""
    appended = _appended(render, messages[: lead + 3], tools, raw, markers)
    others: list[str | None] = []
    if appended:
        prompts["user"] = appended + asked
    else:
        # After the first and the last user turn, and with a system prompt: some templates write another one there.
        others = [_prompt(render, messages[: lead + at], tools, markers) for at in (1, 5)]
        if not lead:
            others.append(_prompt(render, [_SYSTEM, *messages[:3]], tools, markers))
    after_answer = _prompt(render, messages[: lead + 4], tools, markers)
    if after_answer is not None and not appended:
        prompts[model] = after_answer
    # What opens a turn is no end of the turn before it.
    first = shared_end(_opening(raw, lead), _after(raw, lead + 1), markers)
    opens = (prompts["user"] or openings["user"]) + "".join(markers.texts(first)[-1:])
    late = _late(raw, lead, markers) or _diffed(raw, lead + 5, raw, lead + 3, opens, markers)
    asking = render(messages[: lead + 3], tools, False)
    late_user = "" if asking is None else _diffed(asking, lead + 2, raw, lead + 2, opens, markers)
    late_call = tool_opening = ""
    # Of the first two answers: the last one may end in another way.
    closings = [_closing(raw, lead + at) + late for at in (1, 3)]
    # Always with tools, even for conversations without: only then does a template write calls.
    calling = _first(render, [conversations["tools"], _with_string_arguments(conversations["tools"])], True)
    if calling is not None:
        openings["tool"] = _opening(calling[1], 3)
        prompt = _prompt(render, calling[0][:3], True, markers)
        if prompt is not None and not appended:
            prompts["tool"] = prompt
        tool_opening = _opening(calling[1], 2)
        last = render(calling[0][:2], True, False)
        if last is not None:
            late_call = _diffed(last, 1, calling[1], 1, opens, markers)
    suffix = _suffix(render(messages[: lead + 5], tools, False), raw, lead + 4, markers)
    opener = _opening(raw, lead + 2)
    if not opener.strip() or (_marker(closings, markers) or "\0") in opens:
        # The answers write the next turn's opening too; their end is what the last one has as well.
        ends = [c[: markers.back_to_boundary(c, common_prefix(c, _after(raw, lead + 5)))] for c in closings]
        closings = ends if all(map(markers.spans, ends)) else closings
    marker = _marker(closings, markers)
    # A system prompt in mid conversation: what opens it comes right behind an answer.
    headed = None if lead else render([*messages[:4], _SYSTEM, *messages[4:]], tools, False)
    after = "" if headed is None else _after(headed, 3)
    closed = "".join((marker or "", *closings))
    system = next((found for span in markers.spans(after) if (found := after[slice(*span)]) not in closed), "")
    # The opening is written with the user's turn, before anyone asks for it.
    if not prompts["user"] and not openings["user"].strip():
        prompts["user"] = appended = _written_before(raw, lead + 2, marker)
    supplied = prompts["user"] or openings["user"]
    start = first.rpartition(marker)[2] if marker else first
    opener_ends: set[str] = set()
    if marker is None and not any(c.strip() for c in closings):
        # Only a marker that the model's own opening does not share (`<|im_start|>`) says that a turn ended.
        own = _leading_marker(supplied, markers)
        opener_ends = {_leading_marker(text, markers) for text in (opener, tool_opening)} - {own, ""} if own else set()
        # An answer that has an end when it is the last has no other in mid conversation.
        last_ends = set(markers.texts(_after(raw, lead + 5)))
        opener_ends = opener_ends & last_ends if last_ends else opener_ends
    return TemplateProfile(
        prompts=prompts,
        openings=openings,
        user_opening=opener.removeprefix(late),
        marker=marker,
        opener_ends=frozenset(opener_ends),
        late=late,
        late_call=late_call,
        late_user=late_user,
        closers=frozenset(closing_tag(_leading_marker(text, markers)) for text in (opener, tool_opening, system))
        - {""},
        early=_early(prompts["user"], _closing(raw, lead + 2), openings["user"], marker, markers),
        openers=frozenset(
            found
            for text in (*prompts.values(), *openings.values(), opener, tool_opening, start)
            for found in markers.texts(text)
        ),
        appended=appended,
        suffix=suffix,
        system=system,
        varies=any(other is not None and other != asked for other in others),
        flags=_flags(render, messages[: lead + 3], tools, markers, asked, words),
    )


def _suffix(asked: Raw | None, answered: Raw, turn: int, markers: Markers) -> str:
    """Words that a conversation ends with whether `turn`, a user's, is its last or is answered."""
    if asked is None:
        return ""
    # Reversed, so that a common suffix is a common prefix.
    tails = [_after(raw, at)[::-1] for raw, at in ((asked, turn), (answered, turn + 1))]
    found = tails[0][: common_prefix(*tails)][::-1]
    # Markers alone, or one word, are an end or an opener, not instructions.
    return found if len(markers.pattern.sub("", found).split()) > 1 else ""


def _flags(
    render: Renderer,
    messages: Sequence[Mapping[str, Any]],
    tools: bool,
    markers: Markers,
    asked: str,
    words: Sequence[str],
) -> frozenset[str]:
    """Words (`/no_think`) that change the generation prompt where a message has them."""
    found = set()
    # Keys of messages, and delimiters of thinking, are no instructions.
    tried = [word for word in words if len(word) > 2 and not word.isidentifier() and word not in _DELIMITERS]
    for word in tried[:_MOST_WORDS] if asked else ():
        last = messages[-1]
        user = last["content"] if isinstance(last["content"], str) else last["content"][0]["text"]
        flagged = f"{user} {word}" if isinstance(last["content"], str) else [{"type": "text", "text": f"{user} {word}"}]
        # `/no_think` is read in a user's message by some templates, in the system prompt by others.
        rows = [
            [*messages[:-1], {**last, "content": flagged}],
            [{"role": "system", "content": word}, *(m for m in messages if m["role"] != "system")],
        ]
        prompts = [_prompt(render, row, tools, markers) for row in rows]
        if any(prompt is not None and prompt != asked for prompt in prompts):
            found.add(word)
    return frozenset(found)


def _leading_marker(text: str, markers: Markers) -> str:
    """The marker that a text begins with, blanks apart; empty if it begins with something else.

    >>> markers = Markers.of([], bos=None, eos=None)
    >>> _leading_marker("\\n<|user|>Hi", markers), _leading_marker("Hi<|user|>", markers)
    ('<|user|>', '')
    """
    spans = markers.spans(text)
    return text[slice(*spans[0])] if spans and not text[: spans[0][0]].strip() else ""


def _variants(messages: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    # Some templates take text alone, some lists of parts alone, some want a system prompt.
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
    found = None
    for messages in candidates:
        raw = render(messages, tools, False)
        if raw is None:
            continue
        # A template that renders without raising may still have written nothing of a content.
        written = {b.turn for b in raw.bits if b.is_data and b.end > b.start}
        if written >= {turn for turn, message in enumerate(messages) if message.get("content")}:
            return messages, raw
        # The template raises on the others, or writes nothing of their content either.
        found = found or (messages, raw)
    return found


def _prompt(render: Renderer, messages: Sequence[Mapping[str, Any]], tools: bool, markers: Markers) -> str | None:
    """The text that `add_generation_prompt` adds after `messages`; None where that raises."""
    without = render(messages, tools, False)
    with_prompt = render(messages, tools, True)
    return None if without is None or with_prompt is None else added_prompt(without.text, with_prompt.text, markers)


def _appended(
    render: Renderer, messages: Sequence[Mapping[str, Any]], tools: bool, whole: Raw, markers: Markers
) -> str:
    """The opener of an answer that ends every conversation, asked for or not; else nothing.

    `whole` is a longer conversation with these messages in front.
    """
    made = render(messages, tools, False)
    if made is None:
        return ""
    turn = len(messages) - 1
    found, following = _after(made, turn), _opening(whole, turn + 1)
    if not following.strip() or not _after(whole, turn).endswith(following):
        return ""
    found = found[common_prefix(found, _after(whole, turn).removesuffix(following)) :]
    # It may prefill thinking that the answer does not have.
    head, opening = found.strip(), following.strip()
    shared = head[: markers.back_to_boundary(head, common_prefix(head, opening))].strip()
    # What opens other turns too is what separates turns.
    return "" if not shared or _opening(whole, len(messages) + 1).strip().startswith(shared) else found


def _written_before(raw: Raw, turn: int, marker: str | None) -> str:
    """The opening of an answer behind the end marker of the user's `turn` before it."""
    closing = _closing(raw, turn)
    if marker is None or marker not in closing:
        return ""
    found = closing.partition(marker)[2].lstrip()
    return found if found.strip() else ""


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


def _after(raw: Raw, turn: int) -> str:
    """The text after the data of a turn, up to the next data."""
    return _text(raw, _gap(raw, turn))


def _gap(raw: Raw, turn: int) -> list[Bit]:
    end = max((b.end for b in raw.bits if b.is_data and b.turn == turn and b.end > b.start), default=len(raw.text))
    stop = min((b.start for b in raw.bits if b.is_data and b.start >= end and b.end > b.start), default=len(raw.text))
    return [b for b in raw.bits if end <= b.start and b.end <= stop and b.end > b.start]


def _diffed(last: Raw, at: int, whole: Raw, turn: int, opener: str, markers: Markers) -> str:
    """An end that a turn has last or not, and that the turn after it writes in mid conversation.

    `at` is a turn of the same kind that ends the rendering `last`, `turn` one that another follows in `whole`. What the
    `opener` of answers has is no end: a template may append it to every conversation.
    """
    followed = _after(whole, turn)
    end = markers.back_to_boundary(followed, common_prefix(_after(last, at), followed))
    own = 0
    for bit in _gap(whole, turn):
        if bit.turn != turn:
            break
        own += bit.end - bit.start
    extra = followed[own:end]
    spans = markers.spans(extra)
    if not spans or any(extra[slice(*span)] in opener for span in spans):
        return ""
    extra = extra[: spans[-1][1]]
    # Words are an opener that the template writes whoever speaks next.
    return "" if markers.pattern.sub("", extra).strip() else extra


def _late(raw: Raw, lead: int, markers: Markers) -> str:
    """Text that the user turn after an answer opens with and the first user turn does not."""
    first, later = _opening(raw, lead), _opening(raw, lead + 2)
    found = later.removesuffix(first) if later != first and first.strip() and later.endswith(first) else ""
    # A marker that a last answer lacks, behind an end that all answers have, opens a round.
    opens = found.strip() not in _after(raw, lead + 5) and markers.spans(_closing(raw, lead + 1))
    return "" if opens and markers.spans(found) else found


def _early(prompt: str, closing: str, opening: str, marker: str | None, markers: Markers) -> str:
    """The beginning of the prompt, if user turns end with it and answers do not open with it.

    >>> markers = Markers.of([], bos=None, eos=None)
    >>> _early("<|assistant|>", "<|end|><|assistant|>", "", "<|end|>", markers)
    '<|assistant|>'
    """
    head = prompt.lstrip()
    if marker is not None:
        head = head.removeprefix(marker).lstrip()  # which ended the user's turn
    spans = markers.spans(head)
    # Its first marker says enough; words behind it may differ.
    head = head[: spans[0][1]] if spans and spans[0][0] == 0 else head.rstrip()
    return head if head and not is_closing_tag(head) and head in closing and head not in opening else ""


def _marker(closings: Sequence[str], markers: Markers) -> str | None:
    found: Counter[str] = Counter()
    for closing in closings:
        spans = [closing[slice(*s)] for s in markers.spans(closing)]
        if not spans:
            continue
        # The last marker ends the turn, unless it is the end of the document behind the turn's own.
        last = spans[-1]
        if len(spans) > 1 and last == markers.eos and not is_closing_tag(spans[0]):
            last = spans[0]
        found[last] += 1
    # Two answers may end differently; the marker that both have is taken, or the first one's.
    if found:
        return found.most_common(1)[0][0]
    plain = {closing.strip() for closing in closings}
    # An end marker of plain text: the same words after every answer.
    return plain.pop() if len(plain) == 1 and "" not in plain else None
