"""Work that only counts for the newest version of a text, one at a time for each text.

While a text is checked, a hundred edits may arrive. They ask for one more check together, of what the text is then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable


class Latest:
    """Runs work for keys, such as documents, one at a time for each key."""

    def __init__(self) -> None:
        self._again: dict[str, bool] = {}
        """The keys whose work runs, and whether it has to run again."""

    async def run(self, key: str, work: Callable[[], Awaitable[None]]) -> None:
        """Runs the work for a key.

        While the key's work runs already, it is only noted that it has to run once more, and this returns.
        """
        # No lock is needed: there is no `await` between the question and the note.
        if key in self._again:
            self._again[key] = True
            return
        try:
            while self._again.get(key, True):
                # Before the work: an edit that comes during it asks for one more round.
                self._again[key] = False
                await work()
        finally:
            self._again.pop(key, None)
