"""The closing account of `apply`, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from policy_engine.cli.accounts.control_notes import control_note
from policy_engine.cli.accounts.lost_notes import lost_note
from policy_engine.cli.outcome import more_alike
from policy_engine.core.diagnostics import Diagnostic
from policy_engine.core.source import Place
from policy_engine.core.wording import counted, rows_numbered, share
from policy_engine.mask.evidence.rule_findings import unused_rules
from policy_engine.mask.evidence.segment_kinds import NO_ROLE
from policy_engine.mask.masker import Masker
from policy_engine.report.plain_table import PlainTable
from policy_engine.report.rules import rule_table
from policy_engine.report.styles import BAD, DOUBT, GOOD
from policy_engine.rules.program import Program

if TYPE_CHECKING:
    from policy_engine.run.summary import Summary


def closing(summary: Summary, masker: Masker) -> tuple[RenderableType, ...]:
    """Rows, tokens by role and part and by rule, and what else is worth knowing."""
    tokens = (Text(""), _tokens(summary), Text(""), _by_rule(summary, masker.program)) if summary.tokens else ()
    return (_rows(summary), *tokens, *_notes(summary, masker))


def failures(summary: Summary) -> tuple[Diagnostic, ...]:
    """The rows that failed, as findings: the first of each kind, and a count of the others."""
    found: list[Diagnostic] = []
    # Kinds in the order in which they were met, each with its rows together.
    kinds = list(dict.fromkeys(failure.kind for failure in summary.failures))
    for kind in kinds:
        shown = [failure for failure in summary.failures if failure.kind == kind]
        for f in shown:
            place = Place.parse(f.place or f"row {f.row}")
            message = place.beside(f.reason)
            found.append(Diagnostic(code=f.code, message=message, help=f.help, place=place))
        # The summary keeps a few rows of each kind, and counts all.
        found += more_alike(kind[0], summary.failures_alike.get(kind, 0) - len(shown), len(shown))
    # Kinds of which no row was kept: the summary keeps the first failures only.
    rest = summary.rows_failed - sum(summary.failures_alike.get(kind, 0) for kind in kinds)
    if rest > 0:
        codes = ", ".join(f"{code}: {count}" for code, count in summary.failure_codes.items())
        message = f"{counted(rest, 'more row')} failed for other reasons ({codes} in all)"
        found.append(Diagnostic(code=summary.failures[-1].code, message=message))
    return tuple(found)


def no_rows(summary: Summary) -> tuple[Diagnostic, ...]:
    """The finding of a run that leaves nothing to train on."""
    if summary.rows_out:
        return ()
    from policy_engine.run.truncate import LONGER

    counts = (
        (summary.rows_failed, "failed"),
        (summary.rows_empty, "had nothing to train"),
        (summary.rows_cut_empty, "left with nothing to train by truncation"),
        (summary.rows_too_long, "too long"),
        (summary.rows_drifted, "with ids that do not spell their messages"),
    )
    why = ", ".join(f"{count:,} {what}" for count, what in counts if count)
    look = "`policy-engine show` prints what the policy trains of the first rows"
    cut = summary.rows_cut_empty + summary.rows_too_long
    help = look if not cut else LONGER if cut == summary.rows_in else f"{LONGER}; {look}"
    # Where everything fails the errors say why; a look at the rows would show the same errors.
    if summary.rows_failed == summary.rows_in:
        help = "the errors above say what to do; a dataset file (--dataset) says how rows are read"
    return (
        Diagnostic(
            code="PE517",
            message=f"none of {counted(summary.rows_in, 'row')} is left to write: {why}",
            help=help,
        ),
    )


def _rows(summary: Summary) -> PlainTable:
    table = PlainTable(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    counts = [
        ("rows read", summary.rows_in, "", ""),
        ("rows written", summary.rows_out, f"bold {GOOD}", ""),
        ("rows failed", summary.rows_failed, BAD, "failed"),
        ("rows empty (nothing to train, dropped)", summary.rows_empty, DOUBT, "empty"),
        ("rows left with nothing to train by truncation (dropped)", summary.rows_cut_empty, DOUBT, "cut_empty"),
        ("rows too long (dropped)", summary.rows_too_long, DOUBT, "too_long"),
        ("rows with ids that do not spell their messages (dropped)", summary.rows_drifted, DOUBT, "drift"),
        ("rows truncated", summary.rows_truncated, DOUBT, ""),
    ]
    always = 4  # what every run is asked; the rest only where it happened
    for index, (label, count, style, why) in enumerate(counts):
        if count or index < always:
            which = rows_numbered(summary.left_out.get(why, ()))
            table.add_row(Text(label), Text(f"{count:,}", style=style if count else "dim"), Text(which, style="dim"))
    if summary.rows_unrolled is not None:
        table.add_row("rows that became several samples", f"{summary.rows_unrolled:,}")
        table.add_row("samples of all rows written", f"{summary.samples:,}")
    if summary.samples_dropped:
        table.add_row("samples dropped (too long, or nothing left to train)", f"{summary.samples_dropped:,}")
    # Rows of the output differ from samples only where they were packed.
    if summary.sequences != summary.samples:
        table.add_row("packed sequences", f"{summary.sequences:,}")
    return table


def _tokens(summary: Summary) -> PlainTable:
    table = PlainTable(show_footer=True)
    trained, masked = summary.tokens_trained, summary.tokens_masked
    total = trained + masked
    table.add_column("role", "all")
    table.add_column("part")
    table.add_column("trained", f"{trained:,}", justify="right", footer_style="bold")
    table.add_column("masked", f"{masked:,}", justify="right", footer_style="bold")
    table.add_column("trained %", share(trained, total), justify="right", footer_style="bold")
    last = None
    for count in summary.tokens:
        role = "(no message)" if count.role == NO_ROLE else count.role
        both = count.trained + count.masked
        style = GOOD if count.trained else "dim"
        table.add_row(
            Text("" if role == last else role, style="bold"),
            Text(count.part),
            Text(f"{count.trained:,}", style=style),
            Text(f"{count.masked:,}"),
            Text(share(count.trained, both), style=style),
        )
        last = role
    return table


def _by_rule(summary: Summary, program: Program) -> PlainTable:
    counts: dict[int | None, int] = dict(summary.rules.items())
    # `None` is the line for tokens that no rule decided.
    counts[None] = summary.tokens_trained + summary.tokens_masked - sum(summary.rules.values())
    return rule_table(program.policy.rules, counts, notes=unused_rules(program, summary.evidence))


def _notes(summary: Summary, masker: Masker) -> list[Text]:
    notes = [f"{counted(summary.straddles, 'token')} mixed two decisions or two messages (straddles)"]
    if summary.answers_clipped:
        notes.append(
            f"every one of {counted(summary.answers_clipped, 'answer')} lost its first token: the tokenizer joins the "
            "text before the answer, which is not trained, with the answer's first word. `on straddle train` in the "
            "policy trains that token"
        )
    if any(rows_numbered(rows).endswith("…") for rows in summary.left_out.values()):
        notes.append("more rows were left out than are named above: `--format json` has all, in `left_out`")
    if summary.tokens_cut:
        notes.append(f"{counted(summary.tokens_cut, 'token')} cut off")
    if summary.answers_cut:
        notes.append(
            f"{counted(summary.answers_cut, 'answer')} cut before the end marker, so that nothing there teaches the "
            "model to stop: give a larger --max-length, or `--truncate turn` or `drop`"
        )
    notes += [
        # Templates that drop the thinking of earlier turns keep that of the last one; some write no thinking at all.
        lost_note(lost, unrolls=summary.rows_unrolled is None and masker.unrolling_writes(lost.field))
        for lost in summary.unrendered
    ]
    if summary.media:
        notes.append(", ".join(counted(count, kind) for kind, count in summary.media.items()))
    if summary.rows_with_placeholders:
        notes.append(
            f"{counted(summary.rows_with_placeholders, 'row')} with media, of which only placeholders are in the ids"
        )
    if summary.rows_with_control_tokens:
        notes.append(control_note(summary.rows_with_control_tokens, summary.control_tokens))
    if summary.rows_unrolled == 0 and summary.rows_out:
        notes.append(
            "no row became several samples: one sample of each has all that is trained, in the context that inference "
            "gives it"
        )
    if masker.program.is_weighted and summary.rows_out:
        notes.append(
            "the output has `loss_weights`: a plain Trainer or SFTTrainer drops the column and weighs trained tokens "
            "alike; use `weighted_trainer`, and see with `policy-engine doctor`"
        )
    # The line on straddles is always there, so that a zero is shown too.
    style = ["" if summary.straddles else "dim", *([DOUBT] * (len(notes) - 1))]
    return [Text(note, style=s) for note, s in zip(notes, style, strict=True)]
