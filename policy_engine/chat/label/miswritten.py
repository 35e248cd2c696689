"""Fields that are text where a template wants an object or a list, and what it writes.

arguments             "{\\"q\\": \\"tea\\"}"          text, as OpenAI's interface gives it
`| tojson` writes     "{\\"q\\": \\"tea\\"}"          a JSON string, quoted once more: the model learns quoted arguments
`for a in` writes     find("{", "q", ":", "t", …)   letter by letter

And lists and objects where a template wants text:

content               [{"type": "text", "text": "Tea?"}]
`{{ content }}`       [{'type': 'text', 'text': 'Tea?'}]    as Python prints it
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from policy_engine.chat.label.board import field_value
from policy_engine.chat.label.sources import Bit
from policy_engine.chat.segments import Miswritten
from policy_engine.chat.trace.origins import LOST, UNKNOWN, Origin

_FEWEST: Final = 3
"""Letters from which on a field counts as written letter by letter: a template may cut the first one off a text."""


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """A field that may be written otherwise than it is meant: each row is asked.

    >>> suspect = Suspect(turn=0, path=("tools",), runs=(1, 3, 5))
    >>> miswritten([suspect], [{}], "<a<b<c", [1, 1, 1, 1, 1, 1], [0, 0, 0, 1, 0, 2])
    (Miswritten(turn=0, path=('tools',), how='letters'),)
    """

    turn: int
    path: tuple[str | int, ...]
    runs: tuple[int, ...]
    """Runs that are in the text as they are in the field; other text is between them."""
    is_quoted: bool = False
    """True if the field's first character in the text is a quote that `tojson` wrote."""
    is_printed: bool = False
    """True if Python printed the field, a list or an object: `runs` are the first and the last of it."""


class _Print:
    """A list or an object that Python printed: its first and last run."""

    def __init__(self, origin: Origin, run: int) -> None:
        assert origin.turn is not None
        self.turn = origin.turn
        self.path = origin.path
        self.first = self.last = run

    def has(self, origin: Origin, run: int) -> bool:
        """True if the run is of this object, of one in it or of one around it; then this ends there."""
        short, long = sorted((self.path, origin.path), key=len)
        if origin.turn != self.turn or long[: len(short)] != short:
            return False
        self.path, self.last = short, run
        return True


def suspects_in(bits: Sequence[Bit], text: str) -> tuple[Suspect, ...]:
    """The fields of one rendering that every row of its shape has to be asked about."""
    runs: dict[Origin, list[int]] = {}
    first: dict[Origin, str] = {}
    found: list[Suspect] = []
    printed: list[_Print] = []
    for run, bit in enumerate(bits):
        origin = bit.origin
        if origin is None or origin is UNKNOWN or origin.turn is None or bit.end <= bit.start:
            continue
        if origin.is_printed and not any(own.has(origin, run) for own in printed):
            printed.append(_Print(origin, run))
        # Only the first run: a quote in front of the whole field is what `tojson` writes.
        first.setdefault(origin, text[bit.start : bit.end] if bit.offset == LOST else "")
        if bit.offset != LOST:
            runs.setdefault(origin, []).append(run)
    found += [Suspect(turn=own.turn, path=own.path, runs=(own.first, own.last), is_printed=True) for own in printed]
    for origin, opening in first.items():
        own = runs.get(origin, [])
        # Runs with other text between them; what is cut once may be so for a reason, so each row is asked.
        apart = len(own) > 1 and own[-1] - own[0] >= len(own)
        is_quoted = opening == '"' and origin.path[-1:] == ("arguments",)
        if origin.turn is not None and (apart or is_quoted):
            found.append(Suspect(turn=origin.turn, path=origin.path, runs=tuple(own), is_quoted=is_quoted))
    return tuple(found)


def miswritten(
    suspects: Sequence[Suspect],
    messages: Sequence[Mapping[str, Any]],
    text: str,
    lengths: Sequence[int],
    offsets: Sequence[int],
) -> tuple[Miswritten, ...]:
    """The suspects that are written so in a row: its text, and its runs by length and offset."""
    found = []
    for suspect in suspects:
        if suspect.is_printed:
            first, last = suspect.runs
            # A list that the template made of texts is none of the data's.
            if not isinstance(field_value(messages[suspect.turn], suspect.path), list | tuple | Mapping):
                continue
            start = sum(lengths[:first])
            # Of numbers and empty lists JSON has the same text; some templates make JSON of what was printed.
            if not _is_json(text[start : start + sum(lengths[first : last + 1])]):
                found.append(Miswritten(turn=suspect.turn, path=suspect.path, how="printed"))
        elif _is_spelled(suspect, lengths, offsets):
            found.append(Miswritten(turn=suspect.turn, path=suspect.path, how="letters"))
        elif suspect.is_quoted and _is_arguments(field_value(messages[suspect.turn], suspect.path)):
            found.append(Miswritten(turn=suspect.turn, path=suspect.path, how="quoted"))
    return tuple(found)


def _is_spelled(suspect: Suspect, lengths: Sequence[int], offsets: Sequence[int]) -> bool:
    runs = suspect.runs
    # Arguments are JSON, so two single letters of `{"` are enough.
    fewest = 2 if suspect.path[-1:] == ("arguments",) else _FEWEST
    if len(runs) < fewest or any(lengths[run] != 1 for run in runs):
        return False
    # Neighbours in the field that are apart in the text: what `split` cuts apart were no neighbours.
    pairs = itertools.pairwise(runs)
    return any(offsets[after] == offsets[before] + 1 and after > before + 1 for before, after in pairs)


def _is_arguments(value: Any) -> bool:
    """True for JSON text of an object of arguments, dumped once or twice, and for empty text.

    >>> _is_arguments('{"q": 1}'), _is_arguments('"{}"'), _is_arguments(""), _is_arguments("[1]")
    (True, True, True, False)
    """
    if not isinstance(value, str):
        return False
    if not value.strip():
        return True
    if value.lstrip()[0] not in '{"':
        return False
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) or (isinstance(found, str) and found.startswith("{") and _is_arguments(found))


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
