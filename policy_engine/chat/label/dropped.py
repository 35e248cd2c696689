"""Pieces of a conversation of which a template wrote nothing.

gpt-oss writes the first call of a message only:

    message   {"role": "assistant", "content": "", "tool_calls": [{… "first" …}, {… "second" …}]}
    text      <|start|>assistant to=functions.first<|channel|>commentary json<|message|>{…}<|call|>
    lost      tool_calls[1]

A piece is found by the origins of the characters that were written, not by its words: "Yes." that is lost in one
message is not excused by a "Yes." of another.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from policy_engine.chat.label.board import field_value
from policy_engine.chat.label.miswritten import Suspect, suspects_in
from policy_engine.chat.label.sources import Bit
from policy_engine.chat.segments import LostKind, Unrendered
from policy_engine.chat.trace.origins import LOST, UNKNOWN
from policy_engine.core.vocabulary import LABEL_FIELDS, MESSAGE_FIELDS, part_kind
from policy_engine.data.conversation import Conversation

Path = tuple[str | int, ...]

_CALL_LABELS: Final = LABEL_FIELDS - {"name"}
"""Keys of a call that label it; the name of a tool is what the model has to write."""
# Below these keys nothing is a label: `id` or `name` of an argument is content.
_ARGUMENTS: Final = frozenset({"arguments", "parameters", "input"})


@dataclass(frozen=True, kw_only=True)
class Written:
    """The data that renderings of one shape have in their text, empty and blank text aside."""

    fields: frozenset[tuple[int | None, str | int]]
    """(turn, name) of fields that are printed as they are, or changed as a whole."""
    paths: frozenset[tuple[int | None, Path]]
    """(turn, path) of everything printed."""
    items: frozenset[tuple[int | None, int]]
    """(turn, index) of content parts for which the template wrote something, a placeholder perhaps."""
    turns: frozenset[int | None]
    """Messages for which anything but blanks was written."""
    loose: tuple[tuple[int, int | None], ...]
    """Runs of text that was computed from data, each with its turn; None where that is not known."""
    suspects: tuple[Suspect, ...] = ()
    """Fields that are perhaps written letter by letter, or as a JSON string: see `chat.label.miswritten`."""


def written_in(bits: Sequence[Bit], text: str) -> Written:
    """The data in a text, by the bits it is made of."""
    paths: set[tuple[int | None, Path]] = set()
    items: set[tuple[int | None, int]] = set()
    turns: set[int | None] = set()
    loose: list[tuple[int, int | None]] = []
    for run, bit in enumerate(bits):
        # Empty data was written too, and says nothing.
        if bit.end <= bit.start:
            continue
        origin = bit.origin
        if origin is not None:
            if origin is UNKNOWN:
                loose.append((run, None))
            # A key that was printed does not mean that its value was.
            elif not origin.is_key:
                paths.add((origin.turn, origin.path))
                turns.add(origin.turn)
                if bit.offset == LOST:
                    loose.append((run, origin.turn))
        if text[bit.start : bit.end].isspace():
            continue
        turns.add(bit.turn)
        if bit.item is not None:
            items.add((bit.turn, bit.item))
    return Written(
        fields=frozenset((turn, path[0]) for turn, path in paths if len(path) == 1),
        paths=frozenset(paths),
        items=frozenset(items),
        turns=frozenset(turns),
        loose=tuple(loose),
        suspects=suspects_in(bits, text),
    )


def unwritten(
    written: Written, conversation: Conversation, text: str, lengths: Sequence[int]
) -> tuple[Unrendered, ...]:
    """The pieces, with something in them, of which no character reached the text.

    `lengths` are those of the runs that the text is made of.
    """
    search: _Search | None = None
    found: list[Unrendered] = []
    fields = written.fields
    for turn, message in enumerate(conversation.messages):
        doubtful = False
        # The fast path: nearly every row has its texts printed as they are, and needs no search.
        for name, value in message.items():
            kind = type(value)
            if kind is str:
                if (turn, name) in fields or not value or name in LABEL_FIELDS or value.isspace():
                    continue
            elif value is None or kind is bool or kind is int or kind is float or name in LABEL_FIELDS:
                continue
            doubtful = True
            break
        if doubtful:
            # Made when first needed: it is for rows that may have lost something.
            search = search or _Search(written, text, lengths)
            found += search.message(turn, message)
    for name, given in (("tools", conversation.tools), ("documents", conversation.documents)):
        if given and (None, name) not in fields:
            search = search or _Search(written, text, lengths)
            found += search.inputs(name, given)
    found += [Unrendered(turn=None, path=(name,), kind="input") for name in conversation.unused]
    return tuple(found)


class _Search:
    """Looks for the pieces of one conversation in its text."""

    def __init__(self, written: Written, text: str, lengths: Sequence[int]) -> None:
        self._written = written
        self._paths = written.paths
        self._text = text
        self._lengths = lengths
        self._loose: dict[int | None, str] | None = None

    def message(self, turn: int, message: Mapping[str, Any]) -> list[Unrendered]:
        """The lost pieces of a message; the message itself where nothing at all was written for it."""
        # The template printed the message as a whole (`message | tojson`).
        if (turn, ()) in self._paths:
            return []
        found: list[Unrendered] = []
        for name, value in message.items():
            if name not in LABEL_FIELDS:
                found += self._content(turn, value) if name == "content" else self._field(turn, name, value)
        # One finding for a message that the template skips, not one for each field.
        if found and turn not in self._written.turns:
            return [Unrendered(turn=turn, path=(), kind="message")]
        return [lost for lost in found if not self._has_twin(lost, message, found)]

    def inputs(self, name: str, values: Sequence[Any]) -> list[Unrendered]:
        """Tools of which nothing was written, and documents or their fields."""
        # Documents are data: each of their fields counts. Of a tool, one word is enough to show that it was
        # written.
        if name == "documents":
            _, gone = self._walk(None, list(values), (name,), LABEL_FIELDS)
            return [Unrendered(turn=None, path=path, kind="input") for path in gone]
        reached = {path[1] for turn, path in self._paths if turn is None and path[0] == name and len(path) > 1}
        lost = [i for i, value in enumerate(values) if i not in reached and not self._is_loose(None, _name(value))]
        if len(lost) == len(values):
            return [Unrendered(turn=None, path=(name,), kind="input")]
        return [Unrendered(turn=None, path=(name, i), kind="input") for i in lost]

    def _content(self, turn: int, content: Any) -> list[Unrendered]:
        if not isinstance(content, list | tuple):
            return self._field(turn, "content", content)
        if (turn, ("content",)) in self._paths:
            return []
        found: list[Unrendered] = []
        whole, pieces = True, 0
        for index, part in enumerate(content):
            kind = cast(LostKind, (part_kind(part) if isinstance(part, Mapping) else "text") or "other")
            # A placeholder is what a template writes of a picture.
            if kind in ("media", "other") and (turn, index) in self._written.items:
                whole = False
                continue
            there, lost = self._walk(turn, part, ("content", index), _labels(kind))
            pieces += there
            whole = whole and (not there or lost == [("content", index)])
            found += [Unrendered(turn=turn, path=path, kind=kind) for path in lost]
        # All parts lost for one reason: one finding for the content.
        if pieces > 1 and whole and len({lost.kind for lost in found}) == 1:
            return [Unrendered(turn=turn, path=("content",), kind=found[0].kind)]
        return found

    def _field(self, turn: int, name: str, value: Any) -> list[Unrendered]:
        kind = cast(LostKind, MESSAGE_FIELDS.get(name, "other"))
        _, lost = self._walk(turn, value, (name,), _labels(kind))
        return [Unrendered(turn=turn, path=path, kind=kind) for path in lost]

    def _walk(self, turn: int | None, value: Any, path: Path, labels: frozenset[str]) -> tuple[bool, list[Path]]:
        """True if there is anything in a value; and the paths of the highest lost values in it."""
        if isinstance(value, str):
            if not value or value.isspace():
                return False, []
            is_lost = (turn, path) not in self._paths and not self._is_loose(turn, value)
            return True, [path] if is_lost else []
        if value is None or isinstance(value, bool):
            return False, []
        if isinstance(value, int | float):
            if labels:  # a number is content among the arguments of a call, and elsewhere a flag
                return False, []
            # A number may be formatted into text that keeps no origin; its digits are looked for then.
            return True, [path] if (turn, path) not in self._paths and str(value) not in self._text else []
        if (turn, path) in self._paths:
            return True, []
        if isinstance(value, Mapping):
            steps: Iterator[tuple[Any, Any]] = ((k, v) for k, v in value.items() if k not in labels)
        elif isinstance(value, list | tuple):
            steps = iter(enumerate(value))
        else:
            return False, []
        lost: list[Path] = []
        any_there, all_lost = False, True
        for step, item in steps:
            below = (*path, step)
            there, gone = self._walk(turn, item, below, frozenset() if step in _ARGUMENTS else labels)
            # A value that has nothing but lost values is reported itself, not each of them.
            any_there = any_there or there
            all_lost = all_lost and (not there or gone == [below])
            lost += gone
        return any_there, [path] if any_there and all_lost else lost

    def _is_loose(self, turn: int | None, value: str) -> bool:
        """True if a text is found in what the template computed from several pieces of data."""
        if not value or not self._written.loose:
            return False
        if self._loose is None:
            self._loose = {}
            ends = list(itertools.accumulate(self._lengths))
            for run, owner in self._written.loose:
                piece = self._text[ends[run] - self._lengths[run] : ends[run]]
                # In lower case, since templates change the case of names; looked for as it is, and as JSON writes
                # it.
                self._loose[owner] = f"{self._loose.get(owner, '')}\n{piece.casefold()}"
        near = self._loose.get(turn, "") + self._loose.get(None, "")
        shown = value.strip().casefold()
        return shown in near or json.dumps(shown)[1:-1] in near or json.dumps(shown, ensure_ascii=False)[1:-1] in near

    def _is_in_id(self, lost: Unrendered, message: Mapping[str, Any]) -> bool:
        """True if a tool's name was written in the call's id, as Kimi has it: `functions.search:0`."""
        at = lost.path[:2]
        id = field_value(message, (*at, "id"))
        return isinstance(id, str) and (lost.turn, (*at, "id")) in self._paths and field_value(message, lost.path) in id

    def _has_twin(self, lost: Unrendered, message: Mapping[str, Any], found: Sequence[Unrendered]) -> bool:
        """True if the message has the same under another name, and that was written."""
        if lost.path[-1:] == ("name",) and self._is_in_id(lost, message):
            return True
        name = lost.path[0]
        kind = MESSAGE_FIELDS.get(str(name))
        # Only these have several names in public data (`reasoning`, `reasoning_content`).
        if kind not in ("reasoning", "call"):
            return False
        gone = {other.path[0] for other in found if len(other.path) == 1}
        written = {
            text
            for other, value in message.items()
            if other != name and other not in gone and MESSAGE_FIELDS.get(other) == kind
            for text in _texts(value)
        }
        own = set(_texts(field_value(message, lost.path)))
        return bool(own) and written >= own


def _labels(kind: str) -> frozenset[str]:
    return _CALL_LABELS if kind == "call" else LABEL_FIELDS


def _name(value: Any) -> str:
    """The name of a tool or the title of a document; empty if it has neither.

    >>> _name({"type": "function", "function": {"name": "weather"}}), _name({"title": "Rome"})
    ('weather', 'Rome')
    """
    if not isinstance(value, Mapping):
        return str(getattr(value, "__name__", ""))
    # OpenAI's schema has the name one level down, others have it at the top.
    inner = value.get("function")
    inner = inner if isinstance(inner, Mapping) else value
    return next((inner[key] for key in ("name", "title", "text") if isinstance(inner.get(key), str)), "")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if key not in _CALL_LABELS:
                yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
