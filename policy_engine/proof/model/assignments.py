"""Sets of assignments to the free conditions: bitsets while they are small, then a BDD.

A *variable* takes one of a few values, counted from 0: the cells of a field's partition, or false and true. A *free
set* is a set of assignments of all variables, kept as an int; two ints are equal exactly if the sets are.

    >>> space = make_space([3, 2])                        # a field of three cells, and a regex that matches or not
    >>> bin(space.full), bin(space.cells(1, [1]))         # six assignments; the three in which the regex matches
    ('0b111111', '0b111000')
    >>> space.pick(space.both(space.cells(0, [1]), space.cells(1, [1])))
    (1, 1)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache, reduce
from math import prod
from operator import or_
from typing import Any, Final, Protocol

from policy_engine.core.errors import PolicyEngineError
from policy_engine.core.wording import install

BITSET_LIMIT: Final = 1 << 14
"""Assignments up to which bitsets are faster than a BDD."""
LARGEST_BITSET: Final = 1 << 18
"""Assignments up to which bitsets serve where no BDD library is installed; a proof then takes seconds."""
NODE_LIMIT: Final = 200_000
"""Nodes of a BDD past which the answer is undecided."""

Free = int
"""A free set: bits, or a node of a BDD. Made and combined by its space only."""


class TooLarge(PolicyEngineError):
    """The question is past the limits of the proof: the answer is *undecided*."""

    code = "PE302"

    @property
    def why(self) -> str:
        """The reason with what to do, as one sentence."""
        return f"{self.message}: {self.help}" if self.help else self.message


class Space(Protocol):
    """The assignments of some variables, and sets of them."""

    full: Free
    empty: Free

    def cells(self, variable: int, values: Iterable[int]) -> Free:
        """The assignments that give `variable` one of `values`."""

    def both(self, a: Free, b: Free) -> Free:
        """Intersection."""

    def either(self, a: Free, b: Free) -> Free:
        """Union."""

    def without(self, a: Free, b: Free) -> Free:
        """Difference."""

    def forget(self, a: Free, variables: Iterable[int]) -> Free:
        """The assignments that are in `a` for some values of `variables`.

        >>> space = make_space([2, 2])
        >>> both = space.both(space.cells(0, [1]), space.cells(1, [1]))
        >>> space.forget(both, [0]) == space.cells(1, [1])
        True
        """

    def pick(self, a: Free) -> tuple[int, ...]:
        """An assignment of a non-empty set, as one value a variable, low values preferred."""

    def one(self, assignment: Sequence[int]) -> Free:
        """The set of one assignment."""


def make_space(sizes: Sequence[int]) -> Space:
    """The space of variables with `sizes` values each.

    Raises `TooLarge` if it needs a BDD and the library `dd` is not installed.
    """
    # A bitset has a bit for each assignment, so its size doubles with each regex; a BDD grows with the structure of the
    # sets.
    total = prod(sizes)
    if total <= BITSET_LIMIT:
        return _Bitsets(sizes)
    try:
        from dd import bdd as library
    except ImportError:
        if total <= LARGEST_BITSET:
            return _Bitsets(sizes)
        raise TooLarge(
            "the policy has more free conditions than bitsets can hold, and the library `dd` is not installed",
            help=f"install the extra: {install('proof')}",
        ) from None
    make: Any = library.BDD  # which is abstract to a type checker
    return _Diagrams(sizes, make())


class _Bitsets:
    """One bit an assignment: the first variable changes fastest."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = tuple(sizes)
        self.strides = [prod(self.sizes[:i]) for i in range(len(self.sizes))]
        self.total = prod(self.sizes)
        self.full: int = (1 << self.total) - 1
        self.empty: int = 0
        self._cell = cache(self._make_cell)

    def _make_cell(self, variable: int, value: int) -> int:
        stride = self.strides[variable]
        period = stride * self.sizes[variable]
        # The cell is a block of ones in each period. Ones divided by a period of ones have a 1 at the start of each
        # period, and the product puts the block there.
        return (((1 << stride) - 1) << (stride * value)) * (self.full // ((1 << period) - 1))

    def cells(self, variable: int, values: Iterable[int]) -> int:
        return reduce(or_, (self._cell(variable, v) for v in values), 0)

    def both(self, a: int, b: int) -> int:
        return a & b

    def either(self, a: int, b: int) -> int:
        return a | b

    def without(self, a: int, b: int) -> int:
        return a & ~b

    def forget(self, a: int, variables: Iterable[int]) -> int:
        for variable in variables:
            stride, size = self.strides[variable], self.sizes[variable]
            first = self._cell(variable, 0)
            # All values are moved onto value 0 and joined, then copied back to every value.
            found = reduce(or_, ((a >> (stride * v)) & first for v in range(size)))
            a = reduce(or_, (found << (stride * v) for v in range(size)))
        return a

    def pick(self, a: int) -> tuple[int, ...]:
        # The lowest bit: low values are the plainer ones, such as a field that is missing.
        index = (a & -a).bit_length() - 1
        return tuple(index // stride % size for stride, size in zip(self.strides, self.sizes, strict=True))

    def one(self, assignment: Sequence[int]) -> int:
        return 1 << sum(stride * value for stride, value in zip(self.strides, assignment, strict=True))


class _Diagrams:
    """A reduced ordered BDD of the library `dd`; a variable of n values is written in binary.

    Nodes are used as plain ints, without counting references: a space is dropped as a whole.
    """

    def __init__(self, sizes: Sequence[int], manager: Any) -> None:
        self.sizes = tuple(sizes)
        self._bdd = manager
        # Highest bit first, so that `pick` prefers low values.
        self._bits = [[f"v{i}_{b}" for b in reversed(range((n - 1).bit_length()))] for i, n in enumerate(self.sizes)]
        self._names = [name for bits in self._bits for name in bits]
        self._bdd.declare(*self._names)
        # In `dd`, 1 is true, -1 is false, and a minus sign negates a node.
        self.empty: int = self._bdd.false
        self.full: int = self._bdd.true
        self._cell = cache(self._make_cell)
        # Binary codes past the last value mean nothing, so they are in no set.
        for variable, size in enumerate(self.sizes):
            if size & (size - 1):
                self.full = self.both(self.full, self.cells(variable, range(size)))

    def _make_cell(self, variable: int, value: int) -> int:
        bits = self._bits[variable]
        cube: int = self._bdd.cube({name: bool(value >> (len(bits) - 1 - i) & 1) for i, name in enumerate(bits)})
        return cube

    def _ite(self, a: int, b: int, c: int) -> int:
        # Not `max_nodes`: a manager that has met it cannot be dropped without complaint.
        if len(self._bdd) > NODE_LIMIT:
            raise TooLarge(f"the conditions need a decision diagram of over {NODE_LIMIT} nodes")
        node: int = self._bdd.ite(a, b, c)
        return node

    def cells(self, variable: int, values: Iterable[int]) -> int:
        return reduce(self.either, (self._cell(variable, v) for v in values), self.empty)

    def both(self, a: int, b: int) -> int:
        return self._ite(a, b, -1)

    def either(self, a: int, b: int) -> int:
        return self._ite(a, 1, b)

    def without(self, a: int, b: int) -> int:
        return self._ite(a, -b, -1)

    def forget(self, a: int, variables: Iterable[int]) -> int:
        names = [name for variable in variables for name in self._bits[variable]]
        # Forgetting also lets in the codes past the last value.
        return self.both(self._bdd.exist(names, a), self.full) if names else a

    def pick(self, a: int) -> tuple[int, ...]:
        # Variables that the path does not ask about may have any value; the low one is as good.
        found = dict.fromkeys(self._names, False)
        while a != self._bdd.true:
            level, low, high = self._bdd.succ(a)
            if a < 0:  # the edge is complemented
                low, high = -low, -high
            found[self._names[level]] = low == self.empty
            a = high if low == self.empty else low
        return tuple(sum(found[n] << i for i, n in enumerate(reversed(bits))) for bits in self._bits)

    def one(self, assignment: Sequence[int]) -> int:
        bits: dict[str, bool] = {}
        for names, value in zip(self._bits, assignment, strict=True):
            bits |= {name: bool(value >> (len(names) - 1 - i) & 1) for i, name in enumerate(names)}
        node: int = self._bdd.cube(bits)
        return node


def all_of(space: Space, sets: Iterable[Free]) -> Free:
    """Intersection of any number of free sets."""
    return reduce(space.both, sets, space.full)


def cube(space: Space, assignment: Mapping[int, int]) -> Free:
    """The assignments that give some variables these values."""
    return all_of(space, (space.cells(variable, (value,)) for variable, value in assignment.items()))
