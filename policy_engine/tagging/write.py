"""Writes generation tags into a template's source, whose text stays the same.

    {{ '<|im_start|>assistant⏎' + m.content }}
    {{ '<|im_start|>assistant⏎' }}{% generation %}{{ '' + m.content }}{% endgeneration %}

A tag may be beside whitespace that the template renders or drops. Its signs (`{%-`, `+%}`) keep that as it was.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from policy_engine.tagging.items import Gap, Items, Operand, cut_literal, joined, operands_of
from policy_engine.tagging.plan import Region
from policy_engine.tagging.watch import CutPlace


def tagged_source(items: Items, regions: Sequence[Region]) -> str:
    """The source with a block around each region.

    >>> import jinja2
    >>> from policy_engine.tagging.items import read_items
    >>> from policy_engine.tagging.watch import CutPlace
    >>> region = Region(start=CutPlace(index=0, offset=0), end=CutPlace(index=0, offset=2))
    >>> tagged_source(read_items("Hi {{ name }}", jinja2.Environment()), [region])
    '{% generation %}Hi{% endgeneration %} {{ name }}'
    """
    writer = _Writer(items)
    at = CutPlace(index=0, offset=0)
    for region in sorted(regions, key=lambda r: _order(r.start)):
        writer.copy(at, region.start)
        indent = writer.indent(region.start)
        opening = ["generation"] if region.condition is None else [f"if {region.condition}", "generation"]
        writer.tags(region.start, opening, indent)
        writer.copy(region.start, region.end)
        if region.condition is None:
            writer.tags(region.end, ["endgeneration"], indent)
        else:
            writer.tags(region.end, ["endgeneration", "else"], indent, before=region.start)
            writer.copy(region.start, region.end)
            writer.tags(region.end, ["endif"], indent)
        at = region.end
    writer.copy(at, CutPlace(index=len(items.items), offset=len(items.gaps[-1].text)))
    return "".join(writer.out)


def _order(place: CutPlace) -> tuple[int, int, int, int]:
    # Gap `i` is before item `i`.
    return (place.index, int(place.in_output), place.operand, place.offset)


class _Writer:
    """The new source, written from left to right."""

    def __init__(self, items: Items) -> None:
        self._items = items
        self._operands: dict[int, tuple[Operand, ...]] = {}
        self.out: list[str] = []
        self._skipped = 0

    def _own(self, index: int) -> tuple[Operand, ...]:
        if index not in self._operands:
            self._operands[index] = operands_of(self._items.source, self._items.items[index].tokens)
        return self._operands[index]

    def _outside(self, place: CutPlace) -> CutPlace:
        """The same place in the gap, if it is at an end of an output."""
        # At the edge of an output a tag goes outside of it: an output need not be cut there.
        if place.in_output and place.operand == 0 and place.offset == 0:
            return CutPlace(index=place.index, offset=len(self._items.gaps[place.index].text))
        if place.in_output and place.operand == len(self._own(place.index)):
            return CutPlace(index=place.index + 1, offset=0)
        return place

    def _at(self, gap: Gap, offset: int) -> int:
        """The place of a tag in a gap; whitespace that the next item drops is left of it."""
        return gap.end if offset == len(gap.text) else gap.start + offset

    # Copies.

    def copy(self, start: CutPlace, end: CutPlace) -> None:
        """Writes the source between two places."""
        start, end = self._outside(start), self._outside(end)
        if start == end:
            return
        if start.in_output and end.in_output and start.index == end.index:
            self.out.append("{{ " + self._expression(start, end) + " }}")
            return
        if start.in_output:
            closing = self._items.items[start.index].closing
            stop = CutPlace(index=start.index, operand=len(self._own(start.index)), offset=0, in_output=True)
            self.out.append("{{ " + self._expression(start, stop) + f" {closing}")
            copied_from = self._items.gaps[start.index + 1].start
        else:
            gap = self._items.gaps[start.index]
            copied_from = self._at(gap, start.offset) + self._skipped
            if self._skipped and copied_from == gap.start + len(gap.text):
                copied_from = gap.end  # blanks that the next item drops only at the start of a line
            self._skipped = 0
        if not end.in_output:
            self.out.append(self._items.source[copied_from : self._at(self._items.gaps[end.index], end.offset)])
            return
        item = self._items.items[end.index]
        first = CutPlace(index=end.index, operand=0, offset=0, in_output=True)
        self.out.append(self._items.source[copied_from : item.start])
        self.out.append(f"{item.opening} " + self._expression(first, end) + " }}")

    def _expression(self, start: CutPlace, end: CutPlace) -> str:
        own = self._own(start.index)
        pieces: list[Operand] = []
        for number in range(start.operand, min(end.operand + 1, len(own))):
            operand = own[number]
            source = operand.source
            if number == end.operand:
                if not end.offset:
                    break
                source = cut_literal(source, end.offset)[0]
            if number == start.operand and start.offset:
                source = cut_literal(source, start.offset)[1]
            pieces.append(Operand(source=source, literal=operand.literal, joint=operand.joint))
        return joined(pieces)

    # Tags.

    def indent(self, place: CutPlace) -> str:
        """The blanks before the item at a place, if it begins its line."""
        items = self._items
        gap = items.gaps[place.index]
        behind = not place.in_output and place.offset < len(gap.text)
        if place.index == len(items.items) and not behind:
            return ""
        start = gap.start + place.offset if behind else items.items[place.index].start
        line = items.source[:start].rpartition("\n")[2]
        return line if not line.strip() else ""

    def tags(self, place: CutPlace, tags: Sequence[str], indent: str, *, before: CutPlace | None = None) -> None:
        """Writes tags at a place.

        `before` is the place whose source is copied next, if that is not the one that follows.
        """
        place = self._outside(place)
        left, lost = self._left(place)
        follows = self._outside(before) if before is not None else place
        right, rest = self._right(follows)
        # Where the source breaks lines for readers, tags get lines of their own, with the same indent.
        own_lines = bool(rest) or "\n" in lost
        if lost and left == "-" and "\n" in lost:
            self.out[-1] = self.out[-1][: len(self.out[-1]) - len(lost)] + "\n" + indent
        between = f"\n{indent}" if own_lines and "-" in (left, right) else ""
        first = right if between and right == "-" else ""
        following = "-" if between and right != "-" else ""
        texts = []
        for number, tag in enumerate(tags):
            opening = left if number == 0 else following
            closing = right if number == len(tags) - 1 else first
            if tag == "generation" and closing == "+":
                # Trainers look for a tag without `+`, so the line break is written by an output.
                texts.append(f"{{%{opening} {tag} %}}{{{{ '\\n' }}}}")
                self._skipped = 1
                continue
            texts.append(f"{{%{opening} {tag} {closing}%}}")
        self.out.append(between.join(texts) + rest)

    def _left(self, place: CutPlace) -> tuple[str, str]:
        """The sign on a tag's left side, and the whitespace before it that is not rendered."""
        if place.in_output:
            return "", ""
        gap = self._items.gaps[place.index]
        lost = self._items.source[gap.start + len(gap.text) : gap.end]
        if place.offset == len(gap.text) and lost:
            return ("-" if self._items.items[place.index].sign == "-" else ""), lost
        written = gap.text[: place.offset]
        tail = written.rpartition("\n")[2]
        at_line_start = "\n" in written or self._items.source[: gap.start].endswith("\n") or not gap.start
        return ("+" if tail and not tail.strip() and at_line_start else ""), ""

    def _right(self, place: CutPlace) -> tuple[str, str]:
        """The sign on a tag's right side, and blanks behind it that are not rendered."""
        if place.in_output:
            return "", ""
        gap = self._items.gaps[place.index]
        before = self._items.items[place.index - 1].closing if place.index and not place.offset else ""
        if before.startswith("-") and "\n" in before and place.index < len(self._items.items):
            return "-", "\n" + before.rpartition("\n")[2]  # as the tag before, which takes the blanks behind it
        if gap.text[place.offset :].startswith("\n"):
            return "+", ""
        if place.offset < len(gap.text):
            return "", ""
        lost = self._items.source[gap.start + len(gap.text) : gap.end]
        if "\n" in lost:
            return "", "\n" + lost.rpartition("\n")[2]
        starts_line = self._items.source[: gap.start + len(gap.text)].endswith("\n")
        return "", ("\n" + lost if starts_line and place.index < len(self._items.items) else "")


GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
"""The tags that transformers and TRL look for in a template: without `+`."""
