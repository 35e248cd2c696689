"""Two policies on the same rows: the changes in numbers, for all conversations, by token."""

from __future__ import annotations

from policy_engine.mask.compare.fates import FATES
from policy_engine.mask.compare.two_policies import DataDiff, rule_in_words, weight_in_words
from policy_engine.play.choice import Choice, chosen
from policy_engine.play.editions import Edition
from policy_engine.play.panes import witness_block
from policy_engine.proof.policy_diff import compare
from policy_engine.proof.results import Change
from policy_engine.report.html.escape import escaped
from policy_engine.report.html.row_articles import Kinds, row_article
from policy_engine.report.visible import one_line

_AT_ONCE = 10
"""Rows that are shown side by side."""
_PLACES = 20
_CHANGES = 8


def count_changes(old: Edition, new: Edition) -> DataDiff:
    """The differences over all rows of the board."""
    board = new.board
    # Every row is listed, and `_pairs` shows the first of those that the choice leaves.
    found = DataDiff(old=old.program, new=new.program, most=len(board.rows), description=board.description)
    for row, before, after in zip(board.rows, old.results, new.results, strict=True):
        found.add(row.number, row.place, before, after)
    return found


def changes_pane(old: Edition, new: Edition, choice: Choice) -> str:
    """The whole comparison: a sentence, the places, and the rows that change, old beside new.

    Of the rows that change, those that `choice` leaves are shown.
    """
    found = count_changes(old, new)
    fates = "".join(
        f"<li>{count:,} rows: {FATES[before]} → {FATES[after]}</li>"
        for (before, after), count in sorted(found.fates.items())
        if before != after
    )
    head = f"<p><b>On these rows: {escaped(found.in_words())}</b></p>{f'<ul>{fates}</ul>' if fates else ''}"
    return f"<div class='pe changes'>{head}{_table(found, old, new)}{_pairs(found, old, new, choice)}</div>"


def _table(found: DataDiff, old: Edition, new: Edition) -> str:
    if not found.places:
        return ""
    lines = "".join(
        f"<tr><td>{count:,}</td><td>{escaped(one_line(s.role or 'no message', 40))}</td><td>{escaped(s.part)}</td>"
        f"<td>{weight_in_words(s.old_weight)} → {weight_in_words(s.new_weight)}</td>"
        f"<td><code>{escaped(one_line(rule_in_words(old.program.policy, s.old_rule, s.old_reason)))}</code></td>"
        f"<td><code>{escaped(one_line(rule_in_words(new.program.policy, s.new_rule, s.new_reason)))}</code></td></tr>"
        for s, count in found.by_count()[:_PLACES]
    )
    more = len(found.places) - _PLACES
    rest = f"<p>and {more:,} more places</p>" if more > 0 else ""
    head = "<tr><th>tokens</th><th>role</th><th>part</th><th>weight</th><th>decided before by</th><th>now by</th></tr>"
    return f"<table class='change-places'><thead>{head}</thead><tbody>{lines}</tbody></table>{rest}"


def _pairs(found: DataDiff, old: Edition, new: Edition, choice: Choice) -> str:
    numbers = {change.number for change in found.listed}
    wanted = chosen(new, choice) if choice.row is None else range(len(new.board.rows))
    rows = new.board.rows
    indices = [i for i in wanted if rows[i].number in numbers and choice.row in (None, rows[i].number)]
    columns = []
    # Other prefixes for the ids of the rows, which are in one HTML document.
    for edition, other, name, prefix in ((old, new, "compared with", "old-row"), (new, old, "policy", "new-row")):
        kinds = Kinds(edition.program.policy.rules)
        articles = "".join(
            row_article(
                edition.changed_from(other, index),
                kinds,
                cells=edition.board.cells(index),
                prefix=prefix,
            )
            for index in indices[:_AT_ONCE]
        )
        columns.append(f"<div class='rows'><h3>{name}</h3>{kinds.block()}{articles}</div>")
    more = len(indices) - _AT_ONCE
    rest = f"<p>and {more:,} more rows that change: filter, or pick one</p>" if more > 0 else ""
    return f"<div class='sides'>{''.join(columns)}</div>{rest}" if indices else ""


def proof_pane(old: Edition, new: Edition) -> str:
    """The comparison over all conversations, each change with a conversation that shows it."""
    found = compare(old.program, new.program)
    verdicts = {
        "equal": "the two train the same",
        "trains more": "the policy trains more",
        "trains less": "the policy trains less",
        "incomparable": "the policy trains more and less",
    }
    told = verdicts.get(found.verdict, found.verdict) + (f": {found.undecided}" if found.undecided else "")
    settings = "".join(
        f"<li>{escaped(s.name)}: {escaped(f'{s.old} → {s.new}' if s.old else 'differ')}</li>" for s in found.settings
    )
    changes = "".join(map(_change, found.changes[:_CHANGES]))
    more = len(found.changes) - _CHANGES
    rest = f"<p>and {more:,} more</p>" if more > 0 else ""
    return (
        f"<div class='pe changes'><p><b>For all conversations: {escaped(told)}</b></p>"
        f"{f'<ul>{settings}</ul>' if settings else ''}{changes}{rest}</div>"
    )


def _change(change: Change) -> str:
    places = "".join(f"<li>{escaped(place)}</li>" for place in change.places)
    shown = (
        "<p>no conversation was found that shows it</p>" if change.witness is None else witness_block(change.witness)
    )
    return (
        f"<section class='guard possible'><p><b>{change.kind}</b> {escaped(change.old)} → {escaped(change.new)}</p>"
        f"<ul>{places}</ul>{shown}</section>"
    )
