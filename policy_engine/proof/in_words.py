"""Regions in words: roles and parts, places in the conversation, conditions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from policy_engine.core.vocabulary import BODY, TURN
from policy_engine.core.wording import article
from policy_engine.lang.ast import leaves
from policy_engine.proof.model.assignments import Free
from policy_engine.proof.model.places import Points
from policy_engine.proof.model.positions import ALL, OTHER, CountTest, Nearest, SideFact
from policy_engine.proof.model.reachable import Possible
from policy_engine.proof.model.regions import Region, support
from policy_engine.proof.model.world import World

MAX_PLACES: Final = 12
"""Places named before the rest is counted."""
_SHORT: Final = 3


def places(possible: Possible, regions: Sequence[Region]) -> tuple[str, ...]:
    """The regions (one a class of parts) in words, one line a role and kind of place.

    >>> from policy_engine.lang.check import check_text
    >>> possible = Possible(World([check_text("train eos of last assistant")]))
    >>> (rule,) = (statement for _, statement in possible.world.statements)
    >>> places(possible, [possible.world.matches(0, rule, part_class) for part_class in possible.world.classes])
    ('assistant: eod, eot with no assistant after it',)
    """
    return tuple(_Words(possible).lines(regions))


class _Words:
    def __init__(self, possible: Possible) -> None:
        self._possible = possible
        self._world: World = possible.world
        self._points: Points = possible.world.points
        self._side_facts = self._world.facts
        self._tests = self._named_tests()

    def lines(self, regions: Sequence[Region]) -> list[str]:
        """See `places`."""
        found: dict[tuple[str, str], list[str]] = {}
        for region, part_class, possible in zip(regions, self._world.classes, self._possible.regions, strict=True):
            # One class of parts after another; classes of one place in words are joined below.
            if not region:
                continue
            if not part_class.owned:
                found.setdefault(("", self._conditions(region, possible)), []).extend(part_class.parts)
                continue
            for role in self._world.roles:
                own = self._points.where(lambda letter, r=role: () if letter.role == r else None)  # type: ignore[misc]
                algebra = self._world.algebra
                here, there = algebra.within(region, own), algebra.within(possible, own)
                if here:
                    # Compared with what is possible for the role, so that only what narrows it is named.
                    where = self._where(here, there)
                    # Parts with the same places and conditions share a line: `assistant: header, text after user`.
                    found.setdefault((role, where + self._conditions(here, there)), []).extend(part_class.parts)
        lines = [f"{_subject(role, parts)}{rest}" for (role, rest), parts in found.items()]
        if len(lines) > MAX_PLACES:
            lines[MAX_PLACES:] = [f"and {len(lines) - MAX_PLACES} more"]
        return lines

    def _where(self, region: Region, possible: Region) -> str:
        """The places of a region in the conversation, by facts that hold there and not everywhere.

        Exact where it says so: all of a conjunction, or all but one; else what the points have in common.
        """
        inside, outside = support(region), support(possible)
        if inside == outside:
            return ""
        common, shared = self._common(inside, outside)
        if shared == inside:
            return f" {' and '.join(common)}"
        # The complement may have the plainer words: all turns except the last.
        excepted, missing = self._common(outside & ~inside, outside)
        if missing == outside & ~inside:
            return f" except {' and '.join(excepted)}"
        return f" in some places {' and '.join(common)}".rstrip()

    def _common(self, inside: int, outside: int) -> tuple[list[str], int]:
        """Facts that hold at all of `inside`, in words, and the points of `outside` where they hold."""
        named: list[str] = []
        left = outside
        # Plainest first, as facts that come later are left out where they add nothing.
        for fact, truth in sorted(((f, t) for f in self._side_facts for t in (True, False)), key=_plainness):
            pattern = self._points.where(lambda letter, fact=fact: ((fact, True),))  # type: ignore[misc]
            points = pattern if truth else ~pattern
            # A fact that takes nothing more away would only repeat the others.
            if not inside & ~points and left & ~points:
                left &= points
                named.append(_fact(fact, truth))
        # If facts were cut, those that are named say less than the region: it is not exact.
        return named[:_SHORT], left if len(named) <= _SHORT else 0

    def _conditions(self, region: Region, possible: Region) -> str:
        """The tests that come out the same all over a region, and not all over what is possible."""
        # The same free sets at the same points: the conditions are open there.
        if region == {f: p & support(region) for f, p in possible.items() if p & support(region)}:
            return ""
        named = []
        for text, free in self._tests:
            # A test that is true of all that is possible says nothing about this region.
            if self._implies(region, free) and not self._implies(possible, free):
                named.append(text)
            elif self._excludes(region, free) and not self._excludes(possible, free):
                named.append(f"not {text}")
        shown = named[:_SHORT]
        more = f" and {len(named) - _SHORT} more" if len(named) > _SHORT else ""
        return f" where {' and '.join(shown)}{more}" if shown else " under some conditions"

    def _implies(self, region: Region, free: Free) -> bool:
        space = self._world.space
        return all(space.without(f, free) == space.empty for f in region)

    def _excludes(self, region: Region, free: Free) -> bool:
        space = self._world.space
        return all(space.both(f, free) == space.empty for f in region)

    def _named_tests(self) -> list[tuple[str, int]]:
        """Every free test of the policy as written, with the assignments under which it holds."""
        conditions = self._world.conditions
        found: dict[str, int] = {}
        for _, statement in self._world.statements:
            for leaf in leaves(statement.condition) if statement.condition is not None else ():
                # Tests on the place of a turn are named as facts, by `_where`.
                if self._world.is_free(leaf):
                    found.setdefault(leaf.span.text or repr(leaf.field.path), conditions.holds(leaf))
        for span, variable in conditions.regexes:
            found.setdefault(f"/{span.pattern}/ matches", self._world.space.cells(variable, (1,)))
        if conditions.sampled is not None:
            found.setdefault("the text was sampled", self._world.space.cells(conditions.sampled, (1,)))
        for key, name in conditions.span_fields.items():
            field = ".".join((name[0], *map(str, name[1])))
            found.setdefault(f"{field} lists the text", self._world.space.cells(conditions.spans[key], (1,)))
        return list(found.items())


def _subject(role: str, parts: Sequence[str]) -> str:
    known = frozenset(parts)
    if not role:
        return ", ".join(sorted(parts))
    who = "any other role" if role == OTHER else role
    if known == TURN:
        return who
    # A policy that trains a role trains its whole body, so this is the usual case.
    if known >= BODY:
        rest = sorted(known - BODY)
        return f"{who}: body" + (f", {', '.join(rest)}" if rest else "")
    return f"{who}: {', '.join(sorted(known))}"


def _plainness(named: tuple[SideFact, bool]) -> int:
    """The order in which facts are named: `right after user` before `not right after tool`."""
    fact, truth = named
    return (0 if truth else 2) if isinstance(fact, Nearest) else 1


def _fact(fact: SideFact, truth: bool) -> str:
    role, bit = fact.key
    role = "another role" if role == OTHER else role
    turn = "message" if fact.key == ALL else f"{'trained ' if bit is not None else ''}{role or 'turn'}"
    if isinstance(fact, Nearest):
        return f"{'' if truth else 'not '}right {'after' if fact.side == 'prefix' else 'before'} {turn}"
    side = "before it" if fact.side == "prefix" else "after it"
    if isinstance(fact, CountTest):
        text = fact.test.span.text or "a test on its place"
        return text if truth else f"not {text}"
    if fact.count == 1:
        return f"with {article(turn) if truth else 'no'} {turn} {side}"
    return f"with {fact.count} or more {turn} {side}" if truth else f"with fewer than {fact.count} {turn} {side}"
