"""`audit DATA -t TOKENIZER`: labels that somebody else made, and what they really train."""

from __future__ import annotations

from typing import Annotated

import typer

from policy_engine.cli.options import FormatOption, Loading, Named
from policy_engine.cli.outcome import Outcome
from policy_engine.cli.work.inputs import load_chat_tokenizer, load_inputs, names_policy


def audit(
    *,
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="A prepared dataset: `input_ids` with `labels` or a mask.")
    ],
    named: Named,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Look at the first rows, this many.")] = None,
    loading: Loading,
    format: FormatOption = "text",
) -> Outcome:
    """Say what prepared labels train, what is odd, and which system made them so.

    With -p, compare every row with a policy too.
    """
    # Imported here, so that the verbs that need no tokenizer start without what loads one.
    from policy_engine.cli.work.audit import audit_rows

    # A policy is optional here, unlike elsewhere: without one the rows are still examined.
    if named.policy is None and (named.dataset is None or not names_policy(named.dataset)):
        return audit_rows(data, load_chat_tokenizer(named), None, limit=limit, named=named)
    masker = load_inputs(named).masker
    return audit_rows(data, masker.tokenizer, masker.program, limit=limit)
