"""Data that tints do not show: braces and numbers of JSON, and messages that share an id.

tinted   {"n": 3, "\U000f0000": true}
plain    {"n": 3, "x": true}              the whole is the data's, not the one letter alone
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from policy_engine.chat.encoders.tint import Tinting
from policy_engine.chat.trace.origins import LOST, Origin, Run, cut, origin_at, placed

Written = tuple[int, int, "int | None"]
"""Characters `[start, end)`, and the message that was being written."""


def with_json(runs: list[Run], plain: str, tinting: Tinting, written: Sequence[Written]) -> list[Run]:
    """The runs, with JSON of the data as one run each, where it is written as a whole.

    Of `{"n": 3, "city": "Rome"}` only names and strings were tinted; braces and numbers are the data's too.
    """
    for (turn, path), value in tinting.parsed.items():
        origin = origin_at(turn, path)
        for form in _forms(value):
            place = _around(runs, plain, origin, form, written)
            if place is not None:
                runs = _covered(runs, place, place + len(form), (len(form), origin, 0 if form == value else LOST))
                break
    return runs


def _forms(value: str) -> list[str]:
    parsed = json.loads(value)
    forms = [value, value.strip()]
    for ascii_only in (False, True):
        forms += [
            json.dumps(parsed, ensure_ascii=ascii_only),
            json.dumps(parsed, ensure_ascii=ascii_only, separators=(",", ":")),
            json.dumps(parsed, ensure_ascii=ascii_only, sort_keys=True),
        ]
    # Written inside a JSON string.
    forms += [json.dumps(form, ensure_ascii=False)[1:-1] for form in forms[:3]]
    return list(dict.fromkeys(filter(None, forms)))


def _around(runs: Sequence[Run], plain: str, origin: Origin, form: str, written: Sequence[Written]) -> int | None:
    """The place of `form` around the first run of a field, with no other field's data in it.

    A field of numbers alone has no run: then the one place in what was written for its message, behind the call's name.
    """
    ends = [(start, end, own) for start, end, (_, own, _) in placed(runs) if own is not None]
    first = next((start for start, _, own in ends if own is origin), None)
    if first is not None:
        # The first run is inside of the JSON, so the JSON begins at most its own length before it.
        places = list(places_of(form, plain, max(0, first - len(form) + 1), first + len(form)))
    else:
        name = origin_at(origin.turn, (*origin.path[:-1], "name"))
        after = max((end for _, end, own in ends if own is name), default=0)
        until = min((start for start, _, own in ends if start >= after > 0 and own is not name), default=len(plain))
        places = [
            place
            for start, end, turn in written
            if turn == origin.turn
            for place in places_of(form, plain, max(start, after), min(end, until))
        ]
    free = [
        place
        for place in places
        if all(end <= place or start >= place + len(form) or own is origin for start, end, own in ends)
    ]
    # Without a run to hold on to, two equal places are no place.
    return free[0] if len(free) == 1 or (free and first is not None) else None


def places_of(text: str, whole: str, start: int, end: int) -> Iterator[int]:
    """The places of a text in characters `[start, end)` of another; it may overlap itself."""
    at = whole.find(text, start, end)
    while at >= 0:
        yield at
        at = whole.find(text, at + 1, end)


def _covered(runs: Sequence[Run], start: int, end: int, run: Run) -> list[Run]:
    """The runs with characters `[start, end)` as one run.

    >>> _covered([(8, None, 0)], 2, 5, (3, origin_at(0, ("content",)), 0))[0::2]
    [(2, None, 0), (3, None, 5)]
    """
    sizes = sum(length for length, _, _ in runs)
    return [*cut(tuple(runs), 0, start), run, *cut(tuple(runs), end, sizes)]


def names_in_ids(runs: Sequence[Run], messages: Sequence[Mapping[str, Any]]) -> bool:
    """True if a tool's name is written nowhere, and its call's id has it: `functions.search:0`.

    Kimi writes calls so.
    """
    written = {origin for _, origin, _ in runs}
    for turn, message in enumerate(messages):
        for at, call in enumerate(message.get("tool_calls") or ()):
            function = call.get("function") if isinstance(call, Mapping) else None
            name = function.get("name") if isinstance(function, Mapping) else None
            own = origin_at(turn, ("tool_calls", at, "function", "name"))
            if isinstance(name, str) and name and name in str(call.get("id")) and own not in written:
                return True
    return False


def with_ids(
    runs: Sequence[Run], messages: Sequence[Mapping[str, Any]], tinting: Tinting, written: Sequence[Written]
) -> list[Run]:
    """The runs, with each id as that of the message it is written in.

    A call and its result have one id, tinted alike, so that an encoder can match them. An id in neither of the messages
    that have it is the encoder's own text.
    """
    if not tinting.ids:
        return list(runs)
    shared = {origin: text for text, origin in tinting.ids_first.items()}
    made: list[Run] = []
    at = 0
    for length, origin, offset in runs:
        text = shared.get(origin) if isinstance(origin, Origin) else None
        if text is None:
            made.append((length, origin, offset))
        else:
            turn = next((turn for start, end, turn in written if start <= at < end), None)
            own = None if turn is None else _place_of_id(messages[turn], text)
            made.append((length, None, 0) if own is None else (length, origin_at(turn, own), offset))
        at += length
    return made


def _place_of_id(message: Mapping[str, Any], text: str) -> tuple[str | int, ...] | None:
    """The path of an id in a message.

    >>> _place_of_id({"role": "tool", "tool_call_id": "a"}, "a"), _place_of_id({"tool_calls": [{"id": "a"}]}, "a")
    (('tool_call_id',), ('tool_calls', 0, 'id'))
    """
    for name in ("tool_call_id", "id"):
        if message.get(name) == text:
            return (name,)
    for at, call in enumerate(message.get("tool_calls") or ()):
        if isinstance(call, Mapping) and call.get("id") == text:
            return "tool_calls", at, "id"
    return None
