"""Summaries of the turns before or after a turn: the states of a small automaton.

A state counts the turns of each key up to the largest number that is asked for, and knows the keys of the nearest turn.
`mask last assistant` asks if an assistant follows, so the suffix has two states: no assistant, and one or more. The
second is reached by the turns `(assistant,)`. Any prefix, turn and suffix can be put together, so the states that can
be reached are exactly the surroundings that exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from policy_engine.proof.model.assignments import TooLarge
from policy_engine.proof.model.positions import AtLeast, CountTest, Key, Letter, Nearest, Side, SideFact

MAX_STATES: Final = 20_000

State = tuple[tuple[int, ...], tuple[bool, ...]]


class Summaries:
    """The reachable states of one side, numbered by the number of turns that they need.

    State 0 has no turn.
    """

    def __init__(self, side: Side, facts: Iterable[SideFact], letters: Sequence[Letter], *, merge: bool = True) -> None:
        self.side = side
        mine = sorted((fact for fact in facts if fact.side == side), key=repr)
        caps: dict[Key, int] = {}
        for fact in mine:
            if isinstance(fact, (AtLeast, CountTest)):
                cap = fact.count if isinstance(fact, AtLeast) else fact.cap
                # Counts stop at the largest number that some fact asks for, so states stay few.
                caps[fact.key] = max(caps.get(fact.key, 0), cap)
        self._keys = sorted(caps, key=repr)
        self._caps = [caps[key] for key in self._keys]
        self._near = sorted({fact.key for fact in mine if isinstance(fact, Nearest)}, key=repr)
        # Letters that count for the same keys are one to the automaton.
        kinds: dict[tuple[bool, ...], Letter] = {}
        for letter in letters:
            kinds.setdefault(tuple(letter.is_in(k) for k in (*self._keys, *self._near)), letter)
        self._alphabet = list(kinds.values())
        start: State = ((0,) * len(self._keys), (False,) * len(self._near))
        self._states: list[State] = [start]
        # The way back to the empty side, for witnesses.
        self._parents: list[tuple[int, Letter] | None] = [None]
        self._index: dict[State, int] = {start: 0}
        self._explore()
        self.kept = list(range(len(self._states)))
        """States told apart, by number."""
        if merge:
            seen: dict[tuple[bool, ...], int] = {}
            for i in self.kept:
                # States in which all facts agree are one place to the policy; the first needs the fewest turns.
                seen.setdefault(tuple(self.holds(fact, i) for fact in mine), i)
            self.kept = list(seen.values())

    def _explore(self) -> None:
        at = 0
        # Breadth first: a state is found by the fewest turns that lead to it.
        while at < len(self._states):
            for letter in self._alphabet:
                state = self._next(self._states[at], letter)
                if state not in self._index:
                    self._index[state] = len(self._states)
                    self._states.append(state)
                    self._parents.append((at, letter))
            if len(self._states) > MAX_STATES:
                raise TooLarge(
                    f"what the policy asks of the turns before or after one has more than {MAX_STATES} cases",
                    help="use smaller numbers in `first N`, `last N` and tests on `turn.index`, or fewer of them",
                )
            at += 1

    def _next(self, state: State, letter: Letter) -> State:
        counts = tuple(
            # A boolean counts as 0 or 1.
            min(cap, n + letter.is_in(key))
            for n, cap, key in zip(state[0], self._caps, self._keys, strict=True)
        )
        return counts, tuple(letter.is_in(key) for key in self._near)

    def step(self, number: int, letter: Letter) -> int:
        """The state after one more turn: behind a prefix, in front of a suffix."""
        return self._index[self._next(self._states[number], letter)]

    def steps(self, letter: Letter) -> list[int]:
        """The state after one more turn, for each state."""
        return [self.step(number, letter) for number in range(len(self._states))]

    def holds(self, fact: SideFact, number: int) -> bool:
        """True if a fact of this side is true in a state."""
        counts, near = self._states[number]
        if isinstance(fact, Nearest):
            return near[self._near.index(fact.key)]
        count = counts[self._keys.index(fact.key)]
        return count >= fact.count if isinstance(fact, AtLeast) else fact.holds(count)

    def turns(self, number: int) -> list[Letter]:
        """The fewest turns that lead to a state, in the order of the conversation.

        >>> facts, letters = [AtLeast("suffix", ("assistant", None), 1)], [Letter("user"), Letter("assistant")]
        >>> suffix = Summaries("suffix", facts, letters)
        >>> suffix.kept, suffix.turns(1)
        ([0, 1], [Letter(role='assistant', bits=0)])
        """
        found: list[Letter] = []
        parent = self._parents[number]
        while parent is not None:
            number, letter = parent
            found.append(letter)
            parent = self._parents[number]
        # A prefix grows at its end, a suffix at its front. Going back, the nearest turn comes first: the last of a
        # prefix, the first of a suffix.
        return found[::-1] if self.side == "prefix" else found
