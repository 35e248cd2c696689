"""Findings of a run: rules that decide nothing, answers without an end, doubtful fields.

warning[PE519]: `mask assistant.reasoning` decides no token of 1,000 rows: thinking is text of the content there
warning[PE520]: no message has `traning`, which the policy asks for
  help: did you mean `message.training`?
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Final

from policy_engine.core.diagnostics import Diagnostic, Severity
from policy_engine.core.source import Span
from policy_engine.core.suggest import nearest
from policy_engine.core.vocabulary import NEIGHBOURS
from policy_engine.core.wording import counted
from policy_engine.lang.ast import Compare, Expr, Has, Not, Or, Truth, leaves
from policy_engine.lang.checked import CheckedRule, Spans, atoms_of
from policy_engine.lang.lint.suppress import unsuppressed
from policy_engine.mask.evidence.answer_ends import open_answers
from policy_engine.mask.evidence.by_text import between, by_text
from policy_engine.mask.evidence.rule_use import (
    THINKING,
    Asked,
    Evidence,
    asked_fields,
    is_of_thinking,
    types_of,
)
from policy_engine.mask.evidence.written_calls import written_calls
from policy_engine.rules.program import Program

ENOUGH: Final = 20
"""Rows from which on it is worth a warning that something never occurred in them; before, it is a remark."""
NEVER_HELD: Final = "its condition never held"
NOT_THERE: Final = "what it selects does not occur"
_OWNERS: Final = {
    "message": "message", "sample": "row", "part": "content part", "call": "tool call",
    "previous": "message before another", "next": "message behind another",
    "result": "tool message that answers a call", "answer": "message whose call a tool message answers",
}  # fmt: skip


def rule_findings(program: Program, seen: Evidence, *, rows: int) -> tuple[Diagnostic, ...]:
    """Findings about a run of `rows` masked rows, in the order of the policy.

    A comment `# lint: ignore PE519` (or `PE520`, `PE524`, `PE525`) at a statement says that it is meant.
    """
    if not rows:
        return ()
    ends = [finding for _, finding in open_answers(program, seen)]
    found = [*_of_fields(program, seen, rows), *_of_rules(program, seen, rows), *ends]
    found += [finding for _, finding in written_calls(program, seen)]
    # In the order of the policy, also over files that it uses.
    return unsuppressed(sorted(found, key=lambda d: (d.span.source.name, d.span.start) if d.span else ("", 0)))


def why_unused(program: Program, seen: Evidence, index: int) -> str | None:
    """Why a rule decided no token, in a few words; None if it did decide some.

    >>> from policy_engine.rules.compile import compile_text
    >>> program = compile_text("train assistant; mask tool")
    >>> seen = Evidence({("decided", "0"): 4, ("selected", "1"): 4})
    >>> why_unused(program, seen, 0), why_unused(program, seen, 1)
    (None, 'its condition never held')
    """
    # A factor never decides a token, so it has done its work where its condition held.
    if seen["decided", str(index)] or (program.policy.rules[index].effect == "scale" and seen["held", str(index)]):
        return None
    if seen["held", str(index)]:
        asked = "; `trained` in a later rule asks for it" if _is_asked_for(program, index) else ""
        # A span may end inside a token, which is then nobody's.
        has_spans = any(isinstance(target, Spans) for target in program.policy.rules[index].targets)
        return f"later rules{' or `on straddle`' if has_spans else ''} decide all that it selects{asked}"
    if seen["selected", str(index)]:
        return NEVER_HELD
    return NOT_THERE


def _is_asked_for(program: Program, index: int) -> bool:
    """True if a later rule asks for trained turns, which the rule may have made so."""
    rules = program.policy.rules
    if rules[index].effect != "train":
        return False
    roles = {atom.turns.role if atom.turns else None for target in rules[index].targets for atom in atoms_of(target)}
    later = [atom for rule in rules[index + 1 :] for target in rule.targets for atom in atoms_of(target)]
    named = [turns for atom in later for turns in (atom.turns, *(relation.turns for relation in atom.relations))]
    asked = {turns.role for turns in named if turns is not None and turns.which is not None and turns.which.trained}
    return bool(asked) and (None in asked | roles or not asked.isdisjoint(roles))


def unused_rules(program: Program, seen: Evidence) -> dict[int, str]:
    """Why each rule that decided no token did not, by its index."""
    found = ((rule.index, why_unused(program, seen, rule.index)) for rule in program.policy.rules)
    return {index: why for index, why in found if why is not None}


def _of_rules(program: Program, seen: Evidence, rows: int) -> Iterator[Diagnostic]:
    thinking = {fact[1]: count for fact, count in seen.items() if fact[0] == "thinking"}
    # A condition that reads a missing field never holds for that reason, which PE520 reports.
    missing = {asked.name for key, asked in asked_fields(program).items() if not seen["there", key]}
    for rule in program.policy.rules:
        why = why_unused(program, seen, rule.index)
        if why is None:
            continue
        severity: Severity = "warning" if rows >= ENOUGH else "info"
        if thinking and is_of_thinking(rule):
            severity = "warning"
            # The marker of most rows, if a dataset mixes several.
            marker = max(thinking, key=lambda name: thinking[name])
            why = (
                f"`{marker}` is text of the content in {counted(thinking[marker], 'row')}, "
                "and this template takes no thinking out of it"
            )
            help = f"select it by what it looks like: `{_by_text(rule, marker)}`"
        elif why == NEVER_HELD and rule.condition is not None and missing.isdisjoint(_names(rule.condition)):
            help = "`policy-engine explain` shows what the condition sees"
        elif why == NOT_THERE and all(isinstance(t, Spans) and t.pattern is not None for t in rule.targets):
            why = "its regex matches nothing there"
            help = "`policy-engine show` prints the text as the regex sees it"
        else:
            continue
        message = f"`{rule.span.one_line}` decides no token of {counted(rows, 'row')}: {why}"
        yield Diagnostic(code="PE519", severity=severity, message=message, help=help, span=rule.span)


def _by_text(rule: CheckedRule, marker: str) -> str:
    # `<think>` closes with `</think>`, Mistral's `[THINK]` with `[/THINK]`.
    end = marker.replace("<", "</", 1) if marker.startswith("<") else marker.replace("[", "[/", 1)
    return by_text(rule, THINKING, f"/{between(rule, marker, end)}\\s*/s")


def _of_fields(program: Program, seen: Evidence, rows: int) -> Iterator[Diagnostic]:
    reported: set[str] = set()
    for key, asked in asked_fields(program).items():
        if seen["there", key]:
            continue
        name, span = asked.name, _span_of(program, asked)
        types = sorted(fact[2] for fact in seen if fact[:2] == ("type", key))
        # The field is there, so "missing" would send the reader the wrong way.
        if types:
            values = [fact[2] for fact in seen if fact[:2] == ("value", key)]
            yield _mistyped(program, asked, types, values, span)
            continue
        # Tests of one field that ask for several types are reported once.
        if name in reported:
            continue
        reported.add(name)
        if seen["whole", key]:
            yield Diagnostic(
                code="PE520",
                severity="warning",
                message=f"content parts have `{asked.field.path[0]}`, and the template prints their list as one text: "
                f"`{name}` is missing on every character",
                help="use a template that prints parts one by one, or put the field on the message",
                span=span,
            )
        else:
            meant = _meant(asked, seen, but=_asked_beside(program, asked))
            # `message.train or message.training` asks for either name: its author knows that one may not be there.
            if meant is None and _has_alternative(program, asked, seen):
                continue
            yield Diagnostic(
                code="PE520",
                severity="warning" if meant or rows >= ENOUGH else "info",
                message=f"no {_OWNERS[asked.field.scope]} of {counted(rows, 'row')} has "
                f"`{name.partition('.')[2]}`, which the policy asks for",
                help=f"did you mean `{meant}`?" if meant else _MISSING,
                span=span,
            )


_MISSING: Final = "a test of a field that is not there is false, and a weight that is not there is 1"


def _mistyped(program: Program, asked: Asked, types: list[str], values: list[str], span: Span | None) -> Diagnostic:
    wanted = " or ".join(f"a {kind}" for kind in sorted(asked.types))
    shown = ", ".join(f"`{value}`" for value in values)
    asking = next((leaf for leaf in _leaves(program) if _asks(leaf, asked)), None)
    is_unequal = isinstance(asking, Compare) and asking.op == "!="
    return Diagnostic(
        code="PE520",
        severity="warning",
        message=f"`{asked.name}` is compared with {wanted}, and the data has only "
        f"{' and '.join(f'{kind}s' if kind != 'null' else kind for kind in types)} there ({shown}): "
        f"the comparison is type-strict and {'always' if is_unequal else 'never'} true",
        help=_in_the_type(program, asked, values),
        span=span,
    )


def _in_the_type(program: Program, asked: Asked, values: list[str]) -> str:
    """The text to write in place of the first test of a field."""
    for leaf in _leaves(program):
        if not _asks(leaf, asked):
            continue
        if isinstance(leaf, Truth):
            # Suggest the value that means yes, such as `1` or `"true"`.
            truths = [value for value in values if value.strip('"').lower() not in ("0", "0.0", "false", "", "no")]
            return (
                f"write `{asked.name} == {(truths or values)[0]}`: a field alone is true only where it is JSON `true`"
            )
        if isinstance(leaf, Compare) and leaf.op in ("==", "in") and all(value.startswith("[") for value in values):
            wanted = leaf.value[0] if isinstance(leaf.value, tuple) else leaf.value
            return f"write `{asked.name} contains {json.dumps(wanted, ensure_ascii=False)}`: the data has lists there"
        if isinstance(leaf, Compare) and leaf.op in ("<", "<=", ">", ">=") and asked.types == {"number"}:
            return "write numbers in the data: texts are compared letter by letter, `10` before `9`"
        if isinstance(leaf, Compare) and not isinstance(leaf.value, tuple):
            for value in values:
                # `== "0"` on numbers means `== 0`: the data's own spelling is the fix.
                if _plain(value) == _plain(json.dumps(leaf.value)):
                    return f"write `{asked.name} {leaf.op} {value}`"
    return f"compare with a value such as `{values[0]}`"


def _plain(value: str) -> str:
    """A JSON scalar without its type: `"0"`, `0` and `false` are one.

    >>> _plain("\\"0\\""), _plain("false"), _plain("0.0"), _plain("\\"web\\"")
    ('0', '0', '0', 'web')
    """
    plain = value.strip('"').strip().lower()
    return {"false": "0", "true": "1", "0.0": "0", "1.0": "1"}.get(plain, plain)


def _asked_beside(program: Program, asked: Asked) -> set[str]:
    """The fields that conditions with a field ask for."""
    conditions = [_names(condition) for condition in _conditions(program)]
    return {name for names in conditions if asked.name in names for name in names}


def _has_alternative(program: Program, asked: Asked, seen: Evidence) -> bool:
    """Tells that some test of a field is joined by `or` with one of a field that the data has."""
    missing = {other.name for key, other in asked_fields(program).items() if not seen["there", key]}
    tests = [found for condition in _conditions(program) for found in _alternatives(condition, asked.name, set())]
    return any(names - missing - {asked.name} for names in tests)


def _alternatives(condition: Expr, name: str, beside: set[str]) -> Iterator[set[str]]:
    """For each test of a field, the fields of the tests that `or` joins with it."""
    if isinstance(condition, Compare | Has | Truth):
        if str(condition.field) == name:
            yield beside
    elif isinstance(condition, Not):
        yield from _alternatives(condition.operand, name, beside)
    else:
        for operand in condition.operands:
            others = (other for other in condition.operands if other is not operand and isinstance(condition, Or))
            yield from _alternatives(operand, name, beside.union(*map(_names, others)))


def _meant(asked: Asked, seen: Evidence, *, but: Container[str]) -> str | None:
    """The field that is likely meant by one that no row has, none of the names `but`."""
    own, name = asked.field.scope, asked.field.path[0]
    scope = "message" if own in NEIGHBOURS else own
    keys: dict[str, list[str]] = {}
    for fact in seen:
        if fact[0] == "key":
            keys.setdefault(fact[1], []).append(fact[2])
    # The right name in the wrong scope (`message.source` for `sample.source`) is likelier than a typo.
    elsewhere = next((other for other in keys if other != scope and name in keys[other]), None)
    if elsewhere is not None:
        return f"{elsewhere}.{asked.name.partition('.')[2]}"
    # The first name is there, so it is a deeper step that is missing.
    if name in keys.get(scope, ()):
        return _meant_below(asked, keys)
    rest = asked.name.partition(".")[2][len(str(name)) :]
    found = nearest(str(name), [key for key in keys.get(scope, ()) if f"{own}.{key}{rest}" not in but])
    return None if found is None else f"{own}.{found}{rest}"


def _meant_below(asked: Asked, keys: Mapping[str, Sequence[str]]) -> str | None:
    """The field that is likely meant where a step below its first name is missing."""
    path = list(map(str, asked.field.path))
    for depth in range(1, len(path)):
        found = nearest(path[depth], keys.get(".".join([asked.field.scope, *path[:depth]]), ()), cutoff=0.6)
        if found is not None:
            return ".".join([asked.field.scope, *path[:depth], found, *path[depth + 1 :]])
    return None


def _span_of(program: Program, asked: Asked) -> Span | None:
    """The first place where a policy asks for a field."""
    for leaf in _leaves(program):
        if _asks(leaf, asked):
            return leaf.span
    for rule in program.policy.rules:
        if asked.name in rule.span.text:  # as its weight, or its spans
            return rule.span
    return None


def _asks(leaf: Compare | Has | Truth, asked: Asked) -> bool:
    return str(leaf.field) == asked.name and types_of(leaf) == asked.types


def _names(condition: Expr) -> set[str]:
    return {str(leaf.field) for leaf in leaves(condition)}


def _leaves(program: Program) -> Iterator[Compare | Has | Truth]:
    for condition in _conditions(program):
        yield from leaves(condition)


def _conditions(program: Program) -> Iterator[Expr]:
    policy = program.policy
    for condition in (*(r.condition for r in policy.rules), *(g.condition for g in policy.guards)):
        if condition is not None:
            yield condition
