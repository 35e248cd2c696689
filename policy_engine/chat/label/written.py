"""The data that a rendering has in its text, known by the origins of its characters.

`<|im_start|>assistant⏎Yes.<|im_end|>` has `content` of message 1, as it is and in one run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from policy_engine.chat.label.miswritten import Suspect, suspects_in
from policy_engine.chat.label.sources import Bit
from policy_engine.chat.trace.origins import LOST, UNKNOWN

Path = tuple[str | int, ...]

INPUTS: Final = -1
"""In place of a turn: text that was computed from tools or documents."""
SEVERAL: Final = -1
"""In place of a run: the field is printed in several."""
CHANGED: Final = -2
"""In place of a run: characters of the field were changed, so that it is not known which of them are there."""


_VALUE: Final = re.compile(r"\d|true|false", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Written:
    """The data that renderings of one shape have in their text, empty and blank text aside."""

    fields: Mapping[tuple[int | None, str | int], int]
    """The run of each field (turn, name) that is printed as it is; `SEVERAL`, or `CHANGED` if it is changed."""
    runs: Mapping[tuple[int | None, Path], tuple[int, ...]]
    """The runs of each text (turn, path) of which every printed character is as it is in the data."""
    paths: frozenset[tuple[int | None, Path]]
    """(turn, path) of everything printed."""
    items: frozenset[tuple[int | None, int]]
    """(turn, index) of content parts for which the template wrote something, a placeholder perhaps."""
    turns: frozenset[int | None]
    """Messages for which anything but blanks was written."""
    values: Mapping[int | None, str]
    """Text of the template itself with digits, or `true` or `false` in it, by the turn that it was written for."""
    changed: Mapping[tuple[int | None, Path], tuple[int, ...]]
    """The runs of each value (turn, path) of which characters were changed."""
    loose: tuple[tuple[int, int | None], ...]
    """Runs of text that was computed from data, each with its turn; None where that is not known."""
    suspects: tuple[Suspect, ...] = ()
    """Fields that are perhaps written letter by letter, or as a JSON string: see `chat.label.miswritten`."""


def written_in(bits: Sequence[Bit], text: str) -> Written:
    """The data in a text, by the bits it is made of."""
    paths: set[tuple[int | None, Path]] = set()
    items: set[tuple[int | None, int]] = set()
    turns: set[int | None] = set()
    loose: list[tuple[int, int | None]] = []
    runs: dict[tuple[int | None, Path], tuple[int, ...]] = {}
    changed: set[tuple[int | None, Path]] = set()
    all_runs: dict[tuple[int | None, Path], list[int]] = {}
    values: dict[int | None, str] = {}
    for run, bit in enumerate(bits):
        # Empty data was written too, and says nothing.
        if bit.end <= bit.start:
            continue
        origin = bit.origin
        if origin is not None:
            if origin is UNKNOWN:
                loose.append((run, None))
            # A key that was printed does not mean that its value was.
            elif not origin.is_key:
                paths.add((origin.turn, origin.path))
                turns.add(origin.turn)
                all_runs.setdefault((origin.turn, origin.path), []).append(run)
                if bit.offset == LOST:
                    # Words of a tool's schema are no call of the tool.
                    loose.append((run, INPUTS if origin.turn is None else origin.turn))
                    changed.add((origin.turn, origin.path))
                else:
                    key = origin.turn, origin.path
                    runs[key] = (*runs.get(key, ()), run)
        piece = text[bit.start : bit.end]
        if origin is None and _VALUE.search(piece):
            values[bit.written_in] = f"{values.get(bit.written_in, '')}\n{piece}"
        if piece.isspace():
            continue
        turns.add(bit.turn)
        if bit.item is not None:
            items.add((bit.turn, bit.item))
    exact = {key: own for key, own in runs.items() if key not in changed}
    return Written(
        fields={
            (turn, path[0]): CHANGED if (turn, path) in changed else own[0] if len(own) == 1 else SEVERAL
            for turn, path in paths
            for own in [runs.get((turn, path), ())]
            if len(path) == 1
        },
        runs=exact,
        paths=frozenset(paths),
        items=frozenset(items),
        turns=frozenset(turns),
        values=values,
        changed={key: tuple(all_runs[key]) for key in changed},
        loose=tuple(loose),
        suspects=suspects_in(bits, text),
    )
