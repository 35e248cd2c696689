"""The decisions of a policy's rules, as regions: which rule decides, and with which weight.

In the policy of `model`, rule 1 decides `{any: 0b0001}`, rule 0 decides `{above 3: 0b0010}`, and no rule decides
`{missing: 0b0010, any: 0b1100}`; the weight is 1 in the second region and 0 elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeVar

from policy_engine.lang.ast import Field
from policy_engine.lang.checked import CheckedRule
from policy_engine.proof.model.regions import Region
from policy_engine.proof.model.world import World
from policy_engine.rules.statements import as_weight

Weight = tuple[float | str, ...]
"""A product in the order it is computed: a number, then names of fields and further numbers."""
K = TypeVar("K", Weight, int, "int | None")
MASKED: Final[Weight] = (0.0,)


@dataclass(kw_only=True)
class ClassOutcome:
    """The decisions about the characters of one class of parts.

    Rows that fail for a weight that is no number are left out.
    """

    decided: dict[int | None, Region]
    """The region of each `train` or `mask` rule that decides somewhere, by index; under None what no rule matches."""
    scaled: dict[int, Region]
    """The region of each `scale` rule that changes a weight."""
    weights: dict[Weight, Region]
    """The regions by weight."""


class Outcomes:
    """The outcomes of the policies of a world."""

    def __init__(self, world: World) -> None:
        self.world = world

    def of(self, policy: int, part_class: int, possible: Region, *, stage: int | None = None) -> ClassOutcome:
        """The decisions of the first `stage` rules (None for all) within `possible`.

        Raises `TooLarge` past the limits.
        """
        world, algebra = self.world, self.world.algebra
        rules = world.policies[policy].rules[:stage]
        matches = {
            rule.index: found for rule in rules if (found := world.matches(policy, rule, world.classes[part_class]))
        }
        scales = [rule for rule in rules if rule.effect == "scale" and rule.index in matches]
        outcome = ClassOutcome(decided={}, scaled={}, weights={})
        undecided = possible
        # The last match decides: so rules are taken from the last to the first, and each gets what is left.
        for rule in reversed(rules):
            if rule.effect == "scale" or rule.index not in matches:
                continue
            found = algebra.both(undecided, matches[rule.index])
            if not found:
                continue
            # A rule whose weight is no number fails the row, so the rules above do not get that text back.
            undecided = algebra.without(undecided, matches[rule.index])
            for weight, region in self._weighed(rule, found).items():
                self._add(outcome.decided, rule.index, region)
                # Only factors below the deciding rule: those above were overridden.
                self._scale(weight, region, [s for s in scales if s.index > rule.index], matches, outcome)
        if undecided:
            # No rule matches: masked by default.
            outcome.decided[None] = undecided
            self._add(outcome.weights, MASKED, undecided)
        return outcome

    def trained(self, outcome: ClassOutcome) -> Region:
        """The region in which the weight is not 0."""
        return self.world.algebra.union(region for weight, region in outcome.weights.items() if weight != MASKED)

    def _add(self, regions: dict[K, Region], key: K, region: Region) -> None:
        if region:
            regions[key] = self.world.algebra.either(regions.get(key, {}), region)

    def _weighed(self, rule: CheckedRule, region: Region) -> dict[Weight, Region]:
        """A region that a rule decides, by the weight the rule sets."""
        if not isinstance(rule.weight, Field):
            # `+ 0.0` turns -0.0 into 0.0, so that both are `MASKED`.
            return {(as_weight(rule.weight) + 0.0,): region}
        return self._by_field((), rule.weight, region)

    def _by_field(self, before: Weight, field: Field, region: Region) -> dict[Weight, Region]:
        """A region by the weight that a field of the data times the factors `before` makes."""
        algebra, conditions = self.world.algebra, self.world.conditions
        kinds = {
            kind: algebra.both(region, self.everywhere(conditions.weight(field, kind)))
            # The fourth kind, no number, fails the row.
            for kind in ("one", "zero", "number")
        }
        found = {before or (1.0,): kinds["one"], MASKED: kinds["zero"], (*before, str(field)): kinds["number"]}
        return {weight: part for weight, part in found.items() if part}

    def everywhere(self, free: int) -> Region:
        """All points with a free set."""
        return self.world.algebra.region(free, self.world.points.full)

    def _scale(
        self,
        weight: Weight,
        region: Region,
        scales: list[CheckedRule],
        matches: dict[int, Region],
        outcome: ClassOutcome,
    ) -> None:
        """Applies the `scale` rules below the rule that decided, and adds the region by its weight."""
        algebra = self.world.algebra
        if not region:
            return
        # 0 times a factor stays 0.
        if weight == MASKED or not scales:
            self._add(outcome.weights, weight, region)
            return
        # In two: what this factor does not reach, and what it does.
        scale, below = scales[0], scales[1:]
        hit = algebra.both(region, matches[scale.index])
        self._scale(weight, algebra.without(region, hit) if hit else region, below, matches, outcome)
        if not hit:
            return
        parts = (
            self._by_field(weight, scale.weight, hit)
            if isinstance(scale.weight, Field)
            else {_times(weight, as_weight(scale.weight)): hit}
        )
        for scaled, part in parts.items():
            self._add(outcome.scaled, scale.index, part)
            self._scale(scaled, part, below, matches, outcome)


def _times(weight: Weight, factor: float) -> Weight:
    """The product, a number as long as no field is in it.

    >>> _times((0.5,), 4.0), _times((1.0, "message.w"), 2.0), _times((1.0, "message.w"), 0.0)
    ((2.0,), (1.0, 'message.w', 2.0), (0.0,))
    """
    if factor == 0:
        return MASKED
    if len(weight) == 1 and isinstance(weight[0], float):
        return (weight[0] * factor + 0.0,)
    return (*weight, factor)
