"""Rows masked and put into words: what `show` and `demo` print and write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from policy_engine.cli.files import write_text_file
from policy_engine.cli.outcome import Exit, Outcome, diagnostics_of
from policy_engine.cli.rows import Inputs, masked_rows
from policy_engine.core.diagnostics import Diagnostic
from policy_engine.mask.row import MaskedRow
from policy_engine.report.html import html_page
from policy_engine.report.terminal import ColorBy, Legend, RowText
from policy_engine.report.view import RowView, RuleView, row_view, rule_views


def show_rows(
    data: str,
    inputs: Inputs,
    *,
    limit: int,
    numbers: Sequence[int] = (),
    color_by: ColorBy = "effect",
    html: Path | None = None,
    overwrite: bool = False,
    page_limit: int | None = None,
) -> Outcome:
    """The rows as a page if `html` names one, else for the terminal. Rows that fail are findings.

    `page_limit` gives the page more rows than the terminal, which then gets its own.
    """
    said: list[str] = []
    rows: list[RowView] = []
    failed: list[Diagnostic] = []
    found = masked_rows(data, inputs, limit=page_limit or limit, numbers=numbers, say=said.append)
    for row in found:
        if isinstance(row.result, MaskedRow):
            rows.append(row_view(row.result.tokenized, row.result.mask, name=f"row {row.number}"))
        else:
            failed += diagnostics_of(row.result, where=f"row {row.number}: ")
    policy = inputs.masker.program.policy
    rules = rule_views(policy)
    body: list[RenderableType] = [Text(line, style="dim") for line in said]
    if html is None or page_limit is not None:
        shown = rows[:limit]
        for view in shown:
            body += [RowText(view, rules, color_by=color_by), Text("")]
        body.append(Legend(rows, rules, color_by=color_by))
    if html is not None:
        facts = {"policy": inputs.policy, "tokenizer": inputs.tokenizer, "rows": str(len(rows))}
        if failed:
            facts["rows that failed"] = str(len(failed))
        title = f"{Path(inputs.policy).name} on {Path(data).name}"
        write_text_file(html, html_page(rows, policy, title=title, facts=facts), overwrite=overwrite)
        body.append(Text(f"wrote {html}"))
    return Outcome(
        exit=Exit.FAILS if failed else Exit.HOLDS,
        diagnostics=tuple(failed),
        data={"read_as": said, "rules": [_rule(r) for r in rules], "rows": [_row(row) for row in rows]},
        body=tuple(body),
    )


def _rule(rule: RuleView) -> dict[str, Any]:
    return {"index": rule.index, "effect": rule.effect, "file": rule.source, "line": rule.line, "text": rule.text}


def _row(row: RowView) -> dict[str, Any]:
    segments = row.chat.segments
    return {
        "name": row.name,
        "text": row.chat.text,
        "tokens": row.total,
        "trained": row.trained,
        "by_reason": row.by_reason,
        "unrendered": [{"turn": u.turn, "field": u.field} for u in row.chat.unrendered],
        "decisions": [
            {
                "index": token.index,
                "id": token.id,
                "text": cell.text if token is cell.tokens[0] else "",
                "weight": token.weight,
                "reason": token.reason,
                "rule": token.rule,
                "turn": segments[token.segment].turn,
                "role": row.chat.role(segments[token.segment]),
                "part": segments[token.segment].part,
            }
            for turn in row.turns
            for cell in turn.cells
            for token in cell.tokens
        ],
    }
