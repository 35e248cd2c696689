"""Tinted text compared with plain text: the runs of the plain text, if it can be believed.

plain    [INST]Hi[/INST]
tinted   [INST]\\U000F0000\\U000F0001[/INST]
runs     6 of the encoder, 2 of message 0's content from offset 0 on, 7 of the encoder
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from policy_engine.chat.encoders.tint import Tint, Tinting
from policy_engine.chat.trace.origins import LOST, Origin, Run, cut, origin_at

_Writes = Callable[[Tint], str]

# As the field has it comes first: only then do offsets lead back to its characters, see `_options`.
_WRITTEN: Final[tuple[_Writes, ...]] = (
    lambda tint: tint.raw,
    lambda tint: tint.char,
    lambda tint: json.dumps(tint.char, ensure_ascii=False)[1:-1],
    lambda tint: json.dumps(tint.char)[1:-1],
    lambda tint: json.dumps(tint.raw, ensure_ascii=False)[1:-1],
    lambda tint: json.dumps(tint.raw)[1:-1],
)
"""Ways in which encoders write a character: as the field has it, decoded, and in JSON."""

# `json.dumps` writes a character of planes 15 and 16 as two escapes, a surrogate pair.
TINTED: Final = re.compile(
    "[\U000f0000-\U000ffffd\U00100000-\U0010fffd]|\\\\u(?:db[89a-f][0-9a-f])\\\\u(?:d[c-f][0-9a-f]{2})", re.IGNORECASE
)
"""A tinted character, as it is or as JSON escapes it."""

_MOST_TRIED: Final = 4096
"""Ways of writing that are tried for one text before it is given up."""


def runs_of_tinted(tinted: str, plain: str, tinting: Tinting) -> list[Run] | None:
    """The runs of `plain`.

    None if the tinted text, mapped back, is not the plain text character for character.

    >>> from policy_engine.chat.encoders.tint import Way
    >>> tinting = Tinting(way=Way(), first=0)
    >>> (message,) = tinting.messages([{"role": "user", "content": "Hi"}])
    >>> runs = runs_of_tinted("[INST]" + message["content"], "[INST]Hi", tinting)
    >>> [(length, None if origin is None else origin.path, offset) for length, origin, offset in runs]
    [(6, None, 0), (2, ('content',), 0)]
    >>> runs_of_tinted(message["content"], "Ho", tinting) is None
    True
    """
    parts = list(_parts(tinted, tinting.tints))
    found: list[Run] = []
    # Which way of writing a stretch has is seen from the text; where several fit, the first that lets the rest fit.
    waiting: list[Iterator[Run]] = []
    at = tried = 0
    # Depth first with the choices so far on a stack; a loop, since a row has thousands of parts.
    while len(found) < len(parts) or at != len(plain):
        waiting.append(_options(parts[len(found)], plain, at) if len(found) < len(parts) else iter(()))
        while (run := next(waiting[-1], None)) is None:
            waiting.pop()
            if not found:
                return None
            # The last choice led nowhere: take it back, and try the next way of writing there.
            at -= found.pop()[0]
        found.append(run)
        at += run[0]
        tried += 1
        # A text that fits in many ways proves nothing, and must not cost exponential time.
        if tried > _MOST_TRIED + len(parts):
            return None
    return found


_Part = str | list[Tint]


def _parts(tinted: str, tints: Mapping[str, Tint]) -> Iterator[_Part]:
    """Text of the encoder's own, and stretches of consecutive characters of one field."""
    stretch: list[Tint] = []
    at = 0
    for match in TINTED.finditer(tinted):
        written = match[0]
        # An escape that no tint has is text of the encoder.
        tint = tints.get(written if len(written) == 1 else json.loads(f'"{written}"'))
        if tint is None:
            continue  # it stays text of the encoder, which is compared as it is
        if match.start() > at:
            if stretch:
                yield stretch
                stretch = []
            yield tinted[at : match.start()]
        if stretch and not _follows(stretch[-1], tint):
            yield stretch
            stretch = []
        stretch.append(tint)
        at = match.end()
    if stretch:
        yield stretch
    if at < len(tinted):
        yield tinted[at:]


def _follows(before: Tint, tint: Tint) -> bool:
    return before.origin is tint.origin and before.offset + len(before.raw) == tint.offset


def _options(part: _Part, plain: str, at: int) -> Iterator[Run]:
    """The runs that a part can be at a place of the plain text."""
    if isinstance(part, str):
        if plain.startswith(part, at):
            yield len(part), None, 0
        return
    seen: set[str] = set()
    for number, write in enumerate(_WRITTEN):
        text = "".join(map(write, part))
        if text not in seen and plain.startswith(text, at):
            # In any other writing offsets of the field do not hold, and the place inside it is lost.
            yield len(text), part[0].origin, part[0].offset if number == 0 else LOST
        seen.add(text)


def merged(windows: Sequence[Sequence[Run]], size: int) -> list[Run]:
    """The runs of a text out of those of several windows, each of which knows some of the data."""
    if len(windows) == 1:
        return list(windows[0])
    data: list[tuple[int, int, Run]] = []
    for runs in windows:
        at = 0
        for run in runs:
            if run[1] is not None:
                data.append((at, at + run[0], run))
            at += run[0]
    data.sort(key=lambda found: found[:2])
    made: list[Run] = []
    at = 0
    for start, end, run in data:
        if start > at:
            made.append((start - at, None, 0))
        before = made[-1] if made else None
        # A window ends anywhere, so a field may be cut between two of them.
        if before is not None and before[1] is run[1] and LOST != before[2] == run[2] - before[0]:
            made[-1] = (before[0] + run[0], run[1], before[2])  # a field that two windows share
        else:
            made.append(run)
        at = end
    if at < size:
        made.append((size - at, None, 0))
    return made


Written = Sequence[tuple[int, int, "int | None"]]
"""Characters `[start, end)` with the message that was being written."""


def with_json(runs: list[Run], plain: str, tinting: Tinting, written: Written) -> list[Run]:
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


def _around(runs: Sequence[Run], plain: str, origin: Origin, form: str, written: Written) -> int | None:
    """The place of `form` around the first run of a field, with no other field's data in it.

    A field of numbers alone has no run: then the one place in what was written for its message, behind the call's name.
    """
    starts = itertools.accumulate((length for length, _, _ in runs), initial=0)
    ends = [(start, start + length, own) for start, (length, own, _) in zip(starts, runs) if own is not None]
    first = next((start for start, _, own in ends if own is origin), None)
    if first is not None:
        # The first run is inside of the JSON, so the JSON begins at most its own length before it.
        places = _found(form, plain, max(0, first - len(form) + 1), first + len(form))
    else:
        name = origin_at(origin.turn, (*origin.path[:-1], "name"))
        after = max((end for _, end, own in ends if own is name), default=0)
        until = min((start for start, _, own in ends if start >= after > 0 and own is not name), default=len(plain))
        places = [
            place
            for start, end, turn in written
            if turn == origin.turn
            for place in _found(form, plain, max(start, after), min(end, until))
        ]
    free = [
        place
        for place in places
        if all(end <= place or start >= place + len(form) or own is origin for start, end, own in ends)
    ]
    # Without a run to hold on to, two equal places are no place.
    return free[0] if len(free) == 1 or (free and first is not None) else None


def _found(form: str, plain: str, start: int, end: int) -> list[int]:
    found = []
    at = plain.find(form, start, end)
    while at >= 0:
        found.append(at)
        at = plain.find(form, at + 1, end)
    return found


def _covered(runs: Sequence[Run], start: int, end: int, run: Run) -> list[Run]:
    """The runs with characters `[start, end)` as one run.

    >>> _covered([(8, None, 0)], 2, 5, (3, origin_at(0, ("content",)), 0))[0::2]
    [(2, None, 0), (3, None, 5)]
    """
    sizes = sum(length for length, _, _ in runs)
    return [*cut(tuple(runs), 0, start), run, *cut(tuple(runs), end, sizes)]
