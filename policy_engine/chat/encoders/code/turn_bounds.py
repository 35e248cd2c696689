"""The message of each piece of a text, found by rendering the first messages alone.

<｜User｜>Hi                                  the first message
<｜User｜>Hi<｜Assistant｜>Hello<｜end｜>       the first two: the second one's begins at character 10
"""

from __future__ import annotations

import itertools
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from policy_engine.chat.encoders.align import TINTED
from policy_engine.chat.encoders.protocol import Chunk
from policy_engine.chat.encoders.tint import Tinting
from policy_engine.chat.label.markers import REASONING, Markers, is_closing_tag
from policy_engine.chat.trace.origins import Run, placed
from policy_engine.core.source import common_prefix

Texts = Callable[[Sequence[Sequence[Mapping[str, Any]]]], Sequence["str | None"]]
"""The texts of several conversations; None where the encoder raises."""

_THINKING: Final = frozenset(marker for pair in REASONING for marker in pair)
# Names of markers that end something: `<|im_end|>`, `<eos>`, `<|eot_id|>`, `<｜end▁of▁sentence｜>`.
_ENDS: Final = re.compile(r"end|eo[stmd]\b|eot|</s>", re.IGNORECASE)


def turn_bounds(
    messages: Sequence[Mapping[str, Any]],
    plain: str,
    runs: Sequence[Run],
    texts: Texts,
    *,
    tinting: Tinting,
    markers: Markers,
) -> list[int]:
    """The place where each message begins in `plain`, and its length behind them.

    Some text is written behind a question no matter who speaks next. It belongs to the opening of the next answer: see
    `openings_back`.
    """
    count = len(messages)
    # All in one question to the process.
    heads = texts([messages[:turn] for turn in range(1, count)])
    found: list[int | None] = [0]
    found += [len(head) if head is not None and plain.startswith(head) else None for head in heads]
    if None in found:
        _by_tints(messages, runs, texts, tinting, markers, found)
    # Never backwards: a bound that was not found is the bound before it, so the text stays with the turn before.
    return [*itertools.accumulate((at or 0 for at in found), max), len(plain)]


def _by_tints(
    messages: Sequence[Mapping[str, Any]],
    runs: Sequence[Run],
    texts: Texts,
    tinting: Tinting,
    markers: Markers,
    found: list[int | None],
) -> None:
    """Fills in places where history is written otherwise once more follows.

    The scaffold behind the last data of the first messages, rendered alone, and behind that data in the whole text have
    a beginning in common: that much is theirs.
    """
    missing = [turn for turn, at in enumerate(found) if at is None]
    # One window is enough: only the end of the data is looked for.
    tinted = tinting.messages(messages)
    whole, *heads = texts([tinted, *(tinted[:turn] for turn in missing)])
    if whole is None:
        return
    places = {match[0]: match.end() for match in TINTED.finditer(whole)}
    for turn, head in zip(missing, heads):
        known = [match for match in TINTED.finditer(head or "") if match[0] in places]
        if head is None or not known:
            continue
        last = known[-1]
        at = places[last[0]]
        gap = TINTED.search(whole, at)
        rest = whole[at : gap.start() if gap else len(whole)]
        # `<|im_start|>user` and `<|im_start|>tool` share a beginning that cuts no marker.
        own = markers.back_to_boundary(rest, common_prefix(head[last.end() :], rest))
        found[turn] = _plain_place(whole, at, tinting, runs) + own


def _plain_place(whole: str, at: int, tinting: Tinting, runs: Sequence[Run]) -> int:
    """The place in the plain text of the end of a tinted character."""
    tint = tinting.tints.get(whole[at - 1])
    place = 0
    found: int | None = None
    for length, origin, offset in runs:
        if tint is not None and origin is tint.origin:
            if offset <= tint.offset < offset + length and offset >= 0:
                return place + tint.offset - offset + len(tint.raw)
            # Of a text whose places are not known, the last piece: the end of a message is looked for.
            found = place + length if offset < 0 else found
        place += length
    return place if found is None else found


def openings_back(
    bounds: list[int], plain: str, runs: Sequence[Run], messages: Sequence[Mapping[str, Any]], markers: Markers,
    models: frozenset[str],
) -> list[int]:  # fmt: skip
    """The bounds, moved so that what opens an answer is the answer's.

    `<｜User｜>Hi<｜Assistant｜>` is what an encoder writes for a question alone. Of the scaffold behind its data,
    markers that end something stay the question's, and what follows them is the answer's.
    """
    ends = [end for start, end, (_, origin, _) in placed(runs) if origin is not None and start < end]
    made = list(bounds)
    for turn in range(1, len(messages)):
        # Only where the model answers somebody else does anything open an answer.
        if messages[turn].get("role") not in models or messages[turn - 1].get("role") in models:
            continue
        data = max((end for end in ends if bounds[turn - 1] <= end <= bounds[turn]), default=bounds[turn - 1])
        if data == bounds[turn - 1]:
            continue
        tail = plain[data : bounds[turn]]
        kept = 0
        for start, end in markers.spans(tail):
            marker = tail[start:end]
            closes = is_closing_tag(marker) or marker == markers.eos or _ENDS.search(marker) is not None
            # Words, or a delimiter of thinking, begin the answer's opening.
            if tail[kept:start].strip() or marker in _THINKING or not closes:
                break
            kept = end
        blanks = len(tail) - kept - len(tail[kept:].lstrip())
        if tail[kept:].strip():
            made[turn] = data + kept + (blanks if kept else 0)
    return made


def cut_chunks(chunks: Sequence[Chunk], bounds: Sequence[int], first: int) -> Iterator[Chunk]:
    """The chunks, each the text of one message; text before `first` is of no message.

    >>> chunks = [Chunk(text="<s>Hi<a>Yes", turn=None)]
    >>> [(chunk.text, chunk.turn) for chunk in cut_chunks(chunks, [0, 5, 11], 3)]
    [('<s>', None), ('Hi', 0), ('<a>Yes', 1)]
    """
    starts = [first, *bounds[1:-1]]
    at = 0
    for chunk in chunks:
        end = at + len(chunk.text)
        cuts = sorted({at, end, *(b for b in starts if at < b < end)})
        for low, high in itertools.pairwise(cuts):
            turn = bisect_right(starts, low) - 1
            text = chunk.text[low - at : high - at]
            yield replace(chunk, text=text, turn=turn if turn >= 0 else None)
        at = end
