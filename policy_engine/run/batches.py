"""The core that every engine runs: a batch of rows in, columns and counts out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from policy_engine.chat.media.in_messages import has_media
from policy_engine.core.choices import PairColumns
from policy_engine.core.errors import PolicyEngineError, RowError
from policy_engine.core.memory import not_collecting
from policy_engine.core.source import Place
from policy_engine.core.wording import counted
from policy_engine.data.conversation import Conversation, read_row
from policy_engine.data.files.read_arrow import rows_of
from policy_engine.data.files.read_text import read_unread
from policy_engine.data.formats import Format
from policy_engine.data.pairs import PAIR_KINDS, read_judged
from policy_engine.data.role_spelling import RoleSpelling
from policy_engine.mask.batch import RowSample, attempt, mask_samples
from policy_engine.mask.evidence.cut_answers import ends_inside_answer
from policy_engine.mask.evidence.rule_use import RuleWatch
from policy_engine.mask.evidence.tokens_in_data import ControlTokens
from policy_engine.mask.masker import Masker
from policy_engine.mask.preferences.answers import Preference, samples_of
from policy_engine.mask.preferences.join import mask_all_preferences
from policy_engine.mask.row import MaskedRow, arrays_of
from policy_engine.mask.row_masker import nothing_to_train
from policy_engine.run.columns import schema_of, table_of
from policy_engine.run.summary import Counts
from policy_engine.run.truncate import LONGER, Truncation, cut_preference, truncate

One = TypeVar("One")

ERROR_COLUMN = "error"


@dataclass(frozen=True, kw_only=True)
class MaskedBatch:
    """The rows of a batch that go on, and what became of the rest.

    A row that goes on is arrays by column; `row` has the row's number.
    """

    rows: list[dict[str, npt.NDArray[Any]]]
    counts: Counts
    errors: list[tuple[int, PolicyEngineError]] = field(default_factory=list)
    """Number and error of each row that failed."""


class BatchMasker:
    """Masks batches of rows of one format, with one tokenizer call a batch.

    Unrolls rows if the masker does. Pickles, for worker processes.
    """

    def __init__(self, masker: Masker, format: Format, *, truncation: Truncation | None = None) -> None:
        self.masker = masker
        self.format = format
        self.truncation = truncation
        # Without warnings of lost fields: they are counted here, and reported at the end.
        self._rows = masker.row_masker.silent()
        # Only without a processor are images left as placeholders; with one they are encoded, whatever the policy says.
        self._ignores_media = masker.tokenizer.media is None and masker.program.setting("media") == "ignore"
        self._control = ControlTokens(masker.tokenizer)
        self._spelling = RoleSpelling.of(format, masker.known_roles)
        self._watch = RuleWatch(masker.program, masker.tokenizer)

    def check(self) -> None:
        """Raises ConfigError for rows of preferences where they are not what is asked for."""
        if self.format.kind not in PAIR_KINDS:
            return
        self.masker.pair_columns(self.format.kind)

    def begin(self) -> None:
        """Forgets the rows so far, so that the counts of those to come do not depend on them."""
        self._watch = RuleWatch(self.masker.program, self.masker.tokenizer)

    @not_collecting()
    def mask(self, batch: Sequence[tuple[int, Any]]) -> MaskedBatch:
        """Masks numbered rows, in order.

        A row that fails, or is an error already, is among the errors.
        """
        made = MaskedBatch(rows=[], counts=Counts(read=len(batch)))
        if self.format.kind in PAIR_KINDS:
            self._mask_preferences(batch, made)
            return made
        # Rows that were no JSON come as errors from the reader; they keep their place, so that numbers still fit.
        read = [row if isinstance(row, PolicyEngineError) else attempt(read_row, row, self.format) for _, row in batch]
        # Before masking: a row with a misspelled role often fails, and the doubtful role says why.
        for (number, _), conversation in zip(batch, read):
            if isinstance(conversation, Conversation):
                roles = [message["role"] for message in conversation.messages]
                if not self._spelling.knows(roles):
                    made.counts.doubtful_roles.add_roles(roles, self._spelling, number)
        masked = mask_samples(read, self._rows, unrolled=self.masker.unrolls)
        # What is the same work for every row is done for all of them at once, before and after this loop.
        looked_at = [sample.row for samples in masked if isinstance(samples, list) for sample in samples]
        control = iter(self._control.found_in(looked_at))
        kept: list[_Kept] = []
        for (number, _), samples in zip(batch, masked):
            done: Any = samples
            if isinstance(samples, list):
                tokens = [token for _ in samples for token in next(control)]
                done = attempt(self._finish, number, samples, tokens, kept, made.counts)
            error = done if isinstance(done, PolicyEngineError) else None
            # `on drift drop`: a row whose given ids do not spell its messages is dropped as asked, and is no failure.
            if error is not None and self._rows.leaves_out(error):
                made.counts.drifted += 1
                made.counts.leave_out("drift", number)
            elif error is not None:
                made.counts.fail(number, error)
                made.errors.append((number, error))
        made.counts.add_tokens([row for row, _, _ in kept])
        made.rows.extend(_columns(kept))
        return made

    def _mask_preferences(self, batch: Sequence[tuple[int, Any]], made: MaskedBatch) -> None:
        columns = self.masker.pair_columns(self.format.kind)
        read = [r if isinstance(r, PolicyEngineError) else attempt(read_judged, r, self.format) for _, r in batch]
        masked = mask_all_preferences(read, self._rows, unrolled=self.masker.unrolls)
        for (number, _), found in zip(batch, masked):
            done = found if isinstance(found, PolicyEngineError) else attempt(self._join, number, found, columns, made)
            if isinstance(done, PolicyEngineError):
                made.counts.fail(number, done)
                made.errors.append((number, done))

    def _join(self, number: int, found: Sequence[Preference], columns: PairColumns, made: MaskedBatch) -> None:
        """Truncates, counts and keeps a row's preferences, each whole or not at all.

        Raises RowError if an answer has nothing to train and the policy refuses that.
        """
        counts = made.counts
        samples = [sample for one in found for sample in samples_of(one)]
        control = [token for found in self._control.found_in([row for row, _, _ in samples]) for token in found]
        roles = {message["role"] for row, _, _ in samples for message in row.chat.messages}
        counts.doubtful_roles.add_roles(roles, self._spelling, number)
        left = self._shorten(found, cut_preference, _size, lambda one: any(answer.is_empty for answer in one.answers))
        rows = [row for one in left.kept for row in one.columns(columns)]
        self._count_left(number, len(found), left, counts)
        counts.answers_cut += sum(_is_cut(answer.row) for one in left.cut for answer in one.answers)
        counts.samples += len(rows)
        counts.add_tokens([answer.row for one in left.kept for answer in one.answers])
        # After all that may raise: a row is counted and kept whole, or is an error and nothing of it is counted.
        made.rows.extend({"row": np.array([number], dtype=np.int64), **row} for row in rows)
        self._look(number, samples, control, counts)

    def _look(self, number: int, samples: list[RowSample], control: Sequence[str], counts: Counts) -> None:
        """Counts what samples of a row show of policy and data; `control` are control tokens of it."""
        for row, _, lost in samples:
            if lost:
                counts.add_lost(lost, lambda _: (number,))
            self._watch.look(row, counts.evidence, number=number)
        miswritten = [wrong for row, _, _ in samples for wrong in row.chat.miswritten]
        if miswritten:
            counts.quoted += any(wrong.how == "quoted" for wrong in miswritten)
            counts.printed.update({wrong.name for wrong in miswritten if wrong.how == "printed"})
        counts.control.add(number, control)
        # Samples of one row share its opening and its messages: the first one speaks for all.
        for row, _, _ in samples[:1]:
            # Eight tokens hold the prefix that a tokenizer adds, one to three of them, twice.
            if self._opening:
                counts.bos = max(counts.bos, self.masker.tokenizer.times_bos(row.input_ids[:8]))
            counts.placeholders += self._ignores_media and has_media(row.chat.messages)

    @functools.cached_property
    def _opening(self) -> tuple[int, ...]:
        return self.masker.tokenizer.prefix_ids

    def _finish(
        self, number: int, samples: list[RowSample], control: Sequence[str], written: list[_Kept], counts: Counts
    ) -> None:
        """Truncates, counts and keeps a row's samples; their tokens are counted later.

        A row of which nothing is kept was too long, emptied by truncation, or empty, in this order.

        Raises RowError if there is nothing to train and the policy refuses that; nothing is counted then.
        """
        left = self._shorten(samples, _cut_sample, lambda sample: len(sample.row.input_ids), lambda s: s.row.is_empty)
        # Below here nothing may raise: the counts of the row are half made.
        self._look(number, samples, control, counts)
        self._count_left(number, len(samples), left, counts)
        counts.answers_cut += sum(_is_cut(sample.row) for sample in left.cut)
        counts.samples += len(left.kept)
        written += [_Kept(row, number, names) for row, names, _ in left.kept]

    def _shorten(
        self,
        wholes: Sequence[One],
        cut: Callable[[One, Truncation], One | None],
        size: Callable[[One], int],
        is_empty: Callable[[One], bool],
    ) -> _Left[One]:
        """The samples or preferences of a row that truncation and `on empty` leave.

        Raises RowError if there is nothing to train and the policy refuses that.
        """
        setting = self.masker.program.setting("empty")
        left: _Left[One] = _Left()
        for whole in wholes:
            one = whole if self.truncation is None else cut(whole, self.truncation)
            if one is None:
                left.tokens_cut += size(whole)
                left.too_long += 1
                continue
            empty = is_empty(one)
            if one is not whole:
                left.tokens_cut += size(whole) - size(one)
                left.truncated = True
                # The summary tells apart what truncation emptied and what was empty before: the remedies differ.
                left.emptied |= empty and not is_empty(whole)
            if setting == "keep" or not empty:
                left.kept.append(one)
                left.cut += [] if one is whole else [one]
        # `too_long` first: a row that truncation drops was asked to be dropped, whatever its other samples have.
        if not left.kept and not left.too_long and setting == "error":
            raise self._nothing_trained(left.emptied)
        return left

    def _count_left(self, number: int, found: int, left: _Left[Any], counts: Counts) -> None:
        """Counts a row by what is kept of it: written, too long, emptied by truncation, or empty."""
        counts.tokens_cut += left.tokens_cut
        if left.kept:
            counts.written += 1
            counts.truncated += left.truncated
            counts.unrolled += self.masker.unrolls and found > 1
            counts.samples_dropped += found - len(left.kept)
            return
        why: Any = "too_long" if left.too_long else "cut_empty" if left.emptied else "empty"
        setattr(counts, why, getattr(counts, why) + 1)
        counts.leave_out(why, number)

    def _nothing_trained(self, emptied: bool) -> RowError:
        if not emptied or self.truncation is None:
            return nothing_to_train()
        return RowError(
            f"truncation to {counted(self.truncation.max_length, 'token')} leaves nothing of the row to train, and "
            "the policy says `on empty error`",
            help=f"{LONGER}, or say `on empty drop`",
            code="PE516",
        )


@dataclass(kw_only=True)
class _Left(Generic[One]):
    """The samples or preferences of a row that are kept, and what became of the others."""

    kept: list[One] = field(default_factory=list)
    cut: list[One] = field(default_factory=list)
    """Those of `kept` that are shorter than they were."""
    tokens_cut: int = 0
    too_long: int = 0
    truncated: bool = False
    emptied: bool = False


class _Kept(NamedTuple):
    """A sample that goes on, the number of its row, and what names it among several."""

    row: MaskedRow
    number: int
    names: dict[str, int]


def _cut_sample(sample: RowSample, truncation: Truncation) -> RowSample | None:
    cut = truncate(sample.row, truncation)
    return None if cut is None else sample if cut is sample.row else sample._replace(row=cut)


def _is_cut(row: MaskedRow) -> bool:
    return ends_inside_answer(row.tokenized, (row.mask.weights_T != 0).tolist())


def _columns(kept: Sequence[_Kept]) -> list[dict[str, npt.NDArray[Any]]]:
    """The columns of samples, with the numbers of their rows and what names them."""
    numbers = np.array([number for _, number, _ in kept], dtype=np.int64)
    return [
        {
            "row": numbers[at : at + 1],
            **columns,
            **{name: np.array([value], dtype=np.int32) for name, value in names.items()},
        }
        for at, (columns, (_, _, names)) in enumerate(zip(arrays_of([row for row, _, _ in kept]), kept))
    ]


@dataclass(frozen=True, kw_only=True)
class TableBatch:
    """A masked batch as a table, as worker processes send it."""

    table: pa.Table
    counts: Counts
    errors: list[tuple[int, PolicyEngineError]]

    def __reduce__(self) -> tuple[Any, ...]:
        # As a stream of Arrow: a table pickles buffer by buffer, which takes ten times as long.
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.table.schema) as stream:
            stream.write_table(self.table)
        return _sent, (sink.getvalue(), self.counts, self.errors)


def _sent(table: pa.Buffer, counts: Counts, errors: list[tuple[int, PolicyEngineError]]) -> TableBatch:
    return TableBatch(table=pa.ipc.open_stream(table).read_all(), counts=counts, errors=errors)


class TableMasker:
    """Numbered rows, read or not, to a `TableBatch`. Pickles, for worker processes."""

    def __init__(self, batches: BatchMasker, schema: pa.Schema) -> None:
        self.batches = batches
        self._schema = schema

    def __call__(self, batch: Sequence[tuple[int, Any]]) -> TableBatch:
        """Masks a batch; a row that fails is among the errors."""
        made = self.batches.mask(list(read_unread(batch)))
        return TableBatch(table=table_of(made.rows, self._schema), counts=made.counts, errors=made.errors)

    def pieces(self, batch: list[tuple[int, Any]]) -> list[list[tuple[int, Any]]]:
        """The rows of a batch, each as a batch of its own."""
        return [[row] for row in batch]

    def joined(self, made: Sequence[TableBatch]) -> TableBatch:
        """The batch whose rows were masked one by one."""
        counts = Counts()
        for one in made:
            counts.merge(one.counts)
        return TableBatch(
            table=pa.concat_tables([one.table for one in made]),
            counts=counts,
            errors=[error for one in made for error in one.errors],
        )


class MaskingTransform:
    """Turns a table of dataset rows into a table of columns for a trainer.

    Ray's `map_batches(batch_format="pyarrow")`, Spark's `mapInArrow` and `datasets.map` on Arrow tables run it.

    The output has `input_ids`, `labels`, `attention_mask` and perhaps `loss_weights`; `row` counts rows of each table
    from 1 unless the input has an integer column `row_column` to take the numbers from. Rows with nothing to train are
    left out under `on empty drop`. A row that fails raises its error (`errors="raise"`), or becomes an empty row with
    its reason in a column `error` (`errors="column"`).
    """

    def __init__(
        self,
        masker: Masker,
        format: Format,
        *,
        truncation: Truncation | None = None,
        row_column: str | None = None,
        errors: str = "raise",
    ) -> None:
        self._batches = BatchMasker(masker, format, truncation=truncation)
        self._batches.check()
        self._row_column = row_column
        self._errors = errors
        self.schema = schema_of(masker, kind=format.kind)
        """Schema of the output, without the column `error`."""

    def __call__(self, table: pa.Table) -> pa.Table:
        """Masks a table.

        Raises:
            PolicyEngineError: the first row that fails does so, if `errors="raise"`.
        """
        numbers = range(1, table.num_rows + 1) if self._row_column is None else table[self._row_column].to_pylist()
        made = self._batches.mask(list(zip(numbers, rows_of(table.combine_chunks()))))
        if self._errors == "raise":
            # The first one: errors are in the order of the rows.
            for number, error in made.errors:
                raise error.at(Place(file=None, number=number)) from error
            return table_of(made.rows, self.schema)
        good = table_of(made.rows, self.schema).append_column(ERROR_COLUMN, pa.nulls(len(made.rows), pa.string()))
        bad = table_of([_nothing(number, self.schema) for number, _ in made.errors], self.schema)
        bad = bad.append_column(ERROR_COLUMN, pa.array([str(error) for _, error in made.errors], pa.string()))
        # Back into the order of the input, as a trainer that maps a table expects.
        return pa.concat_tables([good, bad]).sort_by("row")


def _nothing(number: int, schema: pa.Schema) -> dict[str, npt.NDArray[Any]]:
    return {
        field.name: np.empty(0)  # of any type: `table_of` gives it the column's
        if pa.types.is_list(field.type)
        else np.array([number if field.name == "row" else 0 if pa.types.is_boolean(field.type) else -1])
        for field in schema
    }


def _size(one: Preference) -> int:
    return sum(len(answer.row.input_ids) for answer in one.answers)
