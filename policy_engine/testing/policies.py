"""Generators of policies as syntax trees; `lang.format.format_policy` prints one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from policy_engine.core.source import Source, Span
from policy_engine.core.vocabulary import ENDINGS, GROUPS, PARTS, SETTINGS, UNOWNED, UNTRAINABLE, RelationKind, parts_of
from policy_engine.lang import ast
from policy_engine.testing.choices import Choices
from policy_engine.testing.expressions import NUMBERS, SPAN_FIELDS, WEIGHT_FIELDS, expression, field, pattern

_SOURCE: Final = Source(name="<generated>", text="")
NOWHERE: Final = Span(source=_SOURCE, start=0, end=0)
"""The span of generated nodes. Equality of nodes leaves spans out."""

ROLES: Final = ("assistant", "assistant", "assistant", "user", "user", "tool", "system", "critic")
"""Repeated so that targets overlap."""
_TRAINABLE: Final = tuple(part for part in PARTS if part not in UNTRAINABLE)
PART_NAMES: Final = ("text", "reasoning", "tool_call", "header", "eos", "body", "eot", "turn", "separator", *_TRAINABLE)
OWNED_NAMES: Final = tuple(name for name in PART_NAMES if name not in UNOWNED)
"""Parts a role can have."""


def policy(
    choices: Choices, *, uses: Sequence[str] = (), most: int = 7, guards: bool = True, spans: bool = True
) -> ast.Policy:
    """A policy that means something: up to `most` rules, some guards, lets and settings.

    `uses` are names of policies it may use. `guards=False` leaves guards out, `spans=False` regexes and data spans.
    Nothing in it is an error of the language; what only a schema or a proof could object to may still be there.

    >>> from policy_engine.lang.format import format_policy
    >>> from policy_engine.testing.choices import RandomChoices
    >>> print(format_policy(policy(RandomChoices(7), most=2)), end="")
    on straddle train
    on empty keep
    let a_role = user
    let some_text = empty_reasoning, tool_call
    train assistant
    mask everything
    """
    maker = _Maker(choices=choices, spans=spans)
    statements: list[ast.Statement] = []
    if choices.chance(5):
        statements.append(ast.Language(version=1, span=NOWHERE))
    # Each setting once: twice is an error of the language.
    settings = list(SETTINGS)
    for _ in range(choices.integer(0, 2) if choices.chance(45) else 0):
        setting = choices.pick(("straddle", *settings) if "straddle" in settings else settings)
        settings.remove(setting)
        # Straddling tokens are where most can go wrong, so they are trained more often than not.
        values = ("train", "train", *SETTINGS[setting]) if setting == "straddle" else SETTINGS[setting]
        statements.append(ast.On(setting=setting, value=choices.pick(values), span=NOWHERE))
    statements += [maker.let(name) for name in ("a_role", "some_text")[: choices.integer(0, 2)] if choices.chance(30)]
    if uses and choices.chance(15):
        statements.append(ast.Use(name=choices.pick(uses), quoted=False, span=NOWHERE))
    trained_straddles = any(isinstance(s, ast.On) and s.value == "train" for s in statements)
    if trained_straddles and choices.chance(50):
        # Where much is trained, tokens straddle two trained messages, or text that a guard keeps.
        statements.append(_rule("train", _named("everything", "text", "turn", "assistant")[choices.integer(0, 3)]))
    statements += choices.many(lambda _: maker.rule(), 1, most)
    if trained_straddles and guards and choices.chance(30):
        kept = (_named("user", "eos", "header", "separator")[choices.integer(0, 3)],)
        statements += [_rule("mask", *kept), ast.Guard(kind="never", targets=kept, span=NOWHERE)]
    if guards and choices.chance(35):
        for _ in range(choices.integer(1, 2)):
            at = choices.integer(0, len(statements))
            # A guard may be anywhere, but not above `language` or a `let` that it names.
            lets = max((i for i, s in enumerate(statements) if isinstance(s, ast.Let | ast.Language)), default=-1)
            rules = [s for s in statements if isinstance(s, ast.Rule)]
            statements.insert(max(at, lets + 1), maker.guard(rules))
    return ast.Policy(statements=tuple(statements), source=_SOURCE)


def _named(*names: str) -> list[ast.Target]:
    """Targets of one word each."""
    words = [
        ast.Everything(span=NOWHERE) if n == "everything" else ast.Selector(names=(n,), span=NOWHERE) for n in names
    ]
    return [ast.Target(primary=word, span=NOWHERE) for word in words]


def _rule(effect: Literal["train", "mask"], *targets: ast.Target) -> ast.Rule:
    return ast.Rule(effect=effect, targets=targets, span=NOWHERE)


@dataclass(kw_only=True)
class Shape:
    """Properties of a target that matter to relations on it."""

    role: str | None = None
    which: bool = False
    endings: bool = False
    plain: bool = True
    """True if `of` may follow: the target has no role and no which."""
    unowned: bool = False
    """True if no message owns some of it, so that no relation may follow."""


@dataclass(kw_only=True)
class _Maker:
    choices: Choices
    spans: bool
    lets: dict[str, Shape] = dataclasses.field(default_factory=dict)
    roles: dict[str, str] = dataclasses.field(default_factory=dict)

    def let(self, name: str) -> ast.Let:
        """A `let`: of one role (usable in relations) or of some parts (usable after `of`)."""
        if name == "a_role":
            role = self.choices.pick(ROLES)
            self.roles[name] = role
            primary: ast.Primary = ast.Selector(names=(role,), span=NOWHERE)
            return ast.Let(name=name, targets=(ast.Target(primary=primary, span=NOWHERE),), span=NOWHERE)
        shape = Shape()
        targets = []
        for _ in range(self.choices.integer(1, 3)):
            part = self.choices.pick(OWNED_NAMES)
            shape.endings |= (parts_of(part) or frozenset()) <= ENDINGS
            primary = ast.Selector(names=tuple(part.split(".")), span=NOWHERE)
            targets.append(ast.Target(primary=primary, span=NOWHERE))
        self.lets[name] = shape
        return ast.Let(name=name, targets=tuple(targets), span=NOWHERE)

    def rule(self) -> ast.Rule | ast.Scale:
        """A `train`, `mask` or `scale` rule."""
        choices = self.choices
        verb: Literal["train", "mask", "scale"] = choices.pick(("train", "train", "train", "mask", "mask", "scale"))
        targets = self.targets()
        conditions = self.conditions()
        if verb == "scale":
            factor = field(choices, WEIGHT_FIELDS) if choices.chance(30) else choices.pick(NUMBERS)
            return ast.Scale(targets=targets, conditions=conditions, factor=factor, span=NOWHERE)
        weight: int | float | ast.Field | None = None
        if verb == "train" and choices.chance(35):
            weight = field(choices, WEIGHT_FIELDS) if choices.chance(50) else choices.pick(NUMBERS)
        return ast.Rule(effect=verb, targets=targets, conditions=conditions, weight=weight, span=NOWHERE)

    def guard(self, rules: Sequence[ast.Rule]) -> ast.Guard:
        """A guard: mostly one that says what some rule does, which is likelier to hold."""
        kind: Literal["never", "always"] = self.choices.pick(("never", "always"))
        # `never` goes with what is masked, `always` with what is trained.
        alike = [rule for rule in rules if (rule.effect == "mask") == (kind == "never")]
        if alike and self.choices.chance(70):
            rule = alike[-1] if self.choices.chance(70) else self.choices.pick(alike)
            return ast.Guard(kind=kind, targets=rule.targets, conditions=rule.conditions, span=NOWHERE)
        return ast.Guard(kind=kind, targets=(self.target(1),), conditions=self.conditions(), span=NOWHERE)

    def conditions(self) -> tuple[ast.Condition, ...]:
        """No condition, mostly; else one or two."""
        if not self.choices.chance(35):
            return ()

        def condition(choices: Choices) -> ast.Condition:
            return ast.Condition(negated=choices.chance(30), expr=expression(choices, 2), span=NOWHERE)

        return tuple(self.choices.many(condition, 1, 2 if self.choices.chance(30) else 1))

    def targets(self) -> tuple[ast.Target, ...]:
        """One to three targets."""
        return tuple(self.choices.many(lambda _: self.target(2), 1, self.choices.pick((1, 1, 3))))

    def target(self, depth: int) -> ast.Target:
        """A primary with relations that the language allows on it."""
        return self.target_shape(depth)[0]

    def target_shape(self, depth: int) -> tuple[ast.Target, Shape]:
        """A target, and what it has once its relations are read."""
        primary, shape = self.primary(depth)
        shape = dataclasses.replace(shape)
        relations: list[ast.Relation] = []
        while len(relations) < 2 and self.choices.chance(20):
            relation = self.relation(shape)
            if relation is None:
                break
            relations.append(relation)
        return ast.Target(primary=primary, relations=tuple(relations), span=NOWHERE), shape

    def primary(self, depth: int) -> tuple[ast.Primary, Shape]:
        """A primary and what it has."""
        kind = self.choices.integer(0, 20)
        if kind == 20:
            return ast.Everything(span=NOWHERE), Shape(plain=False)
        if kind >= 16 and depth > 0 and self.spans:
            inside, shape = self.primary(depth - 1)
            if kind == 19 and self.choices.chance(50):
                return ast.SampledIn(inside=inside, span=NOWHERE), shape
            if kind >= 18:
                listed = field(self.choices, SPAN_FIELDS)
                return ast.SpansIn(field=listed, inside=inside, span=NOWHERE), shape
            text, flags = pattern(self.choices)
            return ast.RegexIn(pattern=text, flags=flags, inside=inside, span=NOWHERE), shape
        if kind == 15 and depth > 0:
            return self.group(depth)
        if kind == 14 and self.lets:
            name = self.choices.pick(sorted(self.lets))
            return ast.Selector(names=(name,), span=NOWHERE), self.lets[name]
        return self.selector()

    def group(self, depth: int) -> tuple[ast.Primary, Shape]:
        """`( target, target )`, without relations that would read `of` if a member has a role."""
        made = self.choices.many(lambda _: self.target_shape(depth - 1), 1, 3)
        plain = all(shape.plain for _, shape in made)
        shape = Shape(
            plain=plain,
            endings=any(shape.endings for _, shape in made),
            which=not plain,
            unowned=any(shape.unowned for _, shape in made),
        )
        return ast.Group(targets=tuple(target for target, _ in made), span=NOWHERE), shape

    def selector(self) -> tuple[ast.Primary, Shape]:
        """A role, a role's part, a part, or a `let` of one role."""
        choices = self.choices
        kind = choices.integer(0, 9)
        names: tuple[str, ...]
        role: str | None = None
        quoted = False
        if kind <= 6:
            role, names = self._role_name()
            quoted = choices.chance(5)
            if quoted:
                names = (role,)
            if kind >= 3:
                names += tuple(choices.pick(OWNED_NAMES).split("."))
        # Roles that are named like parts or keywords have to be quoted.
        elif kind == 7 and choices.chance(30):
            role, quoted = choices.pick(("text", "tool_call", "first", "other-role")), True
            names = (role,)
        else:
            names = tuple(choices.pick(PART_NAMES).split("."))
        parts = parts_of(".".join(names if role is None else names[1:])) or frozenset()
        unowned = role is None and parts <= UNOWNED
        which = self._which() if choices.chance(20) and not unowned else None
        shape = Shape(
            role=role,
            which=which is not None,
            endings=bool(parts) and parts <= ENDINGS,
            plain=role is None and which is None,
            unowned=unowned,
        )
        return ast.Selector(names=names, quoted=quoted, which=which, span=NOWHERE), shape

    def _role_name(self) -> tuple[str, tuple[str, ...]]:
        if self.roles and self.choices.chance(30):
            name = self.choices.pick(sorted(self.roles))
            return self.roles[name], (name,)
        role = self.choices.pick(ROLES)
        return role, (role,)

    def _which(self) -> ast.Which:
        trained = self.choices.chance(40)
        end: Literal["first", "last"] | None = self.choices.pick(("last", "first"))
        if trained and self.choices.chance(50):
            end = None
        count = self.choices.pick((1, 1, 2, 3)) if end else 1
        return ast.Which(trained=trained, end=end, count=count, span=NOWHERE)

    def relation(self, shape: Shape) -> ast.Relation | None:
        """A relation that the language allows on a primary of that shape; the shape is updated."""
        choices = self.choices
        # Text of no message has no turn that could be before or after another.
        if shape.unowned:
            return None
        kind: RelationKind | Literal["of"]
        kind = choices.pick(("after", "before", "right after", "of"))
        role, names = self._role_name()
        which = self._which() if choices.chance(30) else None
        if kind == "of":
            # A target that has a role takes no second one.
            if not shape.plain:
                return None
            shape.role, shape.which, shape.plain = role, which is not None, False
        elif kind == "after" and shape.endings:
            # `eos of user after assistant` means nothing: an end follows a turn of its own role.
            if shape.which or shape.role not in (None, role):
                return None
            shape.role, shape.which, shape.plain = role, which is not None, False
        elif shape.plain:
            # A part without a role that got a turn relation could still take `of`; one such order is enough.
            shape.plain = False
        selector = ast.Selector(names=names, which=which, span=NOWHERE)
        return ast.Relation(kind=kind, selector=selector, span=NOWHERE)


def raw_policy(choices: Choices) -> ast.Policy:
    """A policy that parses but may mean nothing: unknown names, settings and lets twice.

    >>> from policy_engine.lang.format import format_policy
    >>> from policy_engine.testing.choices import RandomChoices
    >>> print(format_policy(raw_policy(RandomChoices(9))).splitlines()[0])
    train sampled in assistant.body, last 3 user, "body" before "body" before "body"
    """
    made = policy(choices, uses=("assistant_eos", "no_such_policy"))
    statements = [_disturbed(choices, statement) for statement in made.statements]
    if choices.chance(30):
        statements += choices.many(lambda c: c.pick(statements), 1, 2)
    return dataclasses.replace(made, statements=tuple(statements))


_NAMES: Final = ("asistant", "body", "eot", "nobody", "some_text", "turn", "text", *GROUPS)


def _disturbed(choices: Choices, statement: ast.Statement) -> ast.Statement:
    if not choices.chance(25):
        return statement
    names = tuple(choices.pick(_NAMES) for _ in range(choices.integer(1, 3)))
    which = ast.Which(end="last", count=choices.integer(1, 2), span=NOWHERE) if choices.chance(30) else None
    selector = ast.Selector(names=names, quoted=choices.chance(20), which=which, span=NOWHERE)
    relation = ast.Relation(kind=choices.pick(("of", "after", "before")), selector=selector, span=NOWHERE)
    target = ast.Target(primary=selector, relations=(relation,) * choices.integer(0, 2), span=NOWHERE)
    if isinstance(statement, ast.On):
        return dataclasses.replace(statement, value=choices.pick(("mask", "perhaps")))
    if isinstance(statement, ast.Let):
        return dataclasses.replace(statement, name=choices.pick(("text", "some_text", "a_role")), targets=(target,))
    if isinstance(statement, ast.Rule | ast.Scale | ast.Guard):
        if choices.chance(20):
            wrong = ast.Truth(field=ast.Field(scope="massage", path=("x",), span=NOWHERE), span=NOWHERE)
            return dataclasses.replace(statement, conditions=(ast.Condition(negated=False, expr=wrong, span=NOWHERE),))
        return dataclasses.replace(statement, targets=(*statement.targets, target))
    return statement
