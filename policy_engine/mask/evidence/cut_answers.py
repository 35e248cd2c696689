"""Answers that a length limit cut before their end marker.

    <|im_start|>assistant\\nParis is the cap ⟨cut⟩ ital.<|im_end|>\\n

The template writes `<|im_end|>` behind the answer; the row ends before it, so nothing in it teaches where to stop.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from policy_engine.chat.segments import TokenizedChat
from policy_engine.core.vocabulary import BODY, EOS


def ends_inside_answer(chat: TokenizedChat, trained: Sequence[bool]) -> bool:
    """True if the tokens end inside of a trained answer, before the end of the template.

    `chat` is a chat of which only the first tokens are there, with the text of the whole chat; `trained` has a value
    per token. A chat that is there as a whole, or whose template writes no end behind that answer, is not cut.
    """
    if not chat.input_ids:
        return False
    segments = chat.chat.segments
    at = _segment_of(chat, len(chat.input_ids) - 1)
    turn = segments[at].turn
    if turn is None or segments[at].part not in BODY:
        return False
    if not any(segment.turn == turn and segment.part in EOS for segment in segments[at + 1 :]):
        return False
    for token in reversed(range(len(chat.input_ids))):
        segment = segments[_segment_of(chat, token)]
        if segment.turn != turn:
            return False
        if trained[token] and segment.part in BODY:
            return True
    return False


def _segment_of(chat: TokenizedChat, token: int) -> int:
    # Segments are in order and cover the text.
    return bisect_right(chat.chat.segments, int(chat.starts_T[token]), key=lambda segment: segment.start) - 1
