"""Control text in data: it belongs to the message it is in, and changes nobody else's text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from policy_engine.chat.segments import RenderedChat, Segment
from policy_engine.core.errors import TemplateError
from policy_engine.core.source import common_prefix
from policy_engine.testing.checks.conformance_cases import Case, Skip, marked

_WORD = re.compile(r"Wq(\d+)x(.*?)y\1qW", re.DOTALL)
_HALF = re.compile(r"(?:(?<=Wq)|(?<=y))(\d+)(?=x|qW)")
"""The number at either end of a marked word."""
_THINKING = ("think", "THINK", "reason", "channel")


def injection(case: Case) -> str | None:
    """Control text in data is data of the message it is in, and changes nobody else's text."""
    clean = marked(case.conversation)
    dirty = marked(case.conversation, case.payload)
    try:
        before = case.template.render(clean, in_other_words=False)
        after = case.template.render(dirty, in_other_words=False)
    except TemplateError:
        raise Skip("the template raises on such data") from None
    problem = _taken(after, before, case.payload)
    if problem is not None:
        return problem
    restored, places = _restored(after, case.payload)
    if restored != before.text:
        raise Skip("the template acts on the injected text")  # and writes other text; its words were looked at above
    # Templates take thinking out of contents on purpose: then the message counts, and not the part.
    coarse = _is_thinking(case.payload)
    if _owners(before, None, coarse) != _owners(after, places, coarse):
        return f"with {case.payload!r} in the data, {_difference(before, after, places, coarse)}"
    return None


def _is_thinking(payload: str) -> bool:
    return any(word in payload for word in _THINKING)


def _homes(
    chat: RenderedChat, pattern: re.Pattern[str], payload: str | None = None
) -> dict[str, set[tuple[int | None, Any]]]:
    """Turn and field of each marked word; with `payload`, only of those with it in their middle.

    Blanks are passed over.

    A template that takes data apart at blanks writes blanks of its own.
    """
    homes: dict[str, set[tuple[int | None, Any]]] = {}
    for match in pattern.finditer(chat.text):
        # Cut or rewritten on the way: the halves are looked at by `_HALF`.
        if payload is not None and match[2] != payload:
            continue
        for segment in _covering(chat, *match.span()):
            if payload is not None and chat.segment_text(segment).isspace():
                continue
            homes.setdefault(match[1], set()).add((segment.turn, segment.field and segment.field[0]))
    return homes


def _taken(after: RenderedChat, before: RenderedChat, payload: str) -> str | None:
    homes = _homes(before, _WORD)
    whole = {} if _is_thinking(payload) else _homes(after, _WORD, payload)
    # Where the injected text is cut or rewritten (thinking, lines that are indented), the template may write inside.
    for number, found in {**_homes(after, _HALF), **whole}.items():
        if number in homes and not found <= homes[number]:
            return f"with {payload!r} in the data, text of {_told(homes[number])} is said to be of {_told(found)}"
    return None


def _told(homes: set[tuple[int | None, Any]]) -> str:
    return " and ".join(
        sorted(f"the {'template' if f is None else f} of {'no message' if t is None else f'message {t}'}"
               for t, f in homes)
    )  # fmt: skip


def _covering(chat: RenderedChat, start: int, end: int) -> Iterator[Segment]:
    return (s for s in chat.segments if s.start < end and s.end > start)


def _restored(chat: RenderedChat, payload: str) -> tuple[str, list[tuple[int, int]]]:
    """The text without the injected text in marked words, and where that was."""
    places = [m.span(2) for m in _WORD.finditer(chat.text) if m[2] == payload]
    out, at = [], 0
    for start, end in places:
        out.append(chat.text[at:start])
        at = end
    return "".join([*out, chat.text[at:]]), places


Owner = tuple[int, Any]


def _owners(chat: RenderedChat, places: list[tuple[int, int]] | None, coarse: bool) -> list[Owner]:
    """Places where the owner changes, and the owner, in characters without the injected."""
    found: list[Owner] = []
    gone = list(places or ())
    for segment in chat.segments:
        # Where the segment ends once the injected text is taken out, so that both texts have one scale.
        end = segment.end - sum(max(0, min(b, segment.end) - a) for a, b in gone if a < segment.end)
        key = (segment.turn, segment.field and segment.field[0], segment.call, None if coarse else segment.part)
        if found and found[-1][1] == key:
            found[-1] = (end, key)
        elif not found or end > found[-1][0]:
            found.append((end, key))
    return found


def _difference(before: RenderedChat, after: RenderedChat, places: list[tuple[int, int]], coarse: bool) -> str:
    one, other = _owners(before, None, coarse), _owners(after, places, coarse)
    at = common_prefix(one, other)
    start = one[at - 1][0] if at else 0
    shown = before.text[start : min(start + 20, one[at][0] if at < len(one) else start)]
    was = one[at][1] if at < len(one) else None
    now = other[at][1] if at < len(other) else None
    return f"{shown!r} goes from {_owner(was)} to {_owner(now)}"


def _owner(key: Any) -> str:
    if key is None:
        return "nothing"
    turn, field, _, part = key
    of = "no message" if turn is None else f"message {turn}"
    return f"{part or 'text'} of {of}" + ("" if field is None else f" ({field})")
