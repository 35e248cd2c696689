"""Counts of a dataset's rows and tokens, made batch by batch and reported at the end."""

from __future__ import annotations

import bisect
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import numpy as np

from policy_engine.core.errors import PolicyEngineError
from policy_engine.core.vocabulary import BODY
from policy_engine.data.role_spelling import DoubtfulRole, DoubtfulRoles
from policy_engine.mask.evidence.rule_use import Evidence
from policy_engine.mask.evidence.token_sums import token_sums
from policy_engine.mask.evidence.tokens_in_data import ControlTokenRows, ControlTokenUse
from policy_engine.mask.row import MaskedRow
from policy_engine.mask.token_mask import REASONS
from policy_engine.mask.unrendered import Lost, LostPiece

_STRADDLE: Final = REASONS.index("straddle")
FIRST_FAILURES: Final = 20
"""Failed rows that a summary has in full; all are counted."""
OF_A_KIND: Final = 3
"""Failed rows of one code and reason, numbers apart, that a summary has in full."""
_KINDS: Final = 200
"""Kinds of failure that are counted each by itself."""
MOST_LOST: Final = 500
"""Kinds of lost pieces that are counted by themselves: names of arguments may be as many as the data has."""
LOST_ROWS: Final = 100_000
"""Rows with a lost piece that are kept by number, for each kind of piece: a template may lose it of every row."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A row that could not be masked.

    `row` is its number in the input, `place` its file and line (`chats.jsonl:7`), empty where not known; `help` says
    what to do about it.
    """

    row: int
    code: str
    reason: str
    place: str = ""
    help: str | None = None

    @property
    def kind(self) -> tuple[str, str]:
        """Code and reason, numbers left out.

        `messages[3] has no role` is of the same kind as `messages[4] has no role`.

        >>> Failure(row=7, code="PE502", reason="messages[3] has no `role`").kind
        ('PE502', 'messages[N] has no `role`')
        """
        return self.code, re.sub(r"\d+", "N", self.reason)


@dataclass(frozen=True, kw_only=True)
class TokenCount:
    """Tokens of one role and part in the output.

    `role` is empty for text that belongs to no message.
    """

    role: str
    part: str
    trained: int
    masked: int


@dataclass(kw_only=True)
class Counts:
    """Running counts; `add` and `merge` change them. Pickles, so that workers can send theirs."""

    read: int = 0
    written: int = 0
    samples: int = 0
    samples_dropped: int = 0
    unrolled: int = 0
    empty: int = 0
    cut_empty: int = 0
    too_long: int = 0
    drifted: int = 0
    truncated: int = 0
    tokens_cut: int = 0
    answers_cut: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    trained: Counter[tuple[str, str]] = field(default_factory=Counter)
    masked: Counter[tuple[str, str]] = field(default_factory=Counter)
    unrendered: Counter[tuple[str, str]] = field(default_factory=Counter)
    lost_rows: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    """Numbers of the rows that lost each piece of `unrendered`, the first `LOST_ROWS`."""
    control: ControlTokenRows = field(default_factory=ControlTokenRows)
    """Rows with control tokens in their data."""
    media: Counter[str] = field(default_factory=Counter)
    """Media of what is written, by kind."""
    quoted: int = 0
    printed: Counter[str] = field(default_factory=Counter)
    placeholders: int = 0
    bos: int = 0
    first_lost: int = 0
    """Stretches of trained tokens whose first word is masked before them, in a token that straddles."""
    first_kept: int = 0
    """Rows with a stretch of trained tokens of which that is not so."""
    rules: Counter[int] = field(default_factory=Counter)
    """Tokens of the output by the index of the rule that decided them."""
    evidence: Evidence = field(default_factory=Counter, compare=False)
    """Facts about rules and fields over all masked rows: see `mask.evidence`.

    A process that saw one goes on without it, so that how often it is counted depends on the batches before."""
    codes: Counter[str] = field(default_factory=Counter)
    alike: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Failed rows by code and reason, its numbers left out."""
    left_out: dict[str, list[int]] = field(default_factory=dict)
    """Numbers of the rows that are not in the output, by why: `failed`, `empty`, `cut_empty`, `too_long`, `drift`."""
    failures: list[Failure] = field(default_factory=list)
    doubtful_roles: DoubtfulRoles = field(default_factory=DoubtfulRoles)

    def add_lost(self, lost: Lost, rows: Callable[[tuple[str, str]], Sequence[int]]) -> None:
        """Counts pieces that never reached the text; `rows` gives those of a piece, in order.

        Past `MOST_LOST` of them, more are counted by field alone.
        """
        for (role, piece), count in lost.items():
            known = (role, piece) in self.unrendered or len(self.unrendered) < MOST_LOST
            key = role, piece if known else re.split(r"[.[]", piece)[0]
            self.unrendered[key] += count
            numbers = self.lost_rows.setdefault(key, [])
            more = rows((role, piece))
            # Pieces that are counted together, and samples of one row, may give a row twice. Only the end is sorted
            # again, since a long run has many rows before it.
            at = bisect.bisect_left(numbers, more[0])
            numbers[at:] = sorted({*numbers[at:], *more})[: LOST_ROWS - at]

    def name_places(self, where: Callable[[int], object]) -> None:
        """Gives their places to rows that are reported singly."""
        self.failures = [replace(f, place=str(where(f.row))) for f in self.failures]
        self.doubtful_roles.name_places(where)

    def fail(self, number: int, error: PolicyEngineError) -> None:
        """Counts a row that failed."""
        self.codes[error.code] += 1
        self.leave_out("failed", number)
        failure = Failure(row=number, code=error.code, reason=error.message, help=error.help)
        # Bounded: with reasons that quote the data (a date, a name), every row would be a kind of its own.
        if failure.kind in self.alike or len(self.alike) < _KINDS:
            self.alike[failure.kind] += 1
        self._add_failure(failure)

    def leave_out(self, why: str, number: int) -> None:
        """Notes a row that is not in the output."""
        self.left_out.setdefault(why, []).append(number)

    def _add_failure(self, failure: Failure) -> None:
        # Three of a kind, so that one mistake in every row does not hide the others.
        known = sum(1 for other in self.failures if other.kind == failure.kind)
        if known < OF_A_KIND and len(self.failures) < FIRST_FAILURES:
            self.failures.append(failure)

    def add_tokens(self, rows: Sequence[MaskedRow]) -> None:
        """Counts the tokens of samples that are written."""
        for row in rows:
            if row.tokenized.media:
                self.media.update(medium.kind for medium in row.tokenized.media)
        rows = [row for row in rows if len(row.mask.weights_T)]
        if not rows:
            return
        sums = token_sums(rows)
        for key, (masked, trained) in sums.kinds.items():
            self.trained[key] += trained
            self.masked[key] += masked
        self.rules.update(sums.rules)
        for reason, count in zip(REASONS, sums.reasons):
            self.reasons[reason] += count
        for at, is_trained in enumerate(sums.has_trained):
            if at in sums.straddling:
                self._add_first(rows[at])
            else:
                self.first_kept += is_trained

    def _add_first(self, row: MaskedRow) -> None:
        straddles_T = row.mask.reasons_T == _STRADDLE
        trained_T = row.mask.weights_T != 0
        # First tokens of stretches, but for one in the row's first token: nothing is before that.
        first_T = trained_T[1:] & ~trained_T[:-1]
        lost_T = first_T & straddles_T[:-1]
        self.first_lost += sum(_opens_answer(row, at) for at in np.flatnonzero(lost_T).tolist())
        # A token that was lost inside an answer was not kept either.
        self.first_kept += bool((first_T & ~lost_T).any())

    def merge(self, other: Counts) -> None:
        """Adds the counts of another batch that comes after those counted so far."""
        # Numbers and counters add up; fields with a rule of their own follow. A test merges the counts of batches and
        # compares them with those of the whole.
        for name, value in vars(other).items():
            if isinstance(value, Counter) and name != "unrendered":
                getattr(self, name).update(value)
            elif isinstance(value, int) and name != "bos":
                setattr(self, name, getattr(self, name) + value)
        self.bos = max(self.bos, other.bos)
        self.add_lost(other.unrendered, other.lost_rows.__getitem__)
        self.control.merge(other.control)
        for why, numbers in other.left_out.items():
            self.left_out.setdefault(why, []).extend(numbers)
        # Through the bounds again, so that a run in batches keeps what a run at once would keep.
        for failure in other.failures:
            self._add_failure(failure)
        for found in other.doubtful_roles.values():
            self.doubtful_roles.add(found)


_NOT_TOLD: Final = ("rules", "evidence", "rows_masked", "failures_alike")
"""Fields of a summary that are not in its JSON form as they are."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The closing account of a run.

    Every row read is in exactly one of `rows_out`, `rows_failed`, `rows_empty`, `rows_cut_empty`, `rows_too_long`
    (dropped by `truncation`) and `rows_drifted` (dropped by `on drift drop`).
    """

    description: str
    """The reading of the rows, in a sentence."""
    output: str
    """The file or folder that was asked for; there is no new file if `rows_out` is 0."""
    backend: str
    """The source of the ids: `reference` (the tokenizer itself), or a fast backend by name."""
    rows_in: int
    rows_out: int
    samples: int
    """Samples of the rows that are written: one each, more where rows were unrolled."""
    samples_dropped: int
    """Samples of these rows that are not written: too long, or left with nothing to train."""
    rows_unrolled: int | None
    """Rows that became several samples; None where rows were not to be unrolled."""
    rows_failed: int
    rows_empty: int
    rows_cut_empty: int
    """Dropped: truncation left nothing to train of them, as of `rows_empty` the policy did."""
    rows_too_long: int
    rows_drifted: int
    rows_truncated: int
    """Written, but cut."""
    sequences: int
    """Rows of the output, fewer than samples where these are packed."""
    tokens: tuple[TokenCount, ...]
    tokens_cut: int
    answers_cut: int
    """Trained answers at the end of a sample that truncation cut before their end marker."""
    straddles: int
    """Tokens that mix two decisions, or data of two messages."""
    tokens_drifted: int
    """Given tokens that spell something else than their messages, masked by `on drift mask`."""
    answers_clipped: int
    """Stretches of trained tokens that lost their first token to a straddle, if all of the run did; else 0."""
    unrendered: tuple[LostPiece, ...]
    """Message fields that never reached the text."""
    rows_with_quoted_arguments: int
    """Rows with arguments of calls, JSON text, that the template quotes once more."""
    rows_printed_as_python: Mapping[str, int]
    """Rows of which a field is written as Python prints a list or an object, by the field's name."""
    rows_with_placeholders: int
    """Rows with media, under `on media ignore`, whose ids have placeholders only."""
    times_bos: int
    """Times that a row opens with what the tokenizer would add in front: the most of all rows, up to 2."""
    media: Mapping[str, int]
    """Media of what is written, by kind: `image`, `audio`, `video`."""
    rows_with_control_tokens: int
    """Rows whose data holds text that the tokenizer reads as a control token."""
    control_tokens: tuple[ControlTokenUse, ...]
    """These tokens, those of most rows first."""
    failures: tuple[Failure, ...]
    """The first rows that failed."""
    failure_codes: Mapping[str, int]
    failures_alike: Mapping[tuple[str, str], int]
    """Failed rows by code and reason, its numbers left out."""
    left_out: Mapping[str, tuple[int, ...]]
    """Numbers of the rows that are not in the output, by why: `failed`, `empty`, `cut_empty`, `too_long`, `drift`."""
    doubtful_roles: tuple[DoubtfulRole, ...]
    """Roles of the data that look misspelled, as they were met; no more than the first ones."""
    rules: Mapping[int, int]
    """Tokens of the output by the index of the rule that decided them; rules that decided some only."""
    evidence: Evidence
    """Facts about rules and fields over all masked rows: see `mask.evidence.rule_findings`."""
    rows_masked: int
    """Rows that were masked, whatever became of them then."""

    @property
    def tokens_trained(self) -> int:
        """Tokens that carry loss."""
        return sum(count.trained for count in self.tokens)

    @property
    def tokens_masked(self) -> int:
        """Tokens that carry no loss."""
        return sum(count.masked for count in self.tokens)

    def to_json(self) -> dict[str, Any]:
        """The account as JSON values."""
        return {
            **{name: value for name, value in asdict(self).items() if name not in _NOT_TOLD},
            "unrendered": [asdict(lost) for lost in self.unrendered],
            "tokens": [asdict(count) for count in self.tokens],
            "control_tokens": [asdict(use) for use in self.control_tokens],
            "failures": [asdict(failure) for failure in self.failures],
            "doubtful_roles": [asdict(doubtful) for doubtful in self.doubtful_roles],
            "tokens_trained": self.tokens_trained,
            "tokens_masked": self.tokens_masked,
            "tokens_by_rule": [{"rule": rule, "tokens": count} for rule, count in sorted(self.rules.items())],
        }


def _opens_answer(row: MaskedRow, at: int) -> bool:
    """True if a token begins in front of what a message says, and not in its own words.

    A rule may train a call behind text that stays masked: what is lost there is no first word of an answer.
    """
    before, after = (row.chat.segments[row.mask.segments_T[place]] for place in (at, at + 1))
    return before.turn != after.turn or before.part not in BODY


def summary_of(
    counts: Counts, *, description: str, output: str, backend: str, sequences: int, unrolled: bool
) -> Summary:
    """Counts as the closing account.

    `unrolled` says whether rows were to become a sample per turn.

    >>> counts = Counts(read=2, written=1, empty=1)
    >>> summary_of(counts, description="", output="", backend="reference", sequences=1, unrolled=False).rows_empty
    1
    """
    keys = sorted(counts.trained.keys() | counts.masked.keys())
    return Summary(
        description=description,
        output=output,
        backend=backend,
        rows_in=counts.read,
        rows_out=counts.written,
        samples=counts.samples,
        samples_dropped=counts.samples_dropped,
        rows_unrolled=counts.unrolled if unrolled else None,
        rows_failed=sum(counts.codes.values()),
        rows_empty=counts.empty,
        rows_cut_empty=counts.cut_empty,
        rows_too_long=counts.too_long,
        rows_drifted=counts.drifted,
        rows_truncated=counts.truncated,
        sequences=sequences,
        tokens=tuple(
            TokenCount(role=key[0], part=key[1], trained=counts.trained[key], masked=counts.masked[key]) for key in keys
        ),
        tokens_cut=counts.tokens_cut,
        answers_cut=counts.answers_cut,
        straddles=counts.reasons["straddle"],
        tokens_drifted=counts.reasons["drift"],
        answers_clipped=0 if counts.first_kept else counts.first_lost,
        unrendered=tuple(
            LostPiece(role=role, field=name, messages=count, rows=tuple(counts.lost_rows[role, name]))
            for (role, name), count in sorted(counts.unrendered.items())
        ),
        rows_with_quoted_arguments=counts.quoted,
        rows_printed_as_python=dict(sorted(counts.printed.items())),
        rows_with_placeholders=counts.placeholders,
        times_bos=counts.bos,
        rows_with_control_tokens=counts.control.rows,
        control_tokens=counts.control.uses,
        media=dict(sorted(counts.media.items())),
        failures=tuple(counts.failures),
        failure_codes=dict(sorted(counts.codes.items())),
        failures_alike=dict(counts.alike),
        left_out={why: tuple(sorted(numbers)) for why, numbers in sorted(counts.left_out.items())},
        doubtful_roles=tuple(counts.doubtful_roles.values()),
        rules=dict(counts.rules),
        evidence=counts.evidence,
        rows_masked=counts.read - sum(counts.codes.values()),
    )
