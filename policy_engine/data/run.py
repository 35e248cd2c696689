"""A dataset file in, a file for the trainer out, and an account of every row and token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from policy_engine.chat.dataset import DatasetSpec
from policy_engine.chat.formats import Format
from policy_engine.core.errors import ConfigError, DataError, PolicyEngineError
from policy_engine.data.batches import BatchMasker, MaskedBatch
from policy_engine.data.columns import schema_of, table_of
from policy_engine.data.pack import pack
from policy_engine.data.readers import PIPE, Rows, read_rows
from policy_engine.data.summary import Counts, Summary, summary_of
from policy_engine.data.truncate import Truncation
from policy_engine.data.writers import Output, check_output, open_output, reason_of, what_is_left
from policy_engine.mask.masker import Masker

LOOKED_AT: Final = 200
"""Rows that the format of the data is told from."""
PACK_TOKENS: Final = 256
"""Packed together at a time: documents of this many sequences' length, so that memory stays constant."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is. `fraction` of the input, from 0 to 1, is None where the size of the input is not known."""

    rows: int
    failed: int
    fraction: float | None


def apply_dataset(
    input: str | Path,
    masker: Masker,
    output: str | Path,
    *,
    strict: bool = False,
    overwrite: bool = False,
    limit: int | None = None,
    truncation: Truncation | None = None,
    packed: bool = False,
    row_numbers: bool = True,
    batch_size: int = 256,
    say: Callable[[str], None] = lambda text: None,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> Summary:
    """Masks the rows of `input` (a path, or `-`) and writes `output` (.parquet, .jsonl, .jsonl.gz, .jsonl.zst).

    Rows are read as the masker's dataset file says, or as is detected from the first ones; `say` is told which. A row
    that cannot be masked is counted and told in the summary; with `strict` the first one ends the run. `limit` takes
    the first rows only. `packed` puts several rows in one sequence of `truncation.max_length` tokens.

    If the run breaks off, by an error, a full disk or Ctrl-C, nothing stands under the final name, and the rows
    finished until then are in a whole file beside it, named NAME.partial.SUFFIX.

    Raises:
        DataError: the input cannot be read (on), or the output not be made or written.
        ConfigError: the format of the data is not known, or options do not fit each other.
        PolicyEngineError: with `strict`, the first row that fails, as its own kind of error.
        KeyboardInterrupt: as pressed; its text says what was kept.
    """
    if packed and truncation is None:
        raise ConfigError("packing needs the length of a sequence", help="give --max-length (truncation=… in Python)")
    if limit is not None and limit < 1:
        raise ConfigError(f"a limit of {limit} rows leaves nothing", help="give 1 or more, or no limit")
    output = Path(output)
    check_output(output, overwrite=overwrite, inputs=() if str(input) == PIPE else (Path(input),))
    rows = read_rows(input)
    check_output(output, overwrite=overwrite, inputs=rows.files)
    format, numbered = _format(islice(rows, limit), masker.dataset)
    say(format.said)
    run = _Run(
        rows=rows,
        batches=BatchMasker(masker, format, truncation=truncation),
        schema=schema_of(masker, packed=packed, row_numbers=row_numbers),
        capacity=truncation.max_length if packed and truncation is not None else None,
        strict=strict,
        progress=progress,
    )
    file = open_output(output, run.schema, overwrite=overwrite)
    try:
        with file:
            run.go(numbered, file, batch_size)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("stopped; " + what_is_left(file, read=run.done)) from None
    except PolicyEngineError as error:
        # The kind of the error says what to mend; what is left of the run is told beside it.
        raise type(error)(
            f"{error.message}; {what_is_left(file, read=run.done)}", help=error.help, code=error.code
        ) from error
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"`{output}` cannot be written: {reason_of(error)}; {what_is_left(file, read=run.done)}",
            help="make room, then run again",
        ) from error
    failures = tuple(replace(failure, place=rows.where(failure.row)) for failure in run.counts.failures)
    return summary_of(run.counts, said=format.said, output=str(output), sequences=run.sequences, failures=failures)


def _format(rows: Iterator[tuple[int, Any]], spec: DatasetSpec) -> tuple[Format, Iterator[tuple[int, Any]]]:
    batches = _batched(rows, LOOKED_AT)
    first = next(batches)
    format = spec.format_of(row for _, row in first if not isinstance(row, PolicyEngineError))
    return format, chain(first, chain.from_iterable(batches))


def _batched(rows: Iterator[tuple[int, Any]], size: int) -> Iterator[list[tuple[int, Any]]]:
    """Lists of `size` rows. Where reading breaks off, the rows before that come first."""
    batch: list[tuple[int, Any]] = []
    try:
        for row in rows:
            batch.append(row)
            if len(batch) == size:
                yield batch
                batch = []
    except DataError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


class _Run:
    """One pass over the rows: batches are masked, counted, perhaps packed, and written."""

    def __init__(
        self,
        *,
        rows: Rows,
        batches: BatchMasker,
        schema: pa.Schema,
        capacity: int | None,
        strict: bool,
        progress: Callable[[Progress], None],
    ) -> None:
        self.schema = schema
        self.counts = Counts()
        self.sequences = 0
        self.done = 0
        """Number of the last row that was masked and handed to the output."""
        self._rows = rows
        self._batches = batches
        self._capacity = capacity
        self._strict = strict
        self._progress = progress
        self._held: list[dict[str, Any]] = []
        self._held_tokens = 0

    def go(self, numbered: Iterator[tuple[int, Any]], output: Output, batch_size: int) -> None:
        """Masks and writes all rows."""
        for batch in _batched(numbered, batch_size):
            made = self._batches.mask(batch)
            if self._strict and made.errors:
                self._stop(made, output)
            self._take(made, output)
            self.done = batch[-1][0]
            self._progress(
                Progress(rows=self.counts.read, failed=sum(self.counts.codes.values()), fraction=self._rows.fraction)
            )
        self._write_packed(output)

    def _take(self, made: MaskedBatch, output: Output) -> None:
        if self._capacity is None:
            self._write(made.rows, output)
        else:
            self._held += made.rows
            self._held_tokens += sum(len(row["input_ids"]) for row in made.rows)
            if self._held_tokens >= PACK_TOKENS * self._capacity:
                self._write_packed(output)
        self.counts.merge(made.counts)

    def _write(self, rows: list[dict[str, Any]], output: Output) -> None:
        if rows:
            output.write(table_of(rows, self.schema))
            self.sequences += len(rows)

    def _write_packed(self, output: Output) -> None:
        if self._capacity is not None:
            self._write(pack(self._held, self._capacity), output)
            self._held, self._held_tokens = [], 0

    def _stop(self, made: MaskedBatch, output: Output) -> None:
        """Keeps the rows before the first one that failed, and raises its error."""
        number, error = made.errors[0]
        before = [row for row in made.rows if row["row"][0] < number]
        self._take(MaskedBatch(rows=before, counts=Counts()), output)
        self._write_packed(output)
        self.done = number - 1
        raise type(error)(f"{self._rows.where(number)}: {error.message}", help=error.help, code=error.code) from error
