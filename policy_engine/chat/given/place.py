"""Given ids put on a rendered chat, in place of tokenizing its text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from policy_engine.chat.given.drift import Drift, Stretch, drift_of, is_closed, stretches
from policy_engine.chat.given.spell import Spelled, Spelling
from policy_engine.chat.given.token_bytes import TokenBytes, token_bytes
from policy_engine.chat.segments import RenderedChat, Segment, TokenizedChat
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.errors import AttributionError, DriftError, RowError
from policy_engine.data.row_tokens import RowTokens

OnDrift = Literal["error", "mask", "drop"]


def place_given(
    tokenizer: ChatTokenizer, chat: RenderedChat, given: RowTokens, *, on_drift: OnDrift = "error"
) -> TokenizedChat:
    """The chat with the given ids, and the characters that each of them covers.

    The text is not tokenized. The ids have to spell it byte for byte, in whatever segmentation; they may end before
    the end marker and the line break of the last turn, which then are not in the chat. Under `on_drift="mask"` ids
    that spell something else stay, as tokens that are never trained (`drifted`), and the chat has what they spell.

    Raises:
        DriftError: the ids spell something else, and `on_drift` is not `mask`.
        RowError: an id is not of the vocabulary.
        AttributionError: the tokenizer's ids stand for no fixed bytes, and these are not its own for the text.
    """
    if tokenizer.media is not None:
        raise RowError(
            f"the row gives its ids, and {tokenizer.name} is a processor, whose ids are made with the media",
            help="give the tokenizer for rows without media; for others switch the columns of ids off: "
            "`messages: {input_ids: null, prompt_ids: null}`",
        )
    known = token_bytes(tokenizer)
    known.check(given)
    ids_T = given.ids_T
    first: tuple[Spelled, Spelling] | None = None
    # The first way that spells all ids wins; else the one that got furthest makes the report.
    for spelling in known.spellings:
        spelled = spelling.spell(chat.text, ids_T)
        if spelled.count == len(ids_T) and is_closed(chat, spelled.end):
            return _tokenized(_cut(chat, spelled.end), given, spelled.starts_T, spelled.ends_T)
        if first is None or spelled.count > first[0].count:
            first = spelled, spelling
    # A normalizer may write the text in a way that no `Spelling` knows; the tokenizer's own ids are then the proof.
    if known.normalizes or first is None:
        own = tokenizer.encode(chat)
        if np.array_equal(own.ids_T, ids_T):
            return _tokenized(chat, given, own.starts_T, own.ends_T)
    if first is None:
        raise AttributionError(
            f"the tokens of {tokenizer.name} stand for no fixed bytes, and the ids of {given.source} are not those "
            "that it gives for the text",
            help="take the ids out of the row, so that its text is tokenized, or use a byte-level tokenizer",
        )
    spelled, spelling = first
    if on_drift != "mask":
        drift = _report(known, chat, given, spelled)
        error = DriftError(
            f"the ids of {given.source} do not spell the text: {drift}",
            help="see what rewrote the text or the ids; `on drift mask` trains what agrees, `on drift drop` leaves "
            "such rows out",
        )
        error.drift = drift
        raise error
    return _drifting(known, chat, given, stretches(chat, ids_T, spelling))


def _report(known: TokenBytes, chat: RenderedChat, given: RowTokens, spelled: Spelled) -> Drift:
    # 40 tokens fill what a report shows, and the rest need not be read.
    left = given.ids_T[spelled.count : spelled.count + 40].tolist()
    return drift_of(chat, spelled, known.spell_out(left)[0])


def _tokenized(
    chat: RenderedChat,
    given: RowTokens,
    starts_T: npt.NDArray[np.int32],
    ends_T: npt.NDArray[np.int32],
    drifted: tuple[tuple[int, int], ...] = (),
) -> TokenizedChat:
    if given.sampled_T is not None:
        chat = replace(chat, sampled=sampled_ranges(given.sampled_T, starts_T, ends_T))
    return TokenizedChat.of(
        chat, given.ids_T.tolist(), given.ids_T, (starts_T, ends_T), columns=given.carried, drifted=drifted
    )


def _cut(chat: RenderedChat, end: int) -> RenderedChat:
    if end == len(chat.text):
        return chat
    kept = [s if s.end <= end else replace(s, end=end) for s in chat.segments if s.start < end]
    return replace(chat, text=chat.text[:end], segments=kept)


def _drifting(known: TokenBytes, chat: RenderedChat, given: RowTokens, found: Sequence[Stretch]) -> TokenizedChat:
    """The chat as the ids spell it.

    Where they drift, their own text takes the place of the rendered text.
    """
    texts: list[str] = []
    segments: list[Segment] = []
    starts: list[npt.NDArray[np.int64]] = []
    ends: list[npt.NDArray[np.int64]] = []
    at = 0
    for stretch in found:
        ids = given.ids_T[stretch.token_start : stretch.token_end].tolist()
        if stretch.drifts:
            text, starts_T, ends_T = known.spell_out(ids)
            if text:
                # What drifted tokens are is not known, and they are never trained; they need some part to be shown.
                part = "preamble" if stretch.turn is None else "text"
                segments.append(Segment(start=at, end=at + len(text), part=part, turn=stretch.turn))
        else:
            text = chat.text[stretch.start : stretch.end]
            # Spelled again, because the places are those in this stretch alone.
            spelled = _spelled_by(known, text, given.ids_T[stretch.token_start : stretch.token_end])
            starts_T, ends_T = spelled.starts_T, spelled.ends_T
            segments += _moved(chat.segments, stretch.start, stretch.end, at - stretch.start)
        texts.append(text)
        starts.append(starts_T.astype(np.int64) + at)
        ends.append(ends_T.astype(np.int64) + at)
        at += len(text)
    made = replace(chat, text="".join(texts), segments=segments)
    places = [np.concatenate(places).astype(np.int32) if places else np.zeros(0, np.int32) for places in (starts, ends)]
    drifted = tuple((s.token_start, s.token_end) for s in found if s.drifts and s.token_end > s.token_start)
    return _tokenized(made, given, places[0], places[1], drifted)


def _spelled_by(known: TokenBytes, text: str, ids_T: npt.NDArray[np.int32]) -> Spelled:
    return max((spelling.spell(text, ids_T) for spelling in known.spellings), key=lambda s: s.count)


def _moved(segments: Iterable[Segment], start: int, end: int, by: int) -> list[Segment]:
    found = []
    for segment in segments:
        low, high = max(segment.start, start), min(segment.end, end)
        if low < high:
            # An inexact segment has no place in its field for a character, so its start stays.
            offset = segment.field_start + (low - segment.start if segment.field_exact else 0)
            found.append(replace(segment, start=low + by, end=high + by, field_start=offset))
    return found


def sampled_ranges(
    sampled_T: npt.NDArray[np.bool_], starts_T: npt.NDArray[np.int32], ends_T: npt.NDArray[np.int32]
) -> tuple[tuple[int, int], ...]:
    """The characters of sampled tokens, as ranges in order.

    A character that several tokens hold bytes of is sampled if all of them are.

    >>> sampled_ranges(np.array([False, True, True]), np.array([0, 3, 5], np.int32), np.array([3, 5, 8], np.int32))
    ((3, 8),)
    """
    # A 0 on both sides, so that each run of ones has a first and a stop.
    edges = np.flatnonzero(np.diff(np.concatenate(([0], sampled_T.astype(np.int8), [0]))))
    ranges: list[tuple[int, int]] = []
    for first, stop in zip(edges[::2].tolist(), edges[1::2].tolist()):
        start, end = int(starts_T[first]), int(ends_T[stop - 1])
        # A character that the token before has bytes of too was not sampled whole.
        if first > 0:
            start = max(start, int(ends_T[first - 1]))
        if stop < len(starts_T):
            end = min(end, int(starts_T[stop]))
        if start < end:
            ranges.append((start, end))
    return tuple(ranges)
