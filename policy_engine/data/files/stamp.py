"""Size, time and inode of a file: they show that it was changed, without reading it."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from policy_engine.core.errors import DataError


class InputChanged(DataError):
    """An input file did not stay as it was while a run read it."""


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """A file as it was found. `inode` is None where other machines may number files otherwise."""

    size: int
    time_ns: int
    inode: int | None

    @staticmethod
    def of(file: Path) -> Stamp | None:
        """The stamp of a file; None for a pipe or a device, which has no such times. Raises OSError."""
        found = os.stat(file)
        if not stat.S_ISREG(found.st_mode):
            return None
        return Stamp(size=found.st_size, time_ns=found.st_mtime_ns, inode=found.st_ino)

    def check(self, file: Path) -> None:
        """Raises DataError if the file is not as it was."""
        try:
            now = Stamp.of(file)
        except OSError:
            raise changed(file, "it is not there any more") from None
        # Size first: it says most to the reader.
        if now is None or now.size != self.size:
            raise changed(file, f"it had {self.size:,} bytes and has {0 if now is None else now.size:,}")
        if self.inode is not None and now.inode != self.inode:
            raise changed(file, "another file was put in its place")
        if now.time_ns != self.time_ns:
            raise changed(file, "it was written to")


def changed(file: Path, how: str) -> InputChanged:
    """The error of an input that did not stay as it was."""
    return InputChanged(
        f"`{file}` changed while it was read: {how}",
        help="begin again with --overwrite, on a copy that nothing writes to",
    )
