"""Facts of a template in one table: how turns open and end, where thinking and calls are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from policy_engine.chat.segments import RenderedChat
from scripts.models.rendering import ASK, BYE, SYSTEM, Message, Part, Rendering, parts_of

LONGEST = 120
"""Characters of a template's own text that a page shows."""


def facts(template: Rendering) -> Iterator[tuple[str, str]]:
    """Rows of the table: what is asked, and the answer as Markdown."""
    chat = template.shown[1]
    parts = parts_of(chat)
    turns = [at for at, message in enumerate(chat.messages) if message["role"] == "assistant"]
    heads = unique(text_of(parts, turn, "header") for turn in turns)
    yield "an answer opens with", listed(heads) or "nothing of its own: what comes before it opens it"
    yield "the generation prompt", code(template.generation_prompt) or "nothing"
    ends = unique(text_of(parts, turn, "eot") + text_of(parts, turn, "eod") for turn in turns)
    yield "an answer ends with", listed(ends) or "no end marker"
    yield "after the end marker", listed(unique(text_of(parts, turn, "separator") for turn in turns)) or "nothing"
    users = [at for at, message in enumerate(chat.messages) if message["role"] == "user"]
    user_ends = unique(text_of(parts, turn, "eot") + text_of(parts, turn, "eod") for turn in users)
    yield "a question ends with", listed(user_ends) or "no end marker"
    yield "thinking is written as", _thinking(parts)
    yield "calls are written as", _calls(parts)
    yield "a tool's result opens with", listed(unique(text_of(parts, at, "header") for at in _results(chat))) or "–"
    yield "the system prompt", system_prompt(template)
    given = {"bos_token": template.variant.bos, "eos_token": template.variant.eos}
    yield "given to the template", listed([f"{name}={text}" for name, text in given.items() if text], "and") or "–"


def system_prompt(template: Rendering) -> str:
    """The place of a system prompt's text."""
    chat = template.chat([SYSTEM, ASK, _plain(BYE)])
    if isinstance(chat, str):
        return f"is refused: “{chat}”"
    if any(lost.turn == 0 for lost in chat.unrendered):
        return "does not reach the text"
    parts = parts_of(chat)
    at = next(at for at, part in enumerate(parts) if part.turn == 0 and part.part == "text")
    before = next((p for p in reversed(parts[:at]) if p.part in ("header", "text", "bos")), None)
    if before is not None and before.turn == 1:
        return "is written into the first question's turn"
    own = text_of(parts, 0, "header")
    return f"is a turn of its own, which opens with {code(own)}" if own else "is written without a header"


def text_of(parts: Sequence[Part], turn: int, part: str) -> str:
    """The text of one part of a message; the parts below it count."""
    return "".join(p.text for p in parts if p.turn == turn and (p.part == part or p.part.startswith(part + ".")))


def unique(texts: Iterator[str]) -> list[str]:
    """Texts that are not empty, each once, in order."""
    return list(dict.fromkeys(text for text in texts if text))


def code(text: str) -> str:
    """A text as a code span: line breaks as `⏎`, and a long text cut in the middle."""
    if not text:
        return ""
    shown = (text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} … {text[-LONGEST // 3 :]}").replace("\n", "⏎")
    ticks = "``" if "`" in shown else "`"
    pad = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{ticks}{pad}{shown}{pad}{ticks}"


def listed(texts: Sequence[str], word: str = "or") -> str:
    """Texts as code spans in a row."""
    return f" {word} ".join(code(text) for text in texts)


def _thinking(parts: Sequence[Part]) -> str:
    written = [p for p in parts if p.part.startswith("reasoning")]
    if not written:
        return "not at all: no `reasoning_content` reaches the text"
    turn = written[-1].turn
    before = next((p.text for p in parts if p.turn == turn and p.part == "header"), "")
    opener = text_of(parts, turn or 0, "reasoning.open")
    opened = code(opener) if opener else f"{code(before)}, the header,"
    return f"{opened} … {code(text_of(parts, turn or 0, 'reasoning.close'))}"


def _calls(parts: Sequence[Part]) -> str:
    return listed(unique(text_of(parts, p.turn, "tool_call") for p in parts if p.part == "tool_call" and p.turn)) or "–"


def _results(chat: RenderedChat) -> list[int]:
    return [at for at, message in enumerate(chat.messages) if message["role"] == "tool"]


def _plain(message: Message) -> Message:
    return {name: value for name, value in message.items() if name != "reasoning_content"}
