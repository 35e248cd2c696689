"""What `audit` does: rows read, held against the policy, and put into tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from policy_engine.audit.audit import Audit, Auditor
from policy_engine.cli.outcome import Exit, Outcome, diagnostics_of
from policy_engine.cli.work.inputs import Inputs
from policy_engine.core.diagnostics import Diagnostic
from policy_engine.core.errors import DataError, PolicyEngineError
from policy_engine.core.wording import counted
from policy_engine.data.readers import read_rows
from policy_engine.report.table import PlainTable

_SHOWN = 5


def audit_rows(data: str, inputs: Inputs, *, limit: int | None) -> Outcome:
    """Audits the rows of `data`. The verdict fails on smells and on rows that break the policy."""
    auditor = Auditor(inputs.masker.tokenizer, inputs.masker.program)
    failures: list[Diagnostic] = []
    rows = read_rows(data)
    for number, row in rows:
        if limit is not None and number > limit:
            break
        try:
            if isinstance(row, PolicyEngineError):
                raise row
            if not isinstance(row, Mapping):
                raise DataError("the row is no object", help="every row has to be one")
            auditor.add(number, row)
        except PolicyEngineError as error:
            failures += diagnostics_of(error, place=rows.where(number))
    found = auditor.finish()
    if not found.rows:
        help = "audit takes a dataset that is already tokenized"
        if not failures:
            raise DataError(f"`{data}` has no rows", help=help)
        first = replace(failures[0], help=failures[0].help or help)
        return Outcome(exit=Exit.NO_ANSWER, diagnostics=(first,))
    fails = found.smells or found.breaches or failures
    unseen = found.undecided or found.recovered < found.rows
    exit = Exit.FAILS if fails else Exit.UNDECIDED if unseen else Exit.HOLDS
    return Outcome(exit=exit, diagnostics=tuple(failures[:_SHOWN]), data=_data(found, len(failures)), body=_body(found))


def _data(found: Audit, failed: int) -> dict[str, Any]:
    keys = sorted(set(found.trained) | set(found.masked))
    return {
        "rows": found.rows,
        "failed": failed,
        "recovered": found.recovered,
        "exact": found.exact,
        "columns": dict(found.columns),
        "tokens": [
            {"role": r, "part": p, "trained": found.trained[r, p], "masked": found.masked[r, p]} for r, p in keys
        ],
        "smells": [{"code": s.code, "message": s.message, "rows": s.rows, "of": s.of} for s in found.smells],
        "breaches": [
            {"row": b.row, "differing": b.differing, "tokens": [list(token) for token in b.tokens]}
            for b in found.breaches
        ],
        "undecided": found.undecided,
        "untold": [{"field": name, "rows": count} for name, count in found.untold.most_common()],
        "refused": found.refused,
        "markers": [{"text": text, "rows": count} for text, count in found.markers.most_common()],
        "presets": [{"policy": name, "share": share} for name, share in found.presets],
    }


def _body(found: Audit) -> tuple[RenderableType, ...]:
    were = "was" if found.recovered == 1 else "were"
    sure = f"{found.recovered:,} of {counted(found.rows, 'conversation')} {were} found again"
    how = f"{found.exact} from the data itself, {found.recovered - found.exact} from the ids, rendered anew and equal"
    parts: list[RenderableType] = [Text(f"{sure} ({how}); roles and parts below are theirs.")]
    table = PlainTable()
    for name in ("role", "part", "trained", "masked"):
        table.add_column(name, justify="left" if name in ("role", "part") else "right")
    for role, part in sorted(set(found.trained) | set(found.masked)):
        table.add_row(role, part, str(found.trained[role, part]), str(found.masked[role, part]))
    parts += [Text(""), table, Text("")]
    if found.smells:
        parts.append(Text("smells", style="bold"))
        parts += [Text(f"  {s.message} [{s.code}]: {s.rows:,} of {counted(s.of, 'row')}") for s in found.smells]
    else:
        parts.append(Text("no smells"))
    if found.breaches:
        breaks = "row breaks" if len(found.breaches) == 1 else "rows break"
        parts.append(Text(f"{len(found.breaches):,} {breaks} the policy", style="bold"))
        for breach in found.breaches[:_SHOWN]:
            tokens = ", ".join(f"{text!r} is {effect} (token {at})" for at, text, effect in breach.tokens)
            parts.append(Text(f"  row {breach.row}, {counted(breach.differing, 'token')}: {tokens}"))
    held = found.recovered - found.undecided
    if held and not found.breaches:
        said = "the 1 row" if held == 1 else f"every one of the {held:,} rows"
        parts.append(Text(f"{said} that could be held against the policy is what it says"))
    if found.undecided:
        parts.append(Text(f"undecided: {counted(found.undecided, 'row')}", style="bold yellow"))
        if found.untold:
            asked = ", ".join(f"`{name}`" for name, _ in found.untold.most_common())
            parts.append(Text(f"  the policy asks for {asked}, which ids do not tell"))
        if found.markers:
            markers = ", ".join(repr(text) for text, _ in found.markers.most_common(_SHOWN))
            parts.append(Text(f"  ids do not tell whether template or data wrote {markers}, which the policy does"))
        if found.untold or found.markers:
            parts.append(Text("  keep `messages` (and `tools`) beside the ids"))
        if found.refused:
            parts.append(Text(f"  the policy refuses {counted(found.refused, 'row')}: a guard, or `on … error`"))
    if lost := found.rows - found.recovered:
        parts.append(Text(f"not found again: {counted(lost, 'row')}", style="bold yellow"))
        why = "cut, made by another template, or not told from their ids alone; keep `messages` beside them"
        if not found.recovered:
            why = "is this the tokenizer and the template that made them?"
        parts.append(Text(f"  not held against the policy: {why}"))
    if found.presets:
        best = [f"{name} ({share:.0%})" for name, share in found.presets[:3] if share]
        parts.append(Text("explained best by: " + (", ".join(best) or "no shipped policy")))
    return tuple(parts)
