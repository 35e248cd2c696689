"""Two policies on the same rows: which tokens change, where, and by which rules."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

from rich.console import RenderableType
from rich.text import Text

from policy_engine.cli.work.masked_rows import see_format
from policy_engine.core.diagnostics import Diagnostic
from policy_engine.core.errors import PolicyEngineError
from policy_engine.core.wording import counted
from policy_engine.data.conversation import Conversation
from policy_engine.data.files.readers import read_rows
from policy_engine.data.pairs import conversations_in
from policy_engine.lang.checked import CheckedPolicy
from policy_engine.mask.compare.changes import ChangedTokens
from policy_engine.mask.compare.fates import FATES
from policy_engine.mask.compare.two_policies import DataDiff, rule_in_words, weight_in_words
from policy_engine.mask.compare.two_templates import TemplateDiff
from policy_engine.mask.masker import Masker
from policy_engine.mask.row import MaskedRow
from policy_engine.mask.warner import DataWarning
from policy_engine.report.plain_table import PlainTable
from policy_engine.report.styles import DOUBT, GOOD
from policy_engine.report.visible import around, one_line

BATCH: Final = 64
"""Rows that are tokenized at once."""
_CONTEXT = 24
_CHANGES = 3


def diff_rows(data: str, old: Masker, new: Masker, *, limit: int | None, listed: int) -> DataDiff:
    """Masks every row by both policies.

    The two maskers share a tokenizer, so that a row is tokenized once. Raises ConfigError if the format is not known,
    and what reading raises.
    """
    source = read_rows(data)
    format, rows = see_format(source, limit, old.dataset)
    found = DataDiff(old=old.program, new=new.program, most=listed, description=format.description)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # `apply` counts what never reached the text
        # In batches, so that the tokenizer is called once for many rows.
        while batch := list(islice(rows, BATCH)):
            sides = [(number, told) for number, row in batch for told in conversations_of(row, format)]
            for (number, _), before, after in zip(sides, *_both([told for _, told in sides], old, new)):
                found.add(number, source.where(number), before, after)
    return found


def conversations_of(row: Any, format: Any) -> list[Conversation | PolicyEngineError]:
    """The conversations of a row, two of a pair of answers; or the error of reading it."""
    if isinstance(row, PolicyEngineError):
        return [row]
    try:
        return [conversation for _, conversation in conversations_in(row, format)]
    except PolicyEngineError as error:
        return [error]


_Masked = list["MaskedRow | PolicyEngineError"]


def masked(read: Sequence[Conversation | PolicyEngineError], masker: Masker) -> _Masked:
    """Conversations masked with one call of the tokenizer; errors stay in their places."""
    made = iter(masker.mask_batch(c for c in read if isinstance(c, Conversation)))
    return [next(made) if isinstance(c, Conversation) else c for c in read]


def _both(read: list[Conversation | PolicyEngineError], old: Masker, new: Masker) -> tuple[_Masked, _Masked]:
    before = masked(read, old)
    return before, [_again(c, row, new) for c, row in zip(read, before)]


def _again(
    read: Conversation | PolicyEngineError, before: MaskedRow | PolicyEngineError, new: Masker
) -> MaskedRow | PolicyEngineError:
    if isinstance(read, PolicyEngineError):
        return read
    try:
        # A row that failed under the old policy may have come to no tokens, and is done from the start.
        return new.mask_tokenized(before.tokenized) if isinstance(before, MaskedRow) else new.mask(read)
    except PolicyEngineError as error:
        return error


def data_facts(data: str, found: DataDiff, old: CheckedPolicy, new: CheckedPolicy) -> dict[str, Any]:
    """The comparison on data as JSON data."""
    return {
        "file": data,
        "read_as": found.description,
        "rows": found.rows,
        "rows_changed": found.rows_changed,
        "rows_by_fate": rows_by_fate(found),
        "tokens": found.tokens,
        "tokens_changed": found.tokens_changed,
        "tokens_trained_more": found.tokens_more,
        "tokens_trained_less": found.tokens_less,
        "by_place": [
            {
                "role": s.role,
                "part": s.part,
                "old": {"weight": s.old_weight, "reason": s.old_reason, "rule": _rule_json(old, s.old_rule)},
                "new": {"weight": s.new_weight, "reason": s.new_reason, "rule": _rule_json(new, s.new_rule)},
                "tokens": count,
            }
            for s, count in found.by_count()
        ],
        "changed_rows": [
            {
                "row": row.number,
                "place": str(row.place),
                "old": row.old,
                "new": row.new,
                "changes": [
                    {
                        "tokens": [s.token_start, s.token_end],
                        "characters": [s.start, s.end],
                        "text": row.text[s.start : s.end],
                        "turn": s.turn,
                        "role": s.role,
                        "part": s.part,
                        "old": {"weight": s.old_weight, "reason": s.old_reason, "rule": _rule_json(old, s.old_rule)},
                        "new": {"weight": s.new_weight, "reason": s.new_reason, "rule": _rule_json(new, s.new_rule)},
                    }
                    for s in row.changed
                ],
            }
            for row in found.listed
        ],
    }


def data_findings(found: DataDiff) -> Iterator[Diagnostic]:
    """The listed rows that change, as findings at their places, and a count of the others."""
    for row in found.listed:
        fate = "" if row.old == row.new else f"; {FATES[row.old]} → {FATES[row.new]}"
        what = "; ".join(
            f"{_tokens(s)}, {s.part}: {weight_in_words(s.old_weight)} → {weight_in_words(s.new_weight)}"
            for s in row.changed[:_CHANGES]
        )
        message = f"{counted(row.tokens, 'token')} {'changes' if row.tokens == 1 else 'change'}{fate}: {what}"
        yield Diagnostic(
            code="PE706", message=message.removesuffix(": "), help="`policy-engine diff` prints them", place=row.place
        )
    yield from unlisted_finding(found, lambda more, rows: f"{rows} {'changes' if more == 1 else 'change'}")


def data_lines(data: str, found: DataDiff, old: CheckedPolicy, new: CheckedPolicy) -> Iterator[RenderableType]:
    """The comparison on data for people."""
    yield from counts_lines(data, found, both="by either policy")
    if found.places:
        yield _table(found, old, new)
    for row in found.listed:
        yield Text(f"{row.place}: {counted(row.tokens, 'token')}" if row.changed else f"{row.place}", style="bold")
        if row.old != row.new:
            yield Text(f"  {FATES[row.old]} → {FATES[row.new]}")
        for s in row.changed:
            where = s.part if s.turn is None else f"{s.part} of message {s.turn} ({s.role})"
            yield Text.assemble(
                f"  {_tokens(s)}, {where}: {weight_in_words(s.old_weight)} → {weight_in_words(s.new_weight)}  ",
                around(row.text, s.start, s.end, context=_CONTEXT, style="bold"),
            )
    yield from unlisted_lines(found)


def counts_lines(data: str, found: DataDiff | TemplateDiff, *, both: str) -> Iterator[Text]:
    """Lines on what was read, how much changes, and rows whose fate changes.

    `both` ends the line of rows that fail on both sides.
    """
    yield Text(found.description, style="dim")
    yield Text(f"on {data}: {found.in_words()}", style="bold" if found.rows_changed else f"bold {GOOD}")
    for (before, after), count in sorted(found.fates.items()):
        if before != after:
            yield Text(f"  {counted(count, 'row')}: {FATES[before]} → {FATES[after]}")
    if found.failed:
        yield Text(f"  {counted(found.failed, 'row')} cannot be masked {both}", style=DOUBT)


def unlisted_lines(found: DataDiff | TemplateDiff) -> Iterator[Text]:
    """A line on rows that change and are not listed, where some are."""
    more = found.rows_changed - len(found.listed)
    if more > 0 and found.listed:
        yield Text(f"and {counted(more, 'more row')}; --list N tells of more", style="dim")


def unlisted_finding(found: DataDiff | TemplateDiff, in_words: Callable[[int, str], str]) -> Iterator[Diagnostic]:
    """A finding that counts the rows that change and are not listed.

    `in_words` makes the message, of their number and of that number in words (`3 more rows`).
    """
    more = found.rows_changed - len(found.listed)
    if more > 0:
        # `--list 0` lists no row, so that the count is all there is.
        which = counted(more, "more row" if found.listed else "row")
        yield Diagnostic(code="PE706", message=in_words(more, which), help="`--list N` lists them")


def rows_by_fate(found: DataDiff | TemplateDiff) -> list[dict[str, Any]]:
    """The fates as JSON data."""
    return [{"old": a, "new": b, "rows": count} for (a, b), count in sorted(found.fates.items())]


def _table(found: DataDiff, old: CheckedPolicy, new: CheckedPolicy) -> PlainTable:
    table = PlainTable()
    table.add_column("tokens", justify="right")
    for name in ("role", "part", "weight", "decided before by", "now by"):
        table.add_column(name)
    for s, count in found.by_count():
        table.add_row(
            Text(f"{count:,}"),
            Text(s.role or "(no message)"),
            Text(s.part),
            Text(f"{weight_in_words(s.old_weight)} → {weight_in_words(s.new_weight)}"),
            Text(one_line(rule_in_words(old, s.old_rule, s.old_reason))),
            Text(one_line(rule_in_words(new, s.new_rule, s.new_reason))),
        )
    return table


def _tokens(change: ChangedTokens) -> str:
    return (
        f"token {change.token_start}" if change.tokens == 1 else f"tokens {change.token_start}–{change.token_end - 1}"
    )


def _rule_json(policy: CheckedPolicy, rule: int | None) -> dict[str, Any] | None:
    if rule is None:
        return None
    span = policy.rules[rule].span
    return {"index": rule, "file": span.source.name, "line": span.line, "text": span.one_line}
