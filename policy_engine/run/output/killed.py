"""Temporary files that runs left which were killed, and those of runs under way."""

from __future__ import annotations

import contextlib
import glob
import re
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment,unused-ignore]


def locked(temporary: Path) -> BinaryIO:
    """Makes a temporary file that is locked for as long as it is open.

    The lock of a process that was killed is gone.
    """
    file = temporary.open("wb")
    if fcntl is not None:
        with contextlib.suppress(OSError):  # file systems without locks; nothing is cleared there either
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return file


def clear_killed(path: Path) -> list[str]:
    """Removes the temporary files of runs into this file that were killed; returns their names.

    A run that is under way, here or on another machine of the same file system, holds a lock on its own. Where the
    system has no such locks nothing is removed.
    """
    cleared = []
    for temporary in sorted(path.parent.glob(f".{glob.escape(path.name)}.*.tmp")):
        if not re.fullmatch(r"\d+(-\d+)?", temporary.name[len(path.name) + 2 : -len(".tmp")]):
            continue
        with contextlib.suppress(OSError), temporary.open("rb") as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                temporary.unlink()
                cleared.append(temporary.name)
    return cleared
