"""Parts of the live page as HTML: findings, guards, rules, overview and rows.

What comes from data and policies goes through `report.html.escape.escaped`.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import groupby
from pathlib import PurePath

from policy_engine.core.diagnostics import Diagnostic, format_diagnostic
from policy_engine.core.wording import counted, share
from policy_engine.mask.explain import explain_pieces
from policy_engine.mask.row import MaskedRow
from policy_engine.play.choice import AT_ONCE, Choice, chosen, to_show
from policy_engine.play.editions import Draft, Edition
from policy_engine.proof.proof_diagnostics import report_diagnostics
from policy_engine.proof.results import GuardFinding, ProofReport, Witness
from policy_engine.report.html.escape import escaped, with_breaks
from policy_engine.report.html.overview import overview
from policy_engine.report.html.page import html_page
from policy_engine.report.html.policy_text import rule_section
from policy_engine.report.html.row_articles import Kinds, row_article
from policy_engine.report.row_facts import Flag
from policy_engine.report.runs import FailedRow, ShownRow
from policy_engine.report.visible import one_line

_QUOTED = re.compile(r" +\d* \| ")
"""The start of a line of a policy, and of the line of its carets, as `format_diagnostic` quotes them."""
_ODD: dict[Flag, str] = {
    "failed": "failed",
    "empty": "train nothing",
    "straddle": "straddle",
    "drift": "drift",
    "lost": "lost fields",
}
_GUARDS = frozenset({"PE303", "PE304"})
"""Findings about guards that the pane of guards shows, with their witness."""


def findings_pane(draft: Draft, *, proven: bool = False) -> str:
    """The findings about a text, each with its line and a caret.

    With `proven`, findings of the proof and of the rows are there too: those take longer to find out.
    """
    found = list(draft.findings)
    edition = draft.edition
    if proven and not draft.is_kept:
        report = edition.proof
        more = report_diagnostics(report)
        found += [finding for finding in (*more, *edition.row_findings) if finding.code not in _GUARDS]
    kept = ""
    if draft.is_kept:
        told = "keep the colours of the last text that was one" if edition.text else "have no colours until it is one"
        kept = f"<p class='kept'>This text is no policy. The rows {told}.</p>"
    if proven and not draft.is_kept and edition.proof.fails:
        kept = "<p class='kept'>A guard does not hold: see Guards.</p>"
    elif not found:
        return "<div class='pe findings'><p class='fine'>Nothing to report.</p></div>"
    return f"<div class='pe findings'>{kept}{''.join(map(_finding, found))}</div>"


def _finding(finding: Diagnostic) -> str:
    # An error of a policy that is used quotes that policy; all of it is text of policies. Sentences are wrapped, and
    # quoted lines are not, since a caret points at what is above it.
    parts = ""
    for is_quoted, lines in groupby(
        format_diagnostic(finding).splitlines(), key=lambda line: bool(_QUOTED.match(line))
    ):
        tag = "pre" if is_quoted else "p"
        text = "\n".join(lines)
        parts += f"<{tag}>{escaped(text)}</{tag}>"
    return f"<div class='finding {finding.severity}'>{parts}</div>"


def guards_pane(report: ProofReport) -> str:
    """Each guard with its verdict, and a conversation that breaks it where there is one."""
    if not report.guards:
        told = "No guards. <code>never train user</code> is one: it is proven for all conversations."
        return f"<div class='pe guards'><p>{told}</p></div>"
    undecided = f"<p>{escaped(report.undecided)}</p>" if report.undecided else ""
    return f"<div class='pe guards'>{undecided}{''.join(map(_guard, report.guards))}</div>"


def _guard(found: GuardFinding) -> str:
    places = "".join(f"<li>{escaped(place)}</li>" for place in found.places)
    witness = "" if found.witness is None else witness_block(found.witness)
    return (
        f"<section class='guard {found.verdict}'><p><b>{found.verdict}</b> "
        f"<code>{escaped(found.guard.span.one_line)}</code></p>"
        f"{f'<ul>{places}</ul>' if places else ''}{witness}</section>"
    )


def witness_block(witness: Witness) -> str:
    """A conversation as text with the place to look at marked, and as JSON."""
    text, place = witness.chat.text, witness.place
    marked = (
        f"{with_breaks(text[: place.start])}<mark>{with_breaks(text[place.start : place.end])}</mark>"
        f"{with_breaks(text[place.end :])}"
    )
    messages = json.dumps([dict(m) for m in witness.conversation.messages], ensure_ascii=False, indent=1)
    sample = witness.conversation.sample
    row = f"\nsample {json.dumps(dict(sample), ensure_ascii=False)}" if sample else ""
    return (
        f"<p>a conversation that shows it:</p><pre class='witness'>{marked}</pre>"
        f"<details><summary>as JSON</summary><pre>{escaped(messages + row)}</pre></details>"
    )


def rules_pane(edition: Edition, *, proven: bool = False) -> str:
    """The rules with the tokens they decided over all rows.

    With `proven`, rules that decide nothing say why.
    """
    notes = edition.unused if proven else None
    return f"<div class='pe'>{rule_section(edition.program.policy.rules, edition.totals, notes=notes)}</div>"


def overview_pane(edition: Edition) -> str:
    """The histogram of trained share and the tokens by role and part, over all rows."""
    return f"<div class='pe'>{overview(list(edition.facts))}</div>"


def rows_pane(edition: Edition, choice: Choice) -> str:
    """The tokens of the chosen rows, coloured; one row alone is explained too."""
    indices = to_show(edition, choice)
    kinds = Kinds(edition.program.policy.rules)
    # Explaining takes many times as long as showing, so many rows at once are not explained.
    show = _explained if len(indices) == 1 or choice.row is not None else Edition.shown
    articles = "".join(
        row_article(
            show(edition, index),
            kinds,
            facts=edition.facts[index],
            cells=edition.board.cells(index),
            prefix="play-row",
        )
        for index in indices
    )
    if not indices:
        articles = "<p>No row is like that.</p>"
    return f"<div class='pe rows'>{kinds.block()}{kinds.keys()}{articles}{_more(edition, choice, len(indices))}</div>"


def _explained(edition: Edition, index: int) -> ShownRow | FailedRow:
    row, result = edition.shown(index), edition.results[index]
    if isinstance(row, FailedRow) or not isinstance(result, MaskedRow):  # a broken guard is explained already
        return row
    return replace(row, pieces=explain_pieces(edition.program, result.chat))


def _more(edition: Edition, choice: Choice, shown: int) -> str:
    # Fewer than a page's worth: there are no more, so they need not be counted.
    if choice.row is not None or shown < AT_ONCE:
        return ""
    more = len(chosen(edition, choice)) - shown
    return f"<p>and {counted(more, 'more row')}: filter, or pick one</p>" if more > 0 else ""


def page_of(edition: Edition, choice: Choice) -> str:
    """The chosen rows as a page in one file, as `show --html` writes it."""
    board = edition.board
    # Names without folders: the page is a file that is passed on.
    name, data = PurePath(board.policy_name).name, PurePath(board.data).name
    return html_page(
        [_explained(edition, index) for index in to_show(edition, choice)],
        edition.program.policy,
        title=f"{name} on {data}",
        facts={"tokenizer": board.tokenizer.name},
        notes=edition.unused,
    )


def status(edition: Edition) -> str:
    """One line on the rows: how they are read, and how much of them is trained."""
    board, totals = edition.board, edition.totals
    facts = [
        f"{counted(totals.rows, 'row')}{' (the first)' if board.more else ''}",
        f"{totals.trained:,} of {counted(totals.tokens, 'token')} trained ({share(totals.trained, totals.tokens)})",
    ]
    facts += [f"{totals.flags[flag]:,} {name}" for flag, name in _ODD.items() if totals.flags[flag]]
    told = " · ".join(facts)
    where = f"{one_line(PurePath(board.data).name, 100)} · {one_line(board.tokenizer.name, 100)}"
    how = f"<span title='{escaped(board.description)}'>{escaped(where)}</span>"
    return f"<div class='pe status'><b>{escaped(told)}</b>{how}</div>"
