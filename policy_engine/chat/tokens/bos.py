"""Begin-of-sequence ids that a tokenizer would add to text that has them already."""

from __future__ import annotations

from collections.abc import Sequence

from policy_engine.core.diagnostics import Diagnostic


def times_opened(prefix: Sequence[int], ids: Sequence[int]) -> int:
    """The times that ids open with a prefix: 0, 1 or 2; 0 for an empty prefix."""
    prefix, size = list(prefix), len(prefix)
    if not size or list(ids[:size]) != prefix:
        return 0
    return 2 if list(ids[size : 2 * size]) == prefix else 1


def bos_finding(times: int, text: str, name: str) -> Diagnostic | None:
    """The finding for rows that open `times` with `text`, which the tokenizer would add again.

    None for 0 times.
    """
    if not times:
        return None
    if times > 1:
        return Diagnostic(
            code="PE406",
            severity="warning",
            message=f"rows open with `{text}` twice: the chat template writes it, and so does the data",
            help=f"take `{text}` out of the first message, or out of the template",
        )
    return Diagnostic(
        code="PE406",
        severity="info",
        message=f"the chat template writes `{text}`, and {name} would add it again",
        help="train on these ids; whatever tokenizes the rendered text again has to pass add_special_tokens=False",
    )
