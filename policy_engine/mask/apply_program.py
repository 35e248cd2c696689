"""From decisions about characters to decisions about tokens."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from policy_engine.chat.segments import Segment, TokenizedChat
from policy_engine.chat.skeleton.slot_sums import by_layout, starts_in
from policy_engine.core.bounded import Bounded
from policy_engine.core.errors import AttributionError, RowError
from policy_engine.core.facts import Placed, placed_of
from policy_engine.core.vocabulary import PARTS, UNTRAINABLE
from policy_engine.lang.checked import Atom
from policy_engine.mask.token_mask import REASONS, TokenMask
from policy_engine.rules.conditions.comparison import excerpt
from policy_engine.rules.decisions import PieceTable, PlacedTable
from policy_engine.rules.program import Program

RULE: Final = REASONS.index("rule")
DEFAULT: Final = REASONS.index("default")
STRADDLE: Final = REASONS.index("straddle")
STRUCTURAL: Final = REASONS.index("structural")
DRIFT: Final = REASONS.index("drift")

_UNDECIDED: Final = (0.0, -1)


def apply_program(program: Program, tokenized: TokenizedChat) -> TokenMask:
    """The decision of every token of a chat.

    A token whose characters all got one decision has it, with the rule of its first character. One that straddles two
    decisions, or mixes data of two messages, follows `on straddle` and has the reason `straddle`; no rule is named
    where it is masked. Where all sides are trained, with different weights, it has the smaller one. The first token of
    a row and the generation prompt are masked as `structural`, given tokens that spell something else than the messages
    as `drift`.

    Raises GuardError and RowError, as `Program.decide` does, RowError for a straddle under `on straddle error`, and
    AttributionError if text of unknown owner is trained.
    """
    return mask_tokens(table_for(program, tokenized), tokenized, straddle=straddle_of(program))


def straddle_of(program: Program) -> str:
    """The setting for tokens over two decisions: `mask`, `train` or `error`."""
    return program.setting("straddle") or "mask"


def table_for(program: Program, tokenized: TokenizedChat) -> PieceTable:
    """The decision of every character of a chat.

    Raises GuardError and RowError, as `Program.decide` does, and AttributionError if text of unknown owner is trained.
    """
    table = program.table(tokenized.chat)
    segments = tokenized.chat.segments
    placed = placed_of(segments)
    # A layout knows it for all its chats, so their segments need not be made for the question.
    if placed.layout.has_unknown if placed is not None else any(segment.unknown for segment in segments):
        _refuse_unknown(program, table, tokenized)
    return table


def _refuse_unknown(program: Program, table: PieceTable, tokenized: TokenizedChat) -> None:
    """Refuses to train text that a template computed from several owners' data.

    Its author is unknown, so that only `everything` can train it.
    """
    chat = tokenized.chat
    for piece, index in enumerate(table.segments):
        if not chat.segments[index].unknown or not table.weights[piece]:
            continue
        rule = program.policy.rules[table.rules[piece]]
        # `everything` trains whoever wrote it, so nothing depends on the author.
        if any(isinstance(t, Atom) and t.turns is None and len(t.parts) == len(PARTS) for t in rule.targets):
            continue
        raise AttributionError(
            f"{rule.span} (`{rule.span.one_line}`) trains text that the template computed from the data, "
            f"so its author is unknown: {excerpt(chat.text[table.starts[piece] : table.ends[piece]])}",
            help="mask the part it is in, or use a template that writes message fields as they are",
        )


def mask_tokens(table: PieceTable, tokenized: TokenizedChat, *, straddle: str = "mask") -> TokenMask:
    """The decision of every token, given those of the characters.

    Raises RowError under `straddle="error"`.
    """
    found = mask_many([table], [tokenized], straddle=straddle)[0]
    if isinstance(found, RowError):
        raise found
    return found


def mask_many(
    tables: Sequence[PieceTable], chats: Sequence[TokenizedChat], *, straddle: str = "mask"
) -> list[TokenMask | RowError]:
    """`mask_tokens` for many chats: their masks are slices of the same arrays.

    In place of a chat that `straddle="error"` refuses is its RowError.
    """
    known: dict[tuple[int, int, int], _Pieces] = {}
    decided = [_pieces_of(table, tokenized, known) for table, tokenized in zip(tables, chats)]
    # One stretch more than pieces, for zero-wide tokens past the last character: no character decides them. Characters
    # of all chats are one after another, two apart: that stretch ends between a chat and the next.
    pieces = [0, *accumulate([len(found.weights_P) for found in decided])]
    starts = [0, *accumulate([len(tokenized.chat.text) + 2 for tokenized in chats])]
    sizes = [len(tokenized.starts_T) for tokenized in chats]
    bounds = [0, *accumulate(sizes)]
    # Half as wide where the characters allow it: a batch's tokens are gone through many times.
    place = np.int32 if starts[-1] < _MOST_PLACES else np.int64
    chat_starts_C = np.array(starts[:-1], dtype=place)
    chat_starts_T = np.repeat(chat_starts_C, sizes)
    ends_B = _ends_of(tables, chats, pieces).astype(place) + np.repeat(chat_starts_C, np.diff(pieces))
    # Starts and ends never decrease, so the pieces cut the tokens into stretches: those before `after_B[p + 1]` start
    # before the end of piece p, those before `within_B[p]` end by it, and those in between reach over it.
    after_B = np.zeros(len(ends_B) + 1, dtype=np.int64)
    after_B[1:] = (np.concatenate([t.starts_T for t in chats]) + chat_starts_T).searchsorted(ends_B)
    within_B = (np.concatenate([t.ends_T for t in chats]) + chat_starts_T).searchsorted(ends_B, side="right")
    counts_B = np.diff(after_B)
    columns = zip(*[found[:4] for found in decided])
    weights_B, rules_B, segments_B, owners_B = map(np.concatenate, columns)
    weights_T = np.repeat(weights_B.astype(np.float32), counts_B)
    rules_T = np.repeat(rules_B, counts_B)
    segments_T = np.repeat(segments_B, counts_B)
    reasons_T = np.repeat(np.where(rules_B >= 0, np.int8(RULE), np.int8(DEFAULT)), counts_B)
    firsts = [start for start, size in zip(bounds, sizes) if size]
    # No token comes before the first one, to predict it from.
    weights_T[firsts], rules_T[firsts], reasons_T[firsts] = 0.0, -1, STRUCTURAL
    found: list[TokenMask | RowError] = [
        TokenMask(
            weights_T=weights_T[start:end],
            rules_T=rules_T[start:end],
            reasons_T=reasons_T[start:end],
            segments_T=segments_T[start:end],
        )
        for start, end in pairwise(bounds)
    ]
    # Between two pieces of one weight and owner a token may reach over: it is decided as they are.
    differs_B = within_B < after_B[1:]
    differs_B[:-1] &= (weights_B[1:] != weights_B[:-1]) | (owners_B[1:] != owners_B[:-1])
    reaching = {bisect_right(pieces, piece) - 1 for piece in np.flatnonzero(differs_B).tolist()}
    for at, (table, tokenized) in enumerate(zip(tables, chats)):
        first, last = pieces[at], pieces[at + 1]
        further: list[tuple[int, int, int]] = []
        if decided[at].has_untrainable or tokenized.drifted:
            further = _structural(table, tokenized, after_B[first + 1 : last + 1] - bounds[at])
        if at in reaching or further:
            stretches = after_B[first + 1 : last + 1] - bounds[at], within_B[first:last] - bounds[at]
            try:
                _overrule(found[at], table, tokenized, stretches, further, straddle)  # type: ignore[arg-type]
            except RowError as error:
                found[at] = error
    return found


def _ends_of(tables: Sequence[PieceTable], chats: Sequence[TokenizedChat], bounds: list[int]) -> npt.NDArray[np.int64]:
    """The ends of all pieces, each chat's followed by one past the end of its text.

    The ends of chat `n` are `[bounds[n], bounds[n + 1])`.
    """
    ends = np.empty(bounds[-1], dtype=np.int64)
    # One piece for each segment: the segments of all chats of a layout are placed at once.
    groups, rest = by_layout([c.chat.segments if type(t) is PlacedTable else None for t, c in zip(tables, chats)])
    firsts = np.array(bounds)
    for group in groups:
        places = starts_in([chats[at].chat.segments for at in group])  # type: ignore[misc]
        places[:, :-1] = places[:, 1:]
        places[:, -1] += 1
        ends[firsts[group][:, None] + np.arange(places.shape[1])] = places
    for at in rest:
        ends[bounds[at] : bounds[at + 1]] = [*tables[at].ends, len(chats[at].chat.text) + 1]
    return ends


_NOBODY: Final = -2
_MOST_PLACES: Final = 1 << 31
_OWNERS: Final[Bounded[object, list[int]]] = Bounded(1 << 14)
"""`_owners_of` by layout."""


class _Pieces(NamedTuple):
    """The decisions of a chat's pieces, and of one stretch behind them."""

    weights_P: npt.NDArray[np.float64]
    rules_P: npt.NDArray[np.int16]
    segments_P: npt.NDArray[np.int32]
    owners_P: npt.NDArray[np.int64]
    """A number for each piece; neighbours with different ones may be data of two messages."""
    has_untrainable: bool
    """True if some piece is text that no policy can train."""


def _pieces_of(table: PieceTable, tokenized: TokenizedChat, known: dict[tuple[int, int, int], _Pieces]) -> _Pieces:
    """The pieces of a chat; `known` are those of the same batch, whose lists stay alive."""
    placed = placed_of(tokenized.chat.segments)
    if placed is None or len(table.weights) != len(placed.layout.parts):
        # Nothing is known of their owners.
        return _arrays_of(table, range(len(table.segments)), [s.part for s in tokenized.chat.segments])
    # One piece for each segment: chats of one layout, decided alike, share their lists, and differ in places alone.
    key = id(placed.layout), id(table.weights), id(table.rules)
    found = known.get(key)
    if found is None:
        found = known[key] = _arrays_of(table, _owners_of(placed, tokenized.chat.segments), placed.layout.parts)
    return found


def _arrays_of(table: PieceTable, owners: Sequence[int], parts: Sequence[str]) -> _Pieces:
    segments = table.segments
    last = segments[-1] if segments else -1
    return _Pieces(
        np.array([*table.weights, 0.0], dtype=np.float64),
        np.array([*table.rules, -1], dtype=np.int16),
        np.array([*segments, last], dtype=np.int32),
        np.array([*owners, _NOBODY], dtype=np.int64),
        not UNTRAINABLE.isdisjoint(parts),
    )


def _owners_of(placed: Placed, segments: Sequence[Segment]) -> list[int]:
    """The message whose data each segment is, or the last one before it was."""
    found = _OWNERS.get(placed.layout)
    if found is None:
        last = -1
        found = []
        for segment in segments:
            last = segment.turn if segment.from_data and segment.turn is not None else last
            found.append(last)
        _OWNERS.keep(placed.layout, found, len(found))
    return found


def _overrule(
    mask: TokenMask,
    table: PieceTable,
    tokenized: TokenizedChat,
    stretches: tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]],
    further: list[tuple[int, int, int]],
    straddle: str,
) -> None:
    """Decides in place the tokens that straddle, and those that no policy can train."""
    after_P, within_P = stretches
    structural = [(0, 1, STRUCTURAL), *further]
    straddles = _Straddles(table, tokenized, straddle)
    reaching = {
        token
        for piece in np.flatnonzero(within_P < after_P).tolist()
        for token in range(int(within_P[piece]), int(after_P[piece]))
    }
    for token in sorted(reaching):
        # Structure comes before straddling, also under `on straddle error`.
        if not any(start <= token < end for start, end, _ in structural):
            decided = straddles.decide(token)
            if decided is not None:
                mask.weights_T[token], mask.rules_T[token] = decided
                mask.reasons_T[token] = STRADDLE
    for start, end, reason in structural:
        mask.weights_T[start:end] = 0.0
        mask.rules_T[start:end] = -1
        mask.reasons_T[start:end] = reason


def _structural(
    table: PieceTable, tokenized: TokenizedChat, after_P: npt.NDArray[np.intp]
) -> list[tuple[int, int, int]]:
    """Ranges of further tokens that no policy can train, each with its reason.

    These are the tokens that touch a generation prompt, and given tokens that spell something else.
    """
    found: list[tuple[int, int, int]] = []
    segments = tokenized.chat.segments
    for piece, index in enumerate(table.segments):
        if segments[index].part in UNTRAINABLE:
            # The first token that ends after the prompt begins; one of no width at its very beginning ends no later,
            # and counts too.
            reaching = int(np.searchsorted(tokenized.ends_T, table.starts[piece], side="right"))
            first = min(reaching, int(after_P[piece - 1]) if piece else 0)
            found.append((first, int(after_P[piece]), STRUCTURAL))
    # Behind the others, so that a first token which drifts has `drift` as its reason.
    found += [(*cut, DRIFT) for cut in tokenized.drifted]
    return found


_MIXING: Final[Bounded[tuple[object, int, int], bool]] = Bounded(1 << 14)
"""True for segments `[first, last]` of a layout that are data of several messages: all chats of it are alike."""


class _Straddles:
    """Decides the few tokens that touch several pieces."""

    def __init__(self, table: PieceTable, tokenized: TokenizedChat, setting: str) -> None:
        self._table = table
        self._tokenized = tokenized
        self._setting = setting

    def decide(self, token: int) -> tuple[float, int] | None:
        """Weight and rule (-1: none) of a token that straddles; None if its characters agree."""
        # Pieces have no gap between them, so their ends alone say which of them a token touches.
        first = bisect_right(self._table.ends, int(self._tokenized.starts_T[token]))
        last = bisect_left(self._table.ends, int(self._tokenized.ends_T[token]))
        weights = self._table.weights[first : last + 1]
        two_messages = self._mixes_messages(first, last)
        # All sides masked, or trained alike, by whichever rules.
        if not two_messages and all(weight == weights[0] for weight in weights):
            return None
        if self._setting == "error":
            raise self._error(token, first, last, two_messages)
        # Trained on all sides, with different weights: nothing that a rule masks would be trained.
        only_weights = all(weights) and not two_messages
        masks = self._setting == "mask" and not only_weights
        # `on straddle train` may train a masked neighbour's characters, never another message's and never guarded ones.
        if masks or (two_messages and not all(weights)) or self._is_guarded(token):
            return _UNDECIDED
        trained = [piece for piece in range(first, last + 1) if self._table.weights[piece]]
        if not trained:
            return _UNDECIDED
        # `min` takes the first of equal ones, as the language says.
        chosen = min(trained, key=lambda piece: abs(self._table.weights[piece]))
        return self._table.weights[chosen], self._table.rules[chosen]

    def _mixes_messages(self, first: int, last: int) -> bool:
        segments = self._tokenized.chat.segments
        touched = self._table.segments[first : last + 1]
        placed = placed_of(segments)
        key = None if placed is None else (placed.layout, touched[0], touched[-1])
        known = None if key is None else _MIXING.get(key)
        if known is None:
            # Scaffold mixes with data all the time (`\n` before a word), and nobody's words are trained by it.
            found = [segments[i] for i in touched]
            known = len({segment.turn for segment in found if segment.from_data and segment.turn is not None}) > 1
            if key is not None:
                _MIXING.keep(key, known)
        return known

    def _is_guarded(self, token: int) -> bool:
        start, end = int(self._tokenized.starts_T[token]), int(self._tokenized.ends_T[token])
        return any(a < end and start < b for a, b in self._table.never)

    def _error(self, token: int, first: int, last: int, two_messages: bool) -> RowError:
        chat = self._tokenized.chat
        start, end = int(self._tokenized.starts_T[token]), int(self._tokenized.ends_T[token])
        sides = []
        for piece in range(first, last + 1):
            segment = chat.segments[self._table.segments[piece]]
            owner = "no message" if segment.turn is None else f"message {segment.turn} (`{chat.role(segment)}`)"
            weight = self._table.weights[piece]
            sides.append(f"`{segment.part}` of {owner}: {f'trained, weight {weight:g}' if weight else 'masked'}")
        what = "mixes data of two messages" if two_messages else "straddles different decisions"
        return RowError(
            f"token {token} ({excerpt(chat.text[start:end])}) {what}: {'; '.join(sides)}",
            help="decide both sides alike, or say `on straddle mask`",
            code="PE515",
        )
