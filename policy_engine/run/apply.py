"""A dataset file in, a file for the trainer out, and an account of every row and token."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from policy_engine.chat.tokens.fast_backend import BackendMismatch
from policy_engine.core.errors import ConfigError, DataError, PolicyEngineError, add_note
from policy_engine.data.dataset import LOOKED_AT, DatasetSpec, format_seen
from policy_engine.data.files.read_text import read_unread
from policy_engine.data.files.readers import PIPE, Rows, batched, first_rows, read_rows
from policy_engine.data.formats import Format
from policy_engine.data.pairs import PAIR_KINDS
from policy_engine.mask.masker import Masker
from policy_engine.run.backends import BackendChoice, choose_backend, in_full
from policy_engine.run.batches import BatchMasker, TableBatch, TableMasker
from policy_engine.run.columns import rows_of_columns, schema_of, table_of
from policy_engine.run.folder import Engine, FolderRun, InputCut, Progress, processes
from policy_engine.run.output.killed import clear_killed
from policy_engine.run.output.places import check_folder, check_output, is_folder
from policy_engine.run.pack import PackWindow
from policy_engine.run.processes.pool import in_order
from policy_engine.run.resume import options_of
from policy_engine.run.run_options import RunOptions
from policy_engine.run.summary import Counts, Summary, summary_of
from policy_engine.run.writers import Output, open_output, reason_of, remedy, what_is_left

__all__ = ["Progress", "apply_dataset"]


def apply_dataset(
    input: str | Path,
    masker: Masker,
    output: str | Path,
    options: RunOptions | None = None,
    *,
    engine: Engine | None = None,
    say: Callable[[str], None] = lambda text: None,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> Summary:
    """Masks the rows of `input` and writes them to `output`.

    `input` is a path, or `-` for standard input. `output` is a file (.parquet, .jsonl, .jsonl.gz, .jsonl.zst), or a
    folder of Parquet shards and a manifest, if its name ends in a slash or it exists.

        apply_dataset("chats.jsonl", masker, "masked.parquet", RunOptions(workers=4))

    The masker's dataset file says how rows are read; what it leaves open is detected from the first rows, and `say`
    gets a sentence on it. A masker with `unroll` makes samples of one turn each; the columns `row`, `turn` and
    `samples` name them. Into a folder, each span of the input becomes a shard, made by `engine` if one is given.

    A run into a file may break off by an error, a full disk or Ctrl-C. Then there is nothing under the final name; the
    rows that were finished are in a whole file beside it, NAME.partial.SUFFIX. In a folder, whole shards stay. A run
    that leaves no row (`Summary.rows_out` is 0) writes no file either, and a file that was there stays as it was.

    Raises:
        DataError: the input cannot be read (on), or the output not be made or written, or not resumed.
        ConfigError: the format of the data is not known, or options do not fit each other.
        PolicyEngineError: with `strict`, the first row that fails, as its own kind of error.
        KeyboardInterrupt: as pressed; its text says what was kept.
    """
    options = options or RunOptions()
    # All that can be refused is refused before the first row is masked: options, then names of files, then data.
    reason = masker.tokenizer.why_not_packed if options.packed else None
    if reason is not None:
        raise ConfigError(f"rows of {masker.tokenizer.name} cannot be packed: {reason}", help="leave out --pack")
    folder = is_folder(output)
    if not folder and (options.resume or engine is not None):
        what = "resumed" if options.resume else "made by another engine"
        raise ConfigError(f"a single file cannot be {what}", help="write into a folder: -o NAME/")
    output = Path(output)
    source = _Source(input, options.limit)
    if folder:
        check_folder(output, source.rows.files)
    else:
        given = () if str(input) == PIPE else (Path(input),)
        check_output(output, overwrite=options.overwrite, inputs=(*given, *source.rows.files))
    format = source.format(masker.dataset)
    say(format.description)
    BatchMasker(masker, format, truncation=options.truncation).check()
    if options.packed and format.kind in PAIR_KINDS:
        raise ConfigError("the rows are preferences, which are not packed", help="leave out --pack")
    wanted = options.backend
    if folder and options.resume and wanted == "auto" and options_of(output).get("backend") == "reference":
        wanted = "reference"  # the run there took no fast backend, wanted or not
        say(f"ids from the tokenizer itself: the run in `{output}` began with them; `auto` is for a run that begins")
    # The rows are read twice where a fast backend is tried: once for the check, once for the run. A pipe has one
    # reading.
    again = str(input) != PIPE
    size = sum(path.stat().st_size for path in source.rows.files) if again else None
    if not again:
        masker = in_full(masker)  # what cannot be read again is rendered in full: no replay can turn out wrong
    choice = choose_backend(masker, format, source.again() if again else (), wanted=wanted, size=size)
    if wanted != "reference":
        say(choice.description)
    schema = schema_of(masker, packed=options.packed, row_numbers=options.row_numbers, kind=format.kind)
    into_folder = None
    if folder:
        plan = InputCut.of(source.rows, limit=options.limit, span_bytes=options.span_bytes)
        into_folder = FolderRun(
            source=source.open, plan=plan, folder=output, schema=schema, options=options, progress=progress
        )
    else:
        for name in clear_killed(output):
            say(f"removed `{name}`, the unfinished file of a run that was killed")
    # At most two rounds: a fast backend that differs from the tokenizer in the middle of the run gives way to the
    # tokenizer, which cannot differ from itself.
    while True:
        batches = BatchMasker(choice.masker, format, truncation=options.truncation)
        try:
            if into_folder is not None:
                return into_folder.go(batches, engine or processes(options.workers), backend=choice.name)
            return _into_file(source, batches, schema, output, options, progress, backend=choice.name)
        except BackendMismatch as error:
            say(f"{error.message}; all that was written is made again {error.again}")
            choice = BackendChoice(masker=in_full(masker), name="reference", description="")


def _into_file(
    source: _Source,
    batches: BatchMasker,
    schema: pa.Schema,
    output: Path,
    options: RunOptions,
    progress: Callable[[Progress], None],
    *,
    backend: str,
) -> Summary:
    rows, numbered = source.open()
    run = _Run(rows=rows, schema=schema, options=options, progress=progress)
    file = open_output(output, schema, overwrite=options.overwrite)
    # With row numbers, wanted or not: a strict run keeps the rows before the one that failed, and knows them by these.
    # Without packing, which comes after the workers, and writes `schema`.
    work = TableMasker(batches, schema_of(batches.masker, kind=batches.format.kind))
    tasks = batched(numbered, options.batch_size)
    results = in_order(work, tasks, workers=options.workers, describe=_in_words, division=work)
    try:
        with file, contextlib.closing(results) as masked:
            try:
                run.go(masked, file)
                rows.check_unchanged()
                # A file without rows is worth nothing, and would be in the way of the next try.
                if not run.sequences:
                    file.discard()
            except BackendMismatch:
                file.discard()
                raise
    except KeyboardInterrupt as stop:
        # `type(stop)`, since a command turns SIGTERM into a subclass of its own.
        raise type(stop)("stopped; " + what_is_left(file, read=run.done)) from None
    except BackendMismatch:
        raise
    except PolicyEngineError as error:
        # The kind of the error says what to fix; what is left of the run is named beside it.
        raise error.reworded(f"{error.message}; {what_is_left(file, read=run.done)}") from error
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"`{output}` cannot be written: {reason_of(error)}; {what_is_left(file, read=run.done)}",
            help=remedy(error, "then run again"),
        ) from error
    except Exception as error:
        add_note(error, what_is_left(file, read=run.done))
        raise
    # Only now: where a row is, is known when its file was read.
    run.counts.name_places(rows.where)
    return summary_of(
        run.counts,
        description=batches.format.description,
        output=str(output),
        backend=backend,
        sequences=run.sequences,
        unrolled=batches.masker.unrolls,
    )


class _Source:
    """An input that was opened to see its format, and can be opened again unless it is a pipe.

    Rows of JSON Lines are left unread: whoever masks them reads them, so that workers share that work.
    """

    def __init__(self, input: str | Path, limit: int | None) -> None:
        self._input = input
        self._limit = limit
        self.rows = read_rows(input, unread=True)
        self._first: Iterator[tuple[int, Any]] | None = islice(self.rows, limit)

    def format(self, spec: DatasetSpec) -> Format:
        """The way to read rows, detected from the first ones."""
        assert self._first is not None
        first, self._first = first_rows(self._first, LOOKED_AT)
        return format_seen(read_unread(first), self.rows, spec)

    def again(self) -> Iterator[tuple[int, Any]]:
        """All rows, once more, read."""
        return islice(read_rows(self._input), self._limit)

    def open(self) -> tuple[Rows, Iterator[tuple[int, Any]]]:
        """The rows, from the first."""
        # The rows looked at for the format are in `_first`, so the first pass needs no second opening; a later one
        # does.
        numbered, self._first = self._first, None
        if numbered is None:
            self.rows = read_rows(self._input, unread=True)
            numbered = islice(self.rows, self._limit)
        return self.rows, numbered


def _in_words(batch: list[tuple[int, Any]]) -> str:
    return f"row {batch[0][0]}" if len(batch) == 1 else f"rows {batch[0][0]} to {batch[-1][0]}"


class _Run:
    """One pass over the rows: masked batches are counted, perhaps packed, and written."""

    def __init__(
        self,
        *,
        rows: Rows,
        schema: pa.Schema,
        options: RunOptions,
        progress: Callable[[Progress], None],
    ) -> None:
        self.schema = schema
        self.counts = Counts()
        self.sequences = 0
        self.done = 0
        """Number of the last row that was masked and handed to the output."""
        self._rows = rows
        self._window = None if options.capacity is None else PackWindow(options.capacity)
        self._strict = options.strict
        self._progress = progress

    def go(self, masked: Iterator[tuple[list[tuple[int, Any]], TableBatch]], output: Output) -> None:
        """Writes all rows."""
        for batch, made in masked:
            if self._strict and made.errors:
                self._stop(made, output)
            self._take(made.table, output)
            self.counts.merge(made.counts)
            self.done = batch[-1][0]
            self._progress(
                Progress(rows=self.counts.read, failed=sum(self.counts.codes.values()), fraction=self._rows.fraction)
            )
        self._write_rest(output)

    def _take(self, table: pa.Table, output: Output) -> None:
        if self._window is not None:
            # Packing is of this process, in the order of the rows: workers would make other sequences for other
            # numbers of them.
            packed = self._window.add(rows_of_columns(table))
            table = table_of(packed, self.schema)
        else:
            table = table.select(self.schema.names)
        self._write(table, output)

    def _write(self, table: pa.Table, output: Output) -> None:
        if table.num_rows:
            output.write(table)
            self.sequences += table.num_rows

    def _write_rest(self, output: Output) -> None:
        if self._window is not None:
            self._write(table_of(self._window.rest(), self.schema), output)

    def _stop(self, made: TableBatch, output: Output) -> None:
        """Keeps the rows before the first one that failed, and raises its error."""
        number, error = made.errors[0]
        self._take(made.table.slice(0, int(np.searchsorted(made.table["row"].to_numpy(), number))), output)
        self._write_rest(output)
        self.done = number - 1
        raise error.at(self._rows.where(number)) from error
