"""The end of a way through a template: the text of a row.

<|im_start|>user⏎   field 3   <|im_end|>⏎<|im_start|>assistant⏎   register 12   <|im_end|>⏎

Each field is one run of characters, and mostly each register too: then only lengths and offsets change from row to row.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from policy_engine.chat.label.cut import Cutter
from policy_engine.chat.label.dropped import unwritten
from policy_engine.chat.label.layout import Layout, Scan
from policy_engine.chat.label.lost_plan import LostPlan, plan_of
from policy_engine.chat.label.written import Path
from policy_engine.chat.segments import Unrendered
from policy_engine.chat.skeleton.record import Recording
from policy_engine.chat.skeleton.tape import Probe, Tape
from policy_engine.chat.trace.origins import LOST, Origin, Scaffold
from policy_engine.chat.trace.text import Traced, runs_of, traced
from policy_engine.data.conversation import Conversation

_MOST_LAYOUTS: Final = 64
"""Layouts of one way: which of its fields are empty, and where its thinking is."""

_UNCLAIMED: Final = Scaffold(None)
Constant = tuple[str, tuple[int, ...], tuple[int, ...], tuple[tuple[int, Origin], ...]]
"""Text that is the same in every row: its runs by length and offset, and those of them that are data."""
Item = tuple[Constant | None, int, Origin | None]
"""A piece of a text: a constant, or a register and the field that it is."""


class Slot(NamedTuple):
    """A register in a text, between the constants around it."""

    run: int
    """Its run, where each register is one run."""
    data: int
    """Its place in `Leaf.data`."""
    field: Origin | None
    """The field that it is; None for what a step made."""


class Leaf:
    """The end of a way: the pieces that it writes, and the layouts that they were seen to have."""

    __slots__ = (
        "_plans", "_read", "_shifts", "_watched", "data", "items", "layouts", "lengths", "made", "offsets", "place",
        "slots", "texts", "uses",
    )  # fmt: skip

    def __init__(self, items: list[Item]) -> None:
        self.items = items
        # The same once more for rows whose registers are one run each. Constants are at even places, and registers at
        # odd ones, so that all of these are put in at once.
        self.texts: list[str] = [""]
        self.lengths: list[int] = []
        self.offsets: list[int] = []
        self.data: list[tuple[int, Any]] = []
        self.slots: list[Slot] = []
        registers: list[int] = []
        for constant, register, origin in items:
            text, lengths, offsets, data = constant or ("", (0,), (0,), ((0, origin),))
            if constant is None:
                self.slots.append(Slot(len(self.lengths), len(self.data), origin))
                registers.append(register)
                self.texts += ("", "")
            self.data += [(len(self.lengths) + run, of) for run, of in data]
            self.texts[-1] += text
            self.lengths += lengths
            self.offsets += offsets
        self.made = [at for at, slot in enumerate(self.slots) if slot.field is None]
        """The slots whose registers were made by steps."""
        self._read = operator.itemgetter(*registers) if len(registers) > 1 else None
        self.place = {slot.run: at for at, slot in enumerate(self.slots)}
        """The slot of each run that is one."""
        self.layouts: dict[Any, Layout] = {}
        self.uses = 0
        self._plans: dict[Any, LostPlan | None] = {}
        self._shifts: dict[Layout, tuple[list[int], list[int]]] = {}
        self._watched: dict[Any, list[tuple[int, Origin]]] = {}

    def pieces_of(self, registers: Sequence[Any]) -> tuple[Any, ...]:
        """The content of each slot."""
        if self._read is not None:
            return self._read(registers)  # type: ignore[no-any-return]
        return tuple([registers[register] for constant, register, _ in self.items if constant is None])

    def watched(self, key: tuple[Any, ...], turns: frozenset[int], replay: Replay) -> list[tuple[int, Origin]]:
        """The runs of data of these turns, for rows of a key, which says what their data is."""
        found = self._watched.get((turns, key))
        if found is None:
            if len(self._watched) >= _MOST_LAYOUTS:
                self._watched.clear()
            found = self._watched[turns, key] = [(run, origin) for run, origin in replay.data if origin.turn in turns]
        return found

    def shifts_of(self, layout: Layout) -> tuple[list[int], list[int]]:
        """See `Frame`."""
        found = self._shifts.get(layout)
        if found is None:
            starts = layout.starts_of([0, *itertools.accumulate(self.lengths)])
            is_slot = [0] * len(self.lengths)
            for slot in self.slots:
                is_slot[slot.run] = 1
            found = self._shifts[layout] = starts, layout.of_segments([0, *itertools.accumulate(is_slot)])
        return found

    def keep(self, key: Any, layout: Layout) -> None:
        """Keeps the layout of a replay."""
        if len(self.layouts) >= _MOST_LAYOUTS:
            self.layouts.clear()
            self._plans.clear()
            self._shifts.clear()
        self.layouts[key] = layout

    def lost(
        self, layout: Layout, conversation: Conversation, replay: Replay, cutter: Cutter
    ) -> tuple[Unrendered, ...]:
        """The pieces of a row that did not reach the text, as `unwritten` finds them."""
        # What is known of slots holds for rows that have a place for each of them.
        key = layout if replay.sizes is not None else (layout, None)
        if key in self._plans:
            plan = self._plans.get(key)  # another thread may just have forgotten all: None is the long way
        else:
            whole = self._whole if replay.sizes is not None else {}
            plan = self._plans[key] = plan_of(layout.written, conversation, replay, cutter, whole)
        if plan is None:
            return unwritten(layout.written, conversation, replay, cutter)
        return plan.lost(conversation, replay)

    @property
    def _whole(self) -> dict[int, tuple[int | None, Path]]:
        """The runs that are a field of the row as it is, by turn and path."""
        return {slot.run: (slot.field.turn, slot.field.path) for slot in self.slots if slot.field is not None}


class Replay(Scan):
    """The text of a row as its rendering would write it, and the runs in it.

    Of most rows nobody asks for lengths and offsets of runs: they are made when they are asked for.
    """

    __slots__ = ("_pieces", "_spans", "leaf")

    def __init__(self, leaf: Leaf, registers: Sequence[Any]) -> None:
        self.leaf = self.frame = leaf
        self.fronts = {}
        self._starts = None
        self.sizes = None
        if not self._is_filled(registers):
            self._put_together(registers)

    def _is_filled(self, registers: Sequence[Any]) -> bool:
        """True if each register is one run, so that it has a place."""
        leaf = self.leaf
        self._pieces = pieces = leaf.pieces_of(registers)
        self.key = key = list[Any](map(operator.not_, pieces))
        self._spans: dict[int, tuple[Origin, int]] = {}
        """Origin and offset of each slot that was made by a step."""
        for at in leaf.made:
            piece = pieces[at]
            if type(piece) is not Traced or len(piece._r) != 1:
                return False
            size, origin, offset = piece._r[0]
            if not isinstance(origin, Origin):
                return False
            self._spans[at] = origin, offset
            key[at] = origin if size and offset != LOST else (origin, size > 0)
        texts = leaf.texts.copy()
        texts[1::2] = pieces
        self.text = "".join(texts)
        self.sizes = tuple(map(len, pieces))
        return True

    def __getattr__(self, name: str) -> Any:
        # An attribute of `Scan` that nobody asked for yet. Only a whole list is kept: another thread may ask meanwhile.
        found: list[Any]
        if name == "lengths":
            found = self.leaf.lengths.copy()
            for slot, size in zip(self.leaf.slots, self.sizes or ()):
                found[slot.run] = size
        elif name == "offsets":
            found = self.leaf.offsets.copy()
            for at, (_, offset) in self._spans.items():
                found[self.leaf.slots[at].run] = offset
        elif name == "data":
            found = self.leaf.data.copy()
            for at, (origin, _) in self._spans.items():
                slot = self.leaf.slots[at]
                found[slot.data] = slot.run, origin
        else:
            raise AttributeError(name)
        setattr(self, name, found)
        return found

    def forget(self) -> None:
        """Lets the pieces go: the text of a run is not asked for any more."""
        self._pieces = ()

    def run_text(self, run: int) -> str:
        """The text of a run."""
        at = None if self.sizes is None else self.leaf.place.get(run)
        return super().run_text(run) if at is None else str.__str__(self._pieces[at])

    def size_of(self, run: int) -> int:
        """The characters of a run."""
        if self.sizes is None:
            return super().size_of(run)
        at = self.leaf.place.get(run)
        return self.leaf.lengths[run] if at is None else self.sizes[at]

    def range_of(self, run: int) -> tuple[int, int]:
        """The characters `[start, end)` of its field that a run is."""
        at = None if self.sizes is None else self.leaf.place.get(run)
        if at is None or self.sizes is None:
            return super().range_of(run)
        start = self._spans[at][1] if at in self._spans else 0
        return start, start + self.sizes[at]

    def placed_data(self) -> list[tuple[int, Origin, int, int]]:
        """The runs of `data`, each with its origin and `range_of`."""
        place, spans, sizes = self.leaf.place, self._spans, self.sizes
        if sizes is None:
            return super().placed_data()
        found = []
        for run, origin in self.data:  # written out, since it runs for each answer with thinking
            at = place.get(run)
            if at is None:
                found.append((run, origin, *super().range_of(run)))
                continue
            start = spans[at][1] if at in spans else 0
            found.append((run, origin, start, start + sizes[at]))
        return found

    def _put_together(self, registers: Sequence[Any]) -> None:
        """Makes the runs piece by piece."""
        leaf = self.leaf
        self.data, self.key, self.lengths, self.offsets = [], [], [], []
        texts: list[str] = []
        for constant, register, origin in leaf.items:
            if constant is not None:
                text, lengths, offsets, data = constant
                if data:
                    before = len(self.lengths)
                    self.data += [(before + run, of) for run, of in data]
                texts.append(text)
                self.lengths += lengths
                self.offsets += offsets
                continue
            piece = registers[register]
            texts.append(piece)
            if origin is None:
                self._add(piece)
            else:
                # A field as it is: one run, empty or not.
                self.data.append((len(self.lengths), origin))
                self.key.append(not piece)
                self.lengths.append(len(piece))
                self.offsets.append(0)
        self.text = "".join(texts)

    def _add(self, piece: str) -> None:
        """A piece that was made, read as `Scan` reads it."""
        key: list[Any] = []
        length, origin, offset = runs_of(piece)[0] if len(runs_of(piece)) == 1 else (0, None, 0)
        if isinstance(origin, Origin):  # the usual one: characters of one field
            self.data.append((len(self.lengths), origin))
            self.lengths.append(length)
            self.offsets.append(offset)
            self.key.append(origin if length and offset != LOST else (origin, length > 0))
            return
        if type(piece) is not str:
            self.add_runs(piece, key, None)
        elif piece:
            key.append(piece)
            self.lengths.append(len(piece))
            self.offsets.append(0)
        self.key.append(tuple(key))

    def watch(self, turns: frozenset[int]) -> None:
        """Keeps of `data` the runs of these turns."""
        if not turns:
            self.data = []
        elif self.sizes is not None:
            self.data = self.leaf.watched(tuple(self.key), turns, self)
        else:
            self.data = [(run, origin) for run, origin in self.data if origin.turn in turns]


def items_of(recording: Recording) -> list[Item]:
    """The pieces that a recording wrote, sums taken apart, neighbouring constants joined."""
    tape = recording.tape
    items: list[Item] = []
    for piece, claim in recording.pieces:
        if not isinstance(piece, Probe):
            items.append((_constant(Scan([(piece, claim)], None)), 0, None))
        elif piece.place is not None and type(piece.value) is Traced:
            field: Any = piece.value._r[0][1]
            items.append((None, tape.register_of(piece, plain=True), field))
        else:
            items += _apart(tape, tape.register_of(piece))
    joined: list[Item] = []
    for item in items:
        if item[0] is not None and joined and joined[-1][0] is not None:
            joined[-1] = (_joined(joined[-1][0], item[0]), 0, None)
        else:
            joined.append(item)
    return joined


def _constant(scan: Scan) -> Constant:
    return scan.text, tuple(scan.lengths), tuple(scan.offsets), tuple(scan.data)


def _joined(first: Constant, second: Constant) -> Constant:
    data = tuple((len(first[1]) + run, origin) for run, origin in second[3])
    return first[0] + second[0], first[1] + second[1], first[2] + second[2], first[3] + data


def _apart(tape: Tape, register: int) -> list[Item]:
    """The pieces of what a register has: those that were added up, or itself."""
    found = tape.sums.get(register)
    if found is not None:
        return [item for part in found for item in _part(tape, part)]
    field = tape.fields.get(register)
    # A field in a sum has its origin; in the text it is read as it is.
    return [(None, register, None) if field is None else (None, field[0], field[1])]


def _part(tape: Tape, part: Any) -> list[Item]:
    if type(part) is int:
        return _apart(tape, part)
    # The runs of a text of the template are claimed, but for their lengths.
    return [(_constant(Scan([(traced(str.__str__(part), runs_of(part)), _UNCLAIMED)], None)), 0, None)]
