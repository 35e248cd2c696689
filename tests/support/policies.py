"""Policies applied to hand-built chats, in a form that tests can read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from policy_engine.chat.segments import RenderedChat
from policy_engine.mask import marks
from policy_engine.rules.compile import compile_text
from tests.support.chats import build_chat

USER = {"role": "user", "content": "Hi?"}
ASSISTANT = {"role": "assistant", "content": "Yo."}
SYSTEM = {"role": "system", "content": "Be kind."}


def marked(policy: str, chat: RenderedChat | Sequence[Mapping[str, Any]]) -> str:
    """The text with trained stretches in ⟦ ⟧."""
    chat = chat if isinstance(chat, RenderedChat) else build_chat(chat)
    pieces = compile_text(policy).decide(chat).pieces
    return marks.marked(chat.text, [(piece.start, piece.end, piece.weight) for piece in pieces])


def trained(policy: str, chat: RenderedChat | Sequence[Mapping[str, Any]]) -> list[str]:
    """The trained stretches, in order."""
    return [part.split("⟧")[0] for part in marked(policy, chat).split("⟦")[1:]]


def weights(policy: str, chat: RenderedChat | Sequence[Mapping[str, Any]]) -> list[tuple[str, float]]:
    """Text and weight of every trained piece."""
    chat = chat if isinstance(chat, RenderedChat) else build_chat(chat)
    pieces = compile_text(policy).decide(chat).pieces
    return [(chat.text[p.start : p.end], p.weight) for p in pieces if p.weight]
