"""A masked row as views show it: cells of text, each with its tokens and their decision.

Text is taken from the rendered chat, never decoded token by token, so that a character of several tokens stays whole.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from policy_engine.chat.segments import RenderedChat, Segment, TokenizedChat
from policy_engine.core.vocabulary import Reason
from policy_engine.core.wording import field_path
from policy_engine.mask.token_mask import REASONS, TokenMask
from policy_engine.report.runs import ShownRow, token_runs


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenView:
    """One token's decision, or that of `count` neighbours which are decided alike.

    `rule` is the deciding rule's index, None for the default; `segment` a segment's index.
    """

    index: int
    id: int
    weight: float
    rule: int | None
    reason: Reason
    segment: int
    count: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """Characters shown together: of one token, or of a run of tokens.

    Tokens that share a character are one cell. `tokens` is empty for characters that no token covers, `text` for a
    token of no character. The tokens of a medium are one cell, whose text says what it is (`[image cat.png, 640 × 480:
    391 tokens]`).
    """

    text: str
    tokens: tuple[TokenView, ...]

    @property
    def weight(self) -> float:
        """Weight of the cell's first token that is trained, 0 if all are masked."""
        return next((t.weight for t in self.tokens if t.weight), 0.0)

    @property
    def lead(self) -> TokenView | None:
        """The token whose decision the cell shows: the first trained one, else the first."""
        return next((t for t in self.tokens if t.weight), self.tokens[0] if self.tokens else None)


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnView:
    """Consecutive cells of one turn. `turn` and `role` are None for text that no message owns."""

    turn: int | None
    role: str | None
    cells: tuple[Cell, ...]

    @property
    def trained(self) -> int:
        """Number of the turn's tokens that are trained."""
        return sum(t.count for cell in self.cells for t in cell.tokens if t.weight)

    @property
    def total(self) -> int:
        """Number of the turn's tokens."""
        return sum(t.count for cell in self.cells for t in cell.tokens)


@dataclass(frozen=True, kw_only=True, slots=True)
class RowView:
    """One masked row.

    `name` says which (`row 3`); `by_rule` and `by_reason` count its tokens.
    """

    name: str
    chat: RenderedChat
    turns: tuple[TurnView, ...]
    total: int
    trained: int
    by_rule: dict[int | None, int]
    by_reason: dict[Reason, int]


def source_of(segment: Segment) -> str:
    """The source of a segment's characters: `content[0].text from 12`, `template line 30`.

    >>> source_of(Segment(start=0, end=2, part="text", turn=0, field=("content", 0, "text"), field_exact=True))
    'content[0].text'
    """
    if segment.field is None:
        return "template" if segment.line is None else f"template line {segment.line}"
    path = field_path(segment.field)
    if segment.unknown or not segment.field_exact:
        return f"computed from {path}"
    return f"{path} from {segment.field_start}" if segment.field_start else path


def row_view(tokenized: TokenizedChat, mask: TokenMask, *, name: str) -> RowView:
    """The view of one row, with a cell for each token or character."""
    return _view(name, tokenized, mask, single=True)


def run_view(tokenized: TokenizedChat, mask: TokenMask, *, name: str) -> RowView:
    """The same row with a cell for each run of tokens that are decided alike.

    A terminal shows it as it shows `row_view`, in a tenth of the time.
    """
    return _view(name, tokenized, mask, single=False)


def _view(name: str, tokenized: TokenizedChat, mask: TokenMask, *, single: bool) -> RowView:
    ids, text = tokenized.input_ids, tokenized.chat.text
    changes = np.full(len(ids), single)
    for column in (mask.weights_T, mask.rules_T, mask.reasons_T):
        changes[1:] |= column[1:] != column[:-1]
    changed_at = np.flatnonzero(changes).tolist()
    cells: list[Cell] = []
    by_rule: Counter[int | None] = Counter()
    by_reason: Counter[Reason] = Counter()
    trained = 0
    for run in token_runs(ShownRow(number=0, tokenized=tokenized, mask=mask), single=single):
        # Tokens of one character may be decided differently, and each is counted where it belongs.
        inside = changed_at[bisect_right(changed_at, run.token_start) : bisect_left(changed_at, run.token_end)]
        cuts = [run.token_start, *inside, run.token_end] if run.tokens else []
        own = tuple(_token_view(ids[a], mask, a, b) for a, b in itertools.pairwise(cuts))
        for token in own:
            by_rule[token.rule] += token.count
            by_reason[token.reason] += token.count
            trained += token.count if token.weight else 0
        shown = text[run.start : run.end] if run.medium is None else run.medium.in_words
        cells.append(Cell(text=shown, tokens=own))
    return RowView(
        name=name,
        chat=tokenized.chat,
        turns=_turns(tokenized.chat, cells),
        total=len(ids),
        trained=trained,
        by_rule=dict(by_rule),
        by_reason=dict(by_reason),
    )


def _token_view(token_id: int, mask: TokenMask, start: int, end: int) -> TokenView:
    rule = int(mask.rules_T[start])
    return TokenView(
        index=start,
        id=token_id,
        weight=float(mask.weights_T[start]),
        rule=None if rule < 0 else rule,
        reason=REASONS[mask.reasons_T[start]],
        segment=int(mask.segments_T[start]),
        count=end - start,
    )


def _turns(chat: RenderedChat, cells: Sequence[Cell]) -> tuple[TurnView, ...]:
    turns: list[TurnView] = []
    pending: list[Cell] = []
    owner: int | None = None
    segments = tuple(chat.segments)

    def close() -> None:
        if pending:
            role = None if owner is None else str(chat.messages[owner]["role"])
            turns.append(TurnView(turn=owner, role=role, cells=tuple(pending)))
            pending.clear()

    for cell in cells:
        # Characters without a token stay with the turn before them.
        turn = segments[cell.tokens[0].segment].turn if cell.tokens and segments else owner
        if turn != owner:
            close()
            owner = turn
        pending.append(cell)
    close()
    return tuple(turns)
