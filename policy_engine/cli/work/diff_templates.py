"""The same rows with two templates or tokenizers: of which rows other text is trained."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from rich.console import RenderableType
from rich.text import Text

from policy_engine.cli.work.diff import (
    BATCH,
    conversations_of,
    counts_lines,
    masked,
    rows_by_fate,
    unlisted_finding,
    unlisted_lines,
)
from policy_engine.cli.work.masked_rows import see_format
from policy_engine.core.diagnostics import Diagnostic
from policy_engine.data.files.readers import read_rows
from policy_engine.mask.compare.fates import FATES
from policy_engine.mask.compare.two_policies import weight_in_words
from policy_engine.mask.compare.two_templates import ChangeKind, TemplateDiff, TextChange, Trained
from policy_engine.mask.masker import Masker
from policy_engine.mask.warner import DataWarning
from policy_engine.report.plain_table import PlainTable
from policy_engine.report.visible import one_line

_KINDS: Final[dict[ChangeKind, str]] = {
    "old only": "trained on the old side only",
    "new only": "trained on the new side only",
    "text": "other text is trained",
    "weight": "another weight",
}
_CHANGES: Final = 3
_SHOWN: Final = 60
"""Characters of a trained text that are shown."""


def diff_templates(data: str, old: Masker, new: Masker, *, limit: int | None, listed: int) -> TemplateDiff:
    """Masks every row on both sides, each with its policy, tokenizer and template.

    Raises ConfigError if the format is not known, and what reading raises.
    """
    source = read_rows(data)
    format, rows = see_format(source, limit, old.dataset)
    found = TemplateDiff(old=old.program, new=new.program, most=listed, description=format.description)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # `apply` counts what never reached the text
        while batch := list(islice(rows, BATCH)):
            sides = [(number, told) for number, row in batch for told in conversations_of(row, format)]
            read = [told for _, told in sides]
            for (number, _), before, after in zip(sides, masked(read, old), masked(read, new)):
                found.add(number, source.where(number), before, after)
    return found


def template_facts(data: str, found: TemplateDiff) -> dict[str, Any]:
    """The comparison as JSON data."""
    return {
        "file": data,
        "read_as": found.description,
        "rows": found.rows,
        "rows_changed": found.rows_changed,
        "rows_with_other_text": found.texts_differ,
        "rows_by_fate": rows_by_fate(found),
        "by_place": [
            {"role": role or None, "part": part, "change": kind, "parts": count}
            for (role, part, kind), count in found.by_count()
        ],
        "changed_rows": [
            {
                "row": row.number,
                "place": str(row.place),
                "old": row.old,
                "new": row.new,
                "changes": [
                    {
                        "turn": change.turn,
                        "role": change.role,
                        "part": change.part,
                        "change": change.kind,
                        "old": [{"text": text, "weight": weight} for text, weight in change.old],
                        "new": [{"text": text, "weight": weight} for text, weight in change.new],
                    }
                    for change in row.changed
                ],
            }
            for row in found.listed
        ],
    }


def template_findings(found: TemplateDiff) -> Iterator[Diagnostic]:
    """The listed rows that change, as findings at their places, and a count of the others."""
    for row in found.listed:
        fate = [] if row.old == row.new else [f"{FATES[row.old]} → {FATES[row.new]}"]
        message = "; ".join([*fate, *(f"{_where(c)}: {_before_and_after(c)}" for c in row.changed[:_CHANGES])])
        yield Diagnostic(code="PE706", message=message, help="`policy-engine diff` prints them", place=row.place)
    yield from unlisted_finding(found, lambda _, rows: f"other text is trained of {rows}")


def template_lines(data: str, found: TemplateDiff) -> Iterator[RenderableType]:
    """The comparison for people."""
    yield from counts_lines(data, found, both="on either side")
    if found.places:
        yield _table(found)
    for row in found.listed:
        yield Text(f"{row.place}", style="bold")
        if row.old != row.new:
            yield Text(f"  {FATES[row.old]} → {FATES[row.new]}")
        for change in row.changed:
            yield Text(f"  {_where(change)}: {_KINDS[change.kind]}")
            yield Text(f"    old  {_in_marks(change.old)}")
            yield Text(f"    new  {_in_marks(change.new)}")
    yield from unlisted_lines(found)


def _table(found: TemplateDiff) -> PlainTable:
    table = PlainTable()
    table.add_column("parts", justify="right")
    for name in ("role", "part", "change"):
        table.add_column(name)
    for (role, part, kind), count in found.by_count():
        table.add_row(Text(f"{count:,}"), Text(role or "(no message)"), Text(part), Text(_KINDS[kind]))
    return table


def _where(change: TextChange) -> str:
    return change.part if change.turn is None else f"{change.part} of message {change.turn} ({change.role})"


def _before_and_after(change: TextChange) -> str:
    return f"{_in_marks(change.old)} → {_in_marks(change.new)}"


def _in_marks(trained: Trained) -> str:
    """Trained text on one line, with its weights; a long text without its middle.

    >>> _in_marks((("Four.\\n", 1.0), ("Yes.", 0.5))), _in_marks(())
    ('⟦Four.↵⟧ … ⟦Yes.⟧ (weight 0.5)', 'nothing')
    """
    made = []
    for text, weight in trained:
        cut = text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]} … {text[-_SHOWN // 2 :]}"
        made.append(f"⟦{one_line(cut)}⟧" + ("" if weight == 1 else f" ({weight_in_words(weight)})"))
    return " … ".join(made) or "nothing"
