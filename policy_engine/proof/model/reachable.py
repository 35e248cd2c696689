"""Turns that are trained: the trained bits that a turn can have, and its surroundings then.

A turn has a bit exactly if some character of its body is trained by the rules of the bit. In the policy

    train assistant where message.quality > 3
    train eos of trained last assistant

an assistant turn has the bit only if its quality is above 3, so `trained last assistant` with a lower quality does not
exist. A set of bits is possible if characters of one body can bring all of them, under the same data of the message.

Where the policy counts trained turns, the bits of one turn depend on those of the others. Conversations are then paths
in a graph: a node is a pair of prefix and suffix states, an edge is a turn that can have its bits between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Final

from policy_engine.proof.model.assignments import Free, TooLarge, cube
from policy_engine.proof.model.outcomes import ClassOutcome, Outcomes
from policy_engine.proof.model.places import numbers
from policy_engine.proof.model.regions import Region, support
from policy_engine.proof.model.world import PartClass, World

MAX_EDGES: Final = 100_000
MAX_SAMPLES: Final = 32
"""Most assignments of the `sample` fields, which are the same for all turns of a conversation."""

Node = tuple[int, int]


@dataclass(kw_only=True)
class Paths:
    """The conversations that exist under some assignments of the sample's fields."""

    sample: Free
    alive: int
    """Points on a path from an empty prefix to an empty suffix."""
    before: dict[Node, int | None]
    """For each node the point of the turn that leads to it on a shortest path; None at a start."""
    behind: dict[Node, int | None]


class Possible:
    """For each class of parts, the region of everything that some conversation has."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.regions: list[Region] = list(world.base)
        self.paths: list[Paths] = []
        # Without `trained` every place and every assignment exists: a conversation can be put together of any turns.
        if not world.stages.bits:
            return
        self._tool = world.points.where(lambda letter: () if letter.role == "tool" else None)
        self._bits = [
            world.points.where(lambda letter, b=bit: () if letter.bits >> b & 1 else None)  # type: ignore[misc]
            for bit in range(len(world.stages.bits))
        ]
        # Turns of a role that nobody asks about do without the bit, whatever they hold.
        self._asked = [
            world.points.where(lambda letter, b=bit: () if b in world.stages.bits_of(letter.role) else None)  # type: ignore[misc]
            for bit in range(len(world.stages.bits))
        ]
        self.allowed = [dict(region) for region in world.base]
        """For classes of the body, the text that a turn may have without a bit that its point does not have."""
        self._staged: list[dict[int, ClassOutcome]] = []
        self.brings: list[list[Region]] = []
        """For each bit and class, the part of that text which gives the turn the bit."""
        self._work_out()
        self.turns = self._turns()
        """The assignments of the message's and the sample's fields under which a turn has exactly its bits."""
        exists = self._existing()
        for index, part_class in enumerate(world.classes):
            if part_class.owned:
                turns = self.turns
                if part_class.in_call:
                    # Text of a call has the results of that call, other text those of all calls.
                    turns = world.algebra.forget(turns, world.conditions.variables("result"))
                    # A tool turn can make calls of its own, which are not the one it answers.
                    inside = world.algebra.within(turns, self._tool)
                    inside = world.algebra.forget(inside, world.conditions.variables("call"))
                    turns = world.algebra.either(world.algebra.within(turns, ~self._tool), inside)
                region = world.algebra.both(self.allowed[index], turns)
                self.regions[index] = world.algebra.both(region, exists)

    def _work_out(self) -> None:
        world, algebra = self.world, self.world.algebra
        outcomes = Outcomes(world)
        body = [i for i, part_class in enumerate(world.classes) if part_class.in_body]
        for policy, stage in world.stages.bits:
            # What the first rules alone decide, on text of the body: that is what `trained` asks about.
            self._staged.append({i: outcomes.of(policy, i, world.base[i], stage=stage) for i in body})
        trained = [{i: outcomes.trained(outcome) for i, outcome in staged.items()} for staged in self._staged]
        for bit, regions in enumerate(trained):
            for i in body:
                # Such text would give the turn a bit that its point says it does not have.
                outside = algebra.within(regions[i], self._asked[bit] & ~self._bits[bit])
                self.allowed[i] = algebra.without(self.allowed[i], outside)
        for bit, regions in enumerate(trained):
            self.brings.append(
                [
                    # Only text that no other bit forbids can bring this one.
                    algebra.within(algebra.both(self.allowed[i], regions[i]), self._bits[bit]) if i in regions else {}
                    for i in range(len(world.classes))
                ]
            )

    def acts(self, bit: int, rule: int) -> bool:
        """True if a rule decides or scales something, of the rules that a bit is about."""
        return any(
            self.world.algebra.both(self.regions[i], outcome.decided.get(rule, {}))
            or self.world.algebra.both(self.regions[i], outcome.scaled.get(rule, {}))
            for i, outcome in self._staged[bit].items()
        )

    def forget_own(self, region: Region, part_class: PartClass) -> Region:
        """A region of one class without the conditions that only concern the character.

        Other parts of the turn can then be joined to it.
        """
        world = self.world
        own = world.conditions.variables("segment", "part", "span", *(("result",) if part_class.in_call else ()))
        calls = world.conditions.variables("call")
        # Most policies ask nothing of calls.
        if not calls:
            return world.algebra.forget(region, own)
        shared = 0 if part_class.in_call else self._tool
        answered = world.algebra.forget(world.algebra.within(region, shared), own)
        rest = world.algebra.forget(world.algebra.within(region, ~shared), (*own, *calls))
        return world.algebra.either(answered, rest)

    def _turns(self) -> Region:
        world, algebra = self.world, self.world.algebra
        turns = algebra.points(world.points.full)
        for bit, regions in enumerate(self.brings):
            # A turn without the bit needs nothing for it; one with the bit needs some text that brings it, under data
            # that other text of the turn can share.
            cover = algebra.points(world.points.full & ~self._bits[bit])
            for region, part_class in zip(regions, world.classes, strict=True):
                cover = algebra.either(cover, self.forget_own(region, part_class))
            turns = algebra.both(turns, cover)
        return turns

    def _existing(self) -> Region:
        """The points that lie in some conversation, with the sample's fields under which they do."""
        world, algebra = self.world, self.world.algebra
        variables = world.conditions.variables("sample")
        others = tuple(i for i in range(len(world.conditions.sizes)) if i not in set(variables))
        # Data of a message is its own; the sample's fields are those of all turns.
        feasible = algebra.forget(self.turns, others)
        # Then the bits of one turn ask nothing of the others, so any turns can be put together.
        if not world.counts_trained:
            return feasible
        # Samples under which turns can be at the same points have the same conversations.
        samples: dict[int, Free] = {}
        for sample in self._samples(variables):
            points = support(algebra.both(feasible, algebra.region(sample, world.points.full)))
            # Exploring is the slow part, so it is done once for each set of points.
            samples[points] = world.space.either(samples.get(points, world.space.empty), sample)
        exists: Region = {}
        for points, sample in samples.items():
            paths = _explore(world, sample, points)
            self.paths.append(paths)
            exists = algebra.either(exists, algebra.region(sample, paths.alive))
        return exists

    def _samples(self, variables: tuple[int, ...]) -> Iterator[Free]:
        space, sizes = self.world.space, self.world.conditions.sizes
        # Each case is explored by itself.
        if prod(sizes[v] for v in variables) > MAX_SAMPLES:
            raise TooLarge(f"`trained` turns are counted under more than {MAX_SAMPLES} cases of the sample's fields")
        for values in product(*(range(sizes[v]) for v in variables)):
            if (free := cube(space, dict(zip(variables, values, strict=True)))) != space.empty:
                yield free


def _explore(world: World, sample: Free, points: int) -> Paths:
    """The paths through the points that a turn can be at."""
    if points.bit_count() > MAX_EDGES:
        raise TooLarge(f"`trained` turns are counted in more than {MAX_EDGES} places")
    prefixes, suffixes = world.points.prefixes, world.points.suffixes
    before_of = {letter: suffixes.steps(letter) for letter in world.points.letters}
    after_of = {letter: prefixes.steps(letter) for letter in world.points.letters}
    edges: list[tuple[Node, Node, int]] = []
    for point in numbers(points):
        place = world.points.place(point)
        # From the gap before the turn, whose suffix has the turn too, to the gap behind it, whose prefix has it.
        source = (place.prefix, before_of[place.letter][place.suffix])
        target = (after_of[place.letter][place.prefix], place.suffix)
        edges.append((source, target, point))
    # State 0 is the empty side: a conversation begins without a prefix, and ends without a suffix.
    before = _reach(edges, {s: None for s, _, _ in edges if s[0] == 0})
    behind = _reach([(t, s, p) for s, t, p in edges], {t: None for _, t, _ in edges if t[1] == 0})
    alive = 0
    for source, target, point in edges:
        # On a path from a beginning to an end, so some conversation has this turn.
        if source in before and target in behind:
            alive |= 1 << point
    return Paths(sample=sample, alive=alive, before=before, behind=behind)


def _reach(edges: list[tuple[Node, Node, int]], starts: dict[Node, int | None]) -> dict[Node, int | None]:
    """The nodes that can be reached, each with the point of the last turn on a shortest way.

    >>> _reach([((0, 1), (1, 0), 7), ((1, 0), (1, 1), 8)], {(0, 1): None})
    {(0, 1): None, (1, 0): 7, (1, 1): 8}
    """
    following: dict[Node, list[tuple[Node, int]]] = {}
    for source, target, point in edges:
        following.setdefault(source, []).append((target, point))
    found = dict(starts)
    queue = list(starts)
    # The list grows while it is walked: breadth first, so ways are shortest.
    for node in queue:
        for target, point in following.get(node, ()):
            if target not in found:
                found[target] = point
                queue.append(target)
    return found
