"""A policy text decided over the rows of a board, and what is wrong with it.

train asistant     →  PE203 with a caret; the rows keep the colours of the last text that was a policy
train assistant    →  an Edition: every row decided
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from pathlib import PurePath
from typing import Final

import numpy as np

from policy_engine.core.bounded import Bounded
from policy_engine.core.diagnostics import Diagnostic
from policy_engine.core.errors import GuardError, PolicyCheckError, PolicyEngineError, PolicyError, RowError
from policy_engine.core.source import Source, Span
from policy_engine.lang.check import check_text
from policy_engine.lang.lint.lint import warnings_of
from policy_engine.mask.batch import attempt
from policy_engine.mask.compare.changes import changed_tokens
from policy_engine.mask.evidence.rule_findings import rule_findings, unused_rules
from policy_engine.mask.evidence.rule_use import Evidence, RuleWatch
from policy_engine.mask.masker import Masker
from policy_engine.mask.preferences.join import join_answers
from policy_engine.mask.row import MaskedRow
from policy_engine.mask.row_masker import RowMasker
from policy_engine.play.loaded_rows import Board, BoardRow
from policy_engine.proof.policy_proof import prove
from policy_engine.proof.results import ProofReport
from policy_engine.report.row_facts import RowFacts, Totals, row_facts
from policy_engine.report.runs import FailedRow, ShownRow, failed_row
from policy_engine.rules.compile import compile_policy
from policy_engine.rules.program import Program

MOST_TEXT: Final = 40_000
"""Characters of a policy that the page takes."""
_KEPT = 12
"""Texts whose rows are kept decided: going back and forth between two costs nothing."""


@dataclass(frozen=True, kw_only=True)
class Edition:
    """A policy text, and what it decides of every row of a board."""

    text: str
    program: Program
    findings: tuple[Diagnostic, ...]
    """Findings of lint."""
    board: Board
    results: tuple[MaskedRow | PolicyEngineError, ...]
    unguarded: Mapping[int, MaskedRow]
    """Rows that break a guard, by index: as they are without guards, so that they can be seen."""

    def shown(self, index: int) -> ShownRow | FailedRow:
        """A row, by its index, for the report to show."""
        row, result = self.board.rows[index], self.results[index]
        if isinstance(result, MaskedRow):
            return ShownRow(number=row.number, tokenized=result.tokenized, mask=result.mask, side=row.side)
        # Without folders, which are nobody's business where the page is served to others.
        place = replace(row.place, file=None if row.place.file is None else PurePath(row.place.file).name)
        failed = failed_row(row.number, result, place)
        seen = self.unguarded.get(index)
        if seen is None:
            return failed
        return ShownRow(number=row.number, tokenized=seen.tokenized, mask=seen.mask, failure=failed, side=row.side)

    @cached_property
    def facts(self) -> tuple[RowFacts, ...]:
        """The rows in numbers."""
        return tuple(row_facts(self.shown(index)) for index in range(len(self.results)))

    @cached_property
    def totals(self) -> Totals:
        """The sums of all rows."""
        return Totals.of(list(self.facts))

    @cached_property
    def proof(self) -> ProofReport:
        """The findings for all conversations; takes up to seconds."""
        return prove(self.program, places=False)

    @cached_property
    def evidence(self) -> Evidence:
        """The rows' evidence of rules that decide nothing and of fields that are missing."""
        watch, seen = RuleWatch(self.program, self.board.tokenizer), Evidence()
        for row, result in self._seen():
            watch.look(result, seen, number=row.number)
        return seen

    def _seen(self) -> Iterator[tuple[BoardRow, MaskedRow]]:
        for index, (row, result) in enumerate(zip(self.board.rows, self.results)):
            seen = self.unguarded.get(index, result)
            if isinstance(seen, MaskedRow):
                yield row, seen

    @property
    def row_findings(self) -> tuple[Diagnostic, ...]:
        """Findings about rules and fields on these rows."""
        return rule_findings(self.program, self.evidence, rows=len(list(self._seen())))

    @property
    def unused(self) -> dict[int, str]:
        """Why each rule that decided no token of these rows did not, by its index."""
        return unused_rules(self.program, self.evidence)

    def changed_from(self, old: Edition, index: int) -> ShownRow | FailedRow:
        """A row with the tokens marked that another edition decides differently."""
        row, before, after = self.shown(index), old.results[index], self.results[index]
        if isinstance(row, FailedRow) or not isinstance(before, MaskedRow) or not isinstance(after, MaskedRow):
            return row
        changed = np.zeros(len(after.input_ids), bool)
        for change in changed_tokens(before, after):
            changed[change.token_start : change.token_end] = True
        return replace(row, changed_T=changed)


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A text as it is being typed.

    `edition` is the edition of the text if it is a policy, else of the last text that was one. Before there was one, it
    is the edition of the empty text, which trains nothing. `findings` are always those of the text.
    """

    text: str
    findings: tuple[Diagnostic, ...]
    edition: Edition

    @property
    def is_kept(self) -> bool:
        """True if the edition is not that of the text, since the text is no policy."""
        return self.edition.text != self.text


class Editions:
    """Decides policy texts over a board; safe to use from several threads."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self._known: Bounded[str, Edition] = Bounded(_KEPT)
        self._lock = threading.Lock()

    def of(self, text: str) -> Edition:
        """The edition of a text. Raises PolicyError with everything that is wrong with it."""
        # Gradio calls from several threads; the lock is held while a text is decided, so that it is decided once.
        with self._lock:
            known = self._known.get(text)
            return known if known is not None else self._known.keep(text, _decide(text, self.board))

    def draft(self, text: str, last: str | None) -> Draft:
        """A text that may be broken; `last` is the last one that was not."""
        try:
            edition = self.of(text)
        except PolicyError as error:
            return Draft(text=text, findings=error.diagnostics, edition=self._last(last or ""))
        return Draft(text=text, findings=edition.findings, edition=edition)

    def _last(self, text: str) -> Edition:
        try:
            return self.of(text)
        except PolicyError:  # a file that it uses was changed meanwhile
            return self.of("")


def _decide(text: str, board: Board) -> Edition:
    # A page may be open to others: a text of megabytes would keep the parser, and everybody else, busy.
    if len(text) > MOST_TEXT:
        source = Source(name=board.policy_name, text=text[:MOST_TEXT])
        finding = Diagnostic(
            code="PE213",
            message=f"the policy has {len(text):,} characters, and this page takes {MOST_TEXT:,}",
            span=Span(source=source, start=0, end=0),
            help="check it on the command line: `policy-engine check FILE`",
        )
        raise PolicyCheckError((finding,))
    policy = check_text(text, name=board.policy_name, schema=board.dataset.to_schema())
    program = compile_policy(policy)
    masker = _masker(program, board)
    results = _results(board.rows, masker)
    # A row that breaks a guard has no mask. To show the broken tokens it is decided again without guards.
    broken = [index for index, result in enumerate(results) if isinstance(result, GuardError)]
    seen: dict[int, MaskedRow | PolicyEngineError] = {}
    if broken:
        numbers = {board.rows[index].number for index in broken}
        # Both answers of a pair, though one broke the guard: they are decided together.
        places = [index for index, row in enumerate(board.rows) if row.number in numbers]
        unguarded = _masker(compile_policy(replace(policy, guards=())), board)
        seen = dict(zip(places, _results([board.rows[index] for index in places], unguarded)))
    return Edition(
        text=text,
        program=program,
        findings=warnings_of(policy),
        board=board,
        results=tuple(results),
        unguarded={i: row for i, row in seen.items() if isinstance(row, MaskedRow) and i in broken},
    )


def _masker(program: Program, board: Board) -> RowMasker:
    # Without the warnings that a Masker gives of lost fields: the rows say what they lost.
    return Masker(program, board.tokenizer, dataset=board.dataset).row_masker.silent()


def _results(rows: Sequence[BoardRow], masker: RowMasker) -> list[MaskedRow | PolicyEngineError]:
    """The rows decided; both answers of a pair fail if one of them does."""
    results: list[MaskedRow | PolicyEngineError] = []
    # Neighbours: the two answers of a row come one after the other.
    for _, group in groupby(rows, key=lambda row: row.number):
        sides = list(group)
        made = [attempt(_row, row, masker) for row in sides]
        judged = sides[0].judged
        if judged is not None:
            joined = attempt(join_answers, judged, made)
            if isinstance(joined, PolicyEngineError):
                made = [joined for _ in sides]
            else:
                made = [answer.row for answer in joined.answers]
        results += made
    return results


def _row(row: BoardRow, masker: RowMasker) -> MaskedRow:
    """A row decided. Raises what masking the row from the start would raise."""
    if row.conversation is not None:
        masker.check_media(row.conversation)
    if row.error is not None or row.chat is None or row.conversation is None:
        raise row.error or RowError("the row has no text", help="drop it")
    # From here on as `RowMasker.mask` does, with what was rendered and tokenized once.
    chat = masker.settled(row.chat)
    masker.check_lost(chat)
    tokenized = row.tokenized
    if tokenized is None:
        tokenized = masker.tokenize(row.conversation, chat)
    # The policy moved a boundary between segments; the ids are as they were.
    elif chat is not row.chat:
        tokenized = replace(tokenized, chat=chat)
    # Whether an answer of a pair may be empty is for the pair to say.
    return masker.finish(tokenized) if row.judged is None else masker.decide(tokenized)
