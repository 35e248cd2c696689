"""Content parts with their own `train` or `weight`, which axolotl always reads."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

from policy_engine.core.errors import PolicyEngineError
from policy_engine.data.files.readers import read_rows

LOOKED_AT: Final = 10_000
"""Rows of the data that are looked at for such parts."""
WHOLE: Final = ("train body where part.train != null or part.weight != null", "train trained body")
"""A message with such a part is a trained turn: all that its parts do not leave out is trained."""
LEFT_OUT: Final = (
    'mask body where part.train in [false, 0, ""] or part.weight in [0, false] and not (part.train != null)',
)
"""Parts that are not trained: `train` wins over `weight`, and a weight that is not 0 is 1."""


def has_flags(entry: Mapping[str, Any], folder: Path) -> bool | None:
    """True if a content part of a dataset entry's first rows has `train` or `weight`.

    None if the data is not here or cannot be read. A path is taken from the working directory, as axolotl does, else
    from the configuration's.
    """
    mapped = entry.get("message_property_mappings") or {}
    content = mapped.get("content", entry.get("message_field_content")) or "content"
    field = entry.get("field_messages") or "messages"
    files = entry.get("data_files") or entry.get("path")
    found: bool | None = None
    for name in files if isinstance(files, list) else [files]:
        path = next((p for p in (Path(str(name)), folder / str(name)) if p.exists()), None)
        if path is None:
            continue
        # A file without such parts says "no"; without any file the answer stays open.
        found = found or False
        try:
            for _, row in islice(read_rows(str(path)), LOOKED_AT):
                if isinstance(row, Mapping) and _flagged(row.get(field), content):
                    return True
        except PolicyEngineError:
            return None  # reading the data for a run says what is wrong with it
    return found


def note_of(found: bool | None) -> list[str]:
    """A note for readers of the policy.

    >>> note_of(False)
    []
    """
    if found is False:
        return []
    if found is None:
        return [
            "`train` and `weight` of content parts: the data is not here to be looked at. If parts of a `content` list "
            "have such keys, axolotl reads them: import with a `path` of a file here, and there are rules for them."
        ]
    return [
        "`train` and `weight` of content parts decide for their part; a message with such a part is trained, whatever "
        "its role. Thinking and calls in such a message are masked by axolotl, and trained here."
    ]


def _flagged(messages: Any, content: str) -> bool:
    for message in messages if isinstance(messages, list | tuple) else ():
        parts = message.get(content) if isinstance(message, Mapping) else None
        for part in parts if isinstance(parts, list | tuple) else ():
            if isinstance(part, Mapping) and (part.get("train") is not None or part.get("weight") is not None):
                return True
    return False
