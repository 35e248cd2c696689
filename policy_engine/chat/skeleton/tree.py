"""A tree of tests for one shape, with the text of a way through the template at each end.

                  bool(messages[1].content)
             True /                        \\ False
v = strip(messages[1].content)             "…-<|im_end|>"
"…" v "<|im_end|>"
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from policy_engine.chat.skeleton.cuts import CUTS, cut_of
from policy_engine.chat.skeleton.leaf import Leaf, Replay, items_of
from policy_engine.chat.skeleton.record import Recording
from policy_engine.chat.skeleton.tape import MESSAGES, NOW, TO_JSON, Entry, Tape, written_json
from policy_engine.chat.trace.origins import Scaffold
from policy_engine.chat.trace.text import Traced, runs_of

Step = tuple[int, Callable[..., Any], Any]
_SAID: Final = (str, Traced, type(None))
"""Types of arguments that the template says. Others are data, which a step reads from a register."""


class Node:
    """Steps, and behind them a test with a way for each answer, or the end.

    A step is the register that it fills, its function, and the registers that this reads.
    """

    __slots__ = ("branches", "keys", "leaf", "steps", "test")

    def __init__(self) -> None:
        self.keys: list[Any] = []
        self.steps: list[Step] = []
        self.test: Step | None = None
        self.branches: dict[Any, Node] = {}
        self.leaf: Leaf | None = None


class Tree:
    """All ways that were recorded for one shape."""

    def __init__(self) -> None:
        self.root = Node()
        self.leaves = 0
        self._size = NOW + 1
        self.is_metered = False
        """True if a step may make more than it is given, so that a replay is bounded as a rendering is."""
        self.refusals = 0

    def replay(self, messages: Sequence[Mapping[str, Any]], now: datetime) -> Replay | None:
        """The text of a row; None if a test has an answer that was not seen yet.

        Raises what a step raises.
        """
        registers: list[Any] = [None] * self._size
        registers[MESSAGES], registers[NOW] = messages, now
        node: Node | None = self.root
        while node is not None:
            for at, function, of in node.steps:
                registers[at] = function(registers[of]) if type(of) is int else function(*[registers[i] for i in of])
            if node.leaf is not None:
                return Replay(node.leaf, registers)
            if node.test is None:
                return None
            _, function, of = node.test
            answer = function(registers[of]) if type(of) is int else function(*[registers[i] for i in of])
            node = node.branches.get(answer)
        return None

    def add(self, recording: Recording) -> str | None:
        """Adds the way that a recording took, or gives the reason why it does not fit the others."""
        entries = recording.tape.entries
        node = self.root
        at = 0
        waiting = _Waiting()
        items = items_of(recording)
        printed = [register for constant, register, _ in items if constant is None]
        while True:
            is_new = not node.keys and node.leaf is None
            own: list[Entry] = []
            while at < len(entries) and not entries[at].is_test:
                own.append(entries[at])
                at += 1
            test = entries[at] if at < len(entries) else None
            keys = [entry.key for entry in own] + ([("test", *test.key)] if test is not None else ["end"])
            steps = waiting.steps_of(own, printed if test is None else test.registers)
            if is_new:
                self.is_metered = self.is_metered or not recording.tape.is_bounded
                node.steps = steps
                self._size = max(self._size, waiting.size)
                if test is not None:
                    node.test = (-1, test.function, _of(test))
                else:
                    node.leaf = Leaf(items)
                    self.leaves += 1
                node.keys = keys
            elif node.keys != keys:
                return "two runs of the template went different ways on the same answers"
            if test is None:
                return None
            at += 1
            node = node.branches.setdefault(test.answer, Node())


class _Waiting:
    """The steps of one way, each put off until what it makes is asked for.

    Templates cut thinking out of every answer, and write that of the last one. Only steps that cannot fail wait.
    """

    def __init__(self) -> None:
        self.size = NOW + 1
        self._entries: dict[int, Entry] = {}

    def steps_of(self, entries: Sequence[Entry], asked: Iterable[int]) -> list[Step]:
        """The steps to do at a node: those that cannot wait, and all that is `asked` for."""
        steps: list[Step] = []
        for entry in entries:
            self._entries[self.size] = entry
            self.size += 1
            if not entry.can_wait:
                self._do(self.size - 1, steps)
        for register in asked:
            self._do(register, steps)
        return steps

    def _do(self, register: int, steps: list[Step]) -> None:
        entry = self._entries.pop(register, None)
        if entry is None:
            return  # done already, or given
        fused = self._fused(entry)
        if fused is not None:
            steps.append((register, *fused))
            return
        for before in entry.registers:
            self._do(before, steps)
        steps.append((register, entry.function, _of(entry)))

    def _fused(self, entry: Entry) -> tuple[Callable[..., Any], int] | None:
        """One step in place of several that all wait, and the register that it reads.

        These are cuts of a field, and the JSON of an object.
        """
        read = self._entries.get(entry.registers[0])
        if entry.key[0] == TO_JSON and len(entry.key) == 2 and read is not None and read.key[0] == "object":
            return written_json(read), MESSAGES
        cuts = []
        last: Entry | None = entry
        while last is not None and last.key[0] in CUTS:
            kind, argument = last.key[2][:2] if len(last.key) > 2 else (type(None), None)
            if kind not in _SAID:
                return None
            cuts.append((CUTS[last.key[0]], argument))
            last = self._entries.get(last.registers[0])
        if not cuts or last is None or last.origin is None:
            return None
        return cut_of(last.origin, cuts[::-1]), last.registers[0]


def _of(entry: Entry) -> int | tuple[int, ...]:
    return entry.registers[0] if len(entry.registers) == 1 else entry.registers


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
