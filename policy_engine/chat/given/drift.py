"""Drift: given ids spell something else than the text, from a token to where both agree.

text        … assistant⏎I look.<|im_end|>⏎<|im_start|>tool⏎42<|im_end|>⏎ …
ids         … assistant⏎I  look.<|im_end|>⏎<|im_start|>tool⏎42<|im_end|>⏎ …
                        └ drift, in message 1            └ agrees again, from message 2 on
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
import numpy.typing as npt

from policy_engine.chat.given.spell import Spelled, Spelling
from policy_engine.chat.segments import RenderedChat
from policy_engine.core.vocabulary import ENDINGS

_SHOWN = 40
"""Characters of each text that a report shows."""


@dataclass(frozen=True, kw_only=True)
class Drift:
    """The place where given ids begin to spell something else than the text of the messages.

    `token` is the first token that does not continue the text (from 0); the number of the ids where they end before the
    text does. `turn` is its message (from 0, None for text that no message owns) and `part` the part of that.
    `expected` is the text from there on, and `found` what the ids spell there; both are cut.

    >>> str(Drift(token=3, turn=1, role="assistant", part="text", expected="I look.", found="I  look."))
    "from token 3 on, in `text` of message 1 (`assistant`): the text has 'I look.', and the ids spell 'I  look.'"
    """

    token: int
    turn: int | None
    role: str | None
    part: str | None
    expected: str
    found: str

    def __str__(self) -> str:
        owner = "text that no message owns" if self.turn is None else f"message {self.turn} (`{self.role}`)"
        place = owner if self.part is None else f"`{self.part}` of {owner}"
        expected = f"has {_quoted(self.expected)}" if self.expected else "is at its end"
        found = f"spell {_quoted(self.found)}" if self.found else "end"
        return f"from token {self.token} on, in {place}: the text {expected}, and the ids {found}"


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]} …")


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Tokens that spell some characters, or drift from them.

    The tokens are `[token_start, token_end)`, the characters `[start, end)`. `turn` is the message where a drift
    begins.
    """

    token_start: int
    token_end: int
    start: int
    end: int
    drifts: bool = False
    turn: int | None = None


def is_closed(chat: RenderedChat, end: int) -> bool:
    """True if nothing but the end of a turn follows a character, which ids need not have.

    A rollout ends where the model stopped: before the line break that a template writes after the last turn, or, if it
    was cut, before the end marker too.

    >>> from policy_engine.chat.segments import RenderedChat, Segment
    >>> segments = (Segment(start=0, end=2, part="text", turn=0), Segment(start=2, end=12, part="eot", turn=0))
    >>> chat = RenderedChat(text="Hi<|im_end|>", segments=segments, messages=({"role": "user"},), sample={})
    >>> is_closed(chat, 2), is_closed(chat, 1)
    (True, False)
    """
    # From the end: usually one or two segments are behind the last token, of hundreds.
    behind = takewhile(lambda segment: segment.end > end, reversed(chat.segments))
    return all(segment.part in ENDINGS for segment in behind)


def drift_of(chat: RenderedChat, spelled: Spelled, found: str) -> Drift:
    """The report of a drift after the tokens that spell the text.

    `found` is what the ids from there on spell.
    """
    at = spelled.end
    segment = next((s for s in chat.segments if s.start <= at < s.end), None)
    # The ids go on after the text: the drift is in what the text ends with.
    if segment is None and chat.segments:
        segment = chat.segments[len(chat.segments) - 1]
    return Drift(
        token=spelled.count,
        turn=None if segment is None else segment.turn,
        role=None if segment is None else chat.role(segment),
        part=None if segment is None else segment.part,
        expected=chat.text[at : at + 2 * _SHOWN],
        found=found[: 2 * _SHOWN],
    )


def stretches(chat: RenderedChat, ids_T: npt.NDArray[np.int32], spelling: Spelling) -> list[Stretch]:
    """The ids in order, as they agree with the text and drift from it.

    A drift goes from the turn where it begins to the first later turn of which ids spell every character. Where the
    text is at its end, what more ids there are drifts alone.
    """
    found: list[Stretch] = []
    token = start = 0
    total = len(ids_T)
    turns = _turn_starts(chat)
    while token < total:
        spelled = spelling.spell(chat.text[start:], ids_T[token:])
        count, end = spelled.count, start + spelled.end
        # All ids agree, up to the end or to an ending that a sampled row need not have.
        if token + count == total and is_closed(chat, end):
            return [*found, Stretch(token_start=token, token_end=total, start=start, end=end)]
        if token + count < total and end == len(chat.text):
            agreed = Stretch(token_start=token, token_end=token + count, start=start, end=end)
            rest = Stretch(
                token_start=token + count, token_end=total, start=end, end=end, drifts=True, turn=_turn_at(turns, end)
            )
            return [*found, agreed, rest]
        # The whole turn drifts, not only the rest of it: its start is what the model read before it went another
        # way.
        turn_start = max((at for at, _ in turns if at <= end), default=0)
        keep, turn_start = _until(spelled, turn_start - start)
        keep, turn_start = token + keep, turn_start + start
        if keep > token:
            found.append(Stretch(token_start=token, token_end=keep, start=start, end=turn_start))
        after, resumed = _agreement(chat, ids_T, spelling, turns, keep, end)
        found.append(
            Stretch(
                token_start=keep, token_end=after, start=turn_start, end=resumed, drifts=True, turn=_turn_at(turns, end)
            )
        )
        token, start = after, resumed
    return found


def _until(spelled: Spelled, start: int) -> tuple[int, int]:
    """The tokens that end by a character, and where the last of them ends.

    >>> places = np.array([0, 2, 5], np.int32), np.array([2, 5, 9], np.int32)
    >>> _until(Spelled(count=3, end=9, starts_T=places[0], ends_T=places[1]), 6)
    (2, 5)
    """
    keep = int(np.searchsorted(spelled.ends_T, start, side="right"))
    # A token that holds a part of a character shares its range with its neighbours: they stay together.
    while 0 < keep < spelled.count and spelled.starts_T[keep] < spelled.ends_T[keep - 1]:
        keep -= 1
    return keep, int(spelled.ends_T[keep - 1]) if keep else 0


def _turn_starts(chat: RenderedChat) -> list[tuple[int, int | None]]:
    """The first character of each stretch of one message, in order."""
    found: list[tuple[int, int | None]] = []
    for segment in chat.segments:
        if not found or found[-1][1] != segment.turn:
            found.append((segment.start, segment.turn))
    return found


def _turn_at(turns: Sequence[tuple[int, int | None]], at: int) -> int | None:
    return next((turn for start, turn in reversed(turns) if start <= at), None)


def _agreement(
    chat: RenderedChat,
    ids_T: npt.NDArray[np.int32],
    spelling: Spelling,
    turns: Sequence[tuple[int, int | None]],
    token: int,
    end: int,
) -> tuple[int, int]:
    """The token and the character from which both agree again.

    It is the first token that begins a whole later turn.
    """
    ends = [start for start, _ in turns[1:]] + [len(chat.text)]
    # The bytes of each later turn once: `may_start` is asked for every token and turn.
    later = [(start, stop, spelling.written(chat.text[start:])) for (start, _), stop in zip(turns, ends) if start > end]
    for at in range(token, len(ids_T)):
        for start, stop, data in later:
            # One comparison of bytes, which rules out nearly all tokens before `spell` is called.
            if not spelling.may_start(data, int(ids_T[at])):
                continue
            spelled = spelling.spell(chat.text[start:], ids_T[at:])
            agreed = start + spelled.end
            if agreed >= stop or (at + spelled.count == len(ids_T) and is_closed(chat, agreed)):
                return at, start
    return len(ids_T), len(chat.text)
