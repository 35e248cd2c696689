"""The sentence of an account on pieces that never reached the text.

reasoning of 2 assistant messages never reached the text (PE403, first in row 3; `--format json` lists the rows); …
"""

from __future__ import annotations

from typing import Final

from policy_engine.chat.segments import WHOLE
from policy_engine.core.vocabulary import MESSAGE_FIELDS
from policy_engine.mask.unrendered import LostPiece, lost_text

UNROLL: Final = "`apply --unroll` makes a sample of each turn, in which the template writes it"


def lost_note(lost: LostPiece, *, unrolls: bool) -> str:
    """The loss, its first row, and what to do: with `unrolls` how to keep the piece.

    >>> lost_note(LostPiece(role="user", field="name", messages=1, rows=(3,)), unrolls=False)
    'name of 1 user message never reached the text (PE403, row 3)'
    """
    first = lost.rows[0]
    where = f"row {first}" if lost.messages == 1 else f"first in row {first}; `--format json` lists the rows"
    unroll = f"; {UNROLL}" if unrolls else ""
    # A field that is not known may be text of the message, or a label that no template is meant to write.
    unknown = lost.role and lost.field.isidentifier() and lost.field not in {*MESSAGE_FIELDS, WHOLE}
    label = f"; if it is a label, say `fields: {{message.{lost.field}: any}}` in a dataset file" if unknown else ""
    return f"{lost_text(lost.role, lost.field, lost.messages)} never reached the text (PE403, {where}){unroll}{label}"
