"""Targets as written to targets as meant: names resolved, `let` expanded, relations applied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Literal

from policy_engine.core.diagnostics import Related
from policy_engine.core.schema import Schema
from policy_engine.core.source import Span
from policy_engine.core.suggest import did_you_mean
from policy_engine.core.vocabulary import (
    ENDINGS,
    GROUPS,
    KEYWORDS,
    KNOWN_ROLES,
    OTHER_PARTS,
    OTHER_WORDS,
    PART_NAMES,
    PARTS,
    TURN,
    UNTRAINABLE,
    parts_of,
)
from policy_engine.lang import ast
from policy_engine.lang.checked import Atom, CheckedTarget, Spans, TurnRelation, TurnSet
from policy_engine.lang.fields import FieldChecker
from policy_engine.lang.findings import Findings
from policy_engine.lang.splice import Definition, File
from policy_engine.lang.syntax_errors import keyword_as_name

Verb = Literal["train", "mask", "scale", "never", "always"]

_BARE: Final[dict[Verb, str]] = {"train": "body", "mask": "turn", "scale": "body", "never": "turn", "always": "body"}
"""The parts that a bare role means, by the verb that uses it."""
MAX_TARGETS: Final = 10_000
"""Targets of one rule after `let` names are expanded: lists of lists of lists grow without bound."""
MAX_LET_DEPTH: Final = 64

_Targets = tuple[CheckedTarget, ...]


class Resolver:
    """Resolves the targets of one policy, and of the policies it uses.

    Errors go to `findings`. A target with an error is left out, so that one mistake gives one error.

    >>> from policy_engine.lang.check import check_text
    >>> rule = check_text("let answers = assistant, tool; train answers").rules[0]
    >>> [(target.turns.role, "text" in target.parts) for target in rule.targets]
    [('assistant', True), ('tool', True)]
    """

    def __init__(self, findings: Findings, schema: Schema | None) -> None:
        self.findings = findings
        self.fields = FieldChecker(findings, schema)
        self.roles: set[str] = set()
        self.used_lets: set[int] = set()
        self.declared = frozenset(KNOWN_ROLES) | (schema.roles | schema.trained_roles if schema else frozenset())
        # The `let`s being expanded, outermost first; those known to be in a circle; warnings given; what is
        # expanded already.
        self._open: list[Definition] = []
        self._circular: set[int] = set()
        self._undeclared: set[tuple[str, str]] = set()
        self._done: dict[tuple[int, Verb], _Targets] = {}

    def targets(self, targets: Sequence[ast.Target], verb: Verb, file: File) -> _Targets:
        """The checked targets of a rule, a guard, a group or a `let`, for the verb that uses them."""
        found: list[CheckedTarget] = []
        for target in targets:
            found += self._target(target, verb, file)
            # Asked after each target, not at the end: ten `let`s of ten names each would be built first.
            if len(found) > MAX_TARGETS:
                message = f"with this, the rule has more than {MAX_TARGETS:,} targets"
                self.findings.error("PE213", message, target.span, "list each target once")
                return ()
        return tuple(found)

    def untrainable(self, targets: _Targets, verb: Verb) -> None:
        """Report targets of a rule that trains which can never be trained."""
        for target in targets:
            if isinstance(target, Spans):
                self.untrainable(target.inside, verb)
            elif verb in ("train", "scale", "always") and target.parts <= UNTRAINABLE:
                message = "`generation_prompt` is never trained: nothing follows it"
                help = "remove it; `header` is what opens a turn that is there"
                self.findings.error("PE204", message, target.span, help)

    def _target(self, target: ast.Target, verb: Verb, file: File) -> _Targets:
        if self._is_no_part(target, file):
            return ()
        found = self._primary(target.primary, verb, file)
        for relation in target.relations:
            turns = self._turns(relation.selector, file, relation.kind)
            if turns is None:
                return ()
            # Each relation narrows what the ones before left; a group's targets are narrowed one by one.
            found = tuple(t for f in found if (t := self._related(f, relation, turns)) is not None)
        return found

    def _is_no_part(self, target: ast.Target, file: File) -> bool:
        """Reports the name before `of` that is no part, as in `content of assistant`."""
        primary = target.primary
        if not isinstance(primary, ast.Selector) or primary.quoted or primary.which is not None:
            return False
        if not any(relation.kind == "of" for relation in target.relations) or len(primary.names) > 1:
            return False
        known = primary.names[0] in (*file.lets, *KEYWORDS, *PART_NAMES, *GROUPS, *self.declared)
        # In a file with syntax errors, the name may be of a `let` that did not parse.
        if known or not file.complete:
            return False
        self._parts(primary.names, primary)
        return True

    def _primary(self, primary: ast.Primary, verb: Verb, file: File) -> _Targets:
        match primary:
            case ast.Everything(span=span):
                return (Atom(turns=None, parts=frozenset(PARTS), span=span),)
            case ast.Group(targets=targets):
                return self.targets(targets, verb, file)
            case ast.RegexIn(pattern=pattern, flags=flags, inside=inside, span=span):
                sound = self.fields.regex(pattern, flags, span)
                within = self._primary(inside, verb, file)
                return (Spans(pattern=pattern, flags=flags, inside=within, span=span),) if sound and within else ()
            case ast.SpansIn(field=field, inside=inside, span=span):
                sound = self.fields.spans(field)
                within = self._primary(inside, verb, file)
                return (Spans(field=field, inside=within, span=span),) if sound and within else ()
            case ast.SampledIn(inside=inside, span=span):
                within = self._primary(inside, verb, file)
                return (Spans(sampled=True, inside=within, span=span),) if within else ()
            case _:
                return self._selector(primary, verb, file)

    # Selectors

    def _selector(self, selector: ast.Selector, verb: Verb, file: File) -> _Targets:
        first, *below = selector.names
        which = self._which(selector.which)
        # The order of look-up is part of the language: a `let`, then a part or group, then a role.
        if not selector.quoted and first in file.lets:
            if which is None and not below:
                return self._let(file.lets[first], verb, selector.span)
            # `last NAME` and `NAME.text` need a name that stands for a role, as a list of targets has no last turn.
            turns = self._turns_of_let(file.lets[first], selector, which)
            return () if turns is None else self._of_role(turns, below, verb, selector)
        if not selector.quoted and first in KEYWORDS:
            self.findings.add(keyword_as_name(first, selector.span))
            return ()
        if not selector.quoted and (first in PART_NAMES or first in GROUPS):
            parts = self._parts(selector.names, selector)
            if parts is None:
                return ()
            if which is None:
                # `eos` alone asks nothing of the turn; `last eot` counts turns, so it has one.
                return (Atom(turns=None, parts=parts, span=selector.span),)
            return self._atom(TurnSet(role=None, which=which), parts, selector)
        self._role(first, selector, file)
        return self._of_role(TurnSet(role=first, which=which), below, verb, selector)

    def _of_role(self, turns: TurnSet, below: list[str], verb: Verb, selector: ast.Selector) -> _Targets:
        parts = self._parts(tuple(below) or (_BARE[verb],), selector)
        return () if parts is None else self._atom(turns, parts, selector)

    def _atom(self, turns: TurnSet, parts: frozenset[str], selector: ast.Selector) -> _Targets:
        # Only parts that belong to a turn are left: `last bos` leaves nothing, which is an error.
        owned = parts & TURN
        if not owned:
            self._unowned(selector.span, ".".join(selector.names[-1:]))
            return ()
        return (Atom(turns=turns, parts=owned, span=selector.span),)

    def _unowned(self, span: Span, name: str) -> None:
        help = "write the part alone, without a role, `first`, `last`, `trained` or a relation"
        self.findings.error("PE203", f"`{name}` belongs to no turn, so it cannot be chosen by its turn", span, help)

    def _parts(self, names: tuple[str, ...], selector: ast.Selector) -> frozenset[str] | None:
        found = parts_of(".".join(names))
        if found is not None:
            return found
        first, *below = names
        if first in PART_NAMES and below:
            # One level below the first name is all that parts have.
            subs = sorted({p.split(".")[1] for p in PARTS if p.startswith(first + ".")})
            listed = ", ".join(f"`{first}.{s}`" for s in subs)
            help = did_you_mean(below[0], subs) if len(below) == 1 else None
            help = help or (f"it has {listed}" if subs else f"write `{first}` alone")
            self.findings.error("PE202", f"`{first}` has no part `{'.'.join(below)}`", selector.span, help)
        elif first in GROUPS:
            message = f"`{first}` is a group and has nothing below it"
            meant = OTHER_PARTS.get(below[0], below[0])
            self.findings.error("PE202", message, selector.span, f"write `{meant}` without `{first}`")
        else:
            other = OTHER_PARTS.get(".".join(names))
            help = f"did you mean `{other}`?" if other else did_you_mean(first, (*PART_NAMES, *GROUPS))
            listed = ", ".join(f"`{n}`" for n in (*PART_NAMES, *GROUPS))
            self.findings.error("PE202", f"there is no part `{first}`", selector.span, help or f"parts are {listed}")
        return None

    def _role(self, role: str, selector: ast.Selector, file: File) -> None:
        # Also a role that draws a warning: `policy-engine check` lists every role that a policy names.
        self.roles.add(role)
        # In a file with syntax errors, the name may be of a `let` that did not parse.
        if role in self.declared or not file.complete or (file.source.name, role) in self._undeclared:
            return
        self._undeclared.add((file.source.name, role))
        # Never a part: a role that the data has is near to one as easily as a slip is (`narrator`, `separator`).
        candidates = self.declared if selector.quoted else (*self.declared, *file.lets, "everything")
        help = (None if selector.quoted else OTHER_WORDS.get(role)) or did_you_mean(role, candidates)
        declare = "declare it in a dataset file if the data has it"
        help = f"{help}{'' if help.endswith('?') else ','} else {declare}" if help else declare
        self.findings.warn("PE251", f"nothing declares a role `{role}`", selector.span, help)

    def _which(self, which: ast.Which | None) -> ast.Which | None:
        if which is not None and which.count < 1:
            message = "a number of turns is a whole number from 1 on"
            self.findings.error("PE106", message, which.span, "write `1`, `2`, …")
        return which

    # `let`

    def _let(self, definition: Definition, verb: Verb, at: Span) -> _Targets:
        self.used_lets.add(id(definition))
        key = (id(definition), verb)
        # By verb too: `let answers = assistant` is the body under `train` and the whole turn under `mask`.
        if key not in self._done:
            if not self._enter(definition, at):
                return ()
            self._done[key] = self.targets(definition.let.targets, verb, definition.file)
            self._open.pop()
        # What a rule selects is shown at the rule, not where the name is defined.
        return tuple(replace(t, span=at) for t in self._done[key])

    def _enter(self, definition: Definition, at: Span) -> bool:
        name = definition.let.name
        # The circle was reported at one of its names; each of the others would say the same.
        if id(definition) in self._circular:
            return False
        if definition in self._open:
            self._circular |= {id(d) for d in self._open[self._open.index(definition) :]}
            related = Related(message=f"`{name}` is defined here", span=definition.let.span)
            names = [d.let.name for d in self._open[self._open.index(definition) :]]
            chain = " → ".join(f"`{n}`" for n in [*names, name])
            help = "write out what one of them stands for"
            self.findings.error("PE211", f"`{name}` is defined by itself: {chain}", at, help, related)
            return False
        if len(self._open) >= MAX_LET_DEPTH:
            message = f"`let` names stand for each other more than {MAX_LET_DEPTH} deep"
            self.findings.error("PE213", message, at, "write out what one of them stands for")
            return False
        self._open.append(definition)
        return True

    def _turns_of_let(
        self, definition: Definition, selector: ast.Selector, which: ast.Which | None
    ) -> TurnSet | None:  # fmt: skip
        """The turns of a `let` that stands for a role, where only a role is allowed."""
        self.used_lets.add(id(definition))
        if not self._enter(definition, selector.span):
            return None
        turns: TurnSet | None = None
        match definition.let.targets:
            # Exactly one target, which is one name, without relations: anything else is no role.
            case (ast.Target(primary=ast.Selector(names=(first,)) as inner, relations=()),):
                lets = definition.file.lets
                if not inner.quoted and first in lets:
                    turns = self._turns_of_let(lets[first], inner, inner.which)
                elif inner.quoted or first not in (*KEYWORDS, *PART_NAMES, *GROUPS):
                    self._role(first, inner, definition.file)
                    turns = TurnSet(role=first, which=self._which(inner.which))
        self._open.pop()
        # The circle is the error; that the name is no role follows from it.
        if turns is None and id(definition) in self._circular:
            return None
        if turns is None:
            name = definition.let.name
            related = Related(message=f"`{name}` is defined here", span=definition.let.span)
            message = f"`{name}` does not stand for one role, which is needed here"
            self.findings.error("PE212", message, selector.span, "write a role", related)
            return None
        # `let final = last assistant`, then `first final`: only one can say which.
        if turns.which is not None and which is not None:
            self._two_whiches(which.span)
            return None
        return TurnSet(role=turns.role, which=which or turns.which)

    # Relations

    def _turns(self, selector: ast.Selector, file: File, kind: str) -> TurnSet | None:
        """The turns that a relation names."""
        first, *below = selector.names
        which = self._which(selector.which)
        if below:
            help = f"write `{kind} {first}`; a relation is about turns, not about parts of them"
            self.findings.error("PE207", f"`{kind}` needs a role, not a part", selector.span, help)
            return None
        if not selector.quoted and first in file.lets:
            return self._turns_of_let(file.lets[first], selector, which)
        if not selector.quoted and first in KEYWORDS:
            self.findings.add(keyword_as_name(first, selector.span))
            return None
        if not selector.quoted and (first in PART_NAMES or first in GROUPS):
            help = f'write a role such as `assistant`, or `"{first}"` in quotes for a role of that name'
            self.findings.error("PE207", f"`{kind}` needs a role, and `{first}` is a part", selector.span, help)
            return None
        self._role(first, selector, file)
        return TurnSet(role=first, which=which)

    def _related(self, target: CheckedTarget, relation: ast.Relation, turns: TurnSet) -> CheckedTarget | None:
        if isinstance(target, Spans):
            # A run lies in one turn, so a relation of the found text is one of the text it is searched in.
            inside = tuple(t for i in target.inside if (t := self._related(i, relation, turns)) is not None)
            return replace(target, inside=inside) if inside else None
        # Decision 11 of the language: `eos after assistant` is the end of its own turn, as options of trainers do
        # say it.
        ending = relation.kind == "after" and target.parts <= ENDINGS
        if relation.kind == "of" or ending:
            return self._owned(target, relation, turns)
        if not target.parts & TURN:
            self._unowned(target.span, target.span.text)
            return None
        related = TurnRelation(kind=relation.kind, turns=turns)
        # Text that no message owns has no turn before or after it, so a relation leaves it out.
        return replace(target, parts=target.parts & TURN, relations=(*target.relations, related))

    def _owned(self, atom: Atom, relation: ast.Relation, turns: TurnSet) -> Atom | None:
        """`PART of ROLE`, and `after ROLE` on the ends of turns, which means the same."""
        if atom.turns is None:
            parts = atom.parts & TURN
            if not parts:
                self._unowned(atom.span, atom.span.text)
                return None
            return replace(atom, parts=parts, turns=turns)
        own = atom.turns
        if relation.kind == "of" or own.role is None:
            message = f"`{relation.kind}` follows a part without a role and without `first`, `last` or `trained`"
            which = "last "  # an example; the which that is written may be long
            help = f"write for example `eos {relation.kind} {which if own.which else ''}{turns.role}`"
            self.findings.error("PE205", message, relation.span, help)
            return None
        # Reached by `assistant.eot after user`: said of one turn, it can never be true.
        if own.role != turns.role:
            message = f"the end of a turn of `{own.role}` cannot be the end of a turn of `{turns.role}`"
            help = "there `after` means `of`; write `right after` or `before` for the order of turns"
            self.findings.error("PE208", message, relation.span, help)
            return None
        if own.which is not None and turns.which is not None:
            self._two_whiches(relation.span)
            return None
        return replace(atom, turns=TurnSet(role=own.role, which=own.which or turns.which))

    def _two_whiches(self, span: Span) -> None:
        message = "`first`, `last` or `trained` is on both sides, and only one can say which turns are meant"
        self.findings.error("PE206", message, span, "keep one of the two")
