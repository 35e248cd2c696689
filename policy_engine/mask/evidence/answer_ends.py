"""Answers of which the policy trains the end, and the template writes no end.

user: Two and two?⏎assistant: Four.⏎                  no answer has an end marker: PE524
<|user|>⏎Two and two?<|assistant|>⏎Four.              no end either, until a turn of the user follows
<|user|>⏎Two and two?<|assistant|>⏎Four.<|user|>⏎     `<|user|>` ends the answer
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from policy_engine.core.diagnostics import Diagnostic
from policy_engine.core.vocabulary import BODY, EOS
from policy_engine.core.wording import counted
from policy_engine.lang.checked import Atom, CheckedRule
from policy_engine.mask.evidence.segment_kinds import kinds_of
from policy_engine.mask.row import MaskedRow
from policy_engine.rules.program import Program

_ASKS: Final = frozenset({"system", "developer", "user", "tool", "ipython", "function"})
"""Roles of which no answer is expected: their turns need no end."""
_WRITE: Final = "change the template, so that it writes an end marker behind each answer, such as `{{ eos_token }}`"
_FOLLOW: Final = (
    "if the template writes the end as the opening of the next turn (GLM's `<|user|>`), close each row with an empty "
    'turn of the user, `{"role": "user", "content": ""}`; else '
)


class EndWatch:
    """Looks for an end of the answers whose ends a policy trains, row by row.

    It costs nothing once an answer of each role had its end.
    """

    def __init__(self, program: Program) -> None:
        # Each role is dropped at its first end.
        self._open = set(rules_of_ends(program))
        self._last: dict[str, int] = {}

    @property
    def is_done(self) -> bool:
        """True if there is no role left to look for."""
        return not self._open

    def drop(self, role: str) -> None:
        """Looks no more for ends of a role."""
        self._open.discard(role)

    def look(self, row: MaskedRow, seen: Counter[tuple[str, ...]], *, number: int | None = None) -> None:
        """Adds what a row shows to `seen`, as `rule_use.Evidence` has it.

        `number` is the row's; samples of one row come one after the other and count once. Rows without a number all
        count.
        """
        if not self._open:
            return
        kinds, mask = kinds_of(row.chat), row.mask
        segments = set(mask.segments_T[mask.weights_T != 0].tolist())
        # An answer that was asked to stay open says nothing of the ends that the template writes.
        if row.chat.stays_open:
            last = len(row.chat.messages) - 1
            segments = {at for at in segments if row.chat.segments[at].turn != last}
        trained = {kinds.keys[kinds.keys_S[at]] for at in segments}
        for role in sorted(self._open):
            parts = {part for owner, part in trained if owner == role}
            # A policy that trains the separator has an end to learn.
            if "separator" in parts or any((role, part) in kinds.keys for part in EOS):
                seen["ended", role] += 1
                self.drop(role)
            elif not parts.isdisjoint(BODY):
                if number is None or number != self._last.get(role):
                    seen["open", role] += 1
                if number is not None:
                    self._last[role] = number
                if (role, "separator") in kinds.keys:
                    seen["separated", role] += 1
                if any(message["role"] == role for message in row.chat.messages[:-1]):
                    seen["followed", role] += 1


def rules_of_ends(program: Program) -> dict[str, CheckedRule]:
    """The first rule that trains the end markers of each role that answers.

    Rules that train more than ends, such as `train turn`, ask for no end marker; users and tools do not answer.

    >>> from policy_engine.rules.compile import compile_text
    >>> rules_of_ends(compile_text("train assistant, user; train eos of assistant, user; train turn of critic"))
    {'assistant': <CheckedRule <string>:1:24 `train eos of assistant, user`>}
    """
    found: dict[str, CheckedRule] = {}
    for rule in program.policy.rules:
        for target in rule.targets if rule.effect == "train" else ():
            if isinstance(target, Atom) and target.parts <= EOS:
                role = None if target.turns is None else target.turns.role
                if role not in _ASKS:
                    found.setdefault(role or "assistant", rule)
    return found


def open_answers(program: Program, seen: Counter[tuple[str, ...]]) -> Iterator[tuple[str, Diagnostic]]:
    """A finding for each role of whose answers no row has an end, by role."""
    for role, rule in rules_of_ends(program).items():
        if not seen["open", role] or seen["ended", role]:
            continue
        # An answer that another turn follows has no end in any place.
        help = _WRITE if seen["followed", role] else f"{_FOLLOW}{_WRITE}"
        if seen["separated", role]:
            help = f"add `train separator of {role}`, and stop at that text at inference; or {help}"
        yield (
            role,
            Diagnostic(
                code="PE524",
                severity="warning",
                message=f"no answer of `{role}` has an end marker in {counted(seen['open', role], 'row')}: the "
                "template writes no end there, and the model does not learn to stop",
                help=help,
                span=rule.span,
            ),
        )
