"""Rows as articles: turns, and in them runs of tokens.

A run is one element, whatever it holds. Its class `cN` names its colours, `data-k` what decided it (a line of the table
that `Kinds.block` writes), and `data-d` its tokens: the number of the first, then length and ids of each cell:

    <span class='t trained c1' data-k='4' data-d='17 2.312 6.99'>Hi there</span>

The page's script makes elements of single tokens where the pointer is.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby

from policy_engine.chat.segments import RenderedChat, TokenizedChat
from policy_engine.core.vocabulary import PART_DOCS
from policy_engine.core.wording import counted
from policy_engine.lang.checked import CheckedRule
from policy_engine.mask.explain import ExplainedPiece, rule_lines
from policy_engine.mask.token_mask import REASONS
from policy_engine.mask.unrendered import lost_piece
from policy_engine.report.html.escape import escaped, hue, shown_lengths, with_breaks
from policy_engine.report.row_facts import RowFacts, row_facts
from policy_engine.report.runs import FailedRow, ShownRow, TokenRun, cell_starts, folded, token_runs
from policy_engine.report.view import source_of
from policy_engine.report.visible import one_line

_ODD = {"empty", "straddle", "drift", "lost"}
_LONG, _KEPT = 900, 240
"""Characters from which a masked run is folded, and those that are kept at each end of it."""


class Kinds:
    """Descriptions of runs and their colours, each once in a page, however many runs share it."""

    def __init__(self, rules: Sequence[CheckedRule]) -> None:
        self.rules = tuple(rules)
        self._kinds: dict[tuple[object, ...], int] = {}
        self._whys: dict[tuple[tuple[int, str], ...], int] = {}
        self._colours: dict[tuple[int | None, str, str, str], int] = {}

    def of(self, run: TokenRun, row: ShownRow) -> int:
        """The number of a run's explanation, in the table that `block` writes."""
        chat = row.tokenized.chat
        segment = chat.segments[run.segment]
        # Each reason once, in order: pieces of one run often have the same.
        whys = dict.fromkeys(self._why(row.pieces[at]) for at in range(*run.pieces))
        key = (
            f"trained, weight {run.weight:g}" if run.weight else "masked",
            run.reason,
            run.rule,
            segment.part,
            one_line(source_of(segment)),
            tuple(why for why in whys if why is not None),
        )
        return self._kinds.setdefault(key, len(self._kinds))

    def _why(self, piece: ExplainedPiece) -> int | None:
        lines = tuple((depth, one_line(text)) for depth, text in rule_lines(piece))
        return self._whys.setdefault(lines, len(self._whys)) if lines else None

    def colour(self, run: TokenRun, chat: RenderedChat) -> int:
        """The number of a run's colours: its class is `cN`."""
        segment = chat.segments[run.segment]
        key = run.rule, chat.role(segment) or "", segment.part, run.reason
        return self._colours.setdefault(key, len(self._colours))

    def block(self) -> str:
        """All of it, as a style sheet and as JSON."""
        spans = [rule.span for rule in self.rules]
        facts = {
            "rules": [[one_line(s.one_line, 160), f"{one_line(s.source.name)}:{s.line}"] for s in spans],
            "parts": PART_DOCS,
            "kinds": [list(kind) for kind in self._kinds],
            "why": [[list(line) for line in lines] for lines in self._whys],
        }
        text = json.dumps(facts, ensure_ascii=False, separators=(",", ":"))
        # In a hidden element and not in a script: text of the data cannot end it, and a page may be made of several
        # blocks.
        return f"<style>{self._style()}</style><div class='facts' hidden>{escape(text, quote=False)}</div>"

    def _style(self) -> str:
        roles, parts = self.roles(), self.parts()
        return "".join(
            f".c{number}{{{'' if rule is None else f'--rule:{hue(rule)};'}--role:{hue(roles.index(role))};"
            f"--part:{hue(parts.index(part))};--why:{hue(REASONS.index(reason))}}}"
            for (rule, role, part, reason), number in self._colours.items()
        )

    def roles(self) -> list[str]:
        """Roles in the order of their hues."""
        return list(dict.fromkeys(role for _, role, _, _ in self._colours))

    def parts(self) -> list[str]:
        """Parts in the order of their hues."""
        return list(dict.fromkeys(part for _, _, part, _ in self._colours))

    def keys(self) -> str:
        """Legends of the colours, of which the page shows the one that is asked for."""
        names: dict[str, list[tuple[str, str]]] = {
            "role": [(role or "no message", hue(at)) for at, role in enumerate(self.roles())],
            "part": [(part, hue(at)) for at, part in enumerate(self.parts())],
            "reason": [
                (reason, hue(at))
                for at, reason in enumerate(REASONS)
                if any(reason == colour[3] for colour in self._colours)
            ],
        }
        return "".join(
            f"<ul class='key' data-by='{by}'>"
            + "".join(f"<li><i style='--hue:{degrees}'></i>{escaped(one_line(name))}</li>" for name, degrees in entries)
            + "</ul>"
            for by, entries in names.items()
        )


def row_article(
    row: ShownRow | FailedRow,
    kinds: Kinds,
    *,
    facts: RowFacts | None = None,
    cells: RowCells | None = None,
    prefix: str = "row",
) -> str:
    """One row, with the id `prefix` and number.

    Its `data-` attributes are what it can be sorted and filtered by. `facts` and `cells` save working them out.

    >>> row_article(FailedRow(number=3, code="PE502", message="no `role`"), Kinds(())).partition(">")[0]
    "<article id='row3' data-row='3' data-tokens='0' data-share='0.0000' data-flags='failed'"
    """
    facts = row_facts(row) if facts is None else facts
    side = row.side if isinstance(row, ShownRow) else ""
    name = f"row {row.number}{f', {side}' if side else ''}"
    anchor = f"{prefix}{row.number}{f'-{side}' if side else ''}"
    head = (
        f"<article id='{anchor}' data-row='{row.number}' data-tokens='{facts.tokens}' "
        f"data-share='{facts.share:.4f}' data-flags='{' '.join(sorted(facts.flags))}'>"
        f"<h2><a href='#{anchor}'>{name}</a></h2>"
    )
    if isinstance(row, FailedRow):
        return f"{head}{_failure(row)}</article>\n"
    width = f"{100 * facts.share:.1f}%"
    odd = "".join(f"<b class='flag'>{flag}</b>" for flag in sorted(facts.flags & _ODD))
    lost = "".join(
        f"<p class='lost'>{escaped(one_line(lost_piece(u)))} never reached the text</p>"
        for u in row.tokenized.chat.unrendered
    )
    turns = "".join(_turns(row, kinds, cells or RowCells(row.tokenized)))
    return (
        f"{head}<p class='count'><span class='bar'><i style='width:{width}'></i></span>"
        f"{facts.trained:,} of {counted(facts.tokens, 'token')} trained{odd}</p>"
        f"{'' if row.failure is None else _failure(row.failure)}{lost}{turns}</article>\n"
    )


def _failure(row: FailedRow) -> str:
    place = f"{one_line(row.place)}: " if row.place else ""
    help = f"<p>help: {escaped(row.help)}</p>" if row.help else ""
    return f"<p class='failed'>{escaped(place)}error[{escaped(row.code)}]: {escaped(row.message)}</p>{help}"


def _turns(row: ShownRow, kinds: Kinds, cells: RowCells) -> Iterable[str]:
    chat = row.tokenized.chat
    for turn, group in groupby(token_runs(row), key=lambda run: run.turn):
        runs = list(group)
        who = "—" if turn is None else f"{turn} {chat.messages[turn]['role']}"
        trained = sum(run.tokens for run in runs if run.weight)  # of cells that share a character, all
        total = sum(run.tokens for run in runs)
        yield (
            f"<section class='turn' data-turn='{'' if turn is None else turn}'><h3>{escaped(one_line(who))}"
            f"<small>{trained:,}/{total:,}</small></h3><pre dir='auto'>"
        )
        for run in runs:
            yield from _run(run, row, kinds, cells)
        yield "</pre></section>"


def _run(run: TokenRun, row: ShownRow, kinds: Kinds, cells: RowCells) -> Iterable[str]:
    chat = row.tokenized.chat
    if not run.tokens:
        yield f"<span class='none'>{with_breaks(chat.text[run.start : run.end])}</span>"
        return
    kind, colour, effect = kinds.of(run, row), kinds.colour(run, chat), _class(run)
    changed = " changed" if run.changed else ""
    by = "" if run.rule is None else f" r{run.rule}"
    # Only masked text is folded: what is trained, or changed, is what one looks for.
    most = _LONG if effect == "masked" and not run.changed else len(chat.text)
    for part, is_middle in folded(run, row.tokenized, most=most, kept=_KEPT):
        if is_middle:
            told = f"… {counted(part.tokens, 'token')}, {part.end - part.start:,} characters …"
            yield f"<button type='button' class='more'>{told}</button>"
        middle = " middle" if is_middle else ""
        yield (
            f"<span class='t {effect} c{colour}{by}{changed}{middle}' data-k='{kind}' data-d='{cells.code(part)}'>"
            f"{_body(part, row)}</span>"
        )


def _body(run: TokenRun, row: ShownRow) -> str:
    if run.medium is not None:
        picture = (row.pictures or {}).get(run.medium)
        # Bytes that were decoded and encoded again here; the data's own never reach the page.
        image = (
            ""
            if picture is None
            else f"<img class='medium' alt='' src='data:image/png;base64,{b64encode(picture).decode()}'>"
        )
        return image + escaped(one_line(run.medium.in_words))
    text = row.tokenized.chat.text[run.start : run.end]
    # Tokens without characters (some byte pieces, given ids) still have to be there to point at.
    return with_breaks(text) if text else "·" * run.tokens


class RowCells:
    """The cells of a row, written down for the page's script: the same for every policy."""

    def __init__(self, tokenized: TokenizedChat) -> None:
        firsts = cell_starts(tokenized).tolist()
        stops = [*firsts[1:], len(tokenized.input_ids)]
        starts, ends, text = tokenized.starts_T.tolist(), tokenized.ends_T.tolist(), tokenized.chat.text
        lengths = shown_lengths([text[starts[first] : ends[stop - 1]] for first, stop in zip(firsts, stops)])
        ids = tokenized.input_ids
        self._cells = {
            first: (stop, f" {length or 1}." + ",".join(map(str, ids[first:stop])))
            for first, stop, length in zip(firsts, stops, lengths)
        }

    def code(self, run: TokenRun) -> str:
        """The number of a run's first token, then `length.id` of each cell.

        A medium is one cell of its first id.
        """
        stop, cell = self._cells[run.token_start]
        if run.medium is not None:
            return f"{run.token_start} 0.{cell.partition('.')[2].partition(',')[0]}"
        codes = [str(run.token_start), cell]
        while stop < run.token_end:
            stop, cell = self._cells[stop]
            codes.append(cell)
        return "".join(codes)


def _class(run: TokenRun) -> str:
    if run.weight:
        kind = "neg" if run.weight < 0 else "more" if run.weight > 1 else "less" if run.weight < 1 else ""
        return f"trained {kind}".rstrip()
    return run.reason if run.reason in ("straddle", "structural", "truncated", "drift") else "masked"
