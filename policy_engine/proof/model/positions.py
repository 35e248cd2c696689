"""The place of a turn in a conversation, as far as a policy asks.

`last 2 assistant`, `after tool` and `turn.index < 3` come down to *facts* about the turns before or after a turn:

    last 2 assistant    not AtLeast("suffix", ("assistant", None), 2)
    after tool          AtLeast("prefix", ("tool", None), 1)
    turn.index < 3      CountTest("prefix", (None, None), 0, <turn.index < 3>)

A key is a role (None for any) and, where `trained` is asked for, the bit that says it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final, Literal

from policy_engine.core.vocabulary import RelationKind
from policy_engine.lang.ast import Compare, Field, Has, Truth
from policy_engine.rules.conditions.conditions import test_of

# The other package takes longer to import than all of this folder.
if sys.version_info >= (3, 11):
    from typing import assert_never
else:
    from typing_extensions import assert_never

Side = Literal["prefix", "suffix"]
CountField = Literal["index", "from_end", "round"]
COUNT_FIELDS: Final[tuple[CountField, ...]] = ("index", "from_end", "round")
"""Fields of `turn` that the turns around a turn decide."""
Key = tuple[str | None, int | None]
ALL: Final[Key] = (None, None)

OTHER: Final = "\0other"
"""Takes the place of every role that the policy does not name."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A turn: its role, and the bits of what it is trained by (see `trained_bits`)."""

    role: str
    bits: int = 0

    def is_in(self, key: Key) -> bool:
        """True if the turn counts for a key.

        >>> Letter("tool").is_in(("tool", None)), Letter("tool").is_in(("user", None)), Letter("tool").is_in(ALL)
        (True, False, True)
        """
        role, bit = key
        return (role is None or role == self.role) and (bit is None or bool(self.bits >> bit & 1))


@dataclass(frozen=True, slots=True)
class AtLeast:
    """The side has `count` turns of the key or more."""

    side: Side
    key: Key
    count: int


@dataclass(frozen=True, slots=True)
class Nearest:
    """The turn just before, or just after, counts for the key."""

    side: Side
    key: Key


@dataclass(frozen=True, slots=True)
class CountTest:
    """A test of the policy holds on the number of turns of the key on the side, plus `plus`."""

    side: Side
    key: Key
    plus: int
    test: Compare | Has | Truth

    def holds(self, count: int) -> bool:
        """The test's answer for a count."""
        return test_of(self.test)(count + self.plus)

    @property
    def cap(self) -> int:
        """A count from which on the test's answer no longer changes.

        >>> from policy_engine.lang.check import check_text
        >>> leaf = check_text("train assistant where turn.index < 3").rules[0].condition
        >>> CountTest("prefix", ALL, 0, leaf).cap
        4
        """
        value = self.test.value if isinstance(self.test, Compare) else None
        numbers = value if isinstance(value, tuple) else (value,)
        # `n == n` leaves out NaN. Past 1e9 no conversation counts, and infinity has no int.
        return max(0, *(int(n) + 1 for n in numbers if isinstance(n, (int, float)) and n == n and abs(n) < 1e9), 0)


SideFact = AtLeast | Nearest | CountTest
Conjunction = tuple[tuple[SideFact, bool], ...]
"""Facts, each to be true or false. None in place of a conjunction means never."""


@dataclass(frozen=True, slots=True)
class Turns:
    """A set of turns a policy talks about, its `trained` resolved to a bit."""

    role: str | None
    end: Literal["first", "last"] | None
    count: int
    bit: int | None

    @property
    def key(self) -> Key:
        """The key by which its turns are counted."""
        return self.role, self.bit


def selected(turns: Turns, letter: Letter) -> Conjunction | None:
    """Facts under which a turn is one of `turns`.

    >>> selected(Turns("assistant", "last", 2, None), Letter("assistant"))
    ((AtLeast(side='suffix', key=('assistant', None), count=2), False),)
    >>> selected(Turns("assistant", "last", 2, None), Letter("user")) is None
    True
    """
    if not letter.is_in(turns.key):
        return None
    if turns.end is None:
        return ()
    side: Side = "prefix" if turns.end == "first" else "suffix"
    # One of the last two has at most one such turn after it.
    return ((AtLeast(side, turns.key, turns.count), False),)


def related(relation: RelationKind | None, turns: Turns, letter: Letter) -> Conjunction | None:
    """Facts under which a turn has a relation to `turns`, or without a relation is one of them.

    It is `after` the earliest of them, `before` the latest, or `right after` one.

    The earliest of the last N turns of the key is before this turn if two things hold: the prefix has such a turn, and
    this turn and the suffix have fewer than N. `before first N` mirrors that.

    >>> related("after", Turns("tool", None, 0, None), Letter("user"))
    ((AtLeast(side='prefix', key=('tool', None), count=1), True),)
    """
    key, n = turns.key, turns.count
    # The turn itself may be one of those that are counted.
    own = int(letter.is_in(key))
    fewer_behind = (AtLeast("suffix", key, n - own), False)
    match relation:
        case None:
            return selected(turns, letter)
        case "after":
            found: Conjunction = ((AtLeast("prefix", key, 1), True),)
            return (*found, fewer_behind) if turns.end == "last" else found
        case "before":
            found = ((AtLeast("suffix", key, 1), True),)
            return (*found, (AtLeast("prefix", key, n - own), False)) if turns.end == "first" else found
        case "right after":
            found = ((Nearest("prefix", key), True),)
            if turns.end == "first":
                # The turn before is in the prefix, with those that come before it.
                return (*found, (AtLeast("prefix", key, n + 1), False))
            return (*found, fewer_behind) if turns.end == "last" else found
        case _:
            assert_never(relation)


SIDES: Final[dict[Side, str]] = {"prefix": "previous", "suffix": "next"}
"""The scope that means the nearest turn of each side."""


def neighboured(scope: str, letter: Letter) -> Conjunction | None:
    """Facts under which a turn can have the `previous`, `next`, `result` or `answer` of `scope`."""
    match scope:
        case "previous":
            return ((AtLeast("prefix", ALL, 1), True),)
        case "next":
            return ((AtLeast("suffix", ALL, 1), True),)
        case "result":
            # Something has to follow that can answer.
            return ((AtLeast("suffix", ("tool", None), 1), True),)
        case _:
            # Only a tool's message answers, and something has to have made the call.
            return ((AtLeast("prefix", ALL, 1), True),) if letter.role == "tool" else None


def placed_role(scope: str, role: str, letter: Letter) -> Conjunction | None:
    """Facts under which a turn's message, or the one before or after it, has a role.

    >>> placed_role("message", "user", Letter("user")), placed_role("message", "user", Letter("tool"))
    ((), None)
    >>> placed_role("previous", "user", Letter("tool"))
    ((Nearest(side='prefix', key=('user', None)), True),)
    """
    for side, name in SIDES.items():
        if scope == name:
            return ((Nearest(side, (role, None)), True),)
    # The scope `message` is the turn itself.
    return () if letter.role == role else None


def count_field(field: Field) -> CountField | None:
    """The field of `turn` that a field is, if the turns around a turn decide it."""
    return next((name for name in COUNT_FIELDS if field.scope == "turn" and field.path[0] == name), None)


def counted(field: CountField, test: Compare | Has | Truth, letter: Letter) -> Conjunction:
    """Facts under which a test on a `turn` field that counts turns holds for a turn."""
    match field:
        case "index":
            return ((CountTest("prefix", ALL, 0, test), True),)
        case "from_end":
            return ((CountTest("suffix", ALL, 0, test), True),)
        case "round":
            # A round counts users up to this turn, itself included.
            return ((CountTest("prefix", ("user", None), int(letter.role == "user"), test), True),)
        case _:
            assert_never(field)
