"""A definitional interpreter of the policy language: slow, plain, one character at a time.

Written from `docs/explanation/language-decisions.md` (numbers in brackets are its items), apart from the engine: it
shares no code with `rules`, `mask` or `lang.check`, resolves `let`, `use` and names itself, and keeps its own tables of
parts. Where engine and interpreter disagree on a generated case, one of them misread the page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from policy_engine.core.facts import ChatFacts, SegmentFacts
from policy_engine.lang import ast
from tests.oracle_fields import Fields, Invalid, RowFails, matches, number_of, offsets_of

BODY = {"reasoning.open", "reasoning.text", "reasoning.close", "text", "tool_call", "tool_call.name",
        "tool_call.arguments", "markup"}  # fmt: skip
MEDIA = {"media", "media.image", "media.audio", "media.video"}
ENDINGS = {"eot", "eod", "separator"}
TURN = BODY | MEDIA | ENDINGS | {"header", "empty_reasoning"}
UNOWNED = {"bos", "preamble", "preamble.tools", "preamble.documents", "generation_prompt"}
EVERYTHING = TURN | UNOWNED
GROUPS = {"body": BODY, "eos": {"eot", "eod"}, "turn": TURN}
EXPANSION = {"train": "body", "mask": "turn", "scale": "body", "never": "turn", "always": "body"}  # [5]

__all__ = ["Char", "Invalid", "Oracle", "RowFails", "Token", "Verdict", "interpret"]


@dataclass(frozen=True)
class Char:
    """What the rules leave on a character: its weight and the rule (index in spliced order) that decided, if any."""

    weight: float = 0.0
    rule: int | None = None


@dataclass(frozen=True)
class Token:
    """The decision of one token."""

    weight: float
    rule: int | None
    reason: str


@dataclass(frozen=True)
class Verdict:
    """All the page says about one policy and one chat. `broken` lists the guards that the row breaks, by index."""

    chars: list[Char]
    broken: list[int]
    never: set[int]
    tokens: list[Token] = field(default_factory=list)
    straddles: int = 0


def interpret(
    policy: ast.Policy,
    chat: ChatFacts,
    tokens: Sequence[tuple[int, int]] | None = None,
    *,
    read: Callable[[ast.Use], ast.Policy] | None = None,
) -> Verdict:
    """Decide every character of a chat and, if their ranges are given, every token.

    Raises `Invalid` for a policy the page calls an error, `RowFails` for a row that fails. Broken guards are returned,
    and decisions with them, so that a test can look at both.
    """
    return Oracle(policy, read).decide(chat, tokens)


class Oracle:
    """A policy with its `use` spliced: rules and guards in order, `let` names, settings."""

    def __init__(self, policy: ast.Policy, read: Callable[[ast.Use], ast.Policy] | None = None) -> None:
        self.rules: list[ast.Rule | ast.Scale] = []
        self.guards: list[ast.Guard] = []
        self.lets: dict[str, tuple[ast.Target, ...]] = {}
        self.settings: dict[str, str] = {}
        self.read = read
        self._splice(policy)

    def _splice(self, policy: ast.Policy) -> None:
        own: dict[str, str] = {}
        for statement in policy.statements:
            if isinstance(statement, ast.Rule | ast.Scale):
                self.rules.append(statement)
            elif isinstance(statement, ast.Guard):
                self.guards.append(statement)
            elif isinstance(statement, ast.Let):
                if statement.name in self.lets or is_part_name(statement.name):
                    raise Invalid(f"let {statement.name}")
                self.lets[statement.name] = statement.targets
            elif isinstance(statement, ast.On):
                if statement.setting in own:
                    raise Invalid(f"on {statement.setting} twice")  # [28]
                own[statement.setting] = statement.value
            elif isinstance(statement, ast.Use):
                if self.read is None:
                    raise Invalid("nothing to use")
                self._splice(self.read(statement))
        self.settings.update(own)  # after what it uses, so the including file wins [28]

    def decide(self, chat: ChatFacts, tokens: Sequence[tuple[int, int]] | None = None) -> Verdict:
        """See `interpret`."""
        row = _Row(self, chat)
        for index, rule in enumerate(self.rules):
            row.apply(index, rule)
        broken, never = [], set()
        for index, guard in enumerate(self.guards):
            covered = row.selected(guard.kind, guard.targets, guard.conditions)
            # What can never be a target is outside of what a guard promises: it breaks neither kind [6, 23].
            trained = {c for c in covered if row.chars[c].weight != 0}
            if guard.kind == "never":
                never |= covered
            if trained if guard.kind == "never" else covered - trained - row.untrainable:
                broken.append(index)
        if row.asks_sampled and chat.sampled is None:
            raise RowFails("nothing says which characters were sampled")  # [59]
        verdict = Verdict(chars=row.chars, broken=broken, never=never)
        if tokens is None:
            return verdict
        decided = [row.token(i, start, end, never) for i, (start, end) in enumerate(tokens)]
        straddles = sum(token.reason == "straddle" for token in decided)
        return replace(verdict, tokens=decided, straddles=straddles)


def is_part_name(name: str) -> bool:
    """Whether the first name of a selector is a part or a group [4]."""
    return name in GROUPS or any(part == name or part.startswith(name + ".") for part in EVERYTHING)


def parts_named(names: Sequence[str]) -> set[str]:
    """The parts a dotted name covers: itself and what is below it [2]."""
    name = ".".join(names)
    found = GROUPS.get(name) or {part for part in EVERYTHING if part == name or part.startswith(name + ".")}
    if not found:
        raise Invalid(f"no part {name}")
    return found


def one(first: ast.Which | None, second: ast.Which | None) -> ast.Which | None:
    """The which that two places give, at most one of them one [10]."""
    if first is not None and second is not None:
        raise Invalid("a which on both sides")
    return first or second


class _Row:
    """One chat under one policy: what every character is, and what the rules so far left on it."""

    def __init__(self, oracle: Oracle, chat: ChatFacts) -> None:
        self.oracle, self.chat = oracle, chat
        self.text = chat.text
        self.fields = Fields(chat, BODY)
        self.segment: list[SegmentFacts] = [s for s in chat.segments for _ in range(s.start, s.end)]
        self.chars = [Char()] * len(self.text)
        self.all = set(range(len(self.text)))
        self.roles = [str(message["role"]) for message in chat.messages]
        self.asks_sampled = False
        self.untrainable = {c for c, s in enumerate(self.segment) if s.part == "generation_prompt"}

    def apply(self, index: int, rule: ast.Rule | ast.Scale) -> None:
        """Let one rule, the last so far, decide what it matches [21]."""
        verb = "scale" if isinstance(rule, ast.Scale) else rule.effect
        selected = self.selected(verb, rule.targets, rule.conditions)
        for c in sorted(selected - self.untrainable):
            if isinstance(rule, ast.Scale):
                factor = self._number(rule.factor, c)
                self.chars[c] = replace(self.chars[c], weight=self.chars[c].weight * factor)
            elif rule.effect == "mask":
                self.chars[c] = Char(0.0, index)
            else:
                weight = 1.0 if rule.weight is None else self._number(rule.weight, c)
                self.chars[c] = Char(weight, index)

    def _number(self, weight: int | float | ast.Field, c: int) -> float:
        if isinstance(weight, ast.Field):
            return number_of(self.fields.value(weight, self.segment[c]))
        return float(weight)

    def selected(self, verb: str, targets: Iterable[ast.Target], conditions: Iterable[ast.Condition] = ()) -> set[int]:
        """Characters that any target selects and for whose segment all conditions hold [14]."""
        conditions = list(conditions)

        allowed = self.all
        if conditions:
            # Once a segment: it is the same for all its characters.
            true = {
                (s.start, s.end): all(self.fields.holds(k.expr, s) != k.negated for k in conditions)
                for s in self.chat.segments
            }
            allowed = {c for c, s in enumerate(self.segment) if true[s.start, s.end]}
        found: set[int] = set()
        for target in targets:
            found |= self._primary(verb, target.primary, target.relations, allowed) & allowed
        return found

    def _primary(
        self, verb: str, primary: ast.Primary, relations: tuple[ast.Relation, ...], allowed: set[int]
    ) -> set[int]:
        """What a primary selects under the relations around it."""
        if isinstance(primary, ast.Group):  # relations on a group apply to each target in it [13]
            found: set[int] = set()
            for target in primary.targets:
                found |= self._primary(verb, target.primary, target.relations + relations, allowed)
            return found
        if isinstance(primary, ast.RegexIn):
            # A rule's conditions say where it may decide, not what the runs of an `in` are.
            return self._matches(primary, self._primary(verb, primary.inside, relations, self.all))
        if isinstance(primary, ast.SpansIn):
            return self._listed(verb, primary, self._primary(verb, primary.inside, relations, self.all) & allowed)
        if isinstance(primary, ast.SampledIn):
            self.asks_sampled = True
            inside = self._primary(verb, primary.inside, relations, self.all)
            return {c for start, end in self.chat.sampled or () for c in range(start, end)} & inside & allowed  # [58]
        if isinstance(primary, ast.Everything):
            return self._atom(None, set(EVERYTHING), None, relations)
        name, which = primary.names[0], primary.which
        if not primary.quoted and name in self.oracle.lets:
            alias = self._let_role(primary)
            if alias is None:
                if which is not None or len(primary.names) > 1:
                    raise Invalid(f"{name} is not one role")
                group = ast.Group(targets=self.oracle.lets[name], span=primary.span)
                return self._primary(verb, group, relations, allowed)
            role, which = alias[0], one(which, alias[1])
        elif primary.quoted or not is_part_name(name):
            role = name
        else:
            return self._atom(None, parts_named(primary.names), which, relations)
        return self._atom(role, parts_named(primary.names[1:] or [EXPANSION[verb]]), which, relations)

    def _let_role(self, selector: ast.Selector) -> tuple[str, ast.Which | None] | None:
        """The role a `let` name stands for, and which turns of it, if it stands for one bare role."""
        targets = self.oracle.lets[selector.names[0]]
        if len(targets) != 1 or targets[0].relations or not isinstance(targets[0].primary, ast.Selector):
            return None
        inner = targets[0].primary
        if len(inner.names) != 1:
            return None
        if not inner.quoted and inner.names[0] in self.oracle.lets:
            alias = self._let_role(inner)
            return None if alias is None else (alias[0], one(inner.which, alias[1]))
        return (inner.names[0], inner.which) if inner.quoted or not is_part_name(inner.names[0]) else None

    def _relation_turns(self, relation: ast.Relation) -> tuple[str, ast.Which | None]:
        selector = relation.selector
        alias: tuple[str, ast.Which | None] | None = (selector.names[0], None)
        if not selector.quoted and selector.names[0] in self.oracle.lets:
            alias = self._let_role(selector)
        elif not selector.quoted and is_part_name(selector.names[0]):
            alias = None
        if alias is None or len(selector.names) != 1:
            raise Invalid("a relation needs a bare role")  # [13]
        return alias[0], one(selector.which, alias[1])

    def _atom(
        self, role: str | None, parts: set[str], which: ast.Which | None, relations: tuple[ast.Relation, ...]
    ) -> set[int]:
        ordered: list[tuple[str, set[int]]] = []
        for relation in relations:
            other, other_which = self._relation_turns(relation)
            if relation.kind == "of":  # [10]
                if role is not None or which is not None:
                    raise Invalid("`of` on what has a role or a which")
                role, which = other, other_which
            elif relation.kind == "after" and parts <= ENDINGS:  # [11]
                if role not in (None, other) or (role is None and which is not None):
                    raise Invalid("`after` on an ending of another role, or on one with a which and no role")
                role, which = other, one(which, other_which)
            else:
                ordered.append((relation.kind, self._turns(other, other_which)))
        turns = self._turns(role, which) if role is not None or which is not None else None
        return {
            c
            for c, s in enumerate(self.segment)
            if s.part in parts
            and (turns is None or s.turn in turns)
            and all(s.turn is not None and _stands(kind, s.turn, others) for kind, others in ordered)
        }

    def _turns(self, role: str | None, which: ast.Which | None) -> set[int]:
        """Turns of a role (of all roles without one), filtered, then counted from an end [7, 8]."""
        turns = [t for t, r in enumerate(self.roles) if role is None or r == role]
        if which is not None and which.trained:
            turns = [t for t in turns if self._is_trained(t)]
        if which is not None and which.end == "first":
            turns = turns[: which.count]
        elif which is not None and which.end == "last":
            turns = turns[max(0, len(turns) - which.count) :]
        return set(turns)

    def _is_trained(self, turn: int) -> bool:
        return any(s.turn == turn and s.part in BODY and self.chars[c].weight != 0 for c, s in enumerate(self.segment))

    def _runs(self, inside: set[int]) -> list[list[int]]:
        """Maximal stretches of selected characters of one turn [29]."""
        runs: list[list[int]] = []
        for c in sorted(inside):
            if runs and runs[-1][-1] == c - 1 and self.segment[c - 1].turn == self.segment[c].turn:
                runs[-1].append(c)
            else:
                runs.append([c])
        return runs

    def _matches(self, primary: ast.RegexIn, inside: set[int]) -> set[int]:
        found: set[int] = set()
        for run in self._runs(inside):
            for start, end in matches(primary.pattern, primary.flags, "".join(self.text[c] for c in run)):
                found |= set(range(run[0] + start, run[0] + end))
        return found

    def _listed(self, verb: str, primary: ast.SpansIn, inside: set[int]) -> set[int]:
        """Characters of the content whose offsets the data lists, for this verb [30]."""
        wanted = {"train": True, "always": True, "mask": False, "never": False, "scale": None}[verb]
        found: set[int] = set()
        for c in sorted(inside):
            segment = self.segment[c]
            offsets = offsets_of(self.fields, primary.field, segment, wanted)
            at = self.fields.content_offset(segment, c)
            if at is not None and at in offsets:
                found.add(c)
        return found

    def token(self, index: int, start: int, end: int, never: set[int]) -> Token:
        """Decide one token by its characters [24 to 27]."""
        at = list(range(start, end)) or list(range(start, min(start + 1, len(self.text))))
        chars = [self.chars[c] for c in at]
        if index == 0 or any(c in self.untrainable for c in at):
            return Token(0.0, None, "structural")
        if not at:  # zero wide after the last character: no character decides it
            return Token(0.0, None, "default")
        owners: set[Any] = {self.segment[c].turn for c in at if self.segment[c].field is not None} - {None}
        weights = {char.weight for char in chars}
        if len(weights) == 1 and len(owners) < 2:
            return Token(chars[0].weight, chars[0].rule, "default" if chars[0].rule is None else "rule")
        setting = self.oracle.settings.get("straddle", "mask")
        if setting == "error":
            raise RowFails(f"token {index} straddles")
        trained = [char for char in chars if char.weight != 0]
        may = trained and not any(c in never for c in at) and (len(owners) < 2 or len(trained) == len(chars))
        differs_in_weight_only = len(trained) == len(chars) and len(owners) < 2
        if (setting == "mask" and not differs_in_weight_only) or not may:
            return Token(0.0, None, "straddle")
        chosen = min(trained, key=lambda char: abs(char.weight))  # the first of several: min keeps the first
        return Token(chosen.weight, chosen.rule, "straddle")


def _stands(kind: str, turn: int, others: set[int]) -> bool:
    """Whether a turn stands in a relation to selected turns; never to none [12]."""
    if not others:
        return False
    if kind == "after":
        return turn > min(others)
    if kind == "before":
        return turn < max(others)
    return turn - 1 in others
