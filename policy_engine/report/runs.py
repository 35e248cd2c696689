"""Tokens in runs: neighbours with one decision are shown together, so long rows are fast.

    tokens   <|im_start|> user ⏎ Hi <|im_end|>      runs   [<|im_start|> user ⏎] [Hi] [<|im_end|>]

A run's characters are taken from the rendered chat, so that a character of several tokens is whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from policy_engine.chat.segments import MediaTokens, TokenizedChat
from policy_engine.core.errors import PolicyEngineError
from policy_engine.core.source import Place
from policy_engine.core.vocabulary import Reason
from policy_engine.mask.token_mask import REASONS, TokenMask

if TYPE_CHECKING:
    from policy_engine.mask.explain import ExplainedPiece

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownRow:
    """One masked row to show.

    `pieces` are those of `explain_pieces`, `pictures` small PNGs of its media, and `changed_T` (one bool per token)
    marks tokens that another policy decides differently; each may be left out. `side` is `chosen` or `rejected` where
    the row is one of a pair of answers. A row that fails, and whose tokens are shown all the same, has its `failure`.
    """

    number: int
    tokenized: TokenizedChat
    mask: TokenMask
    pieces: Sequence[ExplainedPiece] = ()
    pictures: Mapping[MediaTokens, bytes] | None = None
    changed_T: npt.NDArray[np.bool_] | None = None
    failure: FailedRow | None = None
    side: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class FailedRow:
    """One row that could not be masked, with what its error says.

    `place` is its file and line, where known.
    """

    number: int
    code: str
    message: str
    help: str | None = None
    place: str = ""


def failed_row(number: int, error: PolicyEngineError, place: Place | None = None) -> FailedRow:
    """The row of an error. `place` is its file and line.

    >>> failed_row(3, PolicyEngineError("no `role`"), Place(file="chats.jsonl", number=3)).place
    'chats.jsonl:3'
    """
    where = place or error.place
    return FailedRow(
        number=number,
        code=error.code,
        message=error.message,
        help=error.help,
        place="" if where is None else str(where),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenRun:
    """Tokens `[token_start, token_end)` with characters `[start, end)`, all decided alike.

    `rule` is the deciding rule's index, None for the default; `segment` the segment whose decision is shown and `turn`
    the message that owns the run. `pieces` are the indices `[first, end)` of the explained pieces it touches.
    Characters that no token covers are a run of no tokens; `medium` is set where the tokens are those of a medium.
    """

    token_start: int
    token_end: int
    start: int
    end: int
    weight: float
    rule: int | None
    reason: Reason
    segment: int
    turn: int | None
    pieces: tuple[int, int] = (0, 0)
    changed: bool = False
    medium: MediaTokens | None = None

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return self.token_end - self.token_start


def cell_starts(tokenized: TokenizedChat) -> Ints:
    """The first token of each cell.

    A cell is a token, or several that share a character or are one medium.
    """
    starts, ends = tokenized.starts_T, tokenized.ends_T
    if not len(starts):
        return np.zeros(0, dtype=np.int64)
    # Byte-level pieces of one character repeat its range. A token of no character overlaps nothing.
    is_first = np.concatenate(([True], starts[1:] >= np.maximum.accumulate(ends)[:-1]))
    for medium in tokenized.media or ():
        is_first[medium.first : medium.first + medium.count] = False
        is_first[[at for at in (medium.first, medium.first + medium.count) if at < len(starts)]] = True
    return np.flatnonzero(is_first)


def token_runs(row: ShownRow, *, single: bool = False) -> list[TokenRun]:
    """The runs of a row in order, the characters without tokens between them.

    With `single` each cell is a run of its own.
    """
    tokenized, mask = row.tokenized, row.mask
    chat = tokenized.chat
    firsts = cell_starts(tokenized)
    if not len(firsts):
        return [_gap(0, len(chat.text), None)] if chat.text else []
    stops = np.append(firsts[1:], len(tokenized.starts_T))
    # Names that end in `_C` have an item for each cell.
    leads = _leads(firsts, stops, mask)
    start_C = tokenized.starts_T[firsts].astype(np.int64)
    # Tokens may overlap: a later one may end before an earlier one did.
    end_C = np.maximum.reduceat(tokenized.ends_T, firsts).astype(np.int64)
    piece_start_C, piece_end_C = _pieces(row.pieces, start_C, end_C)
    changed_C = np.zeros(len(firsts), bool) if row.changed_T is None else np.logical_or.reduceat(row.changed_T, firsts)
    media = {medium.first: medium for medium in tokenized.media or ()}
    # A medium is a run by itself: it is shown as a picture or a line, not as characters.
    alone_C = np.isin(firsts, list(media)) if media else np.zeros(len(firsts), bool)
    # A run ends where any of these changes; the last key keeps tokens without characters from those with some.
    keys = (
        mask.weights_T[leads], mask.rules_T[leads], mask.reasons_T[leads], mask.segments_T[leads],
        mask.segments_T[firsts], piece_start_C, piece_end_C, changed_C, start_C == end_C,
    )  # fmt: skip
    opens = np.full(len(firsts), single)
    opens[0] = True
    for key in keys:
        opens[1:] |= key[1:] != key[:-1]
    opens[1:] |= alone_C[1:] | alone_C[:-1] | (start_C[1:] > end_C[:-1])
    heads = np.flatnonzero(opens)
    tails = np.append(heads[1:], len(firsts)) - 1
    lead_R = leads[heads]
    # As lists: numpy takes long to hand out single numbers.
    columns = (
        firsts[heads], stops[tails], start_C[heads], end_C[tails], mask.weights_T[lead_R], mask.rules_T[lead_R],
        mask.reasons_T[lead_R], mask.segments_T[lead_R], mask.segments_T[firsts[heads]], piece_start_C[heads],
        piece_end_C[heads], changed_C[heads],
    )  # fmt: skip
    runs: list[TokenRun] = []
    # All of them at once: most runs are of another segment than the last.
    segments = tuple(chat.segments)
    shown, turn = 0, None
    for first, last, start, end, weight, rule, reason, segment, owner, *pieces, changed in zip(
        *(column.tolist() for column in columns)
    ):
        # Characters that no token covers belong to the turn before them.
        if start > shown:
            runs.append(_gap(shown, start, turn))
        turn = segments[owner].turn if segments else None
        shown = max(shown, end)
        runs.append(
            TokenRun(
                token_start=first,
                token_end=last,
                start=start,
                end=end,
                weight=weight,
                rule=None if rule < 0 else rule,
                reason=REASONS[reason],
                segment=segment,
                turn=turn,
                pieces=(pieces[0], pieces[1]),
                changed=changed,
                medium=media.get(first),
            )
        )
    if shown < len(chat.text):
        runs.append(_gap(shown, len(chat.text), turn))
    return runs


def folded(run: TokenRun, tokenized: TokenizedChat, *, most: int, kept: int) -> Iterator[tuple[TokenRun, bool]]:
    """A run in up to three, with True for the middle.

    A run of more than `most` characters keeps `kept` of them at each end.
    """
    if run.end - run.start <= most or run.medium is not None or not run.tokens:
        yield run, False
        return
    first = _cut(tokenized, run, run.start + kept)
    last = _cut(tokenized, run, run.end - kept)
    # Cells are long here (one token of many characters): no middle is left to fold.
    if not run.token_start < first < last < run.token_end:
        yield run, False
        return
    starts = tokenized.starts_T
    a, b = int(starts[first]), int(starts[last])
    yield replace(run, token_end=first, end=a), False
    yield replace(run, token_start=first, token_end=last, start=a, end=b), True
    yield replace(run, token_start=last, start=b), False


def _cut(tokenized: TokenizedChat, run: TokenRun, character: int) -> int:
    """The first token from a character on with which a cell begins."""
    starts, ends = tokenized.starts_T, tokenized.ends_T
    at = run.token_start + int(np.searchsorted(starts[run.token_start : run.token_end], character))
    # Not between two tokens of one character.
    while run.token_start < at < run.token_end and starts[at] < ends[at - 1]:
        at += 1
    return at


def _leads(firsts: Ints, stops: Ints, mask: TokenMask) -> Ints:
    """The token whose decision a cell shows: its first trained one, else its first."""
    leads = firsts.copy()
    # Most cells are one token, which is its own lead: only the others are looked into.
    for cell in np.flatnonzero(stops - firsts > 1).tolist():
        trained = np.flatnonzero(mask.weights_T[firsts[cell] : stops[cell]])
        if len(trained):
            leads[cell] += trained[0]
    return leads


def _pieces(pieces: Sequence[ExplainedPiece], start_C: Ints, end_C: Ints) -> tuple[Ints, Ints]:
    if not pieces:
        zeros = np.zeros(len(start_C), dtype=np.int64)
        return zeros, zeros
    ends = np.array([piece.end for piece in pieces])
    first = np.searchsorted(ends, start_C, side="right")
    # A token without characters is decided by the character at its place.
    last = np.searchsorted(ends, np.maximum(end_C, start_C + 1), side="left")
    return first, np.minimum(last + 1, len(ends))


def _gap(start: int, end: int, turn: int | None) -> TokenRun:
    return TokenRun(
        token_start=0, token_end=0, start=start, end=end, weight=0.0, rule=None, reason="default", segment=0, turn=turn
    )
