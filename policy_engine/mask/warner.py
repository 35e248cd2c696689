"""Warnings about the data that a masker reads, each kind once."""

from __future__ import annotations

import functools
import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

from policy_engine.chat.segments import Miswritten
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.data.conversation import Conversation
from policy_engine.data.formats import Format
from policy_engine.data.role_spelling import RoleSpelling, read_elsewhere_as, what_to_do
from policy_engine.lang.lint.suppress import unsuppressed
from policy_engine.mask.evidence.answer_ends import EndWatch, open_answers
from policy_engine.mask.evidence.written_calls import CallsInText, speaks_of_calls, written_calls
from policy_engine.mask.row import MaskedRow
from policy_engine.mask.unrendered import Lost, lost_text, printed_help, printed_text
from policy_engine.rules.program import Program


class DataWarning(UserWarning):
    """Warnings of a masker about its data. The command line gives findings in their place."""


class LostFieldWarning(DataWarning):
    """A piece of a message never reached the text, and the policy does not refuse that.

    The warning is given once per kind.
    """


class QuotedArgumentsWarning(DataWarning):
    """Arguments of calls are JSON text, and the template quotes it once more. Given once."""


class UnusedColumnWarning(DataWarning):
    """A column looks like tools, a system prompt or answers, and is not read.

    The warning is given once per column.
    """


class PrintedDataWarning(DataWarning):
    """A list or an object of a message is written as Python prints it.

    The warning is given once per field.
    """


class OpenAnswerWarning(DataWarning):
    """Answers are trained that have no end marker, and the policy trains ends.

    The warning is given once per role.
    """


class WrittenCallWarning(DataWarning):
    """Calls are text of the content, and the policy speaks of calls.

    The warning is given once per markup.
    """


class LeftOutWarning(DataWarning):
    """Rows are left out in a worker process, whose counts do not come back.

    The warning is given once per process and reason: nothing to train, or ids that do not spell their messages.
    """


class DoubtfulRoleWarning(DataWarning):
    """A role of the data looks misspelled.

    Nothing declares it, and it is much like a role that is declared. The warning is given once per role.
    """


@dataclass(frozen=True, kw_only=True, eq=False)
class Warner:
    """Warnings of one masker; each kind is given once."""

    program: Program
    tokenizer: ChatTokenizer
    home: int = field(default_factory=os.getpid)
    """The process in which the masker was made, or pickled; in it, `Masker.counts` can be asked."""
    _spellings: dict[tuple[tuple[str, str], ...], RoleSpelling] = field(default_factory=dict)
    _warned: set[Hashable] = field(default_factory=set)

    def look_at_roles(self, conversation: Conversation, layout: Format, known: frozenset[str]) -> None:
        """Warns of roles that are not `known`: typos, and other programs' names for one that is."""
        # Spellings depend on the dataset's names for roles, and one masker may read several datasets.
        kind = tuple(layout.roles.items())
        if kind not in self._spellings:
            self._spellings[kind] = RoleSpelling.of(layout, known)
        spelling = self._spellings[kind]
        # This runs for every row, and few roles occur.
        roles = {message["role"] for message in conversation.messages}
        for role in sorted(roles):
            meant = spelling.meant(role)
            if meant is None and role not in known and "assistant" not in roles:
                # `gpt` and `human` in rows of `role` and `content`: no rule for the assistant sees such a row.
                meant = read_elsewhere_as(role)
                meant = meant if meant in ("assistant", "user") else None
            if meant is not None and role not in self._warned:
                advice = what_to_do(role, meant=meant, read_as=spelling.read_as(meant))
                text = f"nothing declares the role `{role}`, which this row has and maybe others; {advice}"
                self._warn(role, text, DoubtfulRoleWarning)

    def look_at_columns(self, layout: Format) -> None:
        """Warns of columns that are left over."""
        for text in layout.unused:
            self._warn(text, text, UnusedColumnWarning)

    def left_out(self, why: str, where: str) -> None:
        """Warns of a row that a worker process leaves out, since it is `empty` or for its `drift`."""
        if os.getpid() == self.home:
            return
        reason = "nothing to train" if why == "empty" else "ids that do not spell its messages"
        self._warn(
            ("left out", why),
            f"{where} has {reason} and is left out, as others may be: the `counts` of a worker process do not come "
            f"back. `len` before and after says how many; `on {why} error` refuses such rows"
            f"{', `on empty keep` keeps them' if why == 'empty' else ''}",
            LeftOutWarning,
        )

    def lost(self, lost: Lost, *, unrolling_writes: Callable[[str], bool]) -> None:
        """Warns of pieces that never reached the text; `unrolling_writes` as `Masker` has it."""
        for kind, count in lost.items():
            if kind in self._warned:
                continue
            unroll = "`Masker(…, unroll=True)` makes a sample of each turn, in which the template writes it; "
            self._warn(
                kind,
                f"{lost_text(*kind, count)} never reached the text, in this row and maybe in others; "
                f"{unroll if unrolling_writes(kind[1]) else ''}"
                "`policy-engine apply` names the rows of a file, `on unrendered error` refuses them, and "
                "`on unrendered ignore` reports no more of it",
                LostFieldWarning,
            )

    def miswritten(self, found: Sequence[Miswritten]) -> None:
        """Warns of arguments that are quoted twice, and of data that is written as Python prints it."""
        for wrong in found:
            if wrong.how == "quoted":
                self._warn(
                    QuotedArgumentsWarning,
                    "arguments of calls are JSON text in this row and maybe in others, and the template quotes it "
                    "once more; say `messages: {arguments: parse}` in a dataset file, or write them as objects",
                    QuotedArgumentsWarning,
                )
            elif wrong.how == "printed":
                self._warn(
                    ("printed", wrong.name),
                    f"{printed_text(wrong.name, 'this row and maybe others')}; {printed_help(wrong.name)}",
                    PrintedDataWarning,
                )

    @functools.cached_property
    def _ends(self) -> EndWatch:
        return EndWatch(self.program)

    @functools.cached_property
    def _calls(self) -> CallsInText | None:
        return None if speaks_of_calls(self.program) is None else CallsInText(self.tokenizer)

    def look_at_rows(self, rows: Sequence[Sequence[MaskedRow]]) -> None:
        """Warns of answers without an end, if no row of the call has one, and of calls in them.

        `rows` are the samples of each row.
        """
        self._look_at_ends(rows)
        if self._calls is None:
            return
        calls = self._calls
        # Without a number: it would be that of this masker, and not of the data.
        seen = _counted_by_row(rows, lambda sample, found: calls.look(sample.chat.messages, found))
        for opening, found in written_calls(self.program, seen):
            for finding in unsuppressed([found]):
                self._warn(("called", opening), f"{finding.message}; {finding.help}", WrittenCallWarning)

    def _look_at_ends(self, rows: Sequence[Sequence[MaskedRow]]) -> None:
        if self._ends.is_done:
            return
        seen = _counted_by_row(rows, self._ends.look)
        for role, found in open_answers(self.program, seen):
            self._ends.drop(role)
            for finding in unsuppressed([found]):
                self._warn(("open", role), f"{finding.message}; {finding.help}", OpenAnswerWarning)

    def _warn(self, kind: Hashable, text: str, category: type[UserWarning]) -> None:
        """Gives a warning, unless one of its kind was given."""
        if kind not in self._warned:
            self._warned.add(kind)
            warnings.warn(text, category, stacklevel=_frames_to_caller())


def _counted_by_row(
    rows: Sequence[Sequence[MaskedRow]], look: Callable[[MaskedRow, Counter[tuple[str, ...]]], None]
) -> Counter[tuple[str, ...]]:
    """The rows that show each fact, in one sample or in several."""
    seen: Counter[tuple[str, ...]] = Counter()
    for samples in rows:
        found: Counter[tuple[str, ...]] = Counter()
        for sample in samples:
            look(sample, found)
        seen.update(found.keys())
    return seen


def _frames_to_caller() -> int:
    """Number of frames from the calling function up to the first one outside of this package.

    A warning with this stack level shows the user's line, not one of ours.
    """
    frame, level = sys._getframe(1), 1
    # Ways here differ in length: a call, a batch and a run go through other functions.
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "policy_engine":
        frame, level = frame.f_back, level + 1
    return level
