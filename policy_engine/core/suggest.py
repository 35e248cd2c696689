"""The nearest word that would have been right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


# 0.7 takes `asistant` for `assistant`, and `critique` for `critic` too: a caller that changes data by it asks for
# more.
def nearest(word: str, candidates: Iterable[str], *, cutoff: float = 0.7) -> str | None:
    """The candidate that `word` is a misspelling of; None if there is no such candidate.

    Case is ignored. `cutoff` is the least similarity, from 0 to 1.

        >>> nearest("asistant", ["user", "assistant"])
        'assistant'
    """
    # Compared in lower case, answered as written: `User` and `usr` both mean `user`.
    by_lower = {c.lower(): c for c in candidates}
    # A long input is no misspelling, and comparing it is slow.
    found = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=cutoff) if len(word) <= 60 else []
    return by_lower[found[0]] if found else None


def did_you_mean(word: str, candidates: Iterable[str]) -> str | None:
    """`did you mean `X`?`, or None if no candidate is near.

    >>> did_you_mean("asistant", ["assistant", "user"])
    'did you mean `assistant`?'
    """
    found = nearest(word, candidates)
    return None if found is None else f"did you mean `{found}`?"


def file_meant(path: Path) -> str | None:
    """`did you mean `X`?` for a file that is missing, if its folder has one of nearly that name.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "chats.jsonl").write_text("")
    ...     print(file_meant(Path(folder, "chat.jsonl")).endswith("chats.jsonl`?"))
    True
    """
    try:
        # The dict below keeps the last of two equal stems, so the files with the wanted suffix come last.
        beside = sorted(path.parent.iterdir(), key=lambda entry: entry.suffix != path.suffix, reverse=True)
    except (OSError, ValueError):
        return None
    # Without the suffix, which makes short names of a kind look alike; the same one goes before others.
    by_stem = {entry.stem: entry for entry in beside}
    found = nearest(path.stem, by_stem)
    return None if found is None else f"did you mean `{by_stem[found]}`?"
