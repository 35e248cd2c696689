"""The text that each trainer trains by default, as shipped policies and importers say."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from policy_engine.chat.segments import RenderedChat
from policy_engine.importers.trl import from_trl
from policy_engine.lang.library import read_shipped
from policy_engine.proof.load_policy import policy_from_text
from policy_engine.rules.program import Program
from scripts.models.rendering import ANSWER, ASK, BYE, THANKS, Rendering
from scripts.models.traps import bare

SYSTEMS: Final[Mapping[str, str]] = {
    "axolotl": "axolotl",
    "TRL": "",
    "TRL, answers only": "trl_assistant_only",
    "LLaMA-Factory": "llamafactory",
    "Unsloth": "unsloth",
    "ms-swift": "swift",
    "default": "default",
}
"""Columns, and the shipped policy of each.

TRL with nothing set is an empty configuration, imported.
"""
_BODY: Final = ("text", "media", "reasoning", "tool_call", "markup")
ROWS: Final[Mapping[str, tuple[str | None, Sequence[str]]]] = {
    "text of answers": ("assistant", ("text",)),
    "thinking": ("assistant", ("reasoning",)),
    "empty thinking": ("assistant", ("empty_reasoning",)),
    "calls": ("assistant", ("tool_call",)),
    "scaffold inside answers": ("assistant", ("markup",)),
    "end marker of answers": ("assistant", ("eot", "eod")),
    "what follows the end marker": ("assistant", ("separator",)),
    "header of answers": ("assistant", ("header",)),
    "questions": ("user", _BODY),
    "system prompt": ("system", _BODY),
    "results of tools": ("tool", _BODY),
    "text that nobody wrote": (None, ("preamble",)),
}
"""Rows: the role and the parts that each is about."""


def policy_of(system: str) -> str:
    """The text of the policy that a column stands for."""
    name = SYSTEMS[system]
    if name:
        return read_shipped(name).text
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "sft.yaml")
        config.write_text("{}\n", encoding="utf-8")
        (imported,) = from_trl(config)
    return "\n".join(imported.rules) + "\n"


@functools.cache
def program_of(text: str) -> Program:
    """A policy as a program, its guards proven."""
    return policy_from_text(text)


def table(template: Rendering) -> Iterator[Sequence[str]]:
    """The rows of the table: the part, and for each column `✓`, `partly` or `–`."""
    chats = [template.shown[1]]
    plain = template.chat([ASK, bare(ANSWER), THANKS, bare(BYE)])
    if isinstance(plain, RenderedChat):
        chats.append(plain)
    counts = [[_counts(chat, program_of(policy_of(system))) for chat in chats] for system in SYSTEMS]
    for row, (role, parts) in ROWS.items():
        cells = []
        for column in counts:
            found = [n for chat in column for (who, part), n in chat.items() if who == role and _is(part, parts)]
            trained, total = (sum(numbers) for numbers in zip(*found, strict=True)) if found else (0, 0)
            cell = "" if not total else "✓" if trained == total else "partly" if trained else "–"
            cells.append(cell)
        if any(cells):
            yield (row, *cells)


def marked(chat: RenderedChat, policy: str) -> str:
    """The conversation with ⟦ ⟧ around what a policy trains."""
    out, inside = [], False
    for piece in program_of(policy).decide(chat).pieces:
        if bool(piece.weight) != inside:
            inside = not inside
            out.append("⟦" if inside else "⟧")
        out.append(chat.text[piece.start : piece.end])
    return "".join([*out, "⟧" if inside else ""])


def differences() -> Iterator[tuple[str, str]]:
    """For each column, how its policy describes the system: release, settings, differences."""
    for system, name in SYSTEMS.items():
        comment = " ".join(line.lstrip("# ") for line in policy_of(system).splitlines() if line.startswith("#"))
        if name and name != "default":
            yield system, comment.partition("Behaves like: ")[2]


def row_of(role: str | None, part: str) -> str:
    """The row of the table that a part of a message is in, or `other text`."""
    return next((row for row, (who, parts) in ROWS.items() if who == role and _is(part, parts)), "other text")


def _is(part: str, parts: Sequence[str]) -> bool:
    return any(part == name or part.startswith(f"{name}.") for name in parts)


def _counts(chat: RenderedChat, program: Program) -> dict[tuple[str | None, str], tuple[int, int]]:
    """Characters trained, and all, by role and part."""
    counts: dict[tuple[str | None, str], tuple[int, int]] = {}
    for piece in program.decide(chat).pieces:
        segment = chat.segments[piece.segment]
        key, size = (chat.role(segment), segment.part), piece.end - piece.start
        trained, total = counts.get(key, (0, 0))
        counts[key] = (trained + (size if piece.weight else 0), total + size)
    return counts
