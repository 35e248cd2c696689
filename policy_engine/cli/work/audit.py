"""`audit`: prepared rows examined, compared with a policy if one is given."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, Final

from rich.console import RenderableType
from rich.text import Text

from policy_engine.audit.audit import Audit, Auditor
from policy_engine.audit.parted_rows import has_ids
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.cli.accounts.audit_findings import BREACHES, audit_findings, smell_text, tokens_of, why_not_found
from policy_engine.cli.accounts.control_notes import control_note
from policy_engine.cli.accounts.rules_json import rules_json
from policy_engine.cli.options import Named
from policy_engine.cli.outcome import Exit, Outcome, diagnostics_of, grouped
from policy_engine.core.diagnostics import Diagnostic
from policy_engine.core.errors import DataError, PolicyEngineError, RowError
from policy_engine.core.wording import counted, percent
from policy_engine.data.files.readers import read_rows
from policy_engine.data.prepared import is_per_token
from policy_engine.data.shapes.row_shape import shape_of
from policy_engine.lang.library import read_shipped
from policy_engine.mask.evidence.rule_findings import rule_findings, unused_rules
from policy_engine.mask.evidence.written_calls import written_calls
from policy_engine.report.plain_table import PlainTable
from policy_engine.report.rules import rule_table
from policy_engine.report.styles import DOUBT, GOOD
from policy_engine.rules.program import Program

_HELP: Final = "audit takes a dataset that is already tokenized; for chats: `init` or `show`"
_NO_CHATS: Final = (
    "audit takes a dataset that is already tokenized: have your trainer tokenize these rows, and give what it makes, "
    "with `input_ids`, and `labels` or a mask"
)
# The comment of a shipped policy has paragraphs with a head: `# Behaves like: …`, up to the next head or the policy.
_LIKE: Final = re.compile(r"(?ms)^# Behaves like: (.*?)(?=^# [A-Z][a-z]+:|^#$|^[^#]|\Z)")


def _what_is_there(row: Mapping[str, Any]) -> str:
    """The help for a row without `input_ids`: other columns may hold them.

    >>> _what_is_there({"tokens": [1, 2], "targets": [-100, 2]})
    'call the column of ids `input_ids`, and that of labels `labels`: `tokens`, `targets` hold numbers'
    """
    names = [name for name, value in row.items() if isinstance(value, list) and is_per_token(value, len(value))]
    listed = ", ".join(f"`{name}`" for name in names)
    holds = "hold" if len(names) > 1 else "holds"
    if names:
        return f"call the column of ids `input_ids`, and that of labels `labels`: {listed} {holds} numbers"
    # `init` and `show` refuse rows that are no chats.
    return _NO_CHATS if shape_of(row) is None else _HELP


def audit_rows(
    data: str, tokenizer: ChatTokenizer, program: Program | None, *, limit: int | None, named: Named = Named()
) -> Outcome:
    """Audits the rows of `data`.

    `named` is for the commands to run next. The verdict fails on smells, but for those that the policy asks for, and on
    rows that break the policy, if there is one.

    Raises DataError if there are no rows, and what reading raises.
    """
    auditor = Auditor(tokenizer, program)
    failures: list[Diagnostic] = []
    rows = read_rows(data)
    for number, row in rows:
        if limit is not None and number > limit:
            break
        try:
            if isinstance(row, PolicyEngineError):
                raise row
            if not isinstance(row, Mapping):
                raise DataError("the row is not an object", help="every row has to be an object with `input_ids`")
            if not has_ids(row):
                raise RowError(f"row {number} has no `input_ids`, and no `completion_ids`", help=_what_is_there(row))
            auditor.add(number, row)
        except PolicyEngineError as error:
            failures += diagnostics_of(error, place=rows.where(number))
        # Not a row more: a pipe may give it late.
        if number == limit:
            break
    found = auditor.finish()
    # Nothing could be audited, so there is no verdict; the first failure says why.
    if not found.rows:
        if not failures:
            raise DataError(f"`{data}` has no rows", help=_HELP)
        return Outcome(exit=Exit.NO_ANSWER, diagnostics=(failures[0],))
    fails = any(not smell.asked for smell in found.smells) or found.breaches or failures
    # Rows that were not found again may hide anything: then the answer is not yes.
    unseen = found.undecided or found.recovered < found.rows
    about_rules = (
        tuple(finding for _, finding in written_calls(None, found.evidence))
        if program is None
        else rule_findings(program, found.evidence, rows=found.compared)
    )
    return Outcome(
        exit=Exit.FAILS if fails else Exit.UNDECIDED if unseen else Exit.HOLDS,
        diagnostics=(*about_rules, *grouped(failures)),
        findings=audit_findings(data, found, rows.where),
        data=_data(found, program, len(failures)),
        body=tuple(_body(data, found, program, named)),
    )


def _data(found: Audit, program: Program | None, failed: int) -> dict[str, Any]:
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
        "smells": [asdict(smell) for smell in found.smells],
        "breaches": [asdict(breach) for breach in found.breaches],
        "compared": found.compared,
        "rules": None if program is None else rules_json(program, found.rules, found.evidence),
        "rows_with_control_tokens": found.control.rows,
        "control_tokens": [asdict(use) for use in found.control.uses],
        "undecided": found.undecided,
        "untold": [{"field": name, "rows": count} for name, count in found.untold.most_common()],
        "refused": found.refused,
        "markers": [{"text": text, "rows": count} for text, count in found.markers.most_common()],
        "presets": [
            {"policy": name, "share": share, "behaves_like": behaves_like(name)} for name, share in found.presets
        ],
        "perhaps": found.perhaps,
    }


def behaves_like(name: str) -> str | None:
    """The systems and settings that a shipped policy equals, as its comment says.

    >>> behaves_like("tinker_last_turn")
    'tinker-cookbook 0.6.1.'
    """
    match = _LIKE.search(read_shipped(name).text)
    return None if match is None else " ".join(match[1].replace("\n#", "\n").split())


def _body(data: str, found: Audit, program: Program | None, named: Named) -> Iterator[RenderableType]:
    yield from _found_again(found)
    yield Text("")
    yield _tokens(found)
    yield Text("")
    yield from _explained(found)
    yield from _smells(found)
    if found.control.rows:
        yield Text(control_note(found.control.rows, found.control.uses))
    if program is not None:
        yield from _compared(found, program)
    if lost := found.rows - found.recovered:
        yield Text(f"not found again: {counted(lost, 'row')}", style=f"bold {DOUBT}")
        yield Text(f"  roles and parts of these are not known: {why_not_found(found)}")
    if program is None:
        yield Text("")
        # The command can be pasted: where a shipped policy explains every row, it is the one to compare with. One that
        # explains some rows only is named above, with its share, and not here. A policy that explains labels with a
        # fault asks for the fault, which would then pass: `default` names its tokens, row by row.
        best = next((name for name, share in found.presets if share == 1), next(iter(found.perhaps), "POLICY"))
        best = "default" if found.smells else best
        chats = _options({"-t": named.tokenizer or "TOKENIZER", "--template": named.template})
        dataset = _options({"--dataset": named.dataset})
        yield Text(
            f"next: policy-engine audit {data} -p {best}{chats}{dataset} compares every row with a policy", "dim"
        )
        yield Text(f"      policy-engine init CHATS{chats} writes a policy to prepare the data with", "dim")


def _options(given: Mapping[str, Any]) -> str:
    """Options as a command line has them, each behind a blank."""
    return "".join(f" {option} {shlex.quote(str(value))}" for option, value in given.items() if value is not None)


def _found_again(found: Audit) -> Iterator[Text]:
    were = "was" if found.recovered == 1 else "were"
    columns = ", ".join(f"`{name}`" for name in sorted(found.columns))
    yield Text(f"{counted(found.rows, 'conversation')}; {columns} says what is trained")
    yield Text(
        f"{found.recovered:,} of {counted(found.rows, 'conversation')} {were} found again ({found.exact:,} from the "
        f"data itself, {found.recovered - found.exact:,} from the ids, rendered again and equal); roles and parts "
        "below are theirs."
    )


def _tokens(found: Audit) -> PlainTable:
    table = PlainTable()
    for name in ("role", "part", "trained", "masked"):
        table.add_column(name, justify="left" if name in ("role", "part") else "right")
    for role, part in sorted(set(found.trained) | set(found.masked)):
        trained = found.trained[role, part]
        style = GOOD if trained else "dim"
        table.add_row(role, part, Text(f"{trained:,}", style=style), f"{found.masked[role, part]:,}")
    return table


def _explained(found: Audit) -> Iterator[Text]:
    """The shipped policies that give the same labels, and the systems that these policies equal."""
    if not found.presets and not found.perhaps:
        return
    # Rows that were not found again may have been labelled in any way.
    every = "in every row" if found.recovered == found.rows else "in every row that was found again"
    whole = [name for name, share in found.presets if share == 1]
    if not whole and found.perhaps:
        some = ", ".join(found.perhaps[:4]) + (" …" if len(found.perhaps) > 4 else "")
        yield Text(f"explained by: {some}, {every}, if blanks before calls are the template's", "bold")
        return
    if not whole:
        best = [f"{name} ({percent(equal)})" for name, equal in found.presets[:3] if equal]
        yield Text(
            f"explained best by: {', '.join(best)} of the rows" if best else "explained by: no shipped policy", "bold"
        )
        return
    yield Text(f"explained by: {', '.join(whole[:4])}{' …' if len(whole) > 4 else ''}, {every}", "bold")
    for name in whole[:4]:
        if like := behaves_like(name):
            yield Text(f"  {name}: {like}")


def _smells(found: Audit) -> Iterator[Text]:
    if not found.smells:
        yield Text("no smells")
        return
    yield Text("smells", style="bold")
    for smell in found.smells:
        yield Text(f"  {smell_text(smell)}")
        if not smell.asked:
            yield Text(f"    what to do: {smell.help}")


def _compared(found: Audit, program: Program) -> Iterator[RenderableType]:
    if found.breaches:
        breaks = "row breaks" if len(found.breaches) == 1 else "rows break"
        yield Text(f"{len(found.breaches):,} {breaks} the policy", style="bold")
        for breach in found.breaches[:BREACHES]:
            yield Text(f"  row {breach.row}, {counted(breach.differing, 'token')}: {tokens_of(breach)}")
    if found.compared and not found.breaches:
        which = "the 1 row" if found.compared == 1 else f"every one of the {found.compared:,} rows"
        yield Text(f"{which} that could be compared with the policy is what it says")
    if found.undecided:
        yield Text(f"undecided: {counted(found.undecided, 'row')}", style=f"bold {DOUBT}")
        if found.untold:
            asked = ", ".join(f"`{name}`" for name, _ in found.untold.most_common())
            yield Text(f"  the policy asks for {asked}, which ids do not say")
        if found.markers:
            markers = ", ".join(repr(text) for text, _ in found.markers.most_common(BREACHES))
            yield Text(f"  ids do not say whether template or data wrote {markers}, which the policy asks")
        if found.untold or found.markers:
            yield Text("  keep `messages` (and `tools`) beside the ids")
        if found.refused:
            yield Text(f"  the policy refuses {counted(found.refused, 'row')}: a guard, or `on … error`")
    if found.compared:
        yield Text("")
        counts: dict[int | None, int] = {rule if rule >= 0 else None: n for rule, n in found.rules.items()}
        yield rule_table(program.policy.rules, counts, notes=unused_rules(program, found.evidence))
