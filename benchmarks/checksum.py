"""A checksum of the rows of Parquet files in a folder, whatever their order and cuts."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow.parquet as pq


def canonical_checksum(folder: Path) -> str:
    """A checksum of the rows of Parquet files in a folder, whatever their order and cuts.

    The sum of the SHA-256 of every row (its columns by name, as Python writes them), modulo 2^256, in hex.
    """
    total = 0
    for path in sorted(folder.glob("*.parquet")):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    total += int.from_bytes(hashlib.sha256(repr(sorted(row.items())).encode()).digest(), "big")
    return f"{total % (1 << 256):064x}"
