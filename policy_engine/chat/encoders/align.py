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
from policy_engine.chat.tokens.nfc import is_normal
from policy_engine.chat.trace.origins import LOST, Run, placed

_Writes = Callable[[Tint], str]
Normal = Callable[[str], str]
"""The text that a tokenizer reads of a text: most leave it as it is, some compose accents (normal form C)."""

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


def runs_of_tinted(tinted: str, plain: str, tinting: Tinting, normal: Normal | None = None) -> list[Run] | None:
    """The runs of `plain`.

    None if the tinted text, mapped back, is not the plain text character for character. With `normal` the plain text
    may have the data as a tokenizer normalizes it.

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
    if normal is not None:
        parts = [piece for part in parts for piece in _apart(part, normal)]
    found: list[Run] = []
    # Which way of writing a stretch has is seen from the text; where several fit, the first that lets the rest fit.
    waiting: list[Iterator[Run]] = []
    at = tried = 0
    # Depth first with the choices so far on a stack; a loop, since a row has thousands of parts.
    while len(found) < len(parts) or at != len(plain):
        waiting.append(_options(parts[len(found)], plain, at, normal) if len(found) < len(parts) else iter(()))
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


def _apart(part: _Part, normal: Normal) -> Iterator[_Part]:
    """A stretch in pieces: characters that may be normalized are apart.

    The others keep their places.
    """
    text = "" if isinstance(part, str) else "".join([tint.raw for tint in part])
    if isinstance(part, str) or normal(text) == text:
        yield part
        return
    kept = [is_normal(tint.raw) for tint in part]
    # A mark changes the letter before it.
    alone = [own and after for own, after in zip(kept, [*kept[1:], True])]
    pieces = [[tint for _, tint in group] for _, group in itertools.groupby(zip(alone, part), lambda pair: pair[0])]
    same = "".join([normal("".join([tint.raw for tint in piece])) for piece in pieces]) == normal(text)
    yield from pieces if same else [part]


def _options(part: _Part, plain: str, at: int, normal: Normal | None = None) -> Iterator[Run]:
    """The runs that a part can be at a place of the plain text."""
    if isinstance(part, str):
        if plain.startswith(part, at):
            yield len(part), None, 0
        return
    seen: set[str] = set()
    for kept in _stripped(part):
        written = ["".join(map(write, kept)) for write in _WRITTEN]
        for number, text in enumerate(written if normal is None else [*written, *map(normal, written)]):
            if text not in seen and plain.startswith(text, at):
                # In any other writing offsets of the field do not hold, and the place inside it is lost.
                yield len(text), part[0].origin, (kept or part)[0].offset if number == 0 else LOST
            seen.add(text)


def _stripped(part: list[Tint]) -> Iterator[list[Tint]]:
    """A stretch as it is, and without blanks at its ends.

    An encoder that strips does not see tinted blanks as such.
    """
    yield part
    chars = "".join([tint.char[:1] for tint in part])
    # Only some blanks, as `strip("\n")` does it, before all of them.
    starts, ends = (
        sorted({len(chars) - len(cut(blanks)) for blanks in ("", " ", "\n", None)})
        for cut in (chars.lstrip, chars.rstrip)
    )
    for start, end in itertools.product(starts, ends):
        if start or end:
            yield part[start : max(start, len(part) - end)]


def merged(windows: Sequence[Sequence[Run]], size: int) -> list[Run]:
    """The runs of a text out of those of several windows, each of which knows some of the data."""
    if len(windows) == 1:
        return list(windows[0])
    data = [found for runs in windows for found in placed(runs) if found[2][1] is not None]
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
