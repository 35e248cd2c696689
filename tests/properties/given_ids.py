"""Given ids: other tokens for a text that was rendered, and tokens that spell another text.

One case in ten plants a drift. Its token is found here by spelling out the ids from the start, one token more at
a time, and never by what the engine finds.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Final

import numpy as np

from policy_engine.chat.given.drift import is_closed
from policy_engine.chat.given.place import place_given
from policy_engine.chat.given.token_bytes import TokenBytes, token_bytes
from policy_engine.chat.segments import RenderedChat, TokenizedChat
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.errors import AttributionError, DriftError, PolicyEngineError, TemplateError
from policy_engine.data.conversation import Conversation
from policy_engine.data.row_tokens import RowTokens
from policy_engine.mask.apply_program import apply_program
from policy_engine.rules.compile import compile_text
from policy_engine.testing.choices import Choices

AGAIN: Final = 10
"""Other segmentations of the text of one case."""
PLANTED: Final = 10
"""One case in so many plants a drift."""
EXACT: Final = ("builtin", "qwen", "llama3", "deepseek")
"""Tokenizers whose ids spell a text in one way only: they put no space in front, and take none away."""
_PROGRAM: Final = compile_text("train assistant; mask system,user; train eos after assistant")


def given_outcome(
    choices: Choices, tokenizer: ChatTokenizer, conversation: Conversation, *, plants: bool
) -> tuple[str, str | None]:
    """What a case came to, and what is wrong with it, if anything is."""
    try:
        chat = tokenizer.template_for(conversation).render(conversation)
        own = tokenizer.encode(chat)
    except (TemplateError, AttributionError):
        return "refused", None
    if not own.input_ids:
        return "no text", None
    known = token_bytes(tokenizer)
    if any(_piece(known, i) is None for i in own.input_ids if i not in known.spellings[0].stripping):
        return "unknown token", None
    if plants:
        return "drift", _planted_problem(choices, tokenizer, known, chat, own)
    problems = (_problem(tokenizer, known, chat, own, resegmented(choices, known, own.input_ids)) for _ in range(AGAIN))
    return "other ids", next((problem for problem in problems if problem is not None), None)


def _problem(
    tokenizer: ChatTokenizer, known: TokenBytes, chat: RenderedChat, own: TokenizedChat, ids: Sequence[int]
) -> str | None:
    try:
        given = place_given(tokenizer, chat, RowTokens(ids_T=np.asarray(ids, np.int32)))
    except PolicyEngineError as error:
        return f"{len(ids)} ids for {len(own.input_ids)}: {error}"
    if not chat.text.startswith(given.chat.text) or not is_closed(chat, len(given.chat.text)):
        return f"the text is {given.chat.text!r}, and was {chat.text!r}"
    try:
        before, decided = _by_character(chat), _by_character(given.chat)
    except PolicyEngineError:
        return None
    if before[: len(decided)] != decided:
        return "other characters are decided"
    mask = apply_program(_PROGRAM, given)
    for token, (start, end, weight) in enumerate(zip(given.starts_T, given.ends_T, mask.weights_T)):
        weights = {decided[at][0] for at in range(start, end)}
        if token and len(weights) == 1 and mask.reasons_T[token] in (0, 1) and weights != {float(weight)}:
            return f"token {token} has weight {weight}, and its characters {weights}"
    if given.input_ids == own.input_ids:
        same = np.array_equal(given.starts_T, own.starts_T) and np.array_equal(given.ends_T, own.ends_T)
        return None if same else "its own ids have other characters"
    covered = np.zeros(len(chat.text) + 1, bool)
    for start, end in zip(given.starts_T, given.ends_T):
        covered[start:end] = True
    own_covered = np.zeros(len(chat.text) + 1, bool)
    for start, end in zip(own.starts_T, own.ends_T):
        own_covered[start:end] = True
    lost = np.flatnonzero((own_covered & ~covered)[: len(given.chat.text)])
    return f"no token covers characters {lost[:5].tolist()}" if len(lost) else None


def _by_character(chat: RenderedChat) -> list[tuple[float, int | None]]:
    pieces = _PROGRAM.decide(chat).pieces
    return [(piece.weight, piece.rule) for piece in pieces for _ in range(piece.start, piece.end)]


def _planted_problem(
    choices: Choices, tokenizer: ChatTokenizer, known: TokenBytes, chat: RenderedChat, own: TokenizedChat
) -> str | None:
    ids = resegmented(choices, known, own.input_ids) if choices.chance(50) else list(own.input_ids)
    at = choices.integer(0, len(ids) - 1)
    way = choices.pick(("replaced", "left out", "put in", "cut"))
    other = choices.integer(0, known.end - 1)
    if way == "replaced":
        ids[at] = other
    elif way == "left out":
        del ids[at]
    elif way == "put in":
        ids.insert(at, other)
    else:
        ids = ids[: at + 1]
    expected = _first_difference(known, ids, own)
    closed = expected == len(ids) and _ends_closed(known, chat, own, ids)
    try:
        place_given(tokenizer, chat, RowTokens(ids_T=np.asarray(ids, np.int32)))
    except DriftError as error:
        if closed:
            return f"{way} at {at}: a drift is reported at {error.drift.token}, and there is none"
        found = error.drift.token
        return None if found == expected else f"{way} at {at}: reported at token {found}, and it is at {expected}"
    return None if closed else f"{way} at {at}: no drift is reported, and it is at token {expected}"


def _first_difference(known: TokenBytes, ids: Sequence[int], own: TokenizedChat) -> int:
    data = b"".join(_piece(known, i) or b"" for i in own.input_ids)
    spelled = b""
    for token, i in enumerate(ids):
        piece = _piece(known, i)
        if piece is None or not data.startswith(spelled + piece):
            return token
        spelled += piece
    return len(ids)


def _ends_closed(known: TokenBytes, chat: RenderedChat, own: TokenizedChat, ids: Sequence[int]) -> bool:
    """True if the ids end where only the end of a turn is left of the text."""
    size = sum(len(_piece(known, i) or b"") for i in ids)
    end = at = 0
    for token, i in enumerate(own.input_ids):
        piece = _piece(known, i) or b""
        if at + len(piece) <= size:
            end = int(own.ends_T[token])
        elif at < size:
            part = piece[: size - at].decode("utf-8", "ignore")
            end = int(own.starts_T[token]) + len(part)
        at += len(piece)
    return is_closed(chat, end)


def _piece(known: TokenBytes, token: int) -> bytes | None:
    pieces = known.tables[0].pieces
    return pieces[token] if token < len(pieces) else None


def resegmented(choices: Choices, known: TokenBytes, ids: Sequence[int]) -> list[int]:
    """Other tokens that stand for the same bytes: tokens are joined and split at random. Added tokens stay."""
    by_bytes, table = _by_bytes(known), known.tables[0]
    joined: list[int] = []
    for i in ids:
        fixed = i in table.added or _piece(known, i) is None
        if joined and not fixed and joined[-1] not in table.added and choices.chance(20):
            both = by_bytes.get((_piece(known, joined[-1]) or b"") + (_piece(known, i) or b""))
            if both is not None:
                joined[-1] = both
                continue
        joined.append(i)
    found: list[int] = []
    for i in joined:
        piece = _piece(known, i)
        if i in table.added or piece is None or not choices.chance(30):
            found.append(i)
        else:
            found += _split(choices, by_bytes, piece) or [i]
    return found


def _split(choices: Choices, by_bytes: dict[bytes, int], piece: bytes) -> list[int]:
    found: list[int] = []
    at = 0
    while at < len(piece):
        ends = [end for end in range(at + 1, len(piece) + 1) if piece[at:end] in by_bytes]
        if not ends:
            return []
        end = choices.pick(ends)
        found.append(by_bytes[piece[at:end]])
        at = end
    return found


@functools.cache
def _by_bytes(known: TokenBytes) -> dict[bytes, int]:
    table = known.tables[0]
    return {piece: i for i, piece in enumerate(table.pieces) if piece and i not in table.added}
