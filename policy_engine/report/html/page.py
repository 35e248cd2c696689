"""The HTML view: one self-contained page in which each token says what decided it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from policy_engine.core.wording import counted, share
from policy_engine.lang.checked import CheckedPolicy
from policy_engine.report.html.escape import asset, escaped
from policy_engine.report.html.overview import overview
from policy_engine.report.html.policy_text import policy_section, rule_section, sources_of
from policy_engine.report.html.row_articles import Kinds, row_article
from policy_engine.report.row_facts import Flag, RowFacts, Totals, row_facts
from policy_engine.report.runs import FailedRow, ShownRow

_FLAGS: Mapping[Flag, str] = {
    "failed": "failed",
    "empty": "nothing trained",
    "straddle": "straddling tokens",
    "drift": "ids that drift",
    "lost": "lost fields",
}


def html_page(
    rows: Sequence[ShownRow | FailedRow],
    policy: CheckedPolicy,
    *,
    title: str,
    facts: Mapping[str, str] | None = None,
    notes: Mapping[int, str] | None = None,
) -> str:
    """The whole page: policy and legend beside the rows, an overview above them.

    `facts` (tokenizer, dataset, …) are listed under the title; `notes` says of rules why they decided nothing. A link
    `#row3` leads to row 3.
    """
    rules = policy.rules
    numbers = [row_facts(row) for row in rows]
    totals = Totals.of(numbers)
    kinds = Kinds(rules)
    articles = [row_article(row, kinds, facts=number) for row, number in zip(rows, numbers)]
    head = {
        "tokens": f"{totals.tokens:,}",
        "trained": f"{totals.trained:,} ({share(totals.trained, totals.tokens)})",
        **(facts or {}),
    }
    return "".join(
        [
            "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>",
            "<meta name='viewport' content='width=device-width, initial-scale=1'>",
            # The page loads nothing from anywhere: data in it cannot fetch, and the file can be passed on.
            "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; img-src data:; ",
            "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">",
            f"<title>{escaped(title)}</title><style>{asset('page.css')}{asset('tokens.css')}</style></head>\n<body>",
            f"<header><h1>{escaped(title)}</h1><dl>",
            "".join(f"<div><dt>{escaped(key)}</dt><dd>{escaped(value)}</dd></div>" for key, value in head.items()),
            "</dl>",
            _controls(),
            "</header>\n<div class='columns'><aside class='pe'>",
            "".join(policy_section(source, rules) for source in sources_of(policy)),
            rule_section(rules, totals, keys=kinds.keys(), notes=notes),
            "</aside>\n<main class='pe'>",
            overview(numbers) if len(rows) > 1 else "",
            _failed(rows),
            _finder(numbers, totals) if len(rows) > 1 else "",
            f"<div class='rows'>{kinds.block()}{''.join(articles)}</div>" if rows else "<p>No row to show.</p>",
            "</main></div>\n",
            f"<script>{asset('tokens.js')}\n{asset('page.js')}</script></body></html>\n",
        ]
    )


def _controls() -> str:
    colours = "".join(f"<option>{by}" for by in ("effect", "rule", "role", "part", "reason"))
    return (
        "<form id='controls'>"
        f"<label>colour by <select name='by'>{colours}</select></label>"
        "<label><input type='checkbox' name='edges'> token edges</label>"
        "<label><input type='checkbox' name='fade'> trained text only</label>"
        "<label>theme <select name='theme'><option value=''>system<option value='light'>light<option value='dark'>dark"
        "</select></label></form>"
    )


def _failed(rows: Sequence[ShownRow | FailedRow]) -> str:
    failed = [row for row in rows if isinstance(row, FailedRow)]
    if not failed:
        return ""
    lines = "".join(
        f"<li><a href='#row{row.number}'>row {row.number}</a> {escaped(row.code)}: {escaped(row.message)}</li>"
        for row in failed
    )
    return (
        f"<details class='failures' open><summary>{counted(len(failed), 'row')} failed</summary>"
        f"<ul>{lines}</ul></details>"
    )


def _finder(rows: Sequence[RowFacts], totals: Totals) -> str:
    """The controls that jump, sort and filter; the page's script acts on them."""
    jump = "".join(f"<option value='{row.number}'>row {row.number}" for row in rows)
    flags = "".join(
        f"<option value='{flag}'>{name} ({totals.flags[flag]:,})" for flag, name in _FLAGS.items() if totals.flags[flag]
    )
    return (
        "<form id='finder'>"
        f"<label>jump to <select name='jump'><option value=''>…{jump}</select></label>"
        "<label>sort by <select name='sort'><option value='row'>number<option value='share'>trained share"
        "<option value='tokens'>tokens</select></label>"
        f"<label>show <select name='flag'><option value=''>all rows{flags}</select></label>"
        "<label>text <input type='search' name='text' size='14'></label>"
        "<output></output></form>"
    )
