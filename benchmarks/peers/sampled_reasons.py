"""Reasons for which a renderer takes other tokens for sampled than we do; tables of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from benchmarks import results


@dataclass(frozen=True, kw_only=True)
class Reason:
    """`fits` is asked with the renderer, our part, who trains the tokens, and their text."""

    what: str
    why: str
    fits: Callable[[str, str, str, str], bool]


REASONS: Final = (
    Reason(
        what="only they train `<think>` (or an empty pair, or Gemma 4's `<|channel>thought`) and the blanks around it, "
        "at the start of an answer",
        why="The template's generation prompt ends with it: inference supplies it, so it is header here.",
        fits=lambda renderer, part, whose, text: (part, whose) == ("header", "theirs"),
    ),
    Reason(
        what="only we train `</think>` of an answer without thinking",
        why="The prompt ends before it, so the model writes it: `empty_reasoning`.",
        fits=lambda renderer, part, whose, text: (part, whose) == ("empty_reasoning", "ours"),
    ),
    Reason(
        what="only we train the line break behind `<|assistant|>` of GLM-4.5",
        why="The template's prompt ends before it, so the model writes it.",
        fits=lambda renderer, part, whose, text: (renderer, whose, text) == ("glm-4.5", "ours", "\n"),
    ),
    Reason(
        what="only we train thinking, and the `</think>` behind it, of a row that Hy3's template renders with "
        "`reasoning_effort:no_think`",
        why="The prompt of that mode closes thinking at once (`<think></think>`), so no model writes any there, and "
        "renderers takes all up to `</think>` as supplied. Here the header is what prompt and text share, `<think>`; "
        "the thinking is the row's data. Give `reasoning_effort` with rows that think.",
        fits=lambda renderer, part, whose, text: (renderer, whose) == ("hy3", "ours") and part.startswith("reasoning"),
    ),
    Reason(
        what="only we train `<|channel|>final<|message|>` of gpt-oss",
        why="The template's prompt is `<|start|>assistant`, so the model writes its channel. renderers takes all up to "
        "`<|message|>` as supplied.",
        fits=lambda renderer, part, whose, text: (renderer, part, whose) == ("gpt-oss", "markup", "ours"),
    ),
)

# Of templates whose ids are a renderer's in no row, or hardly any.
IDS: Final = (
    Reason(
        what="all ids, or nearly all",
        why="The renderer writes an empty thinking block (`<think></think>`, `<|channel>thought<channel|>`) into each "
        "answer; the template does not.",
        fits=lambda renderer, part, whose, text: renderer in ("qwen3", "gemma4"),
    ),
    Reason(
        what="all ids",
        why="The renderer writes a system prompt of its own, without the line breaks that the template writes.",
        fits=lambda renderer, part, whose, text: renderer == "laguna-xs-2.1",
    ),
)


def letters(entry: Mapping[str, Any]) -> list[str]:
    """The letters of the reasons for a template's differences; `?` for a difference without one."""
    renderer = entry["renderer"]
    found = set()
    for part, whose, text, _ in entry["differences"]:
        fitting = [n for n, reason in enumerate(REASONS) if reason.fits(renderer, part, whose, text)]
        found.add("abcdefg"[fitting[0]] if fitting else "?")
    if _same_ids(entry) * 10 < sum(entry["rows"].values()):
        fitting = [n for n, reason in enumerate(IDS, len(REASONS)) if reason.fits(renderer, "", "", "")]
        found.add("abcdefg"[fitting[0]] if fitting else "?")
    return sorted(found)


def _same_ids(entry: Mapping[str, Any]) -> int:
    return int(entry["rows"].get("equal", 0) + entry["rows"].get("differ", 0))


def tables(found: Mapping[str, Any]) -> str:
    """The text of the page on a run: how much was compared, each template, and the reasons."""
    entries = found["templates"]
    every = sum(sum(entry["rows"].values()) for entry in entries)
    equal = sum(entry["rows"].get("equal", 0) for entry in entries)
    opening = (
        f"{len(entries)} templates of {len({entry['renderer'] for entry in entries})} renderers, "
        f"{every} conversations, {sum(map(_same_ids, entries))} with equal ids, {equal} of these with equal masks."
    )
    rows = [
        (f"`{e['renderer']}`", e["template"].partition("/")[2], sum(e["rows"].values()), _same_ids(e),
         e["rows"].get("equal", 0), ", ".join(letters(e)))
        for e in entries
    ]  # fmt: skip
    head = ["renderer", "template", "conversations", "equal ids", "equal masks", "what differs"]
    reasons = [
        (letter, reason.what.replace("|", "\\|"), reason.why.replace("|", "\\|"))
        for letter, reason in zip("abcdefg", (*REASONS, *IDS), strict=True)
    ]
    return "\n\n".join([opening, results.table(head, rows), results.table(["", "what differs", "why"], reasons)])
