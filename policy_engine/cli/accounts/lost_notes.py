"""The sentence of an account on pieces that never reached the text.

reasoning of 2 assistant messages never reached the text (first in row 3); `apply --unroll` makes a sample of each …
"""

from __future__ import annotations

from typing import Final

from policy_engine.mask.unrendered import LostPiece, lost_text

UNROLL: Final = "`apply --unroll` makes a sample of each turn, in which the template writes it"


def lost_note(lost: LostPiece, *, unrolls: bool) -> str:
    """The loss, its first row, and with `unrolls` how to keep the piece.

    >>> lost_note(LostPiece(role="user", field="name", messages=1, rows=(3,)), unrolls=False)
    'name of 1 user message never reached the text (row 3)'
    """
    first = lost.rows[0]
    where = f"(row {first})" if lost.messages == 1 else f"(first in row {first})"
    unroll = f"; {UNROLL}" if unrolls else ""
    return f"{lost_text(lost.role, lost.field, lost.messages)} never reached the text {where}{unroll}"
