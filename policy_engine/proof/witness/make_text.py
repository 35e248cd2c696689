"""The text of one segment of a plan, and the usual text of every part.

A `text` of the assistant says `4.`, unless the plan's conditions ask for other words: under
`where segment.text matches /yes/` it says `yes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from policy_engine.lang.checked import Atom, atoms_of
from policy_engine.proof.model.field_values import Name
from policy_engine.proof.model.world import World
from policy_engine.proof.witness.find_values import Seed, Wanted, find_string, string_wanted
from policy_engine.proof.witness.plans import SegmentPlan
from policy_engine.rules.conditions.patterns import ScanBudget, compile_pattern

SEGMENT: Final[Name] = ("segment", ())
WRITTEN: Final = {
    "bos": "<s>", "preamble": "You are helpful.\n", "preamble.tools": "{}", "preamble.documents": "{}",
    "header": "<|im_start|>", "reasoning.open": "<think>\n", "reasoning.text": "Let me see.",
    "reasoning.close": "\n</think>\n\n", "empty_reasoning": "<think>\n\n</think>\n\n", "tool_call": "<tool_call>",
    "tool_call.name": "lookup", "tool_call.arguments": "{}", "media": "<|file|>",
    "media.image": "<|image|>", "media.audio": "<|audio|>", "media.video": "<|video|>", "markup": "<|message|>",
    "eot": "<|im_end|>", "eod": "<|endoftext|>", "separator": "\n", "generation_prompt": "<|im_start|>assistant\n",
}  # fmt: skip


@dataclass(kw_only=True)
class SegmentText:
    """The text of a segment, and the source it has in the message."""

    part: str
    text: str
    plan: SegmentPlan | None = None
    field: tuple[str | int, ...] | None = None
    item: int | None = None
    call: int | None = None


def make_text(
    world: World,
    segment: SegmentPlan,
    role: str | None = None,
    wanted: Sequence[Wanted] = (),
    *,
    usual: str | None = None,
    seeds: Sequence[Seed] = (),
    length: int | None = None,
) -> str:
    """A text for a segment that meets its own tests, its regexes, and what else is `wanted`.

    Raises `Unrealised` if no such text was found.
    """
    # `bool`: no segment is empty, since no character would be decided there.
    tests: list[Wanted] = [*wanted, bool]
    hints = list(seeds)
    values = world.conditions.fields.get(SEGMENT)
    if values is not None:
        more, hinted = string_wanted(values, segment.assignment)
        tests += more
        hints += hinted
    for span, variable in world.conditions.regexes:
        # Elsewhere the regex is not searched, so the text is free to match it or not.
        if not any(_could_select(atom, role, segment.part) for atom in atoms_of(span)):
            continue
        pattern, flags, matches = str(span.pattern), span.flags, segment.assignment[variable] == 1
        tests.append(lambda s, p=pattern, f=flags, m=matches: _occurs(p, f, s) == m)  # type: ignore[misc]
        if matches:
            # A text that must not match needs no example of one that does.
            hints.append((pattern, flags))
    if length is not None:
        tests.append(lambda s: len(s) == length)
    return find_string(tests, hints, first=usual or WRITTEN.get(segment.part, "Noted."), length=length)


def _could_select(atom: Atom, role: str | None, part: str) -> bool:
    if part not in atom.parts or (role is None and atom.turns is not None):
        return False
    return atom.turns is None or atom.turns.role is None or atom.turns.role == role


def _occurs(pattern: str, flags: str, text: str) -> bool:
    return any(True for _ in ScanBudget().matches(compile_pattern(pattern, flags), pattern, text))
