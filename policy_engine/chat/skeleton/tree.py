"""A tree of tests for one shape, with the text of a way through the template at each end.

                  bool(messages[1].content)
             True /                        \\ False
v = strip(messages[1].content)             "…-<|im_end|>"
"…" v "<|im_end|>"
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from policy_engine.chat.label.layout import Layout, Scan
from policy_engine.chat.skeleton.record import Recording
from policy_engine.chat.skeleton.tape import Entry, Probe, Tape
from policy_engine.chat.trace.origins import Origin, Scaffold
from policy_engine.chat.trace.text import Traced, runs_of

_MOST_LAYOUTS: Final = 64
"""Layouts of one way: which of its fields are empty, and where its thinking is."""

Step = tuple[Callable[..., Any], Any]


class Leaf:
    """The end of a way: the pieces that it writes, and the layouts that they were seen to have."""

    __slots__ = ("items", "layouts", "uses")

    def __init__(self, recording: Recording) -> None:
        self.items = _items(recording)
        self.layouts: dict[Any, Layout] = {}
        self.uses = 0

    def keep(self, key: Any, layout: Layout) -> None:
        """Keeps the layout of a replay."""
        if len(self.layouts) >= _MOST_LAYOUTS:
            self.layouts.clear()
        self.layouts[key] = layout


class Node:
    """Steps, and behind them a test with a way for each answer, or the end."""

    __slots__ = ("branches", "keys", "leaf", "steps", "test")

    def __init__(self) -> None:
        self.keys: list[Any] = []
        self.steps: list[Step] = []
        self.test: Step | None = None
        self.branches: dict[Any, Node] = {}
        self.leaf: Leaf | None = None


class Replay(Scan):
    """The text of a row as its rendering would write it, and the runs in it."""

    __slots__ = ("leaf",)

    def __init__(self, leaf: Leaf, registers: Sequence[Any]) -> None:
        self.leaf = leaf
        self._begins = None
        self.data: list[tuple[int, Origin]] = []
        self.key: list[Any] = []
        self.lengths: list[int] = []
        self.offsets: list[int] = []
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
        if type(piece) is not str:
            self.add_runs(piece, key, None)
        elif piece:
            key.append(piece)
            self.lengths.append(len(piece))
            self.offsets.append(0)
        self.key.append(tuple(key))

    def watch(self, turns: Container[int | None]) -> None:
        """Keeps of `data` the runs of these turns."""
        self.data = [(run, origin) for run, origin in self.data if origin.turn in turns]


class Tree:
    """All ways that were recorded for one shape."""

    def __init__(self) -> None:
        self.root = Node()
        self.leaves = 0
        self.is_metered = False
        """True if a step may make more than it is given, so that a replay is bounded as a rendering is."""
        self.refusals = 0

    def replay(self, messages: Sequence[Mapping[str, Any]], now: datetime) -> Replay | None:
        """The text of a row; None if a test has an answer that was not seen yet.

        Raises what a step raises.
        """
        registers: list[Any] = [messages, now]
        node: Node | None = self.root
        while node is not None:
            for function, of in node.steps:
                registers.append(function(registers[of]) if type(of) is int else function(*[registers[i] for i in of]))
            if node.leaf is not None:
                return Replay(node.leaf, registers)
            if node.test is None:
                return None
            function, of = node.test
            answer = function(registers[of]) if type(of) is int else function(*[registers[i] for i in of])
            node = node.branches.get(answer)
        return None

    def add(self, recording: Recording) -> str | None:
        """Adds the way that a recording took, or gives the reason why it does not fit the others."""
        entries = recording.tape.entries
        node = self.root
        at = 0
        while True:
            is_new = not node.keys and node.leaf is None
            own: list[Entry] = []
            while at < len(entries) and not entries[at].is_test:
                own.append(entries[at])
                at += 1
            test = entries[at] if at < len(entries) else None
            keys = [entry.key for entry in own] + ([("test", *test.key)] if test is not None else ["end"])
            if is_new:
                self.is_metered = self.is_metered or not recording.tape.is_bounded
                node.steps = [(entry.function, _of(entry)) for entry in own]
                if test is not None:
                    node.test = (test.function, _of(test))
                else:
                    node.leaf = Leaf(recording)
                    self.leaves += 1
                node.keys = keys
            elif node.keys != keys:
                return "two runs of the template went different ways on the same answers"
            if test is None:
                return None
            at += 1
            node = node.branches.setdefault(test.answer, Node())


def _of(entry: Entry) -> int | tuple[int, ...]:
    return entry.registers[0] if len(entry.registers) == 1 else entry.registers


def _items(recording: Recording) -> list[tuple[Any, int, Origin | None]]:
    """The pieces: constants, neighbours put together, or a register and the field that it is."""
    items: list[tuple[Any, int, Origin | None]] = []
    for is_data, group in itertools.groupby(recording.pieces, lambda piece: isinstance(piece[0], Probe)):
        if is_data:
            items += [_written(recording.tape, piece) for piece, _ in group]
        else:
            pieces = list(group)
            scan = Scan(pieces, None)
            data = tuple(scan.data)
            items.append(((scan.text, tuple(scan.lengths), tuple(scan.offsets), data), 0, None))
    return items


def _written(tape: Tape, piece: Probe) -> tuple[None, int, Origin | None]:
    if piece.place is not None and type(piece.value) is Traced:
        origin: Any = piece.value._r[0][1]
        return None, tape.register_of(piece, plain=True), origin
    return None, tape.register_of(piece), None


def same_pieces(tape: Tape, made: Sequence[tuple[Any, Scaffold]], pieces: Sequence[tuple[str, Scaffold]]) -> bool:
    """True if a recording wrote for its row what the rendering did: text, runs and claims."""
    if len(made) != len(pieces):
        return False
    for (ours, own), (theirs, claim) in zip(made, pieces):
        concrete = tape.concrete(ours)
        if type(concrete) is not type(theirs) or str.__str__(concrete) != str.__str__(theirs):
            return False
        if _seen(((0, own, 0),)) != _seen(((0, claim, 0),)) or _seen(runs_of(concrete)) != _seen(runs_of(theirs)):
            return False
    return True


def _seen(runs: Any) -> list[Any]:
    """Runs by what their origins say: the same field may have two objects."""
    return [
        (length, type(origin), *(getattr(origin, name) for name in getattr(origin, "__slots__", ())), start)
        for length, origin, start in runs
    ]
