"""Rows masked and put into words: what `show` and `demo` print and write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from policy_engine.chat.segments import MediaTokens
from policy_engine.cli.accounts.control_notes import control_note
from policy_engine.cli.accounts.data_findings import data_findings
from policy_engine.cli.accounts.lost_notes import UNROLL
from policy_engine.cli.accounts.rules_json import rules_json
from policy_engine.cli.files import exists, write_text_file
from policy_engine.cli.outcome import Exit, Outcome, diagnostics_of, grouped
from policy_engine.cli.records import ShowOptions
from policy_engine.cli.work.inputs import MaskerInputs
from policy_engine.cli.work.masked_rows import masked_rows
from policy_engine.core.choices import ColorBy
from policy_engine.core.diagnostics import Diagnostic
from policy_engine.data.role_spelling import DoubtfulRole, DoubtfulRoles
from policy_engine.mask.evidence.rule_findings import rule_findings, unused_rules
from policy_engine.mask.evidence.rule_use import Evidence, RuleWatch
from policy_engine.mask.evidence.tokens_in_data import ControlTokenRows, ControlTokens
from policy_engine.mask.row import MaskedRow
from policy_engine.mask.unrendered import Lost, lost_json, lost_of
from policy_engine.report.runs import FailedRow, ShownRow, failed_row
from policy_engine.report.styles import DOUBT
from policy_engine.report.terminal import Legend, RowText
from policy_engine.report.view import RowView, row_view, run_view


def show_rows(
    data: str, inputs: MaskerInputs, which: ShowOptions, *, machine: bool = True, shown: Sequence[int] | None = None
) -> Outcome:
    """The first rows (a `limit` of None: all) or the named ones; failed rows are findings.

    `shown` has numbers of rows that the terminal shows although there is a page. Without `machine` the outcome's `data`
    has no rows, which have an object for each token.

    Raises DataError if the page exists or cannot be written, and what `masked_rows` raises.
    """
    html = which.html
    option = "--html" if shown is None else "-o"
    if html is not None and html.exists() and not which.overwrite:
        raise exists(html, option)
    said: list[str] = []
    rows: list[RowView] = []
    shown_html: list[ShownRow | FailedRow] = []
    failed: list[Diagnostic] = []
    roles = DoubtfulRoles()
    control = ControlTokens(inputs.masker.tokenizer)
    controlled: dict[int, list[str]] = {}
    program = inputs.masker.program
    watch, seen = RuleWatch(program, inputs.masker.tokenizer), Evidence()
    # A run view has stretches of tokens that were decided alike; it is enough for people, and much faster.
    view_of = row_view if machine or which.ids else run_view
    bos = 0
    for row in masked_rows(data, inputs, limit=which.limit, numbers=which.row or (), say=said.append, doubtful=roles):
        if isinstance(row.result, MaskedRow):
            done = row.result
            watch.look(done, seen, number=len(rows) + 1, place=row.number)
            rows.append(view_of(done.tokenized, done.mask, name=row.name))
            bos = max(bos, inputs.masker.tokenizer.times_bos(done.input_ids[:8]))
            if html is not None:
                # The page alone says why each piece is decided as it is.
                from policy_engine.mask.explain import explain_pieces

                shown_html.append(
                    ShownRow(
                        number=row.number,
                        side=row.side,
                        tokenized=done.tokenized,
                        mask=done.mask,
                        pieces=explain_pieces(done.program, done.chat),
                        pictures=_pictures(done, inputs),
                    )
                )
            controlled.setdefault(row.number, []).extend(control.found_in([row.result])[0])
        else:
            failed += diagnostics_of(row.result, place=row.place)
            shown_html.append(failed_row(row.number, row.result, row.place))
    in_data = ControlTokenRows()
    for number, found in controlled.items():
        in_data.add(number, found)
    if in_data.rows:
        said.append(control_note(in_data.rows, in_data.uses))
    body: list[RenderableType] = [Text(line, style="dim") for line in said[1:]]
    if rows and (html is None or shown is not None):
        names = None if shown is None else {f"row {number}" for number in shown}
        shown_rows = [r for r in rows if names is None or r.name.split(",")[0] in names]
        body += _terminal(shown_rows, inputs, which.color_by, unused_rules(program, seen), ids=which.ids)
    if html is not None:
        write_text_file(
            html, _page(shown_html, inputs, data, unused_rules(program, seen)), overwrite=which.overwrite, option=option
        )
        body.append(Text(f"wrote {html}"))
    tokens = {rule.index: sum(row.by_rule.get(rule.index, 0) for row in rows) for rule in program.policy.rules}
    return Outcome(
        exit=Exit.FAILS if failed else Exit.HOLDS,
        diagnostics=(
            *_data_findings(rows, inputs, bos, tuple(roles.values())),
            *rule_findings(program, seen, rows=len(rows)),
            *(failed if machine else grouped(failed)),
        ),
        data={
            "read_as": said[:1],
            "notes": said[1:],
            "rows_with_control_tokens": in_data.rows,
            "control_tokens": [asdict(use) for use in in_data.uses],
            "rules": rules_json(program, tokens, seen),
            "rows": [_row(row) for row in rows] if machine else [],
        },
        head=tuple(Text(line, style="dim") for line in said[:1]),
        body=tuple(body),
    )


def _pictures(row: MaskedRow, inputs: MaskerInputs) -> dict[MediaTokens, bytes]:
    """Small pictures of a row's images, for the page."""
    processor = inputs.masker.tokenizer.media
    if processor is None:
        return {}
    from policy_engine.chat.media.in_messages import media_of
    from policy_engine.chat.media.open_media import thumbnail

    sources = {(medium.turn, medium.item): medium for medium in media_of(row.chat.messages)}
    made = {}
    for medium in row.tokenized.media or ():
        own = sources[medium.turn, medium.item]
        picture = thumbnail(own.source, processor.options, own.place) if medium.kind == "image" else None
        if picture is not None:
            made[medium] = picture
    return made


def _data_findings(
    rows: Sequence[RowView], inputs: MaskerInputs, bos: int, doubtful: Sequence[DoubtfulRole]
) -> tuple[Diagnostic, ...]:
    tokenizer = inputs.masker.tokenizer
    lost: Lost = Lost()
    for row in rows:
        lost.update(lost_of(row.chat))
    return data_findings(
        [(role, piece, count) for (role, piece), count in lost.items()],
        doubtful=doubtful,
        quoted=sum(any(wrong.how == "quoted" for wrong in row.chat.miswritten) for row in rows),
        printed=Counter(name for row in rows for name in {w.name for w in row.chat.miswritten if w.how == "printed"}),
        bos=bos,
        tokenizer=tokenizer,
    )


def _terminal(
    rows: Sequence[RowView], inputs: MaskerInputs, color_by: ColorBy, notes: Mapping[int, str], *, ids: bool
) -> list[RenderableType]:
    texts = [part for row in rows for part in (RowText(row, color_by=color_by, ids=ids), Text(""))]
    lost = dict.fromkeys(piece.field for row in rows for piece in row.chat.unrendered if piece.turn is not None)
    unroll = [Text(UNROLL, style=DOUBT)] if any(map(inputs.masker.unrolling_writes, lost)) else []
    return [*texts, *unroll, Legend(rows, inputs.masker.program.policy.rules, color_by=color_by, notes=notes)]


def _page(rows: Sequence[ShownRow | FailedRow], inputs: MaskerInputs, data: str, notes: Mapping[int, str]) -> str:
    from policy_engine.report.html.page import html_page

    failed = sum(isinstance(row, FailedRow) for row in rows)
    facts = {"policy": inputs.policy, "tokenizer": inputs.tokenizer, "rows": str(len(rows) - failed)}
    facts |= {"rows that failed": str(failed)} if failed else {}
    title = f"{Path(inputs.policy).name} on {Path(data).name}"
    return html_page(rows, inputs.masker.program.policy, title=title, facts=facts, notes=notes)


def _row(row: RowView) -> dict[str, Any]:
    places = [(segment.turn, row.chat.role(segment), segment.part) for segment in row.chat.segments]
    return {
        "name": row.name,
        "text": row.chat.text,
        "tokens": row.total,
        "trained": row.trained,
        "by_reason": row.by_reason,
        "unrendered": lost_json(row.chat),
        "decisions": [
            {
                "index": token.index,
                "id": token.id,
                # Tokens that share characters (bytes of an emoji) are one cell; its text belongs to the first.
                "text": cell.text if token is cell.tokens[0] else "",
                "weight": token.weight,
                "reason": token.reason,
                "rule": token.rule,
                **dict(zip(("turn", "role", "part"), places[token.segment])),
            }
            for turn in row.turns
            for cell in turn.cells
            for token in cell.tokens
        ],
    }
