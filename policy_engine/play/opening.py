"""The policy and row that a page opens with: those of a link, or the board's own.

http://127.0.0.1:7860/?policy=train%20assistant&row=3
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from policy_engine.play.editions import MOST_TEXT
from policy_engine.play.loaded_rows import Board


@dataclass(frozen=True, kw_only=True)
class Opening:
    """The texts and the row to open with. `note` says what of a link could not be used."""

    policy: str
    other: str = ""
    row: int | None = None
    note: str = ""


def opening(board: Board, query: Mapping[str, str]) -> Opening:
    """The opening that a link's query asks for. What it names and is not there is noted."""
    notes = []
    policy, other = query.get("policy") or board.opening, query.get("other", "")
    # A link is input from others: what it has is bounded and looked up, and never run.
    if max(len(policy), len(other)) > MOST_TEXT:
        policy, other = board.opening, ""
        notes.append("the link's policy is too long")
    written, row = query.get("row", ""), None
    if written:
        known = {str(row.number): row.number for row in board.rows}
        row = known.get(written)
        if row is None:
            notes.append(f"the link names row {written[:20]!r}, which is not among these rows")
    return Opening(policy=policy, other=other, row=row, note="; ".join(notes))


def query_of(*, policy: str, other: str = "", row: int | None = None) -> str:
    """The query of a link that opens with a policy and a row.

    >>> query_of(policy="train assistant", row=3)
    'policy=train+assistant&row=3'
    """
    fields = {"policy": policy, "other": other, "row": "" if row is None else str(row)}
    return urlencode({name: value for name, value in fields.items() if value})
