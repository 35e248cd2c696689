"""Thinking inside content, between delimiters that the template knows.

    content   <think>⏎Two.⏎</think>⏎⏎Four.
    text      <|im_start|>assistant⏎<think>⏎Two.⏎</think>⏎⏎Four.<|im_end|>    Two. and Four. are cut out of the content

Which cuts of the content are thinking is not seen in the text, so it is read from the content, for each row.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from policy_engine.chat.label.board import field_value
from policy_engine.chat.label.layout import Scan
from policy_engine.chat.trace.origins import LOST

Delimiters = Sequence[tuple[str, str]]
"""Pairs around thinking: `("<think>", "</think>")`."""
_NO_TURNS: Final[frozenset[int]] = frozenset()
_CONTENT: Final = ("content",)


def thinking_in_content(
    messages: Sequence[Mapping[str, object]], *, delimiters: Delimiters, model_roles: frozenset[str]
) -> frozenset[int]:
    """Model turns whose content has a delimiter of thinking: their shape is read row by row.

    >>> delimiters = (("<think>", "</think>"),)
    >>> messages = [{"role": "assistant", "content": "<think>Two.</think>Four."}]
    >>> thinking_in_content(messages, delimiters=delimiters, model_roles=frozenset({"assistant"}))
    frozenset({0})
    """
    if not delimiters:
        return _NO_TURNS
    found: list[int] = []
    for turn, message in enumerate(messages):
        if message.get("role") not in model_roles:
            continue
        content = message.get("content")
        if isinstance(content, list):
            content = "".join([str(p.get("text", "")) for p in content if isinstance(p, Mapping)])
        if isinstance(content, str):
            for open_, close in delimiters:  # no generator: this runs for each message
                # One character is found in a tenth of the time that several take.
                if (open_[0] in content and open_ in content) or (close[0] in content and close in content):
                    found.append(turn)
                    break
    return frozenset(found) if found else _NO_TURNS


def is_thinking(whole: object, delimiters: Delimiters, start: int, end: int) -> bool:
    """True if characters `[start, end)` of content were cut out of its thinking.

    Where the template cuts the content at the delimiters and drops them, what was between is thinking.

    >>> whole = "<think>Two.</think>Four."
    >>> delimiters = (("<think>", "</think>"),)
    >>> is_thinking(whole, delimiters, 7, 11), is_thinking(whole, delimiters, 19, 24)
    (True, False)
    """
    if isinstance(whole, str):
        for open_, close in delimiters:
            if close in whole:
                return end > start and _is_within(whole, open_, close, start, end)
    return False


def _is_within(whole: str, open_: str, close: str, start: int, end: int) -> bool:
    """True if characters `[start, end)` of content are between delimiters of thinking.

    Thinking that only a closing delimiter ends began with the content: the generation prompt opened it.
    """
    # The delimiter that closes the thinking these characters would be in.
    stop = whole.find(close, start)
    if stop < end or not whole[start:stop].strip():
        return False
    opened = whole.rfind(open_, 0, stop)
    closed = whole.rfind(close, 0, start)
    # Opened behind the last closing; or never opened, and never closed before.
    return opened < end if opened > closed else closed < 0


def reading_of(
    scan: Scan,
    messages: Sequence[Mapping[str, object]],
    delimiters: tuple[tuple[str, str], ...],
    front: Callable[[str, int, int], tuple[int, int] | None] | None = None,
) -> tuple[bool, ...] | None:
    """All that labelling reads of thinking in a rendering: True for each run that is thinking.

    The runs are those of `scan.data`. None if the template printed a delimiter with the content: then the run is split
    where the delimiter is, and no two rows are split alike.

    `front` is `Cutter.front_thinking`, and what it finds is kept in `scan.fronts`.
    """
    made = []
    by_first = _by_first(delimiters)
    for run, origin, start, end in scan.placed_data():
        path, turn, whole = origin.path, origin.turn, None
        if start != LOST and path[:1] == _CONTENT and turn is not None:
            whole = messages[turn].get("content") if path == _CONTENT else field_value(messages[turn], path)
            if front is not None and path == _CONTENT and isinstance(whole, str):
                found = front(whole, start, end)
                # The text behind the one block of thinking is not thinking, and has no delimiter.
                if found is not None:
                    scan.fronts[run] = found
                    made.append(False)
                    continue
        text = scan.run_text(run)
        # The run itself holds a delimiter. One character is found in a tenth of the time that several take.
        for first, markers in by_first:
            if first in text:
                for marker in markers:
                    if marker in text:
                        return None
        made.append(is_thinking(whole, delimiters, start, end))
    return tuple(made)


@functools.lru_cache(maxsize=64)
def _by_first(delimiters: tuple[tuple[str, str], ...]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The delimiters by their first character."""
    found: dict[str, tuple[str, ...]] = {}
    for marker in itertools.chain.from_iterable(delimiters):
        found[marker[0]] = (*found.get(marker[0], ()), marker)
    return tuple(found.items())
