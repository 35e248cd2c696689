"""Rows of turns: ids with their authors, of which nothing is rendered.

{"role": "assistant", "ids": […], "sampled": [0, 0, 0, 1, 1, 1, 0]}

    <|im_start|>assistant⏎       header: before the first sampled token
    It is four.                  text
    <|im_end|>                   eot: the first token at the end at which the model stops
    ⏎                            separator
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from policy_engine.chat.given.place import sampled_ranges
from policy_engine.chat.given.token_bytes import token_bytes
from policy_engine.chat.segments import RenderedChat, Segment, TokenizedChat
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.data.conversation import Conversation
from policy_engine.data.row_tokens import RowTurn


def chat_of_turns(tokenizer: ChatTokenizer, conversation: Conversation) -> TokenizedChat:
    """The chat of a row of turns: its text is what the ids spell, its owners are the turns'.

    Where a turn's part is not given, tokens before the first sampled one are its `header`. At its end, a token at which
    the model stops (`eos_token`, `generation_config.json`) is `eot`, and a second one `eod`; blanks around them are
    `separator` if they were not sampled. All else is `text`, and the message has it as its `content`. Text of no
    message is `bos` if it is the begin-of-sequence token, else `preamble`.

    Raises AttributionError where ids stand for no fixed bytes, and RowError for an id outside of the vocabulary.
    """
    given = conversation.given
    assert given is not None
    assert given.turns is not None
    known = token_bytes(tokenizer)
    known.check(given)
    stops = _stop_ids(tokenizer)
    # A tokenizer without one maps the empty string to its unknown token or to None, which no row begins with.
    bos = tokenizer.tokenizer.convert_tokens_to_ids(tokenizer.special_tokens.get("bos_token", ""))
    texts: list[str] = []
    segments: list[Segment] = []
    starts: list[npt.NDArray[np.int64]] = []
    ends: list[npt.NDArray[np.int64]] = []
    messages: list[dict[str, Any]] = [{**message, "content": ""} for message in conversation.messages]
    at = token = 0
    for turn in given.turns:
        ids = given.ids_T[token : token + turn.size].tolist()
        text, starts_T, ends_T = known.spell_out(ids)
        marks = None if given.sampled_T is None else given.sampled_T[token : token + turn.size]
        for part, first, stop in _parts(turn, ids, text, ends_T, marks, stops, bos):
            low = int(starts_T[first])
            high = int(ends_T[stop - 1])
            # Tokens that share one character: the part of the first has it.
            if low >= high:
                continue
            field, offset = None, 0
            if turn.message is not None and part == "text":
                # The message had no text: it is made of the ids, so that conditions on its content have something
                # to read.
                field, offset = ("content",), len(messages[turn.message]["content"])
                messages[turn.message]["content"] += text[low:high]
            segments.append(
                Segment(
                    start=at + low,
                    end=at + high,
                    part=part,
                    turn=turn.message,
                    field=field,
                    field_start=offset,
                    field_exact=field is not None,
                )
            )
        texts.append(text)
        starts.append(starts_T.astype(np.int64) + at)
        ends.append(ends_T.astype(np.int64) + at)
        at, token = at + len(text), token + turn.size
    starts_T, ends_T = (np.concatenate(places).astype(np.int32) for places in (starts, ends))
    chat = RenderedChat(
        text="".join(texts),
        segments=tuple(segments),
        messages=tuple(messages),
        sample=conversation.sample,
        sampled=None if given.sampled_T is None else sampled_ranges(given.sampled_T, starts_T, ends_T),
    )
    return TokenizedChat.of(chat, given.ids_T.tolist(), given.ids_T, (starts_T, ends_T), columns=given.carried)


def _stop_ids(tokenizer: ChatTokenizer) -> frozenset[int]:
    named = {*tokenizer.stops, *([eos] if (eos := tokenizer.special_tokens.get("eos_token")) else [])}
    return frozenset(tokenizer.tokenizer.convert_tokens_to_ids(str(name)) for name in named)


def _parts(
    turn: RowTurn,
    ids: list[int],
    text: str,
    ends_T: npt.NDArray[np.int32],
    marks: npt.NDArray[np.bool_] | None,
    stops: frozenset[int],
    bos: Any,
) -> list[tuple[str, int, int]]:
    """The parts of a turn, each with its tokens `[first, stop)`."""
    size = len(ids)
    if not size:
        return []
    if turn.part is not None:
        return [(turn.part, 0, size)]
    if turn.message is None:
        return [("bos" if ids == [bos] else "preamble", 0, size)]
    sampled = np.flatnonzero(marks) if marks is not None else np.zeros(0, np.intp)
    first = int(sampled[0]) if len(sampled) else 0
    last = int(sampled[-1]) if len(sampled) else -1
    found: list[tuple[str, int, int]] = [("header", 0, first)] if first else []
    tail: list[tuple[str, int, int]] = []
    end = size
    while end > first:
        # From the token before: a token that shares its character begins inside it.
        start = int(ends_T[end - 2]) if end > 1 else 0
        if ids[end - 1] in stops:
            tail.append(("eot", end - 1, end))
        # A blank that was sampled is the model's own text, wherever it is.
        elif end - 1 > last and not text[start : int(ends_T[end - 1])].strip():
            tail.append(("separator", end - 1, end))
        else:
            break
        end -= 1
    if not any(part == "eot" for part, _, _ in tail):
        tail, end = [], size  # blanks that no end marker follows or precedes are text
    if end > first:
        found.append(("text", first, end))
    is_first = True
    # The tail was read from its end; the first end marker in reading order is the turn's.
    for part, start, stop in reversed(tail):
        found.append((part if part == "separator" or is_first else "eod", start, stop))
        is_first = is_first and part == "separator"
    return found
