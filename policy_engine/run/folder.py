"""A dataset masked into a folder of shards, by one process, several, or a cluster.

A run can be killed and resumed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import pyarrow as pa

from policy_engine.chat.tokens.fast_backend import BackendMismatch
from policy_engine.core.errors import ConfigError, PolicyEngineError, add_note
from policy_engine.data.files.readers import Rows
from policy_engine.data.files.stamp import InputChanged
from policy_engine.run.batches import BatchMasker
from policy_engine.run.input_spans import InputFile, InputSpan, check_digests, describe, inline_spans, plan
from policy_engine.run.manifest import Shard, identity_of
from policy_engine.run.processes.pool import in_order
from policy_engine.run.resume import Journal
from policy_engine.run.run_options import RunOptions
from policy_engine.run.shards import ShardMaker
from policy_engine.run.summary import Counts, Summary, summary_of


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The progress of a run.

    `fraction` is the part of the input that is done, from 0 to 1; None where the size of the input is not known.
    """

    rows: int
    failed: int
    fraction: float | None


Results: TypeAlias = "Generator[Shard | PolicyEngineError, None, None]"


class Engine(Protocol):
    """Runs a ShardMaker over spans; results may come in any order."""

    def __call__(self, work: ShardMaker, spans: Iterator[InputSpan]) -> Results:
        """The shard of each span, or the reason why it has no shard."""


def processes(workers: int) -> Engine:
    """The engine of this machine: so many processes, 1 being this one."""

    def run(work: ShardMaker, spans: Iterator[InputSpan]) -> Results:
        with contextlib.closing(in_order(work, spans, workers=workers, describe=describe)) as results:
            for _, result in results:
                yield result

    return run


@dataclass(frozen=True, kw_only=True)
class InputCut:
    """The input of a folder run: its identity, and the spans that can be read apart.

    `spans` is None for an input that can only be read from its start.
    """

    files: tuple[InputFile, ...]
    spans: list[InputSpan] | None

    @staticmethod
    def of(rows: Rows, *, limit: int | None, span_bytes: int) -> InputCut:
        """Reads every file once. A limit in rows is counted from the start."""
        files, spans = plan(rows, size=span_bytes)
        return InputCut(files=files, spans=None if limit is not None or not rows.files else spans)


class FolderRun:
    """One run into a folder.

    `go` may be called again after a BackendMismatch, with another masker.
    """

    def __init__(
        self,
        *,
        source: Callable[[], tuple[Rows, Iterator[tuple[int, Any]]]],
        plan: InputCut,
        folder: Path,
        schema: pa.Schema,
        options: RunOptions,
        progress: Callable[[Progress], None],
    ) -> None:
        # A pipe has no files: nothing says that what comes through it now is what came before.
        if options.resume and not plan.files:
            raise ConfigError("a run that reads a pipe cannot be resumed", help="write the input to a file first")
        self._source = source
        self._fraction: Callable[[], float | None] = lambda: None
        self._plan = plan
        self._folder = folder
        self._schema = schema
        self._options = options
        self._progress = progress

    def go(self, batches: BatchMasker, engine: Engine, *, backend: str) -> Summary:
        """Makes every shard that is not there yet, and the manifest.

        Raises:
            BackendMismatch: the fast backend differed; `go` with another masker begins again.
            DataError, PolicyEngineError, KeyboardInterrupt: as `apply_dataset` does; whole shards stay.
        """
        # Both decide what is written, and are not among the options: the policy says whether to unroll, and a check
        # chose the backend.
        options = {**self._options.to_json(), "unrolled": batches.masker.unrolls, "backend": backend}
        identity = identity_of(
            batches.masker, self._schema, files=self._plan.files, reading=batches.format.description, options=options
        )
        work = ShardMaker(batches, self._schema, self._folder, self._options)
        resume, overwrite = self._options.resume, self._options.overwrite
        with Journal.open(self._folder, identity, resume=resume, overwrite=overwrite) as journal:
            if not journal.finished:
                try:
                    self._make(work, journal, engine)
                    # After the last shard and before the manifest: a file edited in place, within one tick of the
                    # clock, keeps its stamp.
                    check_digests(self._plan.files)
                except BackendMismatch:
                    # Shards with ids of another backend do not belong into the same run: it begins again.
                    self._options = replace(self._options, resume=False, overwrite=True)
                    raise
                except KeyboardInterrupt as stop:
                    raise type(stop)(f"stopped; {self._left(journal)}") from None
                # An input that changed cannot be resumed: then no --resume is promised.
                except PolicyEngineError as error:
                    left = self._left(journal, again=not isinstance(error, InputChanged))
                    raise error.reworded(f"{error.message}; {left}") from error
                except Exception as error:
                    add_note(error, self._left(journal))
                    raise
            counts = Counts()
            # In the order of the input, whichever shard was finished first: what a summary keeps "the first" of
            # depends on it.
            for index in sorted(journal.shards):
                counts.merge(journal.shards[index].counts)
            summary = summary_of(
                counts,
                description=batches.format.description,
                output=str(self._folder),
                backend=backend,
                sequences=sum(shard.rows for shard in journal.shards.values()),
                unrolled=batches.masker.unrolls,
            )
            if not journal.finished:
                journal.finish(summary.to_json())
        return summary

    def _make(self, work: ShardMaker, journal: Journal, engine: Engine) -> None:
        done = dict(journal.shards)
        total = None if self._plan.spans is None else len(self._plan.spans)
        spans = self._spans()
        read = sum(shard.counts.read for shard in done.values())
        failed = sum(sum(shard.counts.codes.values()) for shard in done.values())
        # Closed, so that workers end before the reason why the run stopped is reported.
        with contextlib.closing(engine(work, (span for span in spans if span.index not in done))) as results:
            for result in results:
                if not isinstance(result, Shard):
                    raise result
                # Here, in the one process that has the journal: workers make shards and never write to it.
                journal.record(result)
                read += result.counts.read
                failed += sum(result.counts.codes.values())
                fraction = self._fraction() if total is None else len(journal.shards) / max(1, total)
                self._progress(Progress(rows=read, failed=failed, fraction=fraction))

    def _spans(self) -> Iterator[InputSpan]:
        if self._plan.spans is not None:
            return iter(self._plan.spans)
        rows, numbered = self._source()
        self._fraction = lambda: rows.fraction
        return inline_spans(numbered, rows)

    def _left(self, journal: Journal, *, again: bool = True) -> str:
        rows = sum(shard.counts.read for shard in journal.shards.values())
        resume = "; --resume goes on from there" if again and self._plan.files else ""
        return f"{len(journal.shards)} whole shards, of {rows:,} rows read, are in `{self._folder}`{resume}"
