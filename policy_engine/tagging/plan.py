"""Places of generation blocks: around pieces always trained, or trained on a condition.

In `{{ '<|im_start|>' + m.role + '⏎' }}{{ m.content + '<|im_end|>' }}` of ChatML, content and end marker are trained
where `m.role == 'assistant'`: one region with that condition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from policy_engine.tagging.blocks import BlockNode, leaves_loop, loaded_names
from policy_engine.tagging.items import Items
from policy_engine.tagging.untaggable import UntaggableError
from policy_engine.tagging.watch import CutPlace, Watched, WatchedPiece

Status = Literal["trained", "masked", "varies", "empty", "inner"]


@dataclass(frozen=True, kw_only=True)
class Region:
    """The source between two places is trained: always, or where `condition` is true."""

    start: CutPlace
    end: CutPlace
    condition: str | None = None


@dataclass(frozen=True, kw_only=True)
class Scope:
    """The tags of loops around a body, outermost first, and the conditions of its branches."""

    loops: tuple[int, ...] = ()
    branches: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A piece of a body: an atom, or a whole node."""

    status: Status
    start: CutPlace
    end: CutPlace
    atom: WatchedPiece | None = None
    node: BlockNode | None = None


class FindsConditions(Protocol):
    """Finds conditions that are true exactly where atoms are trained."""

    def __call__(self, atoms: Sequence[WatchedPiece], scope: Scope) -> str | None:
        """A condition for all the atoms, or None."""

    def prepare(self, atoms: Sequence[WatchedPiece], scope: Scope) -> None:
        """Called before with atoms that may be asked for."""

    def holds(self, condition: str, atom: WatchedPiece) -> bool:
        """True if a condition is right for an atom."""


class RegionPlanner:
    """Plans the regions of one template."""

    def __init__(self, items: Items, watched: Watched, conditions: FindsConditions) -> None:
        self._items = items
        self._watched = watched
        self._conditions = conditions
        self.regions: list[Region] = []

    def body(self, nodes: Sequence[BlockNode], scope: Scope) -> None:
        """Plans a body and those inside it. Raises UntaggableError."""
        units = [unit for node in nodes for unit in self._units(node)]
        at = 0
        while at < len(units):
            unit = units[at]
            if unit.atom is not None and unit.atom.mixed is not None:
                raise UntaggableError(
                    "an expression writes text that is trained in part",
                    f"line {self._line(unit.start)}: `{self._source(unit)}` writes {_short(unit.atom.mixed)}",
                )
            if unit.status == "trained":
                stop = self._trained_run(units, at)
                self.regions.append(Region(start=unit.start, end=units[stop - 1].end))
                at = stop
            elif unit.status == "varies":
                at = self._varying_run(units, at, scope)
            else:
                if unit.status == "inner" and unit.node is not None:
                    self._inner(unit.node, scope)
                at += 1

    def _inner(self, node: BlockNode, scope: Scope) -> None:
        loops = (*scope.loops, node.first) if node.kind == "for" else scope.loops
        for body in node.bodies:
            self.body(body, Scope(loops=loops))

    def _trained_run(self, units: Sequence[Unit], at: int) -> int:
        """The end of the longest run from `at` on that one block can hold."""
        stop = at
        while stop < len(units) and units[stop].status in ("trained", "empty") and not self._breaks(units[stop]):
            stop += 1
        # Back from the end: a block that ends in text never written says nothing, and one that hides a name breaks
        # what follows.
        while stop > at + 1 and (units[stop - 1].status != "trained" or self._leaks(units[at:stop])):
            stop -= 1
        return stop

    def _breaks(self, unit: Unit) -> bool:
        return unit.node is not None and leaves_loop(self._items, unit.node)

    def _leaks(self, units: Sequence[Unit]) -> bool:
        """True if other parts read a name assigned in here: a block has a scope of its own."""
        nodes = [unit.node for unit in units if unit.node is not None]
        stored = frozenset[str]().union(*(node.stored for node in nodes))
        if not stored:
            return False
        first, last = nodes[0].first, nodes[-1].last
        outside = loaded_names(self._items, 0, first - 1) | loaded_names(self._items, last + 1, len(self._items.items))
        return bool(stored & outside)

    def _varying_run(self, units: Sequence[Unit], at: int, scope: Scope) -> int:
        stop = at + 1
        limit = stop
        # Pieces in a row without tags between them may share a condition.
        while limit < len(units) and units[limit].node is None and units[limit].status != "masked":
            limit += 1
        self._conditions.prepare([unit.atom for unit in units[at:limit] if unit.atom is not None], scope)
        found = self._condition(units[at:stop], scope)
        if found is None:
            unit = units[at]
            raise UntaggableError(
                "no condition of the template tells where text is trained",
                f"line {self._line(unit.start)}: `{self._source(unit)}`",
            )
        # Text that is trained wherever it is not empty may be inside: an empty block would train the token around it.
        end = stop
        while stop < limit:
            atom = units[stop].atom
            longer: str | None = found
            if atom is None or not self._conditions.holds(found, atom):
                longer = self._condition(units[at : stop + 1], scope) if units[stop].status == "varies" else None
            if longer is None:
                break
            stop += 1
            found = longer
            if units[stop - 1].status == "varies":
                end = stop
        self.regions.append(Region(start=units[at].start, end=units[end - 1].end, condition=found))
        return end

    def _condition(self, units: Sequence[Unit], scope: Scope) -> str | None:
        return self._conditions([unit.atom for unit in units if unit.atom is not None], scope)

    def _units(self, node: BlockNode) -> list[Unit]:
        if node.kind in ("gap", "output"):
            table = self._watched.gaps if node.kind == "gap" else self._watched.outputs
            return [
                Unit(status=_status(atom), start=atom.start, end=atom.end, atom=atom)
                for atom in table.get(node.first, ())
            ]
        # Behind the text of the gap before the node.
        start = CutPlace(index=node.first, offset=len(self._items.gaps[node.first].text))
        return [
            Unit(status=self._node_status(node), start=start, end=CutPlace(index=node.last + 1, offset=0), node=node)
        ]

    def _node_status(self, node: BlockNode) -> Status:
        if node.kind == "buffered":
            # Macros and `set` blocks write nothing themselves; what others write is not looked into.
            silent = self._items.items[node.first].keyword in ("macro", "set")
            return "empty" if silent else "masked"
        if node.kind == "statement":
            return "empty"
        units = [unit for body in node.bodies for inner in body for unit in self._units(inner)]
        # What writes nothing goes with whatever is around it.
        kinds = {unit.status for unit in units} - {"empty"}
        if any(unit.atom is not None and unit.atom.mixed is not None for unit in units):
            return "inner"
        if not kinds:
            return "empty"
        if kinds == {"masked"}:
            return "masked"
        # A loop or branch may write nothing, and the block around it would be empty.
        whole = kinds == {"trained"} and self._watched.strict < 2
        whole = whole and not leaves_loop(self._items, node) and not self._leaks_alone(node)
        return "trained" if whole else "inner"

    def _leaks_alone(self, node: BlockNode) -> bool:
        place = CutPlace(index=node.first, offset=0)
        return self._leaks([Unit(status="trained", start=place, end=place, node=node)])

    def _line(self, place: CutPlace) -> int:
        items = self._items
        return items.line(items.items[place.index].start if place.in_output else items.gaps[place.index].start)

    def _source(self, unit: Unit) -> str:
        place = unit.start
        if not place.in_output:
            return _short(unit.atom.text if unit.atom is not None else "")
        tokens = self._items.items[place.index].tokens
        return _short(self._items.source[tokens[0].start : tokens[-1].end], quoted=False)


def _status(atom: WatchedPiece) -> Status:
    seen = {decision for decision in atom.decisions if decision is not None}
    if atom.mixed is not None:
        return "inner"
    return "empty" if not seen else "varies" if len(seen) == 2 else "trained" if True in seen else "masked"


def _short(text: str, *, quoted: bool = True) -> str:
    cut = text if len(text) <= 60 else text[:57] + "…"
    return repr(cut) if quoted else cut
