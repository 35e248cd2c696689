"""All rows at a glance: their trained share, and the roles and parts of the tokens."""

from __future__ import annotations

from policy_engine.core.wording import counted, share
from policy_engine.report.html.escape import escaped
from policy_engine.report.row_facts import BINS, RowFacts, Totals, share_bins
from policy_engine.report.visible import one_line

_MOST = 14
"""Roles and parts that are listed; the rest is one line."""


def overview(rows: list[RowFacts]) -> str:
    """A histogram of the rows' trained share, and a bar for each role and part.

    >>> overview([RowFacts(number=1, tokens=4, trained=1)]).count("<li")
    11
    """
    totals = Totals.of(rows)
    return f"<div class='overview'>{_histogram(rows, totals)}{_places(totals)}</div>"


def _histogram(rows: list[RowFacts], totals: Totals) -> str:
    bins = share_bins(rows)
    # Without rows the bars have no height, and nothing is divided by zero.
    most = max(*bins, 1)
    # The first bar is rows that train nothing; the others end at a full tenth, so that 100% has one too.
    names = ["0%", *(f"{100 * at // BINS}–{100 * (at + 1) // BINS}%" for at in range(BINS))]
    bars = "".join(
        f"<li title='{counted(count, 'row')} with {name} trained' data-low='{max(0, at - 1) / BINS:g}' "
        f"data-high='{at / BINS:g}'><b>{count or ''}</b>"
        f"<i style='height:{100 * count / most:.1f}%'></i><span>{100 * at // BINS}</span></li>"
        for at, (name, count) in enumerate(zip(names, bins))
    )
    failed = totals.flags["failed"]
    told = f"{counted(totals.rows, 'row')}" + (f", {failed:,} failed" if failed else "")
    caption = f"<figcaption>Rows by trained share, in % · {told}</figcaption>"
    return f"<figure class='histogram'>{caption}<ol>{bars}</ol></figure>"


def _places(totals: Totals) -> str:
    if not totals.places:
        return ""
    most = max(total for _, total in totals.places.values())
    listed = list(totals.places.items())
    lines = "".join(
        f"<tr><th scope='row'>{escaped(one_line(role, 40)) or 'no message'}</th><td>{escaped(part)}</td>"
        f"<td><span class='stack' title='{trained:,} of {total:,} trained' style='width:{100 * total / most:.1f}%'>"
        f"<i style='width:{100 * trained / total:.1f}%'></i></span></td>"
        f"<td>{trained:,}</td><td>{total:,}</td></tr>"
        for (role, part), (trained, total) in listed[:_MOST]
    )
    rest = [counts for _, counts in listed[_MOST:]]
    if rest:
        trained, total = sum(t for t, _ in rest), sum(n for _, n in rest)
        lines += (
            f"<tr><th scope='row'>{len(rest)} more</th><td></td><td></td><td>{trained:,}</td><td>{total:,}</td></tr>"
        )
    head = (
        f"<caption>Tokens by role and part · {totals.trained:,} of {totals.tokens:,} trained "
        f"({share(totals.trained, totals.tokens)})</caption>"
        "<thead><tr><th>role</th><th>part</th><th></th><th>trained</th><th>tokens</th></tr></thead>"
    )
    return f"<table class='places'>{head}<tbody>{lines}</tbody></table>"
