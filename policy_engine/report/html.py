"""The HTML view: one self-contained page in which each token says what decided it.

Markup is written by hand with the standard library's `escape`: the page has few elements, and everything that comes
from data or policies goes through one function.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files

from policy_engine.core.source import Source
from policy_engine.core.vocabulary import MEDIA, PART_DOCS
from policy_engine.core.wording import share
from policy_engine.lang.checked import CheckedPolicy
from policy_engine.mask.explain import rule_lines
from policy_engine.mask.unrendered import lost_piece
from policy_engine.report.view import Cell, RowView, RuleView, TokenView, TurnView, rule_views, source_of
from policy_engine.report.visible import RETURN, one_line, visible

_MOST_TIPS = 2
"""Tokens of a medium that are described one by one: they are all alike."""
_GOLDEN_ANGLE = 137.508  # neighbouring rules get hues far apart, however many rules there are


def html_page(
    rows: Sequence[RowView], policy: CheckedPolicy, *, title: str, facts: Mapping[str, str] | None = None
) -> str:
    """The whole page: policy and legend beside the rows.

    `facts` (tokenizer, dataset, …) are listed under the title.
    """
    rules = rule_views(policy)
    decided: Counter[int | None] = Counter()
    reasons: Counter[str] = Counter()
    for row in rows:
        decided.update(row.by_rule)
        reasons.update(row.by_reason)
    total, trained = sum(row.total for row in rows), sum(row.trained for row in rows)
    whys = _Whys()
    head = {"tokens": f"{total:,}", "trained": f"{trained:,} ({share(trained, total)})", **(facts or {})}
    return "".join(
        [
            "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>",
            "<meta name='viewport' content='width=device-width, initial-scale=1'>",
            "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; img-src data:; ",
            "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">",
            f"<title>{_e(title)}</title><style>{_asset('page.css')}{_hues(rules)}</style></head>\n<body>",
            f"<header><h1>{_e(title)}</h1><dl>",
            "".join(f"<div><dt>{_e(key)}</dt><dd>{_e(value)}</dd></div>" for key, value in head.items()),
            "</dl>",
            _controls(),
            "</header>\n<div class='columns'><aside>",
            "".join(_policy(source, rules) for source in _sources(policy)),
            _legend(rules, decided, reasons),
            "</aside>\n<main>",
            "".join(_row(row, whys) for row in rows) or "<p>No row to show.</p>",
            "</main></div>\n<div id='tip' role='tooltip' hidden></div>",
            whys.block(),
            f"<script>{_asset('page.js')}</script></body></html>\n",
        ]
    )


class _Whys:
    """Explanations of pieces of text: each once in the page, however many tokens share it."""

    def __init__(self) -> None:
        self._known: dict[tuple[tuple[int, str], ...], int] = {}

    def of(self, row: RowView, token: TokenView) -> list[int]:
        """The numbers of what is said of the pieces that a token touches."""
        said = (tuple((d, one_line(t)) for d, t in rule_lines(row.pieces[i])) for i in token.pieces)
        return list(dict.fromkeys(self._known.setdefault(lines, len(self._known)) for lines in said if lines))

    def block(self) -> str:
        """All of it as JSON that no browser runs; `<` is escaped, so that no text ends the element."""
        text = json.dumps([[list(line) for line in lines] for lines in self._known], ensure_ascii=False)
        return "<script type='application/json' id='why'>" + text.replace("<", "\\u003c") + "</script>"


def _asset(name: str) -> str:
    return files("policy_engine.report").joinpath(name).read_text(encoding="utf-8")


def _e(text: str) -> str:
    """Text for element content and for attributes in either quotes."""
    return escape(visible(text).replace(RETURN + "\n", "\n"), quote=True)


def _hues(rules: Sequence[RuleView]) -> str:
    return "".join(f".r{r.index}{{--hue:{(140 + r.index * _GOLDEN_ANGLE) % 360:.0f}}}" for r in rules)


def _controls() -> str:
    return (
        "<form id='controls'>"
        "<label><input type='checkbox' name='rules'> colour by rule</label>"
        "<label><input type='checkbox' name='edges'> token edges</label>"
        "<label><input type='checkbox' name='fade'> trained text only</label>"
        "<label>theme <select name='theme'><option value=''>system<option value='light'>light<option value='dark'>dark"
        "</select></label></form>"
    )


def _sources(policy: CheckedPolicy) -> list[Source]:
    """The policy's own text first, then those of the policies it uses, each once."""
    found = {policy.source.name: policy.source}
    for rule in policy.rules:
        found.setdefault(rule.span.source.name, rule.span.source)
    return list(found.values())


def _policy(source: Source, rules: Sequence[RuleView]) -> str:
    """A policy's text, each rule in a span of its own.

    A rule that is used twice is there once and has both numbers.
    """
    by_place: dict[tuple[int, int], list[int]] = {}
    for rule in rules:
        if rule.source == source.name:
            by_place.setdefault((rule.span.start, rule.span.end), []).append(rule.index)
    out, at = [], 0
    for (start, end), indexes in sorted(by_place.items()):
        if start < at:
            continue
        numbers = " ".join(str(i) for i in indexes)
        out.append(_e(source.text[at:start]))
        out.append(f"<span class='rule r{indexes[0]}' data-rules='{numbers}'>{_e(source.text[start:end])}</span>")
        at = end
    out.append(_e(source.text[at:]))
    lines = "".join(f"<li>{line or ' '}</li>" for line in _split("".join(out).rstrip("\n")))
    return f"<section class='policy'><h2>{_e(source.name)}</h2><ol>{lines}</ol></section>"


def _split(markup: str) -> list[str]:
    """Markup by lines: a rule over several lines is closed at each end and opened again."""
    lines, opening = [], ""
    for line in markup.split("\n"):
        text = opening + line
        last_open, last_close = line.rfind("<span"), line.rfind("</span>")
        if last_open > last_close:
            opening = line[last_open : line.index(">", last_open) + 1]
        elif last_close >= 0:
            opening = ""
        lines.append(text + "</span>" if opening else text)
    return lines


def _legend(rules: Sequence[RuleView], decided: Counter[int | None], reasons: Counter[str]) -> str:
    rows = "".join(
        f"<tr class='pick r{r.index}' data-rules='{r.index}' tabindex='0'><td><i></i>{r.index + 1}</td>"
        f"<td>{decided[r.index]:,}</td><td><code>{_e(one_line(r.text, 120))}</code></td></tr>"
        for r in rules
    )
    rows += f"<tr><td></td><td>{decided[None]:,}</td><td>no rule: masked</td></tr>"
    notes = (
        ("trained", "trained", "a rule gives it weight"),
        ("masked", "masked", "a rule or the default"),
        ("straddle", "straddle", "mixes two decisions or two messages"),
        ("structural", "structural", "first of the row, or generation prompt"),
        ("truncated", "truncated", "cut off"),
    )
    keys = "".join(
        f"<li><b class='t {name}'>{label}</b> {text}{f' · {reasons[name]:,}' if name in reasons else ''}</li>"
        for name, label, text in notes
    )
    return (
        "<section class='legend'><h2>Rules and the tokens they decided</h2>"
        f"<table><thead><tr><th>rule<th>tokens<th>text</tr></thead><tbody>{rows}</tbody></table><ul>{keys}</ul></section>"
    )


def _row(row: RowView, whys: _Whys) -> str:
    lost = "".join(f"<p class='lost'>{_e(lost_piece(u))} never reached the text</p>" for u in row.chat.unrendered)
    width = f"{100 * row.trained / row.total:.1f}%" if row.total else "0"
    return (
        f"<article><h2>{_e(row.name)}</h2><p class='count'><span class='bar'><i style='width:{width}'></i></span>"
        f"{row.trained:,} of {row.total:,} tokens trained</p>{lost}"
        f"{''.join(_turn(turn, row, whys) for turn in row.turns)}</article>\n"
    )


def _turn(turn: TurnView, row: RowView, whys: _Whys) -> str:
    who = "—" if turn.turn is None else f"{turn.turn} {turn.role}"
    cells = "".join(_cell(cell, row, whys) for cell in turn.cells)
    return (
        f"<section class='turn'><h3>{_e(who)}<small>{turn.trained:,}/{turn.total:,}</small></h3>"
        f"<pre dir='auto'>{cells}</pre></section>"
    )


def _cell(cell: Cell, row: RowView, whys: _Whys) -> str:
    body = _e(cell.text).replace("\n", f"<u>{RETURN}</u>\n") or ("<u>·</u>" if cell.tokens else "")
    if cell.picture is not None:
        # Bytes that were decoded and encoded again here; the data's own never reach the page.
        body = f"<img class='medium' alt='' src='data:image/png;base64,{b64encode(cell.picture).decode()}'>{body}"
    lead = cell.lead
    if lead is None:
        return f"<span class='none'>{body}</span>"
    tips = cell.tokens[:_MOST_TIPS] if row.chat.segments[lead.segment].part in MEDIA else cell.tokens
    tip = "\n\n".join(_tip(token, cell, row) for token in tips)
    rule = "" if lead.rule is None else f" r{lead.rule}"
    numbers = dict.fromkeys(n for token in cell.tokens for n in whys.of(row, token))
    why = f" data-why='{' '.join(map(str, numbers))}'" if numbers else ""
    return f"<span class='t {_class(lead)}{rule}' data-tip='{escape(tip, quote=True)}'{why}>{body}</span>"


def _class(token: TokenView) -> str:
    if token.weight:
        kind = "neg" if token.weight < 0 else "more" if token.weight > 1 else "less" if token.weight < 1 else ""
        return f"trained {kind}".rstrip()
    return token.reason if token.reason in ("straddle", "structural", "truncated") else "masked"


def _tip(token: TokenView, cell: Cell, row: RowView) -> str:
    """`key: value` lines, which the page's script lays out; the rule as its index."""
    segment = row.chat.segments[token.segment]
    turn = "none" if segment.turn is None else f"{segment.turn} ({row.chat.role(segment)})"
    decision = f"trained, weight {token.weight:g}" if token.weight else "masked"
    return "\n".join(
        f"{key}: {one_line(value)}"
        for key, value in (
            ("token", f"{token.index} · id {token.id} · “{cell.text}”"),
            ("decision", decision),
            ("reason", token.reason),
            ("rule", "" if token.rule is None else str(token.rule)),
            ("turn", turn),
            ("part", f"{segment.part} – {PART_DOCS[segment.part]}"),
            ("source", source_of(segment)),
        )
        if value
    )
