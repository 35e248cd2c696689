"""The plan of a conversation for a point and an assignment: its turns and their contents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from policy_engine.core.vocabulary import BODY
from policy_engine.proof.model.assignments import Free, cube
from policy_engine.proof.model.free_conditions import CHARS
from policy_engine.proof.model.positions import Letter
from policy_engine.proof.model.reachable import Paths, Possible
from policy_engine.proof.model.regions import Region
from policy_engine.proof.model.world import PartClass, World
from policy_engine.proof.witness.find_values import Unrealised

Assignment = Sequence[int]


@dataclass(kw_only=True)
class SegmentPlan:
    """A segment a turn must have, with the assignment that its text and its own data must meet."""

    part: str
    assignment: Assignment


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A turn as the conditions of another see it: under `previous`, by the turn behind it.

    Its message must meet what the scope asks for under the other turn's assignment. `number` counts the results of one
    turn, which may have to differ.
    """

    scope: str
    assignment: Assignment
    number: int = 0


@dataclass(kw_only=True)
class TurnPlan:
    """A turn of a plan."""

    role: str
    assignment: Assignment | None = None
    """The assignment that its data must meet; None if its data does not matter."""
    segments: list[SegmentPlan] = field(default_factory=list)
    exact: bool = False
    """True if its body may have no other text than `segments`."""
    seen: list[Seen] = field(default_factory=list)
    """Tests of other turns on its message."""
    answers: TurnPlan | None = None
    """For a tool's turn the turn whose call it answers."""
    called: bool = False
    """True if a result answers a call of this turn, so that it has to make one."""
    message: dict[str, Any] | None = None
    """Its message, once it is made."""
    call: tuple[int, int] | None = None
    """That call once it is made: its message, and its number there."""


@dataclass(kw_only=True)
class Plan:
    """A conversation. The segment to look at is the first of turn `target`, or `unowned` text."""

    turns: list[TurnPlan]
    assignment: Assignment
    target: int | None
    unowned: SegmentPlan | None = None


def free_at(world: World, region: Region, point: int) -> Free:
    """The assignments with which a region holds a point."""
    return next((free for free, points in region.items() if points >> point & 1), world.space.empty)


class Planner:
    """Plans conversations of one world."""

    def __init__(self, possible: Possible) -> None:
        self.possible = possible
        self.world = possible.world

    def plan(self, part_class: PartClass, part: str, point: int, assignment: Assignment) -> Plan:
        """A conversation with text of a part at a point, its free conditions as assigned."""
        target = SegmentPlan(part=part, assignment=assignment)
        if not part_class.owned:
            # Some message has to be there; text without an owner does not depend on which.
            return Plan(turns=[TurnPlan(role="user")], assignment=assignment, target=None, unowned=target)
        place = self.world.points.place(point)
        turn = TurnPlan(role=place.letter.role, assignment=assignment, segments=[target])
        if self.world.stages.bits:
            # Any further text could give the turn a bit that its place does not have.
            turn.exact = True
            self._bring(turn, point, part_class)
        self._pad(turn, point, part_class)
        if self.world.counts_trained:
            before, behind = self._surroundings(point, assignment)
        else:
            # The bits of other turns matter only where trained turns are counted.
            before = [TurnPlan(role=letter.role) for letter in self.world.points.prefixes.turns(place.prefix)]
            behind = [TurnPlan(role=letter.role) for letter in self.world.points.suffixes.turns(place.suffix)]
        return Plan(turns=[*before, turn, *behind], assignment=assignment, target=len(before))

    def _surroundings(self, point: int, assignment: Assignment) -> tuple[list[TurnPlan], list[TurnPlan]]:
        """The other turns of a shortest conversation, each with exactly the bits of its place."""
        space, points = self.world.space, self.world.points
        own = self._cube(assignment, self.world.conditions.variables("sample"))
        paths = next(
            # Paths were explored once for each case of the sample's fields; this is the case of the assignment.
            p
            for p in self.possible.paths
            if space.both(p.sample, own) != space.empty and p.alive >> point & 1
        )
        before: list[TurnPlan] = []
        place = points.place(point)
        at = self._source(place.letter, place.prefix, place.suffix)
        # From the turn back to the beginning, by the last turn of a shortest way to each node.
        while (earlier := paths.before[at]) is not None:
            before.insert(0, self._other(earlier, paths))
            place = points.place(earlier)
            at = self._source(place.letter, place.prefix, place.suffix)
        behind: list[TurnPlan] = []
        place = points.place(point)
        at = (points.prefixes.step(place.prefix, place.letter), place.suffix)
        while (later := paths.behind[at]) is not None:
            behind.append(self._other(later, paths))
            place = points.place(later)
            at = (points.prefixes.step(place.prefix, place.letter), place.suffix)
        return before, behind

    def _source(self, letter: Letter, prefix: int, suffix: int) -> tuple[int, int]:
        return prefix, self.world.points.suffixes.step(suffix, letter)

    def _other(self, point: int, paths: Paths) -> TurnPlan:
        """A turn that has its bits and nothing else to show."""
        letter = self.world.points.place(point).letter
        free = self.world.space.both(free_at(self.world, self.possible.turns, point), paths.sample)
        turn = TurnPlan(role=letter.role, assignment=self.world.space.pick(free), exact=True)
        self._bring(turn, point, None)
        self._pad(turn, point, None)
        return turn

    def _bring(self, turn: TurnPlan, point: int, own: PartClass | None) -> None:
        """Adds the segments that give a turn its bits, where its own does not."""
        world = self.world
        assert turn.assignment is not None
        bits = world.points.place(point).letter.bits
        for bit, regions in enumerate(self.possible.brings):
            if not bits >> bit & 1:
                continue
            brought = False
            for segment in turn.segments:
                index = next(i for i, c in enumerate(world.classes) if segment.part in c.parts)
                free = free_at(world, regions[index], point)
                # A segment that is there anyway may bring several bits.
                brought = brought or world.space.both(free, world.space.one(segment.assignment)) != world.space.empty
            if not brought:
                turn.segments.append(self._joining(turn, point, regions, own))

    def _pad(self, turn: TurnPlan, point: int, own: PartClass | None) -> None:
        """Adds text that brings no bit, if the turn's body has to have text and has no text yet."""
        values = self.world.conditions.fields.get(CHARS)
        if values is None or turn.assignment is None or any(s.part in BODY for s in turn.segments):
            return
        # `turn.chars` is to be more than 0, and nothing of the body is planned.
        if values.cells[turn.assignment[values.variable]].value != 0:
            # Where `trained` is asked for, only text that brings no bit which the turn must not have.
            regions = self.possible.allowed if self.world.stages.bits else self.possible.regions
            body = [r if c.in_body else {} for r, c in zip(regions, self.world.classes, strict=True)]
            turn.segments.append(self._joining(turn, point, body, own))

    def _joining(self, turn: TurnPlan, point: int, regions: Sequence[Region], own: PartClass | None) -> SegmentPlan:
        """A segment from one of the regions that can be in a turn.

        Raises `Unrealised` if no region has such a segment.
        """
        world = self.world
        assert turn.assignment is not None
        for region, part_class in zip(regions, world.classes, strict=True):
            shared = ["message", "previous", "next", "answer", "turn", "sample"]
            if not part_class.in_call and not (own and own.in_call):
                shared.append("result")
            # What a tool turn answers is one call for the whole turn; calls that it makes are others.
            if turn.role == "tool" and not part_class.in_call and not (own and own.in_call):
                shared.append("call")
            free = free_at(world, region, point)
            free = world.space.both(free, self._cube(turn.assignment, world.conditions.variables(*shared)))
            if free != world.space.empty:
                return SegmentPlan(part=part_class.parts[0], assignment=world.space.pick(free))
        raise Unrealised

    def _cube(self, assignment: Assignment, variables: Sequence[int]) -> Free:
        return cube(self.world.space, {variable: assignment[variable] for variable in variables})
