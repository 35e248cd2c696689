"""A span of the input masked into one Parquet file.

It is the unit that workers do, and that a resumed run skips.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from policy_engine.core.errors import DataError, PolicyEngineError
from policy_engine.data.files.readers import batched
from policy_engine.run.batches import BatchMasker
from policy_engine.run.columns import table_of
from policy_engine.run.input_spans import InputSpan
from policy_engine.run.manifest import Shard
from policy_engine.run.pack import PackWindow
from policy_engine.run.resume import file_digest, sync_folder
from policy_engine.run.run_options import RunOptions
from policy_engine.run.summary import Counts
from policy_engine.run.writers import OUTPUT_FORMATS, SHARD_SUFFIX, Writer, reason_of, remedy


class ShardMaker:
    """Masks spans into shards of a folder.

    Pickles, for worker processes. The same span gives the same file.
    """

    def __init__(self, batches: BatchMasker, schema: pa.Schema, folder: Path, options: RunOptions) -> None:
        self.batches = batches
        self._schema = schema
        self._folder = folder
        self._options = options

    def __call__(self, span: InputSpan) -> Shard | PolicyEngineError:
        """Makes a shard, or gives the reason why it could not be made.

        Reasons are the first row that fails with `strict`, input that breaks off, and a disk that is full. The shard is
        written under a temporary name and renamed when it is whole.
        """
        name = f"part-{span.index:06d}{SHARD_SUFFIX}"
        # With the process's number: Ray may run one task in two processes.
        temporary = self._folder / f".{name}.{os.getpid()}.tmp"
        try:
            return self._make(span, name, temporary)
        # Returned, not raised: the reason reaches the journal's process as it is, from a worker or a Ray actor, and a
        # span that fails does not mean that its worker failed.
        except (OSError, pa.ArrowException) as error:
            if isinstance(error, DataError):
                return error
            return DataError(
                f"`{self._folder / name}` cannot be written: {reason_of(error)}", help=remedy(error, "then --resume")
            )
        except PolicyEngineError as error:
            return error
        finally:
            temporary.unlink(missing_ok=True)

    def _make(self, span: InputSpan, name: str, temporary: Path) -> Shard:
        counts = Counts()
        # A shard may not depend on the shards that this process made before: resumed, those are not made.
        self.batches.begin()
        seen: list[int] = []
        capacity = self._options.capacity
        # Packed within the shard, so that it can be made again by itself.
        window = None if capacity is None else PackWindow(capacity)
        output = OUTPUT_FORMATS[SHARD_SUFFIX](temporary, self._schema)
        rows = 0
        try:
            for batch in batched(span.read(), self._options.batch_size):
                seen = [seen[0] if seen else batch[0][0], batch[-1][0]]
                made = self.batches.mask(batch)
                self._check(made.errors, span)
                made.counts.name_places(span.where)
                counts.merge(made.counts)
                rows += self._write(made.rows if window is None else window.add(made.rows), output)
            rows += self._write([] if window is None else window.rest(), output)
            output.finish()
        finally:
            # After `finish` this closes what is closed: no file stays open where something raised.
            output.keep()
        first, last = seen or (0, 0)
        shard = Shard(
            index=span.index, file=None, rows=0, first_row=first, last_row=last, bytes=0, sha256="", counts=counts
        )
        if not rows:
            return shard
        # Out of the file, and not on the way in: what is on the disk is what the manifest vouches for.
        digest = file_digest(temporary)
        size = temporary.stat().st_size
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(self._folder / name)
        # Order: the contents, then the name, then the journal's line. Killed anywhere in between, the shard is made
        # again.
        sync_folder(self._folder)
        return replace(shard, file=name, rows=rows, bytes=size, sha256=digest)

    def _check(self, errors: list[tuple[int, PolicyEngineError]], span: InputSpan) -> None:
        if self._options.strict:
            for number, error in errors:
                raise error.at(span.where(number)) from error

    def _write(self, rows: list[dict[str, Any]], output: Writer) -> int:
        if rows:
            output.write(table_of(rows, self._schema))
        return len(rows)
