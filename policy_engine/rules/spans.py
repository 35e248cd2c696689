"""Characters within a target that a regex matches, the data lists, or a model sampled.

In `train spans message.labels in assistant`, the message

    {"role": "assistant", "content": "It is 4.", "labels": [[6, 8]]}

lists the characters `4.`; in `train /[0-9]+/ in assistant` the regex matches `4`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from policy_engine.core.errors import RowError
from policy_engine.core.facts import SegmentFacts
from policy_engine.core.schema import json_type
from policy_engine.core.wording import a_kind
from policy_engine.lang.checked import Atom, CheckedTarget, Spans
from policy_engine.rules.conditions.chat_view import ChatView
from policy_engine.rules.conditions.comparison import MISSING, Differing, content_text, part_text, shown
from policy_engine.rules.conditions.patterns import ScanLimitError, compile_pattern
from policy_engine.rules.ranges import Range, intersect, union
from policy_engine.rules.turn_signatures import TurnTests


class SpanFinder:
    """Finds the characters that one `Spans` target of one statement selects.

    `wants` is the `train` flag of entries that count (None for all), `stage` the number of rules above the statement,
    `place` the statement's name in an error.
    """

    def __init__(self, spans: Spans, *, tests: TurnTests, stage: int, wants: bool | None, place: str) -> None:
        self.spans = spans
        self._tests = tests
        self._stage = stage
        self._wants = wants
        self._place = place
        self._inside: tuple[Atom | SpanFinder, ...] = tuple(
            as_finder(inner, tests=tests, stage=stage, wants=wants, place=place) for inner in spans.inside
        )
        self._pattern = None if spans.pattern is None else compile_pattern(spans.pattern, spans.flags)
        self._nested = any(isinstance(inner, SpanFinder) and inner.reads_data for inner in self._inside)
        # As written, with its flags: the budget reads it to bound how far a search can look.
        self._source = f"(?{spans.flags}){spans.pattern}"

    @property
    def reads_data(self) -> bool:
        """True if it reads spans in the data, which may be bad."""
        return self.spans.field is not None or self._nested

    def read_inside(self, view: ChatView, index: int) -> None:
        """Raises RowError for bad spans in the data that select the text which is searched."""
        if self._nested:
            self._selected(view, index)

    def could_match(self, role: str | None, part: str, signature: int) -> bool:
        """True if some text of such a segment could be selected."""
        return any(
            self._tests.matches(inner, self._stage, role, part, signature)
            if isinstance(inner, Atom)
            else inner.could_match(role, part, signature)
            for inner in self._inside
        )

    def ranges(self, view: ChatView, index: int) -> list[Range]:
        """The selected characters of one segment.

        Raises RowError for an entry of the data that is no span.
        """
        if self.spans.sampled:
            segment = view.chat.segments[index]
            inside = self._selected(view, index)
            # `Program.table` has refused rows that do not say what was sampled.
            return intersect(_within(view.chat.sampled or (), segment.start, segment.end), inside) if inside else []
        if self._pattern is None:
            inside = self._selected(view, index)
            return intersect(self._listed(view, view.chat.segments[index]), inside) if inside else []
        turn = view.chat.segments[index].turn
        # A regex is searched in the runs of a whole turn, which its segments then share. The view lives for one call,
        # and the finder longer, so the id is its own.
        key = (id(self), turn)
        found: dict[int, list[Range]] | None = view.memo.get(key)
        if found is None:
            found = view.memo[key] = self._matched(view, turn)
        return found.get(index, [])

    def _selected(self, view: ChatView, index: int) -> list[Range]:
        """The characters of a segment that the inner targets select."""
        segment = view.chat.segments[index]
        role = view.role_of(segment)
        signature = 0 if segment.turn is None else view.signatures[segment.turn]
        found: list[Range] = []
        for inner in self._inside:
            # Nested: a regex that is searched in what another one finds.
            if not isinstance(inner, Atom):
                found += inner.ranges(view, index)
            elif self._tests.matches(inner, self._stage, role, segment.part, signature):
                found.append((segment.start, segment.end))
        return union(found)

    def _matched(self, view: ChatView, turn: int | None) -> dict[int, list[Range]]:
        """Matches of the regex in a turn's runs, by segment."""
        indices = view.segments_of(turn)
        # Segments that touch are one run: `/a.*b/ in assistant` may match over the end of the thinking.
        runs = union(r for index in indices for r in self._selected(view, index))
        matches: list[Range] = []
        try:
            for start, end in runs:
                text = view.chat.text[start:end]
                matches += [(start + a, start + b) for a, b in view.budget.matches(self._pattern, self._source, text)]
        # The budget does not know the rule, and the error should name it.
        except ScanLimitError:
            raise RowError(
                f"{self._place}: finding every match of `/{self.spans.pattern}/` reads too much of this row",
                help="let the regex match less at a time (`[^\\n]*`, not `[^x]*`), or select fewer parts with `in`",
                code="PE511",
            ) from None
        by_segment: dict[int, list[Range]] = {}
        segments = view.chat.segments
        for index in indices:
            found = intersect(matches, [(segments[index].start, segments[index].end)])
            if found:
                by_segment[index] = found
        return by_segment

    def _listed(self, view: ChatView, segment: SegmentFacts) -> list[Range]:
        """Entries of the data field that fall on the segment, as characters of the text."""
        field = self.spans.field
        if field is None:
            return []
        value = view.field_value(field.scope, field.path, segment)
        if value is MISSING or value is None or segment.turn is None:
            return []
        message = view.chat.messages[segment.turn]
        content = content_text(message) or ""
        # Before the segment is looked at: a bad entry fails the row, whether or not it falls on this segment.
        entries = self._entries(value, len(content), segment.turn)
        # Offsets mean nothing in text that the template changed, or wrote itself.
        if not segment.field_exact or segment.field is None:
            return []
        offset = content_offset(message, segment.field)
        if offset is None:
            return []
        # From offsets in the joined content to characters of the text, wherever the template has put the field and
        # whatever it has trimmed.
        shift = segment.start - offset - segment.field_start
        moved = [(start + shift, end + shift) for start, end in entries]
        return intersect(moved, [(segment.start, segment.end)])

    def _entries(self, value: Any, size: int, turn: int) -> list[Range]:
        """The entries that count, as half-open offsets in the content, sorted and joined."""
        if isinstance(value, Differing):
            raise self._problem(turn, f"differs from result to result ({shown(value)})")
        if not isinstance(value, (list, tuple)):
            raise self._problem(turn, f"is {a_kind(value)}, not a list of spans")
        found: list[Range] = []
        for entry in value:
            start, end, train = self._entry(entry, turn)
            if not 0 <= start <= end <= size:
                raise self._problem(turn, f"has {shown(entry)}, outside the {size} characters of the content")
            if train is None or self._wants is None or train == self._wants:
                found.append((start, end))
        return union(found)

    def _entry(self, entry: Any, turn: int) -> tuple[int, int, bool | None]:
        if isinstance(entry, (list, tuple)):
            # `true` is an integer to Python, and not in JSON.
            if len(entry) == 2 and all(_is_integer(n) for n in entry):
                return entry[0], entry[1], None
        elif isinstance(entry, Mapping):
            start, end, train = entry.get("begin_offset"), entry.get("end_offset"), entry.get("train")
            if _is_integer(start) and _is_integer(end) and (train is None or isinstance(train, bool)):
                # `end_offset` is inclusive, as in axolotl's `train_detail`.
                return start, end + 1, train
        wanted = "`[begin, end]` or `{begin_offset, end_offset, train}`"
        raise self._problem(turn, f"has {shown(entry)}, which is not {wanted}")

    def _problem(self, turn: int, what: str) -> RowError:
        assert self.spans.field is not None
        return RowError(
            f"{self._place}: `{self.spans.field}` of message {turn} {what}",
            help="offsets count characters of the message's content as it is in the data; `end` is one past the last "
            "character of a pair, and the last one itself in `end_offset`",
            code="PE512",
        )


def _within(ranges: Sequence[Range], start: int, end: int) -> list[Range]:
    """The ranges that have characters of `[start, end)`, of ranges in order.

    >>> _within([(0, 4), (6, 9)], 2, 7)
    [(2, 4), (6, 7)]
    """
    found: list[Range] = []
    # A rollout lists thousands of ranges, and is asked segment by segment: those before this one are skipped.
    for at in range(bisect_right(ranges, start, key=lambda r: r[1]), len(ranges)):
        if ranges[at][0] >= end:
            break
        found.append(ranges[at])
    return intersect(found, [(start, end)])


def uses_sampled(targets: Sequence[CheckedTarget]) -> bool:
    """True if a target asks which characters were sampled."""
    return any(isinstance(t, Spans) and (t.sampled or uses_sampled(t.inside)) for t in targets)


def content_offset(message: Any, field: tuple[str | int, ...]) -> int | None:
    """Offset of a field's text in the message's joined content; None for any other field.

    >>> content_offset({"content": [{"text": "ab"}, {"text": "c"}]}, ("content", 1, "text"))
    2
    """
    if field == ("content",):
        return 0
    content = message.get("content")
    if field[:1] != ("content",) or field[2:] not in ((), ("text",)) or not isinstance(content, (list, tuple)):
        return None
    return sum(len(part_text(part)) for part in content[: int(field[1])])


def _is_integer(value: Any) -> TypeGuard[int]:
    return json_type(value) == "integer"


def as_finder(target: CheckedTarget, **facts: Any) -> Atom | SpanFinder:
    """A target ready to be asked: an atom as it is, spans with a finder."""
    return target if isinstance(target, Atom) else SpanFinder(target, **facts)
