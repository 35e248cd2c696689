"""Prepared rows with media, one placeholder for each medium, as a template writes them.

`a <image><image><image> b` becomes `a <image> b`, which the template renders again; what the processor wrote for the
medium is then put back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from policy_engine.audit.media_text import MediaShape, any_number, find_media, shape_of
from policy_engine.chat.segments import RenderedChat
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.errors import or_none
from policy_engine.core.vocabulary import MEDIA, MediaKind
from policy_engine.data.conversation import Conversation


@dataclass(frozen=True, kw_only=True)
class Folded:
    """The text of a row with one placeholder for each medium, and what was written for each."""

    text: str
    written: list[str]


@dataclass(frozen=True, kw_only=True, eq=False)
class MediaRows:
    """The media of prepared rows of one processor."""

    tokenizer: ChatTokenizer
    _written: dict[MediaKind, re.Pattern[str]] = field(default_factory=dict, init=False)
    """Text that the template writes for a medium, with its placeholder and what is around it; any number in it."""
    _shapes: list[MediaShape] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        media = self.tokenizer.media
        assert media is not None
        # One picture, sound or video between words of ours shows what the template writes around a medium.
        for kind in media.tokens:
            self._shapes.append(shape_of(media, kind))
            parts = [{"type": kind, kind: "QQ"}, {"type": "text", "text": "QQone"}]
            chat = self.render([{"role": "user", "content": parts}, {"role": "assistant", "content": "QQtwo"}])
            if chat is not None:
                written = "".join(chat.segment_text(s) for s in chat.segments if s.part in MEDIA)
                # Qwen2-Audio's numbers them: `Audio 2: <|audio_bos|>…`.
                self._written[kind] = any_number(written or media.tokens[kind])

    def render(self, messages: Iterable[Mapping[str, Any]]) -> RenderedChat | None:
        """Messages rendered, as lists of parts where the template takes no text.

        None if it raises for both.
        """
        given = tuple(messages)
        parts = tuple({**m, "content": self.parts(m["content"])} if _is_text(m) else m for m in given)
        # Some templates take texts only, others lists of parts only: a conversation without media may be either.
        plain = all(_is_text(m) and not any(w.search(m["content"]) for w in self._written.values()) for m in given)
        lossy: RenderedChat | None = None
        for form in (given, parts) if plain else (parts,):
            chat = or_none(self.tokenizer.render, Conversation(messages=form))
            if chat is not None and not chat.unrendered:
                return chat
            # A template that takes lists alone may leave a text out without a word (Idefics3's does).
            lossy = lossy or chat
        return lossy

    def parts(self, content: str) -> list[dict[str, Any]]:
        """A content with its media as parts: `<image>What?` is an image and a text."""
        made: list[dict[str, Any]] = [{"type": "text", "text": content}]
        for kind, written in self._written.items():
            made = [piece for part in made for piece in _split(part, kind, written)]
        return [part for part in made if part.get("text") != ""]

    def openings(self, role: str) -> Iterable[str]:
        """The openings of a role's turn that begins with a medium.

        Idefics3's template opens it with `User:`, and with `User: ` where a text comes first.
        """
        for kind in self._written:
            first = {"role": role, "content": [{"type": kind, kind: "QQ"}, {"type": "text", "text": "QQone"}]}
            # Templates let a conversation begin with these two alone, or write a system prompt before others.
            before = [] if role in ("system", "user") else [{"role": "user", "content": "QQtwo"}]
            chat = self.render([*before, first])
            if chat is None or chat.unrendered:
                continue
            own = [s for s in chat.segments if s.turn == len(chat.messages) - 1]
            start = next((s.start for s in own if s.part in MEDIA), 0)
            yield "".join(chat.segment_text(s) for s in own if s.part == "header" and s.end <= start)

    def fold(self, text: str, ids: Sequence[int], entries: Sequence[Mapping[str, Any]] | None) -> Folded:
        """The text of a row with one placeholder for each medium.

        Media are found by what the processor writes for them; `entries`, the column `media` of the row, tells apart
        those that follow each other.
        """
        media = self.tokenizer.media
        assert media is not None
        counts = [
            sum(i in media.ids for i in ids[int(e["first"]) : int(e["first"]) + int(e["count"])]) for e in entries or ()
        ]
        found = find_media(text, self._shapes, counts)
        made, at = "", 0
        for medium in found:
            made += text[at : medium.start] + media.tokens[medium.kind]
            at = medium.end
        return Folded(text=made + text[at:], written=[text[medium.start : medium.end] for medium in found])


def _is_text(message: Mapping[str, Any]) -> bool:
    return isinstance(message.get("content"), str)


def _split(part: dict[str, Any], kind: MediaKind, written: re.Pattern[str]) -> list[dict[str, Any]]:
    if part["type"] != "text":
        return [part]
    made: list[dict[str, Any]] = []
    for text in written.split(part["text"]):
        made += [{"type": "text", "text": text}, {"type": kind, kind: "QQ"}]
    # `split` gives one text more than there are media between them.
    return made[:-1]
