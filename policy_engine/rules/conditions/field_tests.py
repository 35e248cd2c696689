"""All tests of one field, answered together, and kept for values that come again."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from policy_engine.core.bounded import Bounded
from policy_engine.core.errors import ConfigError
from policy_engine.lang.ast import Compare, Has, Truth
from policy_engine.rules.conditions.conditions import Test, test_of
from policy_engine.rules.conditions.patterns import compile_pattern, search

if TYPE_CHECKING:
    import re2

Answer = tuple[int, int, int, int]
"""Bits of the statements and of the tests that a value makes true; then the same of those that were not asked."""

_SCALARS = frozenset({str, int, float, bool, type(None)})
_LONGEST = 64
"""Most characters of a text, or items of a list, that answers are kept for.

Longer values are prose, not flags, and hardly come again.
"""
_MOST_KEPT = 4096


class AskedField:
    """The tests of one field.

    The field is a key of the message or the sample (`message.train`), a path below one (`sample.meta.source`), or a
    fact of the turn (`turn.index`).
    """

    def __init__(self) -> None:
        self._tests: list[tuple[Test, int, int]] = []
        self._searches: list[tuple[Test, int, int]] = []
        self._patterns: list[str] = []
        self._are_words = True
        self._known: Bounded[Any, Answer] = Bounded(_MOST_KEPT)

    def add(self, leaf: Compare | Has | Truth, *, statement: int = 0, joint: int = 0) -> None:
        """Adds a test.

        `statement` is the bit of the statement whose whole condition it is, `joint` its own bit as a part of larger
        conditions.
        """
        pattern = _searched(leaf)
        if pattern is None:
            # Cheap on any value, in contrast to a search.
            self._tests.append((test_of(leaf), statement, joint))
        else:
            # A search reads the whole value, which may be a long answer.
            self._searches.append((test_of(leaf), statement, joint))
            self._patterns.append(pattern)
            self._are_words = self._are_words and isinstance(leaf, Compare) and leaf.op == "contains"

    @property
    def only_words(self) -> bool:
        """True if all tests are false of a text that has none of their words."""
        return not self._tests and self._are_words and self._any is not None

    def may_be_found(self, text: str) -> bool:
        """False if no search finds anything in a text."""
        return self._any is None or search(self._any, text)

    @functools.cached_property
    def _any(self) -> re2._Regexp | None:
        """One regex that matches where any of the searches may; None where they cannot be one."""
        if any("\\Q" in pattern for pattern in self._patterns):
            return None  # `\\Q` quotes up to the next `\\E`, which may be in another pattern
        try:
            # One pass over the text rules out all searches at once, as most find nothing in most texts.
            return compile_pattern("|".join(self._patterns))
        # The alternatives together may be larger than RE2 takes.
        except ConfigError:
            return None

    @functools.cached_property
    def _unasked(self) -> tuple[int, int]:
        statements = joint = 0
        for _, statement, bit in self._searches:
            statements |= statement
            joint |= bit
        return statements, joint

    def answer(self, value: Any) -> Answer:
        """The answers of a value. A search that may take long, and may find something, is not asked."""
        kind = type(value)
        if kind in _SCALARS:
            # Prose: each value is new, so nothing is kept, and searches are put off until a rule needs one.
            if kind is str and len(value) > _LONGEST:
                found = self._look(value, searching=False)
                may_be_found = self._searches and self.may_be_found(value)
                return (*found[:2], *self._unasked) if may_be_found else found
            # Python takes 1, 1.0 and True for one key.
            key: Any = (kind, value)
        # Lists of labels (`["clean", "short"]`) come again. A list is no key, so a tuple is made of it.
        elif kind is list and len(value) <= _LONGEST and all(type(item) in _SCALARS for item in value):
            key = (kind, *[(type(item), item) for item in value])
        else:
            return self._look(value, searching=True)
        known = self._known.get(key)
        if known is None:
            known = self._known.keep(key, self._look(value, searching=True))
        return known

    def _look(self, value: Any, *, searching: bool) -> Answer:
        statements = joint = 0
        for test, statement, bit in (*self._tests, *self._searches) if searching else self._tests:
            if test(value):
                statements |= statement
                joint |= bit
        return statements, joint, 0, 0


def _searched(leaf: Compare | Has | Truth) -> str | None:
    """A regex that is found wherever the test holds; None if the test looks at no text.

    >>> from policy_engine.lang.check import check_text
    >>> leaf = check_text('train assistant where message.content contains "a.b"').rules[0].condition
    >>> _searched(leaf)
    'a\\\\.b'
    """
    if not isinstance(leaf, Compare) or not isinstance(leaf.value, str):
        return None
    if leaf.op == "contains":
        import re2

        # Text is searched as UTF-8, which a lone surrogate has no place in.
        return None if any("\ud800" <= c <= "\udfff" for c in leaf.value) else str(re2.escape(leaf.value))
    if leaf.op == "matches":
        return f"(?{leaf.flags}:{leaf.value})"
    return None
