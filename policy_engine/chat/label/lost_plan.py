"""Lost pieces of replayed rows: all rows of a layout have the same texts to compare.

message 1     content                    run 7 has all of it, or thinking was cut out in front
message 2     content                    run 12 has all of it
              reasoning_content          is not written: lost where a row has any
message 4     content                    run 19 has all of it
              tool_calls                 run 20 has all of a name, run 21 has arguments from bracket to bracket

`plan_of` makes such a list of one rendering; `dropped.unwritten` has the rules, and gives the same for each row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from policy_engine.chat.label.board import field_value
from policy_engine.chat.label.cut import Cutter
from policy_engine.chat.label.dropped import (
    ARGUMENTS,
    Search,
    cut_out,
    is_shorter,
    is_whole,
    kind_of,
    labels_of,
    unwritten,
)
from policy_engine.chat.label.layout import Scan
from policy_engine.chat.label.written import CHANGED, Path, Written
from policy_engine.chat.segments import LostKind, Unrendered
from policy_engine.core.vocabulary import LABEL_FIELDS, MESSAGE_FIELDS
from policy_engine.data.conversation import Conversation

_SCALARS: Final = (type(None), bool, int, float)


class Printed(NamedTuple):
    """A field that is printed."""

    name: str
    run: int
    kind: LostKind
    role: Any
    """The role of its message."""
    may_think: bool
    """True if it is the content of a model's message, and all of it that is written is this run."""


class Inside(NamedTuple):
    """The texts and objects that are to be written of a message with calls or other objects."""

    texts: list[tuple[Path, int | None]]
    """Texts, each with its run; None for one that no run has."""
    objects: list[Path]
    """Lists and objects that are printed in one piece."""
    is_all: bool
    """False where a row of the shape may have more in it."""


class LostPlan:
    """The steps for rows of one layout.

    Their messages have the same keys, roles and types of values.
    """

    __slots__ = ("_beside", "_cutter", "_steps", "_written")

    def __init__(self, written: Written, cutter: Cutter, steps: Sequence[Any], beside: Sequence[Unrendered]) -> None:
        self._written = written
        self._cutter = cutter
        self._steps = steps
        self._beside = beside

    def lost(self, conversation: Conversation, scan: Scan) -> tuple[Unrendered, ...]:
        """The pieces that `unwritten` finds in a row."""
        written, cutter = self._written, self._cutter
        messages = conversation.messages
        found: list[Unrendered] = []
        search: Search | None = None
        for turn, printed, absent, inside in self._steps:
            message = messages[turn]
            missing = False
            for name, gone in absent:
                value = message[name]
                if value and not value.isspace():
                    missing = True
                    found.append(gone)
            if inside is not None:
                if not _is_written(inside, turn, message, written, scan):
                    search = search or Search(written, scan, cutter)
                    found += search.message(turn, message)
                continue
            for name, run, kind, role, may_think in printed:
                value = message[name]
                if run == CHANGED and not is_shorter(written, turn, (name,), value, scan.lengths):
                    continue
                size = scan.size_of(run) if run >= 0 else -1
                if size == len(value) or (not missing and size == len(value.strip())):
                    continue
                # Another field may hold the same text: that is for the long way to find out.
                if missing or len(message) != len(("role", "content")):
                    return unwritten(written, conversation, scan, cutter)
                front = scan.fronts.get(run) if may_think else None
                if front is not None:  # `cut_out` would look for it again
                    found.append(Unrendered(turn=turn, path=(name,), kind="reasoning", cut=front))
                    continue
                found += cut_out(written, (turn, (name,)), value, scan, cutter, kind=kind, role=role)
        found += self._beside
        found += [Unrendered(turn=None, path=(name,), kind="input") for name in conversation.unused]
        return tuple(found)


def plan_of(
    written: Written,
    conversation: Conversation,
    scan: Scan,
    cutter: Cutter,
    whole: Mapping[int, tuple[int | None, Path]],
) -> LostPlan | None:
    """The plan for rows of a conversation's shape; None where each row has to go the long way.

    `whole` are the runs that are a field of any such row as it is, by turn and path.
    """
    beside: list[Unrendered] = []
    if conversation.tools and (None, "tools") not in written.fields:
        if written.loose:
            return None
        # The tools are part of the shape, and so is what is written of them.
        beside = Search(written, scan, cutter).inputs("tools", conversation.tools)
    if conversation.documents and (None, "documents") not in written.fields:
        return None
    steps = []
    for turn, message in enumerate(conversation.messages):
        step = _step(written, turn, message, cutter, whole)
        if step is None:
            return None
        if any(step):
            steps.append((turn, *step))
    return LostPlan(written, cutter, steps, beside)


def _step(
    written: Written,
    turn: int,
    message: Mapping[str, Any],
    cutter: Cutter,
    whole: Mapping[int, tuple[int | None, Path]],
) -> tuple[list[Printed], list[tuple[str, Unrendered]], Inside | None] | None:
    """The fields to compare, those that are lost if filled, and what is in its objects.

    None where its rows are not alike.
    """
    printed: list[Printed] = []
    absent: list[tuple[str, Unrendered]] = []
    fields = {name: value for name, value in message.items() if name not in LABEL_FIELDS}
    if any(not isinstance(value, (str, *_SCALARS)) for value in fields.values()):
        return [], [], _inside(written, turn, fields, whole)
    for name, value in fields.items():
        if not isinstance(value, str):
            continue
        run = written.fields.get((turn, name))
        kind = kind_of(name)
        if run is None:
            if not _is_surely_lost(written, turn, name, fields):
                return None
            absent.append((name, Unrendered(turn=turn, path=(name,), kind=kind)))
        elif whole.get(run) != (turn, (name,)):
            thinks = name == "content" and message.get("role") in cutter.models
            may_think = thinks and written.runs.get((turn, (name,))) == (run,)
            printed.append(Printed(name, run, kind, message.get("role"), may_think))
    return printed, absent, None


def _is_surely_lost(written: Written, turn: int, name: str, fields: Mapping[str, Any]) -> bool:
    """True if any words of a field that is not written are lost: no other text can have them."""
    kind = MESSAGE_FIELDS.get(name)
    twins = [other for other in fields if other != name and MESSAGE_FIELDS.get(other) == kind]
    if kind in ("reasoning", "call") and twins:
        return False
    return not written.loose and turn in written.turns and (turn, ()) not in written.paths


def _inside(
    written: Written, turn: int, fields: Mapping[str, Any], whole: Mapping[int, tuple[int | None, Path]]
) -> Inside:
    """The texts and objects of a message that is more than texts."""
    found = Inside([], [], True)
    is_all = not isinstance(fields.get("content"), list | tuple) and all(
        _add(found, written, turn, (name,), value, labels_of(kind_of(name))) for name, value in fields.items()
    )
    texts = [(path, run) for path, run in found.texts if run is None or whole.get(run) != (turn, path)]
    return found._replace(texts=texts, is_all=is_all)


def _add(found: Inside, written: Written, turn: int, path: Path, value: Any, labels: frozenset[str]) -> bool:
    """Adds what is in a value, as `Search` walks it; False where only a search finds all of it."""
    if isinstance(value, str):
        runs = written.runs.get((turn, path), ())
        found.texts.append((path, runs[0] if runs else None))
        return len(runs) == 1 or (turn, path) not in written.paths
    if value is None or isinstance(value, int | float):
        return value is None or bool(labels)
    if (turn, path) in written.paths:
        found.objects.append(path)
        return True
    # What is in arguments is no part of a shape.
    if path[-1] in ARGUMENTS:
        return False
    steps = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    return all(
        _add(found, written, turn, (*path, step), item, frozenset() if step in ARGUMENTS else labels)
        for step, item in steps
        if step not in labels
    )


def _is_written(inside: Inside, turn: int, message: Mapping[str, Any], written: Written, scan: Scan) -> bool:
    """True if all of a message is written for certain."""
    if not inside.is_all:
        return False
    for path, run in inside.texts:
        value = message[str(path[0])] if len(path) == 1 else field_value(message, path)
        if len(value) != (0 if run is None else scan.size_of(run)):
            return False
    return all(is_whole(written, scan, turn, path) for path in inside.objects)
