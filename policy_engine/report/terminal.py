"""The terminal view: a row's text by turns, trained text in colour, or between ⟦ ⟧ where there is no colour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import TypeVar

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from policy_engine.core.choices import ColorBy
from policy_engine.mask.unrendered import lost_piece
from policy_engine.report.rules import rule_table
from policy_engine.report.view import Cell, RowView, RuleView, TokenView, TurnView
from policy_engine.report.visible import RETURN, one_line, visible

K = TypeVar("K")

TRAINED, LESS, MORE, AGAINST = "bold green", "bold cyan", "bold magenta", "bold red"
MASKED, STRADDLE, STRUCTURAL, TRUNCATED = "dim", "yellow", "blue", "dim strike"
_RULES = (
    "green",
    "cyan",
    "magenta",
    "yellow",
    "blue",
    "red",
    "bright_green",
    "bright_cyan",
    "bright_magenta",
    "bright_blue",
)

MARKS = {"trained": ("⟦", "⟧"), "straddle": ("⟨", "⟩")}
"""What encloses text where there is no colour: trained tokens, and tokens masked because they straddle."""


class RowText:
    """A row for a rich console. Marks take the place of colours on a console without them, or where `marks` asks."""

    def __init__(
        self, row: RowView, rules: Sequence[RuleView], *, color_by: ColorBy = "effect", marks: bool = False
    ) -> None:
        self.row = row
        self.rules = tuple(rules)
        self.color_by: ColorBy = color_by
        self.marks = marks

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Header, turns, and the tokens each rule decided."""
        marks = self.marks or console.no_color or console.color_system is None
        row = self.row
        share = f" ({row.trained / row.total:.0%})" if row.total else ""
        yield Text.assemble((row.name, "bold"), f" · {row.total} tokens, {row.trained} trained{share}")
        for turn in row.turns:
            yield _turn_text(turn, self.color_by, marks)
        if row.chat.unrendered:
            lost = ", ".join(map(lost_piece, row.chat.unrendered))
            yield Text(f"never reached the text: {lost}", style="yellow")


class Legend:
    """Each rule with the number of tokens it decided over all rows, the other reasons, and what the colours mean."""

    def __init__(
        self,
        rows: Sequence[RowView],
        rules: Sequence[RuleView],
        *,
        color_by: ColorBy = "effect",
        marks: bool = False,
        notes: Mapping[int, str] | None = None,
    ) -> None:
        self.rules = tuple(rules)
        self.color_by: ColorBy = color_by
        self.marks = marks
        self.notes = dict(notes or {})
        self.decided = _sum(row.by_rule for row in rows)
        self.reasons = _sum(row.by_reason for row in rows)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """A table of rules, then one line of reasons and one of colours or marks."""
        style = (lambda index: _RULES[index % len(_RULES)]) if self.color_by == "rule" else (lambda index: "")
        yield rule_table(self.rules, self.decided, notes=self.notes, style=style)
        notes = (("straddle", STRADDLE), ("structural", STRUCTURAL), ("truncated", TRUNCATED))
        line = Text("masked for another reason than a rule: ", style="dim")
        line.append_text(Text(", ").join(Text(f"{self.reasons[r]} {r}", style=s) for r, s in notes))  # type: ignore[index]
        yield line
        if self.marks or console.no_color or console.color_system is None:
            yield Text("⟦ ⟧ trained   ⟨ ⟩ masked because it straddles   the rest masked")
        elif self.color_by == "effect":
            styles = (
                ("trained", TRAINED),
                ("less", LESS),
                ("more than 1", MORE),
                ("negative", AGAINST),
                ("masked", MASKED),
            )
            yield Text("   ").join(Text(name, style=style) for name, style in styles)


def _turn_text(turn: TurnView, color_by: ColorBy, marks: bool) -> Text:
    who = "no message" if turn.turn is None else f"{turn.turn} {turn.role}"
    text = Text(overflow="fold", no_wrap=False)
    text.append(f"── {one_line(who)} ", style="bold")
    text.append(f"{turn.trained}/{turn.total}\n", style="dim")
    for kind, cells in groupby(turn.cells, key=lambda cell: _kind(cell, color_by)):
        name, style = kind
        opening, closing = MARKS.get(name, ("", "")) if marks else ("", "")
        body = visible("".join(cell.text for cell in cells))
        # The closing mark stands on the line it closes: before a last line break, after its `↵`.
        end = "\n" if body.endswith("\n") else ""
        text.append(opening + body.removesuffix("\n") + closing + end, style=style)
    if text.plain.endswith(RETURN + "\n"):
        text.right_crop(1)
    return text


def _kind(cell: Cell, color_by: ColorBy) -> tuple[str, str]:
    """Name and style of a cell; neighbours of one kind are shown as one piece."""
    lead = cell.lead
    if lead is None:
        return "none", MASKED
    if lead.weight:
        if color_by == "rule" and lead.rule is not None:
            return "trained", f"bold {_RULES[lead.rule % len(_RULES)]}"
        return "trained", _weight_style(lead)
    if lead.reason == "straddle":
        return "straddle", STRADDLE
    if lead.reason == "structural":
        return "structural", STRUCTURAL
    if lead.reason == "truncated":
        return "truncated", TRUNCATED
    return "masked", MASKED


def _weight_style(token: TokenView) -> str:
    if token.weight < 0:
        return AGAINST
    return TRAINED if token.weight == 1 else (MORE if token.weight > 1 else LESS)


def _sum(counts: Iterable[Mapping[K, int]]) -> Counter[K]:
    total: Counter[K] = Counter()
    for one in counts:
        total.update(one)
    return total
