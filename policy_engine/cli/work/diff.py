"""Two policies on the same rows: which tokens change, where, and by which rules."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from rich.console import RenderableType
from rich.text import Text

from policy_engine.cli.outcome import diagnostics_of
from policy_engine.cli.work.rows import see_format
from policy_engine.core.diagnostics import Diagnostic
from policy_engine.core.errors import PolicyEngineError
from policy_engine.core.source import Place
from policy_engine.core.vocabulary import Reason
from policy_engine.core.wording import counted
from policy_engine.data.conversation import Conversation, read_row
from policy_engine.data.files.readers import read_rows
from policy_engine.lang.checked import CheckedPolicy
from policy_engine.mask.changes import ChangedTokens, changed_tokens
from policy_engine.mask.masker import LostFieldWarning, Masker
from policy_engine.mask.row import MaskedRow
from policy_engine.report.table import PlainTable
from policy_engine.report.visible import around, one_line

_BATCH = 64
_TOLD = 5
_CONTEXT = 24

Fate = Literal["masked", "empty", "failed"]
"""What becomes of a row: it is masked, it is dropped since nothing of it is trained, or it fails."""


@dataclass(frozen=True, kw_only=True)
class RowChange:
    """One row that changes. `stretches` are empty where only its fate does."""

    number: int
    place: Place
    old: Fate
    new: Fate
    changed: tuple[ChangedTokens, ...] = ()
    text: str = ""

    @property
    def tokens(self) -> int:
        """Number of its tokens that change."""
        return sum(change.tokens for change in self.changed)


@dataclass(kw_only=True)
class DataDiff:
    """Counts over all rows, and the first of those that change."""

    description: str = ""
    rows: int = 0
    tokens: int = 0
    rows_changed: int = 0
    tokens_more: int = 0
    tokens_less: int = 0
    tokens_other: int = 0
    fates: dict[tuple[Fate, Fate], int] = field(default_factory=dict)
    """Rows by what became of them under either policy."""
    places: dict[ChangedTokens, int] = field(default_factory=dict)
    """Tokens that change, by all that a change says apart from where it is."""
    listed: list[RowChange] = field(default_factory=list)
    failures: list[Diagnostic] = field(default_factory=list)

    @property
    def tokens_changed(self) -> int:
        """Number of tokens that get another weight."""
        return self.tokens_more + self.tokens_less + self.tokens_other

    @property
    def failed(self) -> int:
        """Rows that fail under both policies, so that nothing can be said of them."""
        return self.fates.get(("failed", "failed"), 0)


def diff_rows(data: str, old: Masker, new: Masker, *, limit: int | None, listed: int) -> DataDiff:
    """Masks every row by both policies.

    The two maskers share a tokenizer, so that a row is tokenized once. Raises ConfigError if the format is not known,
    and what reading raises.
    """
    source = read_rows(data)
    format, rows = see_format(source, limit, old.dataset)
    found = DataDiff(description=format.description)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LostFieldWarning)  # `apply` counts what never reached the text
        while batch := list(islice(rows, _BATCH)):
            read = [_read(row, format) for _, row in batch]
            for (number, _), before, after in zip(batch, *_both(read, old, new)):
                _add(found, number, source.where(number), before, after, (old, new), listed)
    return found


def _read(row: Any, format: Any) -> Conversation | PolicyEngineError:
    if isinstance(row, PolicyEngineError):
        return row
    try:
        return read_row(row, format)
    except PolicyEngineError as error:
        return error


_Masked = list["MaskedRow | PolicyEngineError"]


def _both(read: list[Conversation | PolicyEngineError], old: Masker, new: Masker) -> tuple[_Masked, _Masked]:
    masked = iter(old.mask_batch(c for c in read if isinstance(c, Conversation)))
    before: _Masked = [next(masked) if isinstance(c, Conversation) else c for c in read]
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


def _add(
    found: DataDiff,
    number: int,
    place: Place,
    old: MaskedRow | PolicyEngineError,
    new: MaskedRow | PolicyEngineError,
    maskers: tuple[Masker, Masker],
    listed: int,
) -> None:
    found.rows += 1
    fates = _fate(old, maskers[0]), _fate(new, maskers[1])
    found.fates[fates] = found.fates.get(fates, 0) + 1
    for error, name in ((old, "old"), (new, "new")):
        if isinstance(error, PolicyEngineError) and len(found.failures) < _TOLD and (name == "old" or old is not new):
            both = fates == ("failed", "failed")
            if not both or name == "old":
                only = "" if both else f" (under the {name} policy only)"
                found.failures += diagnostics_of(error.reworded(f"{error.message}{only}"), place=place)
    one = old if isinstance(old, MaskedRow) else new
    found.tokens += len(one.input_ids) if isinstance(one, MaskedRow) else 0
    change = RowChange(number=number, place=place, old=fates[0], new=fates[1])
    if isinstance(old, MaskedRow) and isinstance(new, MaskedRow):
        changed = changed_tokens(old, new)
        change = RowChange(number=number, place=place, old=fates[0], new=fates[1], changed=changed, text=old.chat.text)
        for tokens in changed:
            _count(found, tokens)
    if change.changed or fates[0] != fates[1]:
        found.rows_changed += 1
        if len(found.listed) < listed:
            found.listed.append(change)


def _fate(row: MaskedRow | PolicyEngineError, masker: Masker) -> Fate:
    if isinstance(row, PolicyEngineError):
        return "failed"
    return "empty" if row.is_empty and masker.program.setting("empty") == "drop" else "masked"


def _count(found: DataDiff, change: ChangedTokens) -> None:
    old, new = abs(change.old_weight), abs(change.new_weight)
    if new > old:
        found.tokens_more += change.tokens
    elif new < old:
        found.tokens_less += change.tokens
    else:
        found.tokens_other += change.tokens
    place = replace(change, token_start=0, token_end=0, start=0, end=0, turn=None)
    found.places[place] = found.places.get(place, 0) + change.tokens


def data_facts(data: str, found: DataDiff, old: CheckedPolicy, new: CheckedPolicy) -> dict[str, Any]:
    """The comparison on data as JSON data."""
    return {
        "file": data,
        "read_as": found.description,
        "rows": found.rows,
        "rows_changed": found.rows_changed,
        "rows_by_fate": [{"old": a, "new": b, "rows": count} for (a, b), count in sorted(found.fates.items())],
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
            for s, count in _by_count(found)
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


def data_lines(data: str, found: DataDiff, old: CheckedPolicy, new: CheckedPolicy) -> Iterator[RenderableType]:
    """The comparison on data for people."""
    yield Text("")
    yield Text(found.description, style="dim")
    if not found.rows_changed:
        looked = found.rows - found.failed
        yield Text(f"on {data}: none of {counted(looked, 'row')} changes", style="bold green")
    else:
        shares = [
            f"{count:,} {what}"
            for count, what in (
                (found.tokens_more, "trained more"),
                (found.tokens_less, "trained less"),
                (found.tokens_other, "otherwise"),
            )
            if count
        ]
        of = f"{found.rows_changed:,} of {counted(found.rows, 'row')} {_change(found.rows_changed)}"
        tokens = f"{found.tokens_changed:,} of {counted(found.tokens, 'token')} {_change(found.tokens_changed)}"
        yield Text(f"on {data}: {of}; {tokens}" + (f": {', '.join(shares)}" if shares else ""), style="bold")
    for (before, after), count in sorted(found.fates.items()):
        if before != after:
            yield Text(f"  {counted(count, 'row')}: {_FATES[before]} → {_FATES[after]}")
    if found.failed:
        yield Text(f"  {counted(found.failed, 'row')} cannot be masked by either policy", style="yellow")
    if found.places:
        yield _table(found, old, new)
    for row in found.listed:
        yield Text(f"{row.place}: {counted(row.tokens, 'token')}" if row.changed else f"{row.place}", style="bold")
        if row.old != row.new:
            yield Text(f"  {_FATES[row.old]} → {_FATES[row.new]}")
        for s in row.changed:
            where = s.part if s.turn is None else f"{s.part} of message {s.turn} ({s.role})"
            yield Text.assemble(
                f"  {_tokens(s)}, {where}: {_weight(s.old_weight)} → {_weight(s.new_weight)}  ",
                around(row.text, s.start, s.end, context=_CONTEXT, style="bold"),
            )
    more = found.rows_changed - len(found.listed)
    if more > 0 and found.listed:
        yield Text(f"and {counted(more, 'more row')}; --list N tells of more", style="dim")


_FATES = {"masked": "written", "empty": "dropped, nothing to train", "failed": "fails"}


def _table(found: DataDiff, old: CheckedPolicy, new: CheckedPolicy) -> PlainTable:
    table = PlainTable()
    table.add_column("tokens", justify="right")
    for name in ("role", "part", "weight", "decided before by", "now by"):
        table.add_column(name)
    for s, count in _by_count(found):
        table.add_row(
            Text(f"{count:,}"),
            Text(s.role or "(no message)"),
            Text(s.part),
            Text(f"{_weight(s.old_weight)} → {_weight(s.new_weight)}"),
            Text(_rule_text(old, s.old_rule, s.old_reason)),
            Text(_rule_text(new, s.new_rule, s.new_reason)),
        )
    return table


def _by_count(found: DataDiff) -> list[tuple[ChangedTokens, int]]:
    return sorted(found.places.items(), key=lambda item: (-item[1], str(item[0])))


def _tokens(change: ChangedTokens) -> str:
    return (
        f"token {change.token_start}" if change.tokens == 1 else f"tokens {change.token_start}–{change.token_end - 1}"
    )


def _weight(weight: float) -> str:
    return "masked" if weight == 0 else "trained" if weight == 1 else f"weight {weight:g}"


def _rule_text(policy: CheckedPolicy, rule: int | None, reason: Reason) -> str:
    if rule is None:
        return "(no rule)" if reason == "default" else f"({reason})"
    span = policy.rules[rule].span
    return f"{Path(span.source.name).name}:{span.line} {one_line(span.one_line, 60)}"


def _rule_json(policy: CheckedPolicy, rule: int | None) -> dict[str, Any] | None:
    if rule is None:
        return None
    span = policy.rules[rule].span
    return {"index": rule, "file": span.source.name, "line": span.line, "text": span.one_line}


def _change(count: int) -> str:
    return "changes" if count == 1 else "change"
