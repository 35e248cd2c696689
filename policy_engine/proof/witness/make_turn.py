"""One turn of a plan, made real: a message and the texts of its segments, which agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from policy_engine.core.vocabulary import BODY, FROM_PARTS, PARTS
from policy_engine.proof.model.field_values import FieldValues, Name, Test
from policy_engine.proof.model.free_conditions import CHARS
from policy_engine.proof.model.positions import OTHER
from policy_engine.proof.model.world import ANSWER_ROLE, World
from policy_engine.proof.witness.find_values import (
    Seed,
    Unrealised,
    Wanted,
    find_string,
    put,
    seeds_of,
    string_wanted,
    value_for,
)
from policy_engine.proof.witness.joint_values import joint_value, make_message_fields, texts_wanted, wishes_of
from policy_engine.proof.witness.make_text import SegmentText, make_text
from policy_engine.proof.witness.neighbours import is_there
from policy_engine.proof.witness.plans import Assignment, SegmentPlan, TurnPlan
from policy_engine.rules.conditions.comparison import MISSING
from policy_engine.rules.conditions.conditions import test_of

CONTENT: Final[Name] = ("message", ("content",))
PART_TEXT: Final[Name] = ("part", ("text",))
_SAID: Final = {"user": "What is 2 + 2?", "assistant": "4.", "system": "Be brief.", "tool": "4"}
_CALL_ID: Final = "call_1"
_NO_CALL: Final = "call_0"
_TYPES: Final = {"media": "file", "media.audio": "audio", "media.video": "video"}
"""Types of the content parts that media belong to; images otherwise."""


def make_fields(world: World, scope: str, assignment: Assignment, data: dict[str, Any]) -> None:
    """Sets the fields of a scope that the policy tests, as assigned. Raises `Unrealised`."""
    # Shortest paths first, so that a deeper field does not lose the object around it.
    for name, values in sorted(world.conditions.fields.items(), key=lambda item: len(item[0][1])):
        if name[0] == scope and name not in (CONTENT, PART_TEXT):
            put(data, name[1], value_for(values, assignment))


def make_turn(world: World, turn: TurnPlan, messages: list[dict[str, Any]]) -> list[SegmentText]:
    """The body of a turn, and whatever else is planned; its message is added to `messages`.

    Raises `Unrealised` if the message and the texts cannot be made to agree.
    """
    return _Turn(world, turn, messages).pieces()


class _Turn:
    def __init__(self, world: World, turn: TurnPlan, messages: list[dict[str, Any]]) -> None:
        self.world = world
        self.fields: Mapping[Name, FieldValues] = world.conditions.fields
        self.turn = turn
        self.message: dict[str, Any] = {"role": _role(world, turn)}
        self.messages = messages
        wishes = wishes_of(world, turn).get(("content",), ())
        self.seen_content = [wish for wish in wishes if wish.values.name[0] != "message"]
        """Tests of other turns on the message's content."""
        messages.append(self.message)
        turn.message = self.message

    def pieces(self) -> list[SegmentText]:
        """See `make_turn`."""
        make_message_fields(self.world, self.turn, self.message)
        # In the order in which templates write parts: thinking before text, text before calls.
        planned = sorted(self.turn.segments, key=lambda s: PARTS.index(s.part))
        # A template can write text of its own for a message without content.
        sourced = [s for s in planned if self._is_content(s) and self._has_content(s.assignment)]
        # Several texts of one content, or data on content parts: only a list of parts can hold them.
        listed = len(sourced) > 1 or any(self._has_item(s) for s in planned)
        pieces: list[SegmentText] = []
        for segment, length in zip(planned, self._lengths(planned), strict=True):
            # The text is the whole content, so it must also meet what conditions ask of `message.content`.
            joint = not listed and segment in sourced
            pieces.append(self._piece(segment, joint, length))
        if listed:
            self._list_content(pieces)
        else:
            self._text_content(pieces, bool(sourced))
        self._calls(pieces)
        if self.turn.assignment is not None:
            self._spans(pieces)
        return sorted(pieces, key=lambda p: PARTS.index(p.part))

    # -- texts

    def _is_content(self, segment: SegmentPlan) -> bool:
        """True if a segment is text of the content: `text` is, and text that a data field lists."""
        spans = (self.world.conditions.spans[key] for key in self.world.conditions.span_fields)
        return segment.part == "text" or any(segment.assignment[variable] == 1 for variable in spans)

    def _has_item(self, segment: SegmentPlan) -> bool:
        """True if a segment has to belong to a content part."""
        values = [v for name, v in self.fields.items() if name[0] == "part"]
        cells = [v.cells[segment.assignment[v.variable]] for v in values]
        return segment.part in FROM_PARTS and any(c.kind != "value" or c.value is not MISSING for c in cells)

    def _lengths(self, planned: Sequence[SegmentPlan]) -> list[int | None]:
        """The lengths of the texts for which `turn.chars` is as assigned; the last takes the rest."""
        body = [i for i, s in enumerate(planned) if s.part in BODY]
        lengths: list[int | None] = [None] * len(planned)
        if CHARS not in self.fields or self.turn.assignment is None or not body:
            return lengths
        total = value_for(self.fields[CHARS], self.turn.assignment)
        # Every planned segment needs a character of its own.
        if total < len(body):
            raise Unrealised
        for i in body:
            lengths[i] = 1
        lengths[body[-1]] = total - len(body) + 1
        return lengths

    def _piece(self, segment: SegmentPlan, joint: bool, length: int | None) -> SegmentText:
        wanted: list[Wanted] = []
        seeds: list[Seed] = []
        if joint and CONTENT in self.fields:
            wanted, seeds = string_wanted(self.fields[CONTENT], segment.assignment)
        elif PART_TEXT in self.fields and self._has_item(segment):
            wanted, seeds = string_wanted(self.fields[PART_TEXT], segment.assignment)
        if joint:
            more, hints = texts_wanted(self.seen_content)
            wanted, seeds = [*wanted, *more], [*seeds, *hints]
        role = self.message["role"]
        usual = _SAID.get(role) if segment.part == "text" else None
        text = make_text(self.world, segment, role, wanted, usual=usual, seeds=seeds, length=length)
        return SegmentText(part=segment.part, text=text, plan=segment, field=("content",) if joint else None)

    def _has_content(self, assignment: Assignment) -> bool:
        """True if the message has content that is text, as far as the policy asks."""
        values = self.fields.get(CONTENT)
        cell = None if values is None else values.cells[assignment[values.variable]]
        # Without a cell nothing asks for the content, so it can be text.
        return cell is None or cell.kind == "string" or isinstance(cell.value, str)

    # -- the message

    def _text_content(self, pieces: list[SegmentText], sourced: bool) -> None:
        if sourced:
            self.message["content"] = next(p.text for p in pieces if p.field == ("content",))
            return
        if CONTENT in self.fields and self.turn.assignment is not None:
            content = value_for(self.fields[CONTENT], self.turn.assignment)
        # Nothing asks for this message, so it says what such a message usually says.
        elif not self.turn.exact:
            content = _SAID.get(self.message["role"], "Noted.")
        else:
            content = ""
        if self.seen_content:
            own = CONTENT in self.fields and self.turn.assignment is not None
            wishes = wishes_of(self.world, self.turn)[("content",)] if own else self.seen_content
            content = joint_value(wishes, content)
        # A message without content has no such key, as in `has message.content`.
        if content is not MISSING:
            self.message["content"] = content
        if all(p.part != "text" for p in pieces):
            self._fill(pieces)

    def _fill(self, pieces: list[SegmentText]) -> None:
        """Shows the content of a turn of which nobody asks how its body is, as a template would."""
        text = self.message.get("content")
        counted = CHARS in self.fields and self.turn.assignment is not None
        if text and not self.turn.exact and not counted:
            pieces.append(SegmentText(part="text", text=text, field=("content",)))

    def _list_content(self, pieces: list[SegmentText]) -> None:
        items: list[dict[str, Any]] = []
        for piece in pieces:
            assert piece.plan is not None
            if not self._is_content(piece.plan) and not self._has_item(piece.plan):
                continue
            # Media, or a part of the body that is no text, need some part to belong to.
            item: dict[str, Any] = {"type": _TYPES.get(piece.part, "image")}
            if self._is_content(piece.plan):
                item = {"type": "text", "text": piece.text}
                piece.field = ("content", len(items), "text")
            if self._has_item(piece.plan):
                piece.item = len(items)
                make_fields(self.world, "part", piece.plan.assignment, item)
            items.append(item)
        wishes = wishes_of(self.world, self.turn).get(("content",))
        if wishes:
            if self.turn.assignment is not None and not self._has_content(self.turn.assignment):
                raise Unrealised
            wanted, seeds = texts_wanted(wishes)
            joined = "".join(item.get("text", "") for item in items)
            # Conditions on `message.content` see all parts joined, so one more part can make up what is missing.
            rest = find_string([lambda s: all(test(joined + s) for test in wanted)], seeds, first="")
            if rest:
                items.append({"type": "text", "text": rest})
        self.message["content"] = items

    def _calls(self, pieces: Sequence[SegmentText]) -> None:
        made = [p for p in pieces if p.plan is not None and p.part.startswith("tool_call")]
        if made:
            names = [p.text for p in made if p.part == "tool_call.name"]
            written = [p.text for p in made if p.part == "tool_call.arguments"]
            # Segments under one assignment are of one call.
            assignments = {tuple(p.plan.assignment) for p in made if p.plan is not None}
            calls = [_call(self.world, a, *names[:1], *written[:1] if names else ()) for a in sorted(assignments)]
            order = sorted(assignments)
            for piece in made:
                assert piece.plan is not None
                piece.call = order.index(tuple(piece.plan.assignment))
            # A condition on `message.tool_calls` may have set it, and goes first.
            self.message.setdefault("tool_calls", calls)
        if self.turn.called:
            self._make_call(made[0].call if made else None)
        if self.turn.answers is not None and self.turn.answers.call is not None:
            turn, number = self.turn.answers.call
            if isinstance(identity := self.messages[turn]["tool_calls"][number].get("id"), str):
                self.message.setdefault("tool_call_id", identity)
        elif self.message["role"] == "tool" and self.turn.assignment is not None and not made:
            self._answer(self.turn.assignment)
        elif self.message["role"] == "tool" and "result" in self.world.conditions.asks_for:
            # Without an id it would answer whatever call is before it.
            self.message.setdefault("tool_call_id", _NO_CALL)
        for piece in pieces:
            # Without a field of its own for thinking, a message that has some gets the usual one.
            bare = piece.part == "reasoning.text" and piece.field is None and piece.item is None
            if bare and self.message.setdefault("reasoning_content", piece.text) == piece.text:
                piece.field = ("reasoning_content",)

    def _make_call(self, number: int | None) -> None:
        """Lets the message make the call that a result answers.

        If its text has that call, `number` is the call's.
        """
        calls = self.message.setdefault("tool_calls", [])
        if not isinstance(calls, list):
            raise Unrealised
        if number is None:
            number = len(calls)
            function = {"name": "lookup", "arguments": "{}"}
            calls.append({"id": f"call_{len(self.messages)}", "type": "function", "function": function})
        self.turn.call = len(self.messages) - 1, number

    def _answer(self, assignment: Assignment) -> None:
        """Lets a message before have made the call that a tool turn answers."""
        if not is_there(self.world, "call", assignment) and not is_there(self.world, "answer", assignment):
            return
        caller = self.turn.answers
        before = self.messages[:-1]
        made = [m for m in before if caller is not None and m is caller.message] or before[-1:]
        if not made:
            raise Unrealised
        call = _call(self.world, assignment)
        calls = made[0].setdefault("tool_calls", [])
        if not isinstance(calls, list):
            raise Unrealised
        # In front: without ids the first tool turn answers the first call.
        calls.insert(0, call)
        if isinstance(call.get("id"), str):
            self.message["tool_call_id"] = call["id"]

    def _spans(self, pieces: Sequence[SegmentText]) -> None:
        """Fills in the fields that list spans, as the segments of the turn need them."""
        conditions = self.world.conditions
        content = self.message.get("content")
        # Offsets count the characters of the joined content.
        size = len(content) if isinstance(content, str) else sum(len(i.get("text", "")) for i in content or ())
        for listed in dict.fromkeys(conditions.span_fields.values()):
            keys = [key for key, name in conditions.span_fields.items() if name == listed]
            # A key ends with the effect that its entries count for (see `span_key`).
            wants = {key.rsplit(":", 1)[1]: conditions.spans[key] for key in keys}
            entries: list[Any] = []
            for piece in pieces:
                if piece.plan is not None and piece.field is not None and size:
                    entries += _entries({want: piece.plan.assignment[v] == 1 for want, v in wants.items()}, size)
            if entries and listed[0] == "message":
                put(self.message, listed[1], entries)


def _entries(wants: Mapping[str, bool], size: int) -> list[Any]:
    """Entries over a whole content that count for some effects only.

    `True` is the effect `train`, `False` is `mask`, and `None` is `scale`.

    >>> _entries({"True": True, "False": False}, 4)
    [{'begin_offset': 0, 'end_offset': 3, 'train': True}]
    """
    whole = {"begin_offset": 0, "end_offset": size - 1}
    for entries, counts in (
        ([], ()),
        ([[0, size]], ("True", "False", "None")),
        ([{**whole, "train": True}], ("True", "None")),
        ([{**whole, "train": False}], ("False", "None")),
    ):
        if all((want in counts) == holds for want, holds in wants.items()):
            return list(entries)
    raise Unrealised


def _call(world: World, assignment: Assignment, name: str = "lookup", arguments: str = "{}") -> dict[str, Any]:
    """A tool call with the fields that the policy tests.

    `call.name` is short for `call.function.name`.
    """
    function: dict[str, Any] = {"name": name, "arguments": arguments}
    call: dict[str, Any] = {"id": _CALL_ID, "type": "function", "function": function}
    for (scope, path), values in sorted(world.conditions.fields.items(), key=lambda item: len(item[0][1])):
        if scope == "call":
            value = value_for(values, assignment)
            if path and path[0] in ("name", "arguments"):
                put(function, path, value)
            else:
                put(call, path, value)
    return call


def _role(world: World, turn: TurnPlan) -> str:
    if turn.role != OTHER:
        return turn.role
    # No test leaves it open: any name that the policy does not have.
    if not any(True for _ in _role_tests(world, turn)):
        return next(r for r in ("narrator", "someone", *(f"role{i}" for i in range(1000))) if r not in world.roles)
    wanted: list[Wanted] = [lambda s: s not in world.roles]
    tests = list(_role_tests(world, turn))
    wanted += [lambda s, t=test, h=holds: test_of(t)(s) == h for test, holds in tests]  # type: ignore[misc]
    return find_string(wanted, seeds_of(tests), first="narrator")


def _role_tests(world: World, turn: TurnPlan) -> Iterator[tuple[Test, bool]]:
    """Tests on the role that the turn and its neighbours leave open, with their answers."""
    seers = [(seen.scope, seen.assignment) for seen in turn.seen]
    if turn.assignment is not None:
        seers.append(("message", turn.assignment))
    for scope, assignment in seers:
        for test in world.conditions.role_tests:
            variable = world.conditions.role_variable(test)
            if variable is not None and test.field.scope == scope:
                yield test, assignment[variable] == 1
        if scope == "answer" and ANSWER_ROLE in world.conditions.fields:
            yield from world.conditions.fields[ANSWER_ROLE].expected(assignment)
