"""Syntax tree to checked policy: names resolved, `use` and `let` expanded.

Every error of all files is reported at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from policy_engine.core.diagnostics import Diagnostic
from policy_engine.core.errors import PolicyCheckError, PolicySyntaxError
from policy_engine.core.schema import Schema
from policy_engine.core.source import Span
from policy_engine.core.vocabulary import ENDINGS, GROUPS, KEYWORDS, PART_NAMES
from policy_engine.lang import ast
from policy_engine.lang.checked import CheckedGuard, CheckedPolicy, CheckedRule
from policy_engine.lang.findings import Findings
from policy_engine.lang.lint.suppress import unsuppressed
from policy_engine.lang.parse import parse_lenient
from policy_engine.lang.resolve import Resolver, Verb
from policy_engine.lang.splice import File, Located, splice

_DOES: Final = {"train": "its text is trained", "mask": "its turns are masked"}
"""The effect of a rule on a role that is written alone, by verb."""


def check(policy: ast.Policy, *, schema: Schema | None = None) -> CheckedPolicy:
    """The meaning of a policy.

    Quoted paths of `use` start from the file that `policy.source` names. Raises `PolicyCheckError` with every error of
    the policy and of those it uses; `CheckedPolicy.warnings` has the findings that do not stop it.

    >>> from policy_engine.lang.parse import parse
    >>> check(parse("train assistant")).description
    '<string>: 1 rule, 0 guards'
    """
    findings = Findings()
    checked = _check(policy, findings, schema, complete=True)
    if findings.errors:
        raise PolicyCheckError(findings.all_sorted())
    return checked


def check_text(text: str, *, name: str = "<string>", schema: Schema | None = None) -> CheckedPolicy:
    """Parse and check at once, so that a text with errors of both kinds gets all of them.

    Raises `PolicySyntaxError` if any statement does not parse, else `PolicyCheckError`, each with every error found.

    >>> len(check_text("train assistant; mask user").rules)
    2
    """
    return check_parsed(*parse_lenient(text, name=name), schema=schema)


def check_parsed(
    policy: ast.Policy, syntax_errors: Sequence[Diagnostic], *, schema: Schema | None = None
) -> CheckedPolicy:
    """`check_text` of a text that was parsed before, with the errors found then."""
    findings = Findings()
    # In one list with what the check finds, so that a reader gets all errors in the order of the text.
    for error in syntax_errors:
        findings.add(error)
    checked = _check(policy, findings, schema, complete=not syntax_errors)
    if findings.errors:
        kind = PolicySyntaxError if syntax_errors else PolicyCheckError
        raise kind(findings.all_sorted())
    return checked


def _check(policy: ast.Policy, findings: Findings, schema: Schema | None, *, complete: bool) -> CheckedPolicy:
    file = splice(policy, findings, complete=complete)
    resolver = Resolver(findings, schema)
    rules: list[CheckedRule] = []
    guards: list[CheckedGuard] = []
    for located in file.rulings:
        if isinstance(located.ruling, ast.Guard):
            guards.append(_guard(located, located.ruling, len(guards), resolver))
        else:
            rules.append(_rule(located, located.ruling, len(rules), resolver))
    # Copied before the loop below, which resolves every `let` and marks the names in it as used.
    used = set(resolver.used_lets)
    # A `let` that nothing uses is checked too: the next one to use it should not find it broken.
    for definition in file.lets.values():
        resolver.targets(definition.let.targets, "mask", definition.file)
    # A statement that did not parse may have been the one that uses the name, or that trains.
    if file.complete:
        _warn(policy, file, findings, used)
    return CheckedPolicy(
        rules=tuple(rules),
        guards=tuple(guards),
        settings={name: on.value for name, on in file.settings.items()},
        # Read at the end: resolving the unused `let`s above added their roles too.
        roles=frozenset(resolver.roles),
        source=policy.source,
        warnings=unsuppressed(findings.warnings),
        undeclared=frozenset(resolver.roles) - resolver.declared,
    )


def _rule(located: Located, rule: ast.Rule | ast.Scale, index: int, resolver: Resolver) -> CheckedRule:
    effect: Verb = "scale" if isinstance(rule, ast.Scale) else rule.effect
    targets = resolver.targets(rule.targets, effect, located.file)
    resolver.untrainable(targets, effect)
    written = rule.factor if isinstance(rule, ast.Scale) else rule.weight
    # The parser reported it already where there is a text; a tree that a program built was not parsed.
    if effect == "mask" and written is not None:
        resolver.findings.error("PE112", "`mask` takes no weight", rule.span, "remove it")
    weight = written if written is not None else 1
    resolver.fields.amount(weight, rule.span)
    _warn_binding(rule, resolver.findings)
    # A name may be of a `let` that did not parse.
    if located.file.complete:
        _warn_bare_roles(rule, located.file, resolver.findings)
    return CheckedRule(
        index=index,
        effect=effect,  # type: ignore[arg-type]  # a rule's effect is none of the guards'
        targets=targets,
        condition=_condition(rule.conditions, resolver),
        # A mask is a rule of weight 0, so that what decides needs no second case.
        weight=0 if effect == "mask" else weight,
        span=rule.span,
    )


def _guard(located: Located, guard: ast.Guard, index: int, resolver: Resolver) -> CheckedGuard:
    targets = resolver.targets(guard.targets, guard.kind, located.file)
    resolver.untrainable(targets, guard.kind)
    _warn_binding(guard, resolver.findings)
    condition = _condition(guard.conditions, resolver)
    return CheckedGuard(index=index, kind=guard.kind, targets=targets, condition=condition, span=guard.span)


def _condition(clauses: tuple[ast.Condition, ...], resolver: Resolver) -> ast.Expr | None:
    exprs: list[ast.Expr] = []
    for clause in clauses:
        resolver.fields.condition(clause.expr)
        # From here on there is no `unless`: the program and the proof know `not` alone.
        exprs.append(ast.Not(operand=clause.expr, span=clause.span) if clause.negated else clause.expr)
    if len(exprs) <= 1:
        return exprs[0] if exprs else None
    return ast.And(operands=tuple(exprs), span=clauses[0].span)


def _warn_binding(ruling: ast.Rule | ast.Scale | ast.Guard, findings: Findings) -> None:
    """Warns of `a, b after R`: only the last target has the relation, which a reader may miss."""
    *before, last = ruling.targets
    if not before or not last.relations or any(t.relations for t in before):
        return
    relation = last.relations[0]
    of = relation.kind == "of" or (relation.kind == "after" and _is_ending(last.primary))
    # `train assistant, eos of assistant`: what cannot be `of` a role was not meant to be.
    if of and not all(_is_ending(t.primary) for t in before):
        return
    first, end, own = before[0].span.text, last.primary.span.text, relation.span.text
    message = f"`{own}` narrows `{end}` only, not the targets before it"
    help = f"write `({first}, …) {own}` for all of them, or `({last.span.text})` to say that it is meant"
    findings.warn("PE252", message, relation.span, help)


def _warn_bare_roles(rule: ast.Rule | ast.Scale, file: File, findings: Findings) -> None:
    """Warns of `eos of a, b`: the comma ends the `of`, and `b` is a target of its own."""
    does = "its text is scaled" if isinstance(rule, ast.Scale) else _DOES[rule.effect]
    owned: tuple[ast.Primary, ast.Relation] | None = None
    for target in rule.targets:
        role = _role_alone(target, file)
        if role is None:
            owned = _owned_parts(target, file)
        # `eos of assistant, assistant` lists ends and text of one role: nobody reads the `of` on to the second.
        elif owned is not None and role.names != owned[1].selector.names:
            part, relation = owned[0].span.text, owned[1]
            both = f"`{part} {relation.span.text}, {part} {relation.kind} {target.span.text}`"
            whose = "the ends of both" if _is_ending(owned[0]) else "both"
            help = f"write {both} for {whose}, or put `{target.span.text}` first"
            findings.warn("PE255", f"`{target.span.text}` is a target of its own: {does}", target.span, help)


def _owned_parts(target: ast.Target, file: File) -> tuple[ast.Primary, ast.Relation] | None:
    """The parts and the relation of `PART of ROLE` or `(PART, PART) after ROLE`; else None."""
    if not target.relations or target.relations[-1].kind not in ("of", "after"):
        return None
    primary = target.primary
    inner = primary.targets if isinstance(primary, ast.Group) else (ast.Target(primary=primary, span=target.span),)
    parts = all(isinstance(t.primary, ast.Selector) and _is_part(t.primary, file) for t in inner)
    return (primary, target.relations[-1]) if parts else None


def _role_alone(target: ast.Target, file: File) -> ast.Selector | None:
    """The role of a target that is nothing but a role, maybe with `first`, `last` or `trained`."""
    role = target.primary
    if target.relations or not isinstance(role, ast.Selector) or len(role.names) > 1:
        return None
    known = not role.quoted and (role.names[0] in file.lets or role.names[0] in KEYWORDS)
    return None if known or _is_part(role, file) else role


def _is_part(selector: ast.Selector, file: File) -> bool:
    first = selector.names[0]
    return not selector.quoted and first not in file.lets and first in (*PART_NAMES, *GROUPS)


def _is_ending(primary: ast.Primary) -> bool:
    # A quoted `"eot"` is a role of that name.
    names = primary.names if isinstance(primary, ast.Selector) and not primary.quoted else ()
    return names in {(part,) for part in (*ENDINGS, "eos")}


def _warn(policy: ast.Policy, file: File, findings: Findings, used: set[int]) -> None:
    own = [d for d in file.lets.values() if d.file is file]
    if not file.rulings and own:
        return  # a file of names for others to use
    for definition in own:
        if id(definition) not in used:
            let = definition.let
            findings.warn("PE253", f"`{let.name}` is never used", let.span, "use it, or remove it")
    trains = any(isinstance(r.ruling, ast.Rule) and r.ruling.effect == "train" for r in file.rulings)
    if not trains:
        at = policy.statements[0].span if policy.statements else Span(source=policy.source, start=0, end=0)
        findings.warn("PE254", "this policy trains nothing", at, "add a rule such as `train assistant`")
