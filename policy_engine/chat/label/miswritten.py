"""Fields that are text where a template wants an object or a list, and what it writes.

arguments             "{\\"q\\": \\"tea\\"}"          text, as OpenAI's interface gives it
`| tojson` writes     "{\\"q\\": \\"tea\\"}"          a JSON string, quoted once more: the model learns quoted arguments
`for a in` writes     find("{", "q", ":", "t", …)   letter by letter
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
    """A field that may be written letter by letter, or as a JSON string: each row is asked.

    >>> suspect = Suspect(turn=0, path=("tools",), runs=(1, 3, 5), is_quoted=False)
    >>> miswritten([suspect], [{}], [1, 1, 1, 1, 1, 1], [0, 0, 0, 1, 0, 2])
    (Miswritten(turn=0, path=('tools',), how='letters'),)
    """

    turn: int
    path: tuple[str | int, ...]
    runs: tuple[int, ...]
    """Runs that are in the text as they are in the field; other text is between them."""
    is_quoted: bool
    """True if the field's first character in the text is a quote that `tojson` wrote."""


def suspects_in(bits: Sequence[Bit], text: str) -> tuple[Suspect, ...]:
    """The fields of one rendering that every row of its shape has to be asked about."""
    runs: dict[Origin, list[int]] = {}
    first: dict[Origin, str] = {}
    for run, bit in enumerate(bits):
        origin = bit.origin
        if origin is None or origin is UNKNOWN or origin.turn is None or bit.end <= bit.start:
            continue
        # Only the first run: a quote in front of the whole field is what `tojson` writes.
        first.setdefault(origin, text[bit.start : bit.end] if bit.offset == LOST else "")
        if bit.offset != LOST:
            runs.setdefault(origin, []).append(run)
    found = []
    for origin, own in runs.items():
        # Runs with other text between them; what is cut once may be so for a reason, so each row is asked.
        apart = len(own) > 1 and own[-1] - own[0] >= len(own)
        is_quoted = first[origin] == '"' and origin.path[-1:] == ("arguments",)
        if origin.turn is not None and (apart or is_quoted):
            found.append(Suspect(turn=origin.turn, path=origin.path, runs=tuple(own), is_quoted=is_quoted))
    return tuple(found)


def miswritten(
    suspects: Sequence[Suspect], messages: Sequence[Mapping[str, Any]], lengths: Sequence[int], offsets: Sequence[int]
) -> tuple[Miswritten, ...]:
    """The suspects that are written so in this row, by the lengths and offsets of its runs."""
    found = []
    for suspect in suspects:
        if _is_spelled(suspect, lengths, offsets):
            found.append(Miswritten(turn=suspect.turn, path=suspect.path, how="letters"))
        elif suspect.is_quoted and _is_object(field_value(messages[suspect.turn], suspect.path)):
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


def _is_object(value: Any) -> bool:
    if not isinstance(value, str) or not value.lstrip().startswith("{"):
        return False
    try:
        return isinstance(json.loads(value), dict)
    except (ValueError, RecursionError):
        return False
