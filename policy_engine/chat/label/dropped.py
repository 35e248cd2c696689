"""Pieces of a conversation of which a template wrote nothing.

gpt-oss writes the first call of a message only:

    message   {"role": "assistant", "content": "", "tool_calls": [{… "first" …}, {… "second" …}]}
    text      <|start|>assistant to=functions.first<|channel|>commentary json<|message|>{…}<|call|>
    lost      tool_calls[1]

A piece is looked for by the origins of the characters that were written, not by its words: if one message loses its
"Yes.", a "Yes." of another message does not hide that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

from policy_engine.chat.label.board import field_value
from policy_engine.chat.label.cut import Cutter, json_strings
from policy_engine.chat.label.layout import Scan
from policy_engine.chat.label.written import CHANGED, INPUTS, Path, Written
from policy_engine.chat.segments import LostKind, Unrendered
from policy_engine.core.vocabulary import LABEL_FIELDS, MESSAGE_FIELDS, part_kind
from policy_engine.data.conversation import Conversation

_JSON: Final = re.compile(r'(?:[\s{}\[\]:,"]|-?\d[\d.eE+-]*|true|false|null)*')
"""Text of JSON without any string: no word of it can be lost."""
_CALL_LABELS: Final = LABEL_FIELDS - {"name"}
"""Keys of a call that label it; the name of a tool is what the model has to write."""
# Below these keys nothing is a label: `id` or `name` of an argument is content.
ARGUMENTS: Final = frozenset({"arguments", "parameters", "input"})


def unwritten(written: Written, conversation: Conversation, scan: Scan, cutter: Cutter) -> tuple[Unrendered, ...]:
    """The pieces with something in them that did not reach the text, as a whole or in part.

    `scan` has the text, and the lengths and offsets of the runs that it is made of.
    """
    lengths = scan.lengths
    search: Search | None = None
    found: list[Unrendered] = []
    fields = written.fields
    for turn, message in enumerate(conversation.messages):
        doubtful = False
        cuts: list[Unrendered] = []
        # The fast path: nearly every row has its texts printed as they are, and needs no search.
        for name, value in message.items():
            kind = type(value)
            if kind is str:
                run = fields.get((turn, name))
                if run is None:
                    if not value or name in LABEL_FIELDS or value.isspace():
                        continue
                elif (run >= 0 and lengths[run] == len(value)) or name in LABEL_FIELDS:
                    continue
                elif run == CHANGED:
                    if not is_shorter(written, turn, (name,), value, lengths):
                        continue
                elif run >= 0 and lengths[run] == len(value.strip()):
                    continue  # many templates trim what they write
                else:
                    own = cut_out(
                        written, (turn, (name,)), value, scan, cutter, kind=kind_of(name), role=message.get("role")
                    )
                    cuts += own
                    # Another field may hold the same thinking.
                    if not own or len(message) == len(("role", "content")):
                        continue
            elif value is None or kind is bool or kind is int or kind is float or name in LABEL_FIELDS:
                continue
            doubtful = True
            break
        if doubtful:
            # Made when first needed: it is for rows that may have lost something.
            search = search or Search(written, scan, cutter)
            found += search.message(turn, message)
        else:
            found += cuts
    for name, given in (("tools", conversation.tools), ("documents", conversation.documents)):
        if given and (None, name) not in fields:
            search = search or Search(written, scan, cutter)
            found += search.inputs(name, given)
    found += [Unrendered(turn=None, path=(name,), kind="input") for name in conversation.unused]
    return tuple(found)


def is_shorter(written: Written, turn: int | None, path: Path, value: str, lengths: Sequence[int]) -> bool:
    """True if less is written of a changed text than it has."""
    return sum([lengths[run] for run in written.changed.get((turn, path), ())]) < len(value.strip())


def cut_out(
    written: Written,
    place: tuple[int | None, Path],
    value: str,
    scan: Scan,
    cutter: Cutter,
    *,
    kind: LostKind,
    role: Any,
) -> list[Unrendered]:
    """The first text, and the first thinking, left out of a text that is written in part.

    `place` is the text's turn and path, `kind` that of the field, and `role` of the message.
    """
    turn, path = place
    runs = written.runs.get(place)
    if runs is None:
        # Changed characters do not say which are missing: words do, where fewer are written than there are.
        if not is_shorter(written, turn, path, value, scan.lengths):
            return []
        shown = "\n".join(map(scan.run_text, written.changed.get(place, ())))
        gone = cutter.missing(value, shown)
        # The values of arguments given as JSON text may be written, without its escapes.
        if gone is not None and path[-1:] == ("arguments",):
            gone = cutter.missing(json_strings(value), shown)
        return [] if gone is None else [Unrendered(turn=turn, path=path, kind=kind, cut=gone)]
    thinks = path[0] == "content" and role in cutter.models
    if thinks and len(runs) == 1:
        # The usual case, in a fraction of the time: thinking in front is left out, and all the rest is written.
        front = cutter.front_thinking(value, *scan.range_of(runs[0]))
        if front is not None:
            return [Unrendered(turn=turn, path=path, kind="reasoning", cut=front)]
    ranges = [scan.range_of(run) for run in runs]
    found: dict[LostKind, Unrendered] = {}
    # Arguments given as JSON text, of which an encoder writes the values: their quotes and numbers are its own text.
    parsed = kind == "call" and path[-1:] == ("arguments",)
    for cut in cutter.cuts(value, ranges, thinks=thinks):
        if parsed and _JSON.fullmatch(value, cut.start, cut.end):
            continue
        own: LostKind = "reasoning" if cut.is_thinking else kind
        found.setdefault(own, Unrendered(turn=turn, path=path, kind=own, cut=(cut.start, cut.end)))
    return list(found.values())


class Search:
    """Looks for the pieces of one conversation in its text."""

    def __init__(self, written: Written, scan: Scan, cutter: Cutter) -> None:
        self._written = written
        self._scan = scan
        self._cutter = cutter
        self._paths = written.paths
        self._cuts: list[Unrendered] = []
        self._kind: LostKind = "other"
        self._role: Any = None
        self._loose: dict[int | None, str] | None = None
        # True while in an object of which a template printed a stretch, and nobody knows which.
        self._in_stretch = False

    def message(self, turn: int, message: Mapping[str, Any]) -> list[Unrendered]:
        """The lost pieces of a message; the message itself where nothing at all was written for it."""
        # The template printed the message as a whole (`message | tojson`).
        if (turn, ()) in self._paths:
            return []
        self._role = message.get("role")
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
            self._kind, self._in_stretch = "input", False
            _, gone = self._walk(None, list(values), (name,), LABEL_FIELDS)
            lost_here = [Unrendered(turn=None, path=path, kind="input") for path in gone]
            return [*lost_here, *self._take_cuts()]
        reached = {path[1] for turn, path in self._paths if turn is None and path[0] == name and len(path) > 1}
        lost = [i for i, value in enumerate(values) if i not in reached and not self._is_loose(None, _name(value))]
        if len(lost) == len(values):
            return [Unrendered(turn=None, path=(name,), kind="input")]
        return [Unrendered(turn=None, path=(name, i), kind="input") for i in lost]

    def _content(self, turn: int, content: Any) -> list[Unrendered]:
        if not isinstance(content, list | tuple):
            return self._field(turn, "content", content)
        self._in_stretch = False
        if (turn, ("content",)) in self._paths:
            if is_whole(self._written, self._scan, turn, ("content",)):
                return []
            self._in_stretch = True
        found: list[Unrendered] = []
        whole, pieces = True, 0
        for index, part in enumerate(content):
            kind = cast(LostKind, (part_kind(part) if isinstance(part, Mapping) else "text") or "other")
            # A placeholder is what a template writes of a picture.
            if kind in ("media", "other") and (turn, index) in self._written.items:
                whole = False
                continue
            self._kind = kind
            there, lost = self._walk(turn, part, ("content", index), labels_of(kind))
            pieces += there
            whole = whole and (not there or lost == [("content", index)])
            found += [Unrendered(turn=turn, path=path, kind=kind) for path in lost]
            found += self._take_cuts()
        # All parts lost for one reason: one finding for the content.
        if pieces > 1 and whole and len({lost.kind for lost in found}) == 1:
            return [Unrendered(turn=turn, path=("content",), kind=found[0].kind)]
        return found

    def _field(self, turn: int, name: str, value: Any) -> list[Unrendered]:
        kind = self._kind = kind_of(name)
        self._in_stretch = False
        _, lost = self._walk(turn, value, (name,), labels_of(kind))
        return [*(Unrendered(turn=turn, path=path, kind=kind) for path in lost), *self._take_cuts()]

    def _walk(self, turn: int | None, value: Any, path: Path, labels: frozenset[str]) -> tuple[bool, list[Path]]:
        """True if there is anything in a value; and the paths of the highest lost values in it."""
        if isinstance(value, str):
            if not value or value.isspace():
                return False, []
            if (turn, path) in self._paths:
                runs = self._written.runs.get((turn, path), ())
                # The usual case: all of it is written, in one run.
                if len(runs) == 1 and self._scan.lengths[runs[0]] == len(value):
                    return True, []
                self._cuts += cut_out(
                    self._written, (turn, path), value, self._scan, self._cutter, kind=self._kind, role=self._role
                )
                return True, []
            return True, [] if self._is_loose(turn, value) else self._behind_stretch(turn, path, value)
        if value is None:
            return False, []
        if isinstance(value, int | float):
            if labels:  # numbers and truth values are content among the arguments of a call, and elsewhere flags
                return False, []
            return True, [] if (turn, path) in self._paths or self._is_printed(turn, value) else [path]
        if (turn, path) in self._paths:
            if is_whole(self._written, self._scan, turn, path):
                return True, []
            self._in_stretch = True
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
            there, gone = self._walk(turn, item, below, frozenset() if step in ARGUMENTS else labels)
            # A value that has nothing but lost values is reported itself, not each of them.
            any_there = any_there or there
            all_lost = all_lost and (not there or gone == [below])
            lost += gone
        return any_there, [path] if any_there and all_lost else lost

    def _behind_stretch(self, turn: int | None, path: Path, value: str) -> list[Path]:
        """The path of a text that is lost.

        Of a text that is written in part, in a stretch of what was printed, the rest is kept as a cut.
        """
        cut = self._cutter.missing(value, self._near(turn)) if self._in_stretch else None
        if cut is None or cut == self._cutter.missing(value, ""):
            return [path]
        self._cuts.append(Unrendered(turn=turn, path=path, kind=self._kind, cut=cut))
        return []

    def _take_cuts(self) -> list[Unrendered]:
        """The cuts in the texts that were walked since this was last asked."""
        cuts, self._cuts = self._cuts, []
        return cuts

    def _is_printed(self, turn: int | None, value: float) -> bool:
        """True if a number or a truth value is in what the template wrote for its message.

        It may be formatted into text that keeps no origin.
        """
        near = self._written.values.get(turn, "")
        return any(shown in near or self._is_loose(turn, shown) for shown in {str(value), json.dumps(value)})

    def _is_loose(self, turn: int | None, value: str) -> bool:
        """True if a text is found in what the template computed from several pieces of data."""
        if not value or not self._written.loose:
            return False
        near = self._near(turn)
        shown = value.strip().casefold()
        # As it is, as JSON writes it, and as Python does.
        return (
            shown in near
            or json.dumps(shown)[1:-1] in near
            or json.dumps(shown, ensure_ascii=False)[1:-1] in near
            or repr(shown)[1:-1] in near
        )

    def _near(self, turn: int | None) -> str:
        """The text that the template computed from data of a turn, in lower case."""
        if self._loose is None:
            self._loose = {}
            for run, owner in self._written.loose:
                # Templates change the case of names.
                self._loose[owner] = f"{self._loose.get(owner, '')}\n{self._scan.run_text(run).casefold()}"
        return self._loose.get(INPUTS if turn is None else turn, "") + self._loose.get(None, "")

    def _is_in_id(self, lost: Unrendered, message: Mapping[str, Any]) -> bool:
        """True if a tool's name was written in the call's id, as Kimi has it: `functions.search:0`."""
        at = lost.path[:2]
        id = field_value(message, (*at, "id"))
        return isinstance(id, str) and (lost.turn, (*at, "id")) in self._paths and field_value(message, lost.path) in id

    def _is_thought_elsewhere(self, lost: Unrendered, message: Mapping[str, Any]) -> bool:
        """True if thinking that is cut out of the content was written as a field of the message."""
        whole = field_value(message, lost.path)
        thought = whole[slice(*lost.cut)] if lost.cut is not None and isinstance(whole, str) else ""
        return any(
            thought in text and (lost.turn, (name,)) in self._paths
            for name, value in message.items()
            if MESSAGE_FIELDS.get(name) == "reasoning"
            for text in _texts(value)
        )

    def _has_twin(self, lost: Unrendered, message: Mapping[str, Any], found: Sequence[Unrendered]) -> bool:
        """True if the message has the same under another name, and that was written."""
        if lost.path[-1:] == ("name",) and self._is_in_id(lost, message):
            return True
        if lost.cut is not None:
            return lost.kind == "reasoning" and self._is_thought_elsewhere(lost, message)
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


def is_whole(written: Written, scan: Scan, turn: int | None, path: Path) -> bool:
    """True if a list or an object was printed from its first bracket to its last."""
    runs = written.changed.get((turn, path))
    if not runs:
        return True
    text = "".join(map(scan.run_text, runs))
    if text[:1] + text[-1:] not in ("[]", "{}"):
        return False
    return text.count("[") == text.count("]") and text.count("{") == text.count("}")


def kind_of(name: str) -> LostKind:
    """The kind of a piece that is a field of a message."""
    return cast(LostKind, MESSAGE_FIELDS.get(name, "other"))


def labels_of(kind: str) -> frozenset[str]:
    """The keys of objects that label them, and say nothing, in a field of a kind."""
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
