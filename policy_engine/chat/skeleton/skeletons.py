"""The skeletons of one template: when to record, when to replay, when to compare.

A shape is recorded when it is seen for the second time, and once more for each answer of a test that was not seen yet.
A replay is compared with the full rendering of the same row at first often, then for one row in a thousand. One that
differs is a defect: the template is rendered in full from then on, and what was given out before is refused.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from policy_engine.chat.label.layout import Layout, Scan
from policy_engine.chat.skeleton.leaf import Replay
from policy_engine.chat.skeleton.record import record
from policy_engine.chat.skeleton.shape import shape_of
from policy_engine.chat.skeleton.tape import Refused
from policy_engine.chat.skeleton.tree import Tree, same_pieces
from policy_engine.chat.trace.environment import TracingEnvironment
from policy_engine.chat.trace.meter import start, stop
from policy_engine.chat.trace.origins import Scaffold
from policy_engine.core.bounded import Bounded
from policy_engine.core.source import common_prefix
from policy_engine.data.conversation import Conversation

_log = logging.getLogger("policy_engine")

COMPARED_FIRST: Final = frozenset({1, 2, 4, 8, 16, 64, 256})
COMPARED: Final = 1_000
"""Replays of one way that are compared with the full rendering: these, and every thousandth."""
_MOST_SHAPES: Final = 1 << 10
_MOST_ENTRIES: Final = 1 << 17
"""Steps, tests and pieces of all that is recorded; past it they are forgotten."""
_MOST_LEAVES: Final = 128
"""Ways that are kept for one shape."""
FREE_RECORDINGS: Final = 64
_REPLAYS_FOR_ONE: Final = 32
"""Recordings that a template may have: so many, and one more for so many replays."""
_MOST_REFUSALS: Final = 4
"""Refused recordings, beyond one for each way that was kept, after which a shape is recorded no more."""


@dataclass(slots=True, eq=False)
class Attempt:
    """One row of a known shape; `replay` is what a skeleton makes of it, if one does."""

    shape: Any
    tree: Tree
    messages: Sequence[Mapping[str, Any]]
    now: datetime
    replay: Replay | None
    is_compared: bool


class Skeletons:
    """The skeletons of one template.

    `code` is what `environment` compiled it to; `name` is for errors.
    """

    def __init__(self, environment: TracingEnvironment, code: Any, name: str, seconds: float) -> None:
        self._environment = environment
        self._code = code
        self._name = name
        self._seconds = seconds
        self._trees: Bounded[Any, Tree | None] = Bounded(_MOST_ENTRIES)
        self._lock = threading.Lock()
        self.recordings = 0
        self.replays = 0
        """Rows that were given out by a skeleton."""
        self.reasons: dict[str, int] = {}
        """The reasons why runs of the template cannot be replayed, with the times that each was met."""
        self.ended: str | None = None
        """The reason why nothing is replayed any more."""

    def attempt(self, conversation: Conversation, read: Mapping[str, Any], now: datetime) -> Attempt | None:
        """The row's replay, or the place to record it; None for a row that is simply rendered.

        `read` are the template arguments that the template reads.
        """
        if self.ended is not None:
            return None
        shape = shape_of(conversation, read)
        if shape is None:
            return None
        tree = self._trees.get(shape)
        if tree is None:
            if shape not in self._trees:
                # A shape that is seen once is not recorded.
                self._trees.keep(shape, None, _MOST_ENTRIES // _MOST_SHAPES)
                return None
            tree = Tree()
            self._trees.keep(shape, tree)
        if tree.is_metered:
            start(self._seconds)
        try:
            replay = tree.replay(conversation.messages, now)
        except Exception:
            return None  # too long, or what the template itself has to say
        finally:
            if tree.is_metered:
                stop()
        if replay is None:
            credit = FREE_RECORDINGS + self.replays // _REPLAYS_FOR_ONE
            is_full = tree.leaves >= _MOST_LEAVES or tree.refusals > _MOST_REFUSALS + tree.leaves
            if is_full or self.recordings >= credit:
                return None
            return Attempt(shape, tree, conversation.messages, now, None, False)
        leaf = replay.leaf
        leaf.uses += 1
        is_compared = leaf.uses in COMPARED_FIRST or not leaf.uses % COMPARED
        return Attempt(shape, tree, conversation.messages, now, replay, is_compared)

    @property
    def trees(self) -> list[Tree | None]:
        """The trees that were recorded, by shape; None for a shape that was seen once."""
        return list(self._trees.values())

    def learn(
        self,
        attempt: Attempt,
        variables: Callable[[], Mapping[str, Any]],
        pieces: Sequence[tuple[str, Scaffold]],
        scan: Scan,
        layout: Layout | None,
        thoughts: Any,
    ) -> None:
        """Compares the full rendering of a row with its replay, or records the row.

        `layout` is None where rows of the same pieces have others. Raises SkeletonMismatch where a replay differs, and
        others were given out before.
        """
        replay = attempt.replay
        if replay is None:
            with self._lock:
                replay = self._recorded(attempt, variables, pieces)
            if replay is None:
                return
        key = (tuple(replay.key), thoughts)
        known = replay.leaf.layouts.get(key)
        if (replay.text, replay.lengths, replay.offsets) != (scan.text, scan.lengths, scan.offsets):
            self._end("text", replay.text, scan.text)
        elif layout is not None and known is not layout:
            if known is not None and known.kinds != layout.kinds:
                self._end("segments", replay.text, scan.text)
            else:
                replay.leaf.keep(key, layout)

    def _recorded(
        self, attempt: Attempt, variables: Callable[[], Mapping[str, Any]], pieces: Sequence[tuple[str, Scaffold]]
    ) -> Replay | None:
        self.recordings += 1
        tree = attempt.tree
        try:
            recording = record(self._environment, self._code, variables(), attempt.now, self._seconds)
            if not same_pieces(recording.tape, recording.pieces, pieces):
                raise Refused("text that a recording gives another owner")
            wrong = tree.add(recording)
            if wrong is not None:
                raise Refused(wrong)
            self._trees.keep(attempt.shape, tree, len(recording.tape.entries) + len(recording.pieces))
        except Refused as refused:
            tree.refusals += 1
            if len(self.reasons) < _MOST_SHAPES:
                self.reasons[refused.reason] = self.reasons.get(refused.reason, 0) + 1
            return None
        return tree.replay(attempt.messages, attempt.now)

    def _end(self, what: str, ours: str, theirs: str) -> None:
        at = common_prefix(ours, theirs)
        self.ended = f"{what} differ near {theirs[max(0, at - 20) : at + 20]!r}"
        self._trees.clear()
        _log.warning("the skeletons of %s are not used any more: %s", self._name, self.ended)
        if self.replays:
            # Here, since rendering alone needs no tokenizer.
            from policy_engine.chat.skeleton.mismatch import SkeletonMismatch

            raise SkeletonMismatch(
                f"a skeleton of {self._name} does not write what the template does: {self.ended}",
                help="mask again: from now on the template is rendered in full. This is a defect: report it, if you "
                "can with the row. `with_skeletons(False)` of the ChatTokenizer switches skeletons off",
            )
