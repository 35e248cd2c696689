"""Prepared rows with media, one placeholder for each medium, as a template writes them.

`a <image><image><image> b` becomes `a <image> b`, which the template renders again; the tokens of the medium are then
put back.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np

from policy_engine.chat.segments import RenderedChat, TokenizedChat
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.errors import PolicyEngineError
from policy_engine.core.vocabulary import MEDIA, MediaKind
from policy_engine.data.conversation import Conversation


@dataclass(frozen=True, kw_only=True)
class Folded:
    """The ids of a row with one token for each medium.

    `counts` has, for each of them, how many tokens of the row it stands for.
    """

    ids: list[int]
    counts: list[int]

    def unfold(self, chat: TokenizedChat, input_ids: Sequence[int]) -> TokenizedChat:
        """The chat, whose ids are the folded ones, with the ids of the row."""
        return TokenizedChat(
            chat=chat.chat,
            input_ids=list(input_ids),
            starts_T=np.repeat(chat.starts_T, self.counts),
            ends_T=np.repeat(chat.ends_T, self.counts),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class MediaRows:
    """The media of prepared rows of one processor."""

    tokenizer: ChatTokenizer
    _written: dict[MediaKind, str] = field(default_factory=dict, init=False)
    """Text that the template writes for a medium, with its placeholder and what is around it."""

    @functools.cached_property
    def _bare(self) -> ChatTokenizer:
        return dataclasses.replace(self.tokenizer, media=None)

    def __post_init__(self) -> None:
        assert self.tokenizer.media is not None
        # One picture, sound or video between words of ours shows what the template writes around a medium.
        for kind in self.tokenizer.media.tokens:
            parts = [{"type": kind, kind: "QQ"}, {"type": "text", "text": "QQone"}]
            chat = self.render([{"role": "user", "content": parts}, {"role": "assistant", "content": "QQtwo"}])
            if chat is not None:
                self._written[kind] = "".join(chat.segment_text(s) for s in chat.segments if s.part in MEDIA)

    def render(self, messages: Iterable[Mapping[str, Any]]) -> RenderedChat | None:
        """Messages rendered, as lists of parts where the template takes no text.

        None if it raises for both.
        """
        given = tuple(messages)
        parts = tuple({**m, "content": self.parts(m["content"])} if _is_text(m) else m for m in given)
        # Some templates take texts only, others lists of parts only: a conversation without media may be either.
        plain = all(_is_text(m) and not any(w in m["content"] for w in self._written.values()) for m in given)
        for form in (given, parts) if plain else (parts,):
            conversation = Conversation(messages=form)
            try:
                return self.tokenizer.template_for(conversation).render(conversation)
            except PolicyEngineError:
                continue
        return None

    def parts(self, content: str) -> list[dict[str, Any]]:
        """A content with its media as parts: `<image>What?` is an image and a text."""
        made: list[dict[str, Any]] = [{"type": "text", "text": content}]
        for kind, written in self._written.items():
            made = [piece for part in made for piece in _split(part, kind, written)]
        return [part for part in made if part.get("text") != ""]

    def fold(self, ids: Sequence[int], entries: Sequence[Mapping[str, Any]] | None) -> Folded:
        """The row with one token for each medium.

        Where media are is what the column `media` of the row has, else where placeholders follow each other.
        """
        media = self.tokenizer.media
        assert media is not None
        of_kind = {kind: self.tokenizer.tokenizer.convert_tokens_to_ids(token) for kind, token in media.tokens.items()}
        # The column is exact; placeholders that follow each other may be two media side by side.
        if entries:
            runs = {int(e["first"]): (int(e["count"]), of_kind[e["kind"]]) for e in entries if e["kind"] in of_kind}
        else:
            runs = {}
            at = 0
            for token, run in groupby(ids):
                size = len(list(run))
                if token in of_kind.values():
                    runs[at] = (size, token)
                at += size
        folded: list[int] = []
        counts: list[int] = []
        at = 0
        while at < len(ids):
            count, token = runs.get(at, (1, ids[at]))
            folded.append(token)
            counts.append(min(count, len(ids) - at))
            # A count of 0 in a broken column would never move on.
            at += max(count, 1)
        return Folded(ids=folded, counts=counts)

    def encode(self, chat: RenderedChat) -> TokenizedChat:
        """The tokens of a chat whose media are one placeholder each.

        What the processor adds in front and behind is there.

        Raises AttributionError as the tokenizer does.
        """
        assert self.tokenizer.media is not None
        made = self._bare.encode(chat)
        if not self.tokenizer.media.adds_special(chat.text):
            return made
        before, behind = self.tokenizer.prefix_ids, self.tokenizer.suffix_ids
        around = np.zeros(len(before), np.int32), np.full(len(behind), len(chat.text), np.int32)
        return TokenizedChat(
            chat=chat,
            input_ids=[*before, *made.input_ids, *behind],
            starts_T=np.concatenate((around[0], made.starts_T, around[1])),
            ends_T=np.concatenate((around[0], made.ends_T, around[1])),
        )


def _is_text(message: Mapping[str, Any]) -> bool:
    return isinstance(message.get("content"), str)


def _split(part: dict[str, Any], kind: MediaKind, written: str) -> list[dict[str, Any]]:
    if part["type"] != "text" or not written or written not in part["text"]:
        return [part]
    made: list[dict[str, Any]] = []
    for text in part["text"].split(written):
        made += [{"type": "text", "text": text}, {"type": kind, kind: "QQ"}]
    # `split` gives one text more than there are media between them.
    return made[:-1]
