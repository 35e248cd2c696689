"""Points: every turn with its surroundings, each a bit of an int, and sets of them.

Points come in blocks, one for each letter (role and trained bits); a block is a grid of prefix states times suffix
states. `mask last assistant` has four points in two blocks:

    0   assistant, no assistant after it
    1   assistant, an assistant after it
    2   another role, no assistant after it
    3   another role, an assistant after it

The last assistant is the set 0b0001.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from policy_engine.proof.model.assignments import TooLarge
from policy_engine.proof.model.automaton import Summaries
from policy_engine.proof.model.positions import Conjunction, Letter, SideFact

MAX_POINTS: Final = 4_000_000


@dataclass(frozen=True, kw_only=True)
class TurnPlace:
    """A point in full: the turn, and the numbers of the states around it."""

    letter: Letter
    prefix: int
    suffix: int


class Points:
    """The points over some letters. Raises `TooLarge` past `MAX_POINTS`."""

    def __init__(self, letters: Sequence[Letter], facts: Sequence[SideFact], *, merge: bool) -> None:
        self.letters = tuple(letters)
        self.prefixes = Summaries("prefix", facts, letters, merge=merge)
        self.suffixes = Summaries("suffix", facts, letters, merge=merge)
        self._width = len(self.suffixes.kept)
        self._block = len(self.prefixes.kept) * self._width
        # A set of points is an int of as many bits, and a proof keeps hundreds of such sets.
        if self._block * len(letters) > MAX_POINTS:
            raise TooLarge(f"the policy distinguishes more than {MAX_POINTS} places of a turn")
        self.full = (1 << (self._block * len(letters))) - 1
        self._full_block = (1 << self._block) - 1
        self._patterns: dict[SideFact, int] = {}

    def where(self, condition: Callable[[Letter], Conjunction | None]) -> int:
        """The points at which a condition holds, given as facts for each letter."""
        found = 0
        for number, letter in enumerate(self.letters):
            conjunction = condition(letter)
            if conjunction is None:
                continue
            # An empty conjunction holds at every point of the block.
            block = self._full_block
            for fact, wanted in conjunction:
                # `~` has endless ones in front, which the block cuts off.
                block &= self._pattern(fact) if wanted else ~self._pattern(fact)
            found |= block << (number * self._block)
        return found

    def _pattern(self, fact: SideFact) -> int:
        """The points of a block at which a fact holds."""
        known = self._patterns.get(fact)
        if known is None:
            if fact.side == "prefix":
                # Bits are written highest first, so the last prefix comes first.
                holds = [self.prefixes.holds(fact, i) for i in reversed(self.prefixes.kept)]
                text = "".join(("1" if h else "0") * self._width for h in holds)
            else:
                holds = [self.suffixes.holds(fact, i) for i in reversed(self.suffixes.kept)]
                text = "".join("1" if h else "0" for h in holds) * len(self.prefixes.kept)
            # Written as text: setting bits one by one would copy the int each time.
            known = self._patterns[fact] = int(text, 2)
        return known

    def place(self, point: int) -> TurnPlace:
        """The turn and surroundings of the point with this number."""
        block, rest = divmod(point, self._block)
        prefix, suffix = divmod(rest, self._width)
        return TurnPlace(
            letter=self.letters[block], prefix=self.prefixes.kept[prefix], suffix=self.suffixes.kept[suffix]
        )


def numbers(points: int) -> Iterator[int]:
    """The numbers of the points in a set, lowest first.

    >>> list(numbers(0b1010))
    [1, 3]
    """
    # One pass over a string of bits: peeling bits off a long int copies it every time.
    bits = bin(points)[:1:-1]
    at = bits.find("1")
    while at >= 0:
        yield at
        at = bits.find("1", at + 1)
