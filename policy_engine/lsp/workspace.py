"""The policies of a workspace, among which a name may be used by several."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

MAX_FILES: Final = 2_000
"""Policies that are looked at for the uses of a name."""
MAX_FOLDERS: Final = 5_000
_SKIPPED: Final = frozenset({"node_modules", "__pycache__", "site-packages"})


def policies_around(home: Path, roots: Iterable[Path]) -> tuple[Path, ...]:
    """Policy files that may use one: those below the outermost of `roots` that holds it.

    If no root holds it, those of its own folder.

    A `use` stays at or below the folder of the file that has it, so what uses `home` is in a folder above it.
    """
    inside = [root.resolve() for root in roots if home.is_relative_to(root.resolve())]
    # The outermost, since a policy above may use this one.
    root = min(inside, key=lambda r: len(r.parts)) if inside else home.parent
    found = [path for path, _ in zip(_policies(root), range(MAX_FILES))]
    return tuple(dict.fromkeys((home, *found)))


def _policies(root: Path) -> Iterator[Path]:
    for folder, below, files in islice(os.walk(root), MAX_FOLDERS):
        # In place: `os.walk` goes only into the folders that are left, and in this order.
        below[:] = sorted(name for name in below if not name.startswith(".") and name not in _SKIPPED)
        yield from (Path(folder, name).resolve() for name in sorted(files) if name.endswith(".policy"))
