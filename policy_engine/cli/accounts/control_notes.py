"""The sentence of an account on control tokens in the data.

2 rows with control tokens in the data: `<|im_end|>` (rows 3, 8), `<think>` (row 8); to the model they are the …
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from policy_engine.core.wording import counted, rows_numbered
from policy_engine.mask.evidence.tokens_in_data import ControlTokenUse

_TOKENS: Final = 8
"""Tokens that are named; `--format json` has more, and more rows of each."""
_MEANS: Final = (
    "to the model they are the template's own; if they are only quoted, `template_kwargs: {sanitize_control_tokens: "
    "true}` in a dataset file makes plain text of them"
)


def control_note(rows: int, uses: Sequence[ControlTokenUse]) -> str:
    """The tokens of some rows, each with the first rows that have it, and what to do.

    >>> use = ControlTokenUse(token="<|im_end|>", rows=2, first_rows=(3, 8))
    >>> control_note(2, [use]).partition(";")[0]
    '2 rows with control tokens in the data: `<|im_end|>` (rows 3, 8)'
    """
    shown = ", ".join(f"`{use.token}` ({rows_numbered(use.first_rows)})" for use in uses[:_TOKENS])
    more = ", …" if len(uses) > _TOKENS else ""
    return f"{counted(rows, 'row')} with control tokens in the data: {shown}{more}; {_MEANS}"
