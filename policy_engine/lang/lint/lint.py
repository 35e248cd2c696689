"""Lint: policies that are valid and probably not meant, found in their own text.

`train assistant` is valid, and trains answers without their ends; lint warns (PE604). It needs neither proof nor data.
"""

from __future__ import annotations

import functools
import importlib
import re
import sys
import warnings
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

from policy_engine.core.diagnostics import Diagnostic, Related
from policy_engine.core.suggest import nearest
from policy_engine.core.vocabulary import BODY, EOS, KNOWN_ROLES, MEDIA, OTHER_WORDS, PARTS, UNTRAINABLE
from policy_engine.lang.ast import Compare, Expr, leaves
from policy_engine.lang.checked import CheckedGuard, CheckedPolicy, CheckedRule, CheckedTarget, Spans, atoms_of
from policy_engine.lang.findings import Findings
from policy_engine.lang.lint.one_before import one_before
from policy_engine.lang.lint.selection import is_narrow, role_of, whole_atoms
from policy_engine.lang.lint.suppress import unknown_codes, unsuppressed
from policy_engine.lang.lint.weighed import weighed_text

# Imported by the first pattern: few policies have one.
if TYPE_CHECKING:
    import re2

_EVERYTHING: Final = frozenset(PARTS) - UNTRAINABLE


def lint(policy: CheckedPolicy) -> tuple[Diagnostic, ...]:
    """Warnings about a valid policy, from top to bottom, without those that a comment ignores.

    Rules that decide nothing are found by the proof, which knows which positions exist.

    >>> from policy_engine.lang.check import check_text
    >>> [(warning.code, warning.message) for warning in lint(check_text("train assistant"))]
    [('PE604', 'the text of `assistant` is trained, and where it ends is not')]
    """
    findings = Findings()
    trains = [rule for rule in policy.rules if rule.effect == "train"]
    _ends_of_masked_turns(policy.rules, findings)
    _unguarded(policy, trains, findings)
    # `train asistant` has no end rule under the right name because the name is wrong: one finding is enough.
    misspelled = {r for r in policy.undeclared if nearest(r, (*KNOWN_ROLES, "everything")) or r in OTHER_WORDS}
    # The role of `eos of assistant, tool` was not meant to have its text trained.
    misread = {warning.span for warning in policy.warnings if warning.code == "PE255"}
    misplaced = {role_of(atom) for rule in trains for atom in whole_atoms(rule.targets) if atom.span in misread}
    _ends(policy.rules, findings, reported=misspelled | misplaced)
    weighed_text(policy.rules, findings)
    for rule in policy.rules:
        _weight(rule, findings)
    for rule in trains:
        _media(rule, findings)
    rulings: tuple[CheckedRule | CheckedGuard, ...] = (*policy.rules, *policy.guards)
    for ruling in rulings:
        _patterns(ruling.targets, findings)
        _conditions(ruling.condition, findings)
        one_before(ruling, findings)
    # A source is asked once, however many rules it has; the policy itself even if it has no rule.
    for source in dict.fromkeys((policy.source, *(ruling.span.source for ruling in rulings))):
        unknown_codes(source, findings)
    # Each finding is looked up in its own source: a comment in a used policy silences what is found there.
    return unsuppressed(findings.all_sorted())


def warnings_of(policy: CheckedPolicy) -> tuple[Diagnostic, ...]:
    """The warnings about a valid policy: those of its check, and those of lint."""
    return (*policy.warnings, *lint(policy))


def _ends_of_masked_turns(rules: Sequence[CheckedRule], findings: Findings) -> None:
    """The end of a masked turn is trained: `train a; mask last a; train eos after a`."""
    for at, rule in enumerate(rules):
        if rule.effect != "train":
            continue
        for atom in whole_atoms(rule.targets):
            # A rule that trains bodies too unmasks whole turns on purpose; only bare ends are a slip.
            if atom.parts & BODY or not atom.parts & EOS or is_narrow(rule, atom):
                continue
            masked = _masked_before(rules[:at], role_of(atom))
            if masked is not None:
                role = role_of(atom)
                help = f"write `eos {f'of trained {role}' if role else 'where …'}`, or put this rule above the mask"
                related = Related(message="this rule masks them", span=masked.span)
                message = "this trains the ends of turns that a rule above masks"
                findings.warn("PE602", message, rule.span, help, related)


def _masked_before(rules: Sequence[CheckedRule], role: str | None) -> CheckedRule | None:
    """The last rule that masks some whole turns of a role which nothing trains again after it."""
    # From the last on: the first rule found that covers whole turns is the one whose decision is left.
    for rule in reversed(rules):
        for atom in whole_atoms(rule.targets):
            # Turns of another role, or parts of turns, leave the question open.
            if not atom.parts >= BODY or (role and role_of(atom) not in (None, role)):
                continue
            if rule.effect == "mask" and atom.parts & EOS and is_narrow(rule, atom):
                return rule
            if rule.effect == "train" and not is_narrow(rule, atom):
                return None
    return None


def _unguarded(policy: CheckedPolicy, trains: Sequence[CheckedRule], findings: Findings) -> None:
    if any(guard.kind == "never" for guard in policy.guards):
        return
    for rule in trains:
        # With a condition the author chose what is trained, so a missing guard is no oversight.
        atoms = whole_atoms(rule.targets)
        if rule.condition is None and any(a.turns is None and a.parts >= _EVERYTHING for a in atoms):
            help = "write `never train …` for what must stay masked, or ignore this by a comment if nothing must"
            findings.warn("PE603", "this trains all text, and no guard says what must stay masked", rule.span, help)


def _ends(rules: Sequence[CheckedRule], findings: Findings, *, reported: Collection[str | None]) -> None:
    """Roles whose text is trained in the end and whose ends are not, or the other way round.

    A role that the check reported is left out: if it is misspelled, its rules are missing under the right name.
    """
    trains = [rule for rule in rules if rule.effect == "train"]
    text = _left_by_role(rules, frozenset({"text"}))
    ends = _left_by_role(rules, EOS)
    for role, rule in text.items():
        # `None` is a rule without a role (`train eos`): it trains the ends of every role.
        if role not in reported and role not in ends and None not in ends and not (role is None and ends):
            whose = f"`{role}`" if role else "the turns"
            help = f"add `train eos {_whose_ends(rule, role)}`: a model has to learn where to stop"
            message = f"the text of {whose} is trained, and where it ends is not"
            # Whoever picks one turn of a conversation picks what is trained of it; all turns without ends are a slip.
            report = findings.note if _is_picked(rule, role) else findings.warn
            report("PE604", message, rule.span, help)
    bodies = {
        role_of(atom) for rule in trains for t in rule.targets for atom in atoms_of(t) if atom.parts & BODY
    }  # fmt: skip
    for role, rule in ends.items():
        if role not in reported and role not in bodies and None not in bodies and not (role is None and bodies):
            whose = f"turns of `{role}`" if role else "turns"
            help = f"add `train {role or 'assistant'}` above, or write the role whose text is trained"
            findings.warn("PE605", f"the ends of {whose} are trained, and nothing of what they end is", rule.span, help)


def _whose_ends(rule: CheckedRule, role: str | None) -> str:
    """The turns whose ends a rule leaves out: all of a role, or those that are trained."""
    narrow = any(is_narrow(rule, atom) for atom in whole_atoms(rule.targets) if role_of(atom) == role)
    return f"of {'trained ' if narrow else ''}{role or 'assistant'}"


def _is_picked(rule: CheckedRule, role: str | None) -> bool:
    """True if a rule picks turns of a role by their number, as `last assistant` does."""
    return all(atom.turns and atom.turns.which for atom in whole_atoms(rule.targets) if role_of(atom) == role)


def _left_by_role(rules: Sequence[CheckedRule], parts: frozenset[str]) -> dict[str | None, CheckedRule]:
    """The first rule for each role that trains some of the parts.

    Only rules that no later rule masks altogether.
    """
    found: dict[str | None, CheckedRule] = {}
    for rule in rules:
        for atom in whole_atoms(rule.targets):
            role = role_of(atom)
            if rule.effect == "train" and atom.parts & parts:
                found.setdefault(role, rule)
            # A mask of all turns undoes every role, a mask of one role that one; a narrow mask leaves some text
            # trained.
            elif rule.effect == "mask" and atom.parts >= parts and not is_narrow(rule, atom):
                found = {} if role is None else {other: kept for other, kept in found.items() if other != role}
    return found


def _media(rule: CheckedRule, findings: Findings) -> None:
    """Placeholders of media are named: models that read pictures write no token of one."""
    # Only where nothing but media is named: `train everything` has a finding of its own.
    if any(atom.parts and atom.parts <= MEDIA for atom in whole_atoms(rule.targets)):
        help = "leave them out, or ignore this by a comment if the model writes media as tokens"
        findings.warn("PE609", "this trains the placeholders of images, sounds or videos", rule.span, help)


def _weight(rule: CheckedRule, findings: Findings) -> None:
    if rule.effect != "mask" and rule.weight == 0:
        help = "write `mask`" if rule.effect == "train" else "write `mask`, which says so, instead of `scale … by 0`"
        findings.warn("PE607", "a weight of 0 masks", rule.span, help)


def _patterns(targets: Sequence[CheckedTarget], findings: Findings) -> None:
    for target in targets:
        if isinstance(target, Spans):
            if target.pattern is not None and _selects_nothing(target.pattern):
                help = "an empty match selects no text; write what the text has to be"
                findings.warn(
                    "PE606", "this regex matches only the empty text, so it selects nothing", target.span, help
                )
            # The probes are lines, since `.` matches no newline: `/.*/ in assistant` is the usual case.
            elif target.pattern is not None and _selects_all(target.pattern, target.flags):
                help = "write the target without the regex"
                findings.warn("PE606", "this regex matches every line whole", target.span, help)
            _patterns(target.inside, findings)


def _conditions(expr: Expr | None, findings: Findings) -> None:
    for test in () if expr is None else leaves(expr):
        if isinstance(test, Compare) and test.op == "matches" and _finds_always(str(test.value), test.flags):
            help = "write `has FIELD` to ask whether it is there; `^` and `$` hold a regex to the whole text"
            findings.warn("PE606", "this regex is found in any text", test.span, help)


_PROBES: Final = (
    "a", "Z", "_", "0", "42", " ", "\t", "a b", "Hello, world!", "(x)[y]{z}<w>", "\\/|\"'`~@#$%^&*-+=?;:.",
    "é", "日本語", "🙂", "\u0301", "\u00a0",
)  # fmt: skip
"""Lines that have little in common: what matches all of them whole matches any."""


@functools.lru_cache(maxsize=256)
def _compiled(pattern: str, flags: str) -> re2._Regexp:
    import re2

    return re2.compile(f"(?{flags}){pattern}" if flags else pattern)


def _selects_all(pattern: str, flags: str) -> bool:
    compiled = _compiled(pattern, flags)
    return all(len(line) == sum(m.end() - m.start() for m in compiled.finditer(line)) for line in _PROBES)


def _selects_nothing(pattern: str) -> bool:
    """True if every match is empty.

    RE2 cannot be asked for this; Python's parser can, for patterns that both can read.

    >>> _selects_nothing("(?:)"), _selects_nothing("a*")
    (True, False)
    """
    # The parser has no public name, and moved in 3.11.
    parser = importlib.import_module("re._parser" if sys.version_info >= (3, 11) else "sre_parse")
    try:
        with warnings.catch_warnings():
            # Python warns of `[[`, which RE2 takes.
            warnings.simplefilter("ignore")
            return bool(parser.parse(pattern).getwidth()[1] == 0)
    except (re.error, OverflowError, RecursionError):
        return False  # RE2's own syntax, such as `\pL`


def _finds_always(pattern: str, flags: str) -> bool:
    compiled = _compiled(pattern, flags)
    # The empty text too: `.` is found in every probe, and still asks for a character.
    return compiled.search("") is not None and all(compiled.search(line) is not None for line in _PROBES)
