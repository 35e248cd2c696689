"""Explanations of the differences that the trials find, each with its code.

`whose` is *theirs* where the other system does what nobody would ask for, *convention* where both can be meant, *ours*
where we differ on purpose. What nothing here explains fails the run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from benchmarks.peers.trial import Difference, Trial

Test = Callable[[Trial, Difference], bool]


@dataclass(frozen=True, kw_only=True)
class Known:
    """An explanation. `issue` names where the system's own project speaks of it."""

    what: str
    whose: str
    why: str
    issue: str = ""
    when: Test | None = None


def _of(system: str, test: Test) -> Test:
    return lambda trial, d: trial.system == system and test(trial, d)


def _reasoning(d: Difference) -> bool:
    return d.part.split(".")[0] in ("reasoning", "empty_reasoning", "markup")


KNOWN: Final[dict[str, Known]] = {
    "axolotl-end-unknown": Known(
        what="only we train end markers",
        whose="theirs",
        why="`<end_of_turn>` is not the tokenizer's eos, and no `eot_tokens` name it (the setting `eot_tokens` does).",
        issue="axolotl #3754, PR #3756 (a warning)",
        when=_of("axolotl", lambda t, d: t.case == "Gemma" and t.setting != "eot_tokens" and d.only == "we"
                 and d.part in ("eot", "separator")),
    ),
    "axolotl-detail": Known(
        what="tokens of an answer that lists character ranges, or right behind it",
        whose="theirs",
        why="Ranges are counted in tokens of the content alone, then laid on the row from where the turn was found: "
        "they shift where the template trims the content, moves thinking out of it, or its first token merges, and are "
        "widened to whole tokens.",
        when=_of("axolotl", lambda t, d: "detail" in t.setting and not _reasoning(d)
                 and (t.case == "Gemma" or d.kind == "think" or "anywhere" in t.setting)),
    ),
    "axolotl-think-open": Known(
        what="only we train `<think>` of the last turn",
        whose="theirs",
        why="A turn is what differs from a rendering with a placeholder. Qwen3's template writes an empty `<think>` "
        "into that one too, so the opening cancels out, and so does what else the two have in common.",
        issue="axolotl #3088",
        when=_of("axolotl", lambda t, d: t.case == "Qwen3" and _reasoning(d)),
    ),
    "axolotl-end-far": Known(
        what="only we train the end marker of a system message with tools",
        whose="theirs",
        why="An end marker is taken for a turn's within three tokens of its text; tool schemas are in between.",
        when=_of("axolotl", lambda t, d: d.only == "we" and d.role == "system" and d.kind == "tools"),
    ),
    "axolotl-end-shared": Known(
        what="only they train the end marker of an earlier turn, with `train_on_eos: last`",
        whose="theirs",
        why="Of tool results that the template writes into one turn only the last has an end marker. Where an earlier "
        "one is the last trained turn, the end of the turn before it is taken for the last.",
        when=_of("axolotl", lambda t, d: "last" in t.setting and d.only == "they" and d.part == "eot" and not d.last
                 and d.kind == "tools"),
    ),
    "axolotl-blank": Known(
        what="only we train the end marker of a turn whose content is empty",
        whose="theirs",
        why="Such a turn is not found where the template writes scaffold around it, so its end is not.",
        when=_of("axolotl", lambda t, d: d.only == "we" and d.blank and d.part in ("eot", "separator", "header")),
    ),
    "unsloth-separator": Known(
        what="only they train the line break after the end marker",
        whose="convention",
        why="The eos of Gemma's tokenizer does not end turns, so an answer goes on to the next opener (part "
        "`separator`).",
        when=_of("Unsloth", lambda t, d: d.part == "separator" and d.only == "they"),
    ),
    "unsloth-quoted": Known(
        what="text that quotes control tokens",
        whose="theirs",
        why="The scan finds a quoted response marker and trains what a user wrote; a quoted end marker or opener ends "
        "an answer early.",
        issue="unsloth-zoo PR #1270 (part of it)",
        when=_of("Unsloth", lambda t, d: d.quoted),
    ),
    "unsloth-merged": Known(
        what="only we train an answer that begins with white space",
        whose="theirs",
        why="The marker's line break merges with it into another token, so the marker is not found and the answer not "
        "trained (with `last_response_only` an earlier answer is).",
        issue="the class of TRL #598 and #1550",
        when=_of("Unsloth", lambda t, d: t.case in ("ChatML", "Qwen3", "Gemma") and d.role == "assistant"
                 and d.part != "separator"),
    ),
    "tag-in-header": Known(
        what="only they train the last token of the assistant header",
        whose="convention",
        why="TRL's Qwen2.5 template opens `{% generation %}` before the header's line break (part `header`).",
        when=lambda t, d: t.system in ("TRL", "transformers") and t.case == "ChatML" and d.part == "header"
        and d.only == "they",
    ),
    "tinker-tools": Known(
        what="tool schemas and the frame of tool results, under modes that train other roles",
        whose="convention",
        why="There they are text of the message they are in; here they are `preamble.tools`, and a frame that opens a "
        "turn is its `header`.",
        when=_of("tinker", lambda t, d: d.kind == "tools" and d.part.split(".")[0] in ("preamble", "header", "eot",
                 "separator", "markup", "text") and d.role != "assistant"),
    ),
    "straddle": Known(
        what="a token that is partly trained text",
        whose="convention",
        why="`on straddle` says what becomes of it; some decide it by its first character.",
        when=lambda t, d: d.straddle,
    ),
    "same text, other tokens": Known(
        what="other ids for the same text",
        whose="convention",
        why="Text is tokenized piece by piece, and control tokens in data as plain text, so ids are not "
        "`apply_chat_template`'s; masks are not compared.",
    ),
    "other text": Known(
        what="other ids, for other text",
        whose="convention",
        why="The system writes text of its own, which is not the template's for this row (blanks that the template "
        "trims, JSON escapes, several results of tools, reasoning); masks are not compared.",
    ),
    "PE403": Known(
        what="we refuse the row",
        whose="ours",
        why="Text of an answer that the policy trains does not reach the rendered text; `on unrendered warn` masks it.",
    ),
    "they refuse": Known(what="they refuse the row", whose="theirs", why="The system raises on it."),
    "not-explained": Known(what="not explained", whose="?", why="See the output of the run."),
}  # fmt: skip
"""By key, in the order they are tried."""


def explain(trial: Trial, difference: Difference) -> str | None:
    """The key of the first explanation that fits."""
    for key, known in KNOWN.items():
        if known.when is not None and known.when(trial, difference):
            return key
    return None


def key_of(kind: str) -> str | None:
    """The key that a kind of row outcome stands for."""
    return next((key for key in KNOWN if kind == key or kind.startswith((f"{key},", f"{key}:"))), None)


def is_known(kind: str) -> bool:
    """True if something explains a kind."""
    return key_of(kind) is not None
