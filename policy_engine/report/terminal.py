"""The terminal view: a row by turns, trained text in colour, or between ⟦ ⟧ without colours."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.text import Text

from policy_engine.core.choices import ColorBy
from policy_engine.core.vocabulary import Reason
from policy_engine.core.wording import counted, share
from policy_engine.lang.checked import CheckedRule
from policy_engine.mask.unrendered import lost_piece
from policy_engine.report.rules import rule_table
from policy_engine.report.styles import (
    AGAINST,
    DOUBT,
    LESS,
    MASKED,
    MORE,
    RULES,
    STRADDLE,
    STRUCTURAL,
    TRAINED,
    TRUNCATED,
)
from policy_engine.report.view import Cell, RowView, TokenView, TurnView
from policy_engine.report.visible import RETURN, one_line, visible

_WEIGHTS = {TRAINED: "trained", LESS: "weight below 1", MORE: "weight above 1", AGAINST: "negative weight"}
_REASONS: dict[Reason, str] = {
    "straddle": STRADDLE, "structural": STRUCTURAL, "truncated": TRUNCATED, "drift": STRADDLE,
}  # fmt: skip
"""Other reasons than a rule for which tokens are masked."""

MARKS = {
    "trained": ("⟦", "⟧"),
    "weight": ("⟦", "⟧"),
    "straddle": ("⟨", "⟩"),
}
"""Marks around text where there is no colour: trained tokens, and tokens masked because they straddle."""
_NARROW = re.compile(f"[ -~¡-¬®-ʯΑ-ΡΣ-ωЀ-ѿ–-—‘-„…─{RETURN}{''.join(''.join(pair) for pair in MARKS.values())}]*")
"""Text whose characters take one column each: Latin, Greek and Cyrillic letters with usual marks between them."""


@dataclass(frozen=True, eq=False)
class RowText:
    """A row for a rich console; without colours, trained text is in ⟦ ⟧."""

    is_folded = True
    """No line of it is wider than the console."""

    row: RowView
    color_by: ColorBy = field(default="effect", kw_only=True)
    ids: bool = field(default=False, kw_only=True)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Header, turns, and the tokens each rule decided."""
        # A pipe or NO_COLOR: what is trained has to be visible without colours.
        marks = console.no_color or console.color_system is None
        row = self.row
        part = f" ({share(row.trained, row.total)})" if row.total else ""
        yield Text.assemble((row.name, "bold"), f" · {counted(row.total, 'token')}, {row.trained:,} trained{part}")
        for turn in row.turns:
            yield from _lines(_turn_text(turn, self.color_by, marks, self.ids), console, options.max_width)
        if row.chat.unrendered:
            lost = ", ".join(map(lost_piece, row.chat.unrendered))
            yield Text(f"never reached the text: {lost}", style=DOUBT)


class Legend:
    """Each rule with the tokens it decided over all rows, other reasons, and the colours."""

    def __init__(
        self,
        rows: Sequence[RowView],
        rules: Sequence[CheckedRule],
        *,
        color_by: ColorBy = "effect",
        notes: Mapping[int, str] | None = None,
    ) -> None:
        self.rules = tuple(rules)
        self.color_by: ColorBy = color_by
        self.notes = dict(notes or {})
        self.decided: Counter[int | None] = Counter()
        for row in rows:
            self.decided.update(row.by_rule)
        tokens = [token for row in rows for turn in row.turns for cell in turn.cells for token in cell.tokens]
        self.styles = {_weight_style(token) for token in tokens if token.weight}
        self.masked: Counter[Reason] = Counter()
        for token in tokens:
            if not token.weight:
                self.masked[token.reason] += token.count

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """A table of rules, then one line of reasons and one of colours or marks."""
        style = (lambda index: RULES[index % len(RULES)]) if self.color_by == "rule" else (lambda index: "")
        yield rule_table(self.rules, self.decided, notes=self.notes, style=style)
        there = [
            Text(f"{self.masked[reason]:,} {reason}", style=own)
            for reason, own in _REASONS.items()
            if self.masked[reason]
        ]
        if there:
            line = Text("masked for another reason than a rule: ", style="dim")
            yield line.append_text(Text(", ").join(there))
        if console.no_color or console.color_system is None:
            marks = [
                (TRAINED in self.styles, "⟦ ⟧ trained"),
                (bool(self.styles - {TRAINED}), "⟦ ×…⟧ trained with that weight"),
                (self.masked["straddle"], "⟨ ⟩ masked because it straddles"),
            ]
            rest = ["the rest masked"] if self.masked else []
            yield Text("   ".join([text for occurs, text in marks if occurs] + rest))
        elif self.color_by == "effect":
            names = [Text(f" {name} ", style=style) for style, name in _WEIGHTS.items() if style in self.styles]
            yield Text("  ").join([*names, *([Text("masked")] if self.masked else [])])


Styled = tuple[str, str]
"""Text, and the name of its style."""


def _lines(pieces: Iterable[Styled], console: Console, width: int) -> Iterator[RenderableType | Segment]:
    """The lines of some text, folded at the width.

    Rich looks for words in each line that it is given, so a line that fits is given to it in its last form.
    """
    # Without colours a style changes nothing, so all lines go to rich as one text.
    if console.color_system is None:
        plain = "".join(text for text, _ in pieces)
        yield Segment("\n".join(_folded(plain.split("\n"), console, width)) + "\n")
        return
    line: list[Styled] = []
    for text, style in (*pieces, ("\n", "")):
        for number, part in enumerate(text.split("\n")):
            if number:
                if _fits("".join(own for own, _ in line), width):
                    yield from (Segment(own, console.get_style(name) if name else None) for own, name in line)
                    yield Segment.line()
                else:
                    yield Text.assemble(*line, overflow="fold", no_wrap=False)
                line = []
            if part:
                line.append((part, style))


def _folded(lines: Iterable[str], console: Console, width: int) -> Iterator[str]:
    # As many whole words as fit, with the blanks behind them. Rich does the same, in ten times as long.
    words = re.compile(rf".{{0,{width - 1}}}\S(?!\S)\s*")
    for line in lines:
        if _fits(line, width):
            yield line
            continue
        parts = words.findall(line) if _NARROW.fullmatch(line) else []
        # A word that is wider than a line is not found.
        if "".join(parts) == line:
            yield from (part[:width] for part in parts)
        else:
            yield from (own.plain for own in Text(line).wrap(console, width, overflow="fold"))


def _fits(line: str, width: int) -> bool:
    # A wide character takes two columns, so that only plain lines are known to fit by their length.
    return len(line) <= width and _NARROW.fullmatch(line) is not None


def _turn_text(turn: TurnView, color_by: ColorBy, marks: bool, ids: bool) -> list[Styled]:
    who = "no message" if turn.turn is None else f"{turn.turn} {turn.role}"
    made: list[Styled] = [(f"── {one_line(who)} ", "bold"), (f"{turn.trained:,}/{turn.total:,}\n", "dim")]
    # Neighbours of one kind together: a mark or colour around every token could not be read.
    pieces = [(kind, list(cells)) for kind, cells in groupby(turn.cells, key=lambda cell: _kind(cell, color_by))]
    if ids:
        pieces = [(kind, [cell]) for kind, cells in pieces for cell in cells]
    for (name, style, weight), cells in pieces:
        opening, closing = MARKS.get(name, ("", "")) if marks else ("", "")
        times = "" if weight in (0, 1) else f"×{weight:g}"
        body = visible("".join(cell.text for cell in cells))
        # The closing mark is on the line it closes: before a last line break, after its `↵`.
        end = "\n" if body.endswith("\n") else ""
        made.append((opening + body.removesuffix("\n") + (times + closing if marks else ""), style))
        if times and not marks:
            made.append((times, "dim"))
        if ids:
            made.append(("".join(f"‹{token.id}›" for cell in cells for token in cell.tokens), "dim"))
        made.append((end, ""))
    # The break after the last `↵` is the one that ends the turn anyway.
    if made[-1] == ("\n", "") and made[-2][0].endswith(RETURN):
        made.pop()
    return made


def _kind(cell: Cell, color_by: ColorBy) -> tuple[str, str, float]:
    """Name, style and weight of a cell; neighbours of one kind are shown as one piece."""
    lead = cell.lead
    if lead is None:
        return "none", MASKED, 0
    if lead.weight:
        style = _weight_style(lead)
        if color_by == "rule" and lead.rule is not None:
            style = f"bold {RULES[lead.rule % len(RULES)]}"
        return "trained" if lead.weight == 1 else "weight", style, lead.weight
    return (lead.reason, _REASONS[lead.reason], 0) if lead.reason in _REASONS else ("masked", MASKED, 0)


def _weight_style(token: TokenView) -> str:
    if token.weight < 0:
        return AGAINST
    return TRAINED if token.weight == 1 else (MORE if token.weight > 1 else LESS)
