"""A mapping that forgets: what was worked out once and may be worked out again."""

from __future__ import annotations

from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Bounded(dict[Key, Value]):
    """A mapping of at most `most` entries, which forgets all of them when it is full.

    Each entry weighs 1 unless `keep` says otherwise.

        known: Bounded[str, int] = Bounded(2)
        known.keep("a", 1); known.keep("b", 2); known.keep("c", 3)
        known == {"c": 3}

    Forgetting everything at once costs nothing per look-up, and what is in use is soon known again. Read as a
    dictionary; write with `keep` alone.

    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self._weight = 0

    def keep(self, key: Key, value: Value, weight: int = 1) -> Value:
        """Keeps a value, and returns it.

        >>> known = Bounded(2)
        >>> known.keep("a", 1), known.keep("b", 2), known.keep("c", 3)
        (1, 2, 3)
        >>> known
        {'c': 3}
        """
        # A key that is kept again is weighed again: at worst the mapping forgets too early, which costs time and no
        # answer.
        self._weight += weight
        if self._weight > self.most:
            # A single entry that weighs more than `most` is kept all the same: the caller needs it now.
            self.clear()
            self._weight = weight
        self[key] = value
        return value

    def clear(self) -> None:
        """Forgets all entries, and what they weigh."""
        super().clear()
        self._weight = 0

    def __reduce__(self) -> tuple[type[Bounded[Key, Value]], tuple[int]]:
        """Pickles empty: another process works things out for itself."""
        return Bounded, (self.most,)
