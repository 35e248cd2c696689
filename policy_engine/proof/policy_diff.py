"""Two policies compared over all conversations: text that the new one trains more, or less."""

from __future__ import annotations

from typing import Final, Literal

from policy_engine.lang.checked import CheckedPolicy
from policy_engine.proof.in_words import places
from policy_engine.proof.model.assignments import TooLarge
from policy_engine.proof.model.outcomes import Outcomes, Weight
from policy_engine.proof.model.reachable import Possible
from policy_engine.proof.model.regions import Region
from policy_engine.proof.model.world import World
from policy_engine.proof.results import Change, Diff, DiffVerdict, SettingChange
from policy_engine.proof.witness.witness import Differs, Finder
from policy_engine.rules.program import Program

Kind = Literal["trains more", "trains less", "differs"]
KEPT_MASKED: Final = "what `never` guards keep masked under `on straddle train`"
# The default of `unrendered` depends on the text that is lost, so no single word of the language names it.
_DEFAULTS: Final = {"straddle": "mask", "empty": "drop", "unrendered": "error or warn", "drift": "error"}


def compare(old: CheckedPolicy | Program, new: CheckedPolicy | Program) -> Diff:
    """Decides in which characters of all conversations the weights of two policies differ.

    The answer is a `results.Diff`.
    Weights are compared by magnitude; which rule decides does not matter. Of the settings, `on straddle` counts for the
    verdict, since it changes which tokens are trained. Raises nothing: past the limits the verdict is `undecided`.

    >>> from policy_engine.lang.check import check_text
    >>> diff = compare(check_text("train assistant"), check_text("train assistant; train eos of assistant"))
    >>> diff.verdict
    'trains more'
    >>> [(change.kind, change.old, change.new, change.places) for change in diff.changes]
    [('trains more', 'masked', '1', ('assistant: eod, eot',))]
    """
    a = old.policy if isinstance(old, Program) else old
    b = new.policy if isinstance(new, Program) else new
    try:
        return _Comparison(a, b).diff()
    except TooLarge as error:
        return Diff(old=a, new=b, verdict="undecided", settings=_settings(a, b), undecided=error.why)


class _Comparison:
    def __init__(self, old: CheckedPolicy, new: CheckedPolicy) -> None:
        self.old, self.new = old, new
        # One world for both: regions of two can only be compared over the same points and conditions.
        self.world = World([old, new])
        self.possible = Possible(self.world)
        self.outcomes = Outcomes(self.world)

    def diff(self) -> Diff:
        """The verdict with its changes."""
        # One witness for each pair of weights: each is a change of its own to a reader.
        found = self._differences()
        changes: list[Change] = []
        finder, claim = Finder(self.possible), Differs(self.old, self.new)
        for (kind, before, after), regions in found.items():
            changes.append(
                Change(
                    kind=kind,
                    old=_weight(before),
                    new=_weight(after),
                    places=places(self.possible, regions),
                    witness=finder.find(regions, claim),
                )
            )
        settings = _settings(self.old, self.new)
        if self._keeps_differ():
            settings += (SettingChange(name=KEPT_MASKED, old="", new=""),)
        return Diff(
            old=self.old, new=self.new, verdict=_verdict(changes, settings), changes=tuple(changes), settings=settings
        )

    def _differences(self) -> dict[tuple[Kind, Weight, Weight], list[Region]]:
        """The regions (one a class of parts) on which the weights differ, by both weights."""
        algebra = self.world.algebra
        found: dict[tuple[Kind, Weight, Weight], list[Region]] = {}
        for index, possible in enumerate(self.possible.regions):
            before = self.outcomes.of(0, index, possible).weights
            after = self.outcomes.of(1, index, possible).weights
            for weight_a, region_a in before.items():
                for weight_b, region_b in after.items():
                    if weight_a == weight_b or not (region := algebra.both(region_a, region_b)):
                        continue
                    key = (_kind(weight_a, weight_b), weight_a, weight_b)
                    # A list with a region for each class, as `places` and `Finder` take them.
                    regions = found.setdefault(key, [{} for _ in self.world.classes])
                    regions[index] = region
        return found

    def _keeps_differ(self) -> bool:
        """True if `never` guards keep different characters masked under `on straddle train`."""
        policies = (self.old, self.new)
        # Guards train nothing and mask nothing; only under that setting do they decide tokens.
        if not any(p.settings.get("straddle") == "train" for p in policies):
            return False
        algebra = self.world.algebra
        for possible, part_class in zip(self.possible.regions, self.world.classes, strict=True):
            old, new = (
                algebra.union(self.world.matches(i, g, part_class) for g in policy.guards if g.kind == "never")
                for i, policy in enumerate(policies)
            )
            old, new = algebra.both(old, possible), algebra.both(new, possible)
            if algebra.without(old, new) or algebra.without(new, old):
                return True
        return False


def _kind(old: Weight, new: Weight) -> Kind:
    if len(old) == 1 and len(new) == 1 and isinstance(old[0], float) and isinstance(new[0], float):
        # 0.5 and -0.5 push as hard, in opposite directions.
        if abs(old[0]) == abs(new[0]):
            return "differs"
        return "trains more" if abs(new[0]) > abs(old[0]) else "trains less"
    # A number of the data: whatever it is, it trains more than nothing.
    if old == (0.0,):
        return "trains more"
    return "trains less" if new == (0.0,) else "differs"


def _weight(weight: Weight) -> str:
    if weight == (0.0,):
        return "masked"
    # A factor of 1 is left out, unless it is all there is.
    return " × ".join(f"{f:g}" if isinstance(f, float) else f for f in weight if f != 1.0 or len(weight) == 1)


def _settings(old: CheckedPolicy, new: CheckedPolicy) -> tuple[SettingChange, ...]:
    return tuple(
        SettingChange(name=f"on {name}", old=old.settings.get(name, usual), new=new.settings.get(name, usual))
        for name, usual in _DEFAULTS.items()
        if old.settings.get(name, usual) != new.settings.get(name, usual)
    )


def _verdict(changes: list[Change], settings: tuple[SettingChange, ...]) -> DiffVerdict:
    certain: set[Kind] = set()
    for setting in settings:
        if setting.name == "on straddle":
            # Only these two directions are known; `error` fails rows instead.
            more: dict[tuple[str, str], Kind] = {("mask", "train"): "trains more", ("train", "mask"): "trains less"}
            certain.add(more.get((setting.old, setting.new), "differs"))
        elif setting.name == KEPT_MASKED:
            certain.add("differs")
    certain |= {change.kind for change in changes if change.witness is not None}
    possible = certain | {change.kind for change in changes}
    # What no conversation shows may not exist: it must not decide between two verdicts.
    return _of_kinds(certain) if _of_kinds(certain) == _of_kinds(possible) else "possibly different"


def _of_kinds(kinds: set[Kind]) -> DiffVerdict:
    if not kinds:
        return "equal"
    if kinds == {"trains more"}:
        return "trains more"
    return "trains less" if kinds == {"trains less"} else "incomparable"
