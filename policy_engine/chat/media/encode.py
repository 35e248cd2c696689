"""Tokens of rendered chats with media: the processor's ids, and the medium of each token."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from policy_engine.chat.media.open_media import name_of
from policy_engine.chat.media.processor import MediaProcessor
from policy_engine.chat.media.stretch import Stretched, stretch, tokens_of, written_in
from policy_engine.chat.media.texts import MediaTexts, RowMedia
from policy_engine.chat.segments import MediaTokens, RenderedChat, TokenizedChat
from policy_engine.chat.tokens.byte_lengths import ByteTable, array_of
from policy_engine.chat.tokens.locator import TokenLocator
from policy_engine.core.errors import AttributionError, MediaError, PolicyEngineError, TokenizerError

Located = tuple[list[int], "npt.NDArray[np.int32]", tuple["npt.NDArray[np.int32]", "npt.NDArray[np.int32]"]]
"""Ids as a list and as an array, and the characters each covers: what `TokenLocator.locate` gives."""
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
Literals = Sequence[tuple[int, int]]
Locate = Callable[[Sequence[str], Sequence[Literals]], Sequence[Any]]
"""Ids of texts, each with its characters that are plain text though a control token has their spelling."""


@dataclass(frozen=True, kw_only=True)
class _Ready:
    """A chat whose media are written out, before it is tokenized."""

    stretched: Stretched
    row: RowMedia


@dataclass(frozen=True, kw_only=True, eq=False)
class MediaEncoder:
    """Tokenizes chats as a processor does.

    `around` are the ids that its tokenizer adds in front and behind.
    """

    media: MediaProcessor
    around: tuple[tuple[int, ...], tuple[int, ...]] = field(default=((), ()))
    table: ByteTable | None = None
    """The bytes of its tokens, if known: ids of the processor's own call are then not made twice."""

    @classmethod
    def of(cls, media: MediaProcessor, locator: TokenLocator, locate: Locate) -> MediaEncoder:
        """The encoder of a processor with the locator of its tokenizer.

        Raises what `check` raises.
        """
        table = None if locator.pipeline is None else locator.pipeline.table
        made = cls(media=media, around=(locator.prefix_ids, locator.suffix_ids), table=table)
        made.check(locate)
        return made

    @functools.cached_property
    def texts(self) -> MediaTexts:
        """The texts of media, by the processor or by their sizes."""
        return MediaTexts(media=self.media, adds=any(self.around))

    def check(self, locate: Locate) -> None:
        """Refuses a processor that adds text of its own, or takes no text without media.

        Raises TokenizerError for one that writes text around what a template writes, or that fails without media.
        """
        try:
            # One letter without media: its ids are the tokenizer's, or the processor adds something of its own.
            written = self.media.write("a", {})
        except MediaError as error:
            raise TokenizerError(
                f"{self.media.name} cannot be used: it takes no text without media",
                help="pass processor.tokenizer, if the conversations are text",
            ) from error
        ids, _, _ = locate(["a"], [()])[0]
        special = self.media.adds_special("a")
        if written.ids != ([*self.around[0], *ids, *self.around[1]] if special else ids):
            raise TokenizerError(
                f"{self.media.name} cannot be used: it writes more into a text than its media",
                help="pass processor.tokenizer, if the conversations are text",
            )

        if others := self.media.unknown_columns:
            raise TokenizerError(
                f"{self.media.name} cannot be used: it makes columns of a number for each token that are not known "
                f"here, and rows would lose them: {', '.join(f'`{name}`' for name in sorted(others))}",
                help="pass processor.tokenizer, if the conversations are text",
            )

    @functools.cached_property
    def _special_texts(self) -> tuple[str, str]:
        tokenizer = self.media.processor.tokenizer
        # Special tokens are in no rendered text, so they become segments with the text that names them.
        before, behind = ("".join(map(str, tokenizer.convert_ids_to_tokens(list(ids)))) for ids in self.around)
        return before, behind

    def encode(self, chats: Sequence[RenderedChat], locate: Locate) -> list[TokenizedChat | PolicyEngineError]:
        """A chat that fails is its error, in its place."""
        ready = [self._try_ready(chat) for chat in chats]
        good = [r for r in ready if isinstance(r, _Ready)]
        own = [self._spelled(r) for r in good]
        # One call for all other chats; the failed ones keep their place in the list.
        rest = [r for r, found in zip(good, own) if found is None]
        others = iter(locate([self._bare(r) for r in rest], [self._literals(r) for r in rest]))
        located = iter([next(others) if found is None else found for found in own])
        return [r if isinstance(r, PolicyEngineError) else self._finish(r, next(located)) for r in ready]

    def _spelled(self, ready: _Ready) -> Located | None:
        """The ids of the processor's own call, placed by their bytes; None where that is no proof."""
        if ready.row.written is None or self.table is None:
            return None
        ids = ready.row.written.ids
        if ready.row.special:
            first, last = map(list, self.around)
            stop = len(ids) - len(last)
            if ids[: len(first)] != first or ids[stop:] != last:
                return None
            ids = ids[len(first) : stop]
        text = self._bare(ready)
        # A lone surrogate has no bytes; the tokenizer refuses it with its place.
        ranges = None if _SURROGATE.search(text) else self.table.spelled(text, ids)
        return None if ranges is None else (ids, array_of(ids), ranges)

    def encode_written(self, chat: RenderedChat, written: Sequence[str], locate: Locate) -> TokenizedChat:
        """The tokens of a chat with `written` in place of its placeholders, in order.

        Nothing is opened. Raises MediaError where there are more or fewer of them, and AttributionError as
        `encode` has it.
        """
        ready = self._ready(chat, self.texts.given(chat, written))
        located = locate([self._bare(ready)], [self._literals(ready)])[0]
        if isinstance(located, PolicyEngineError):
            raise located
        ids, starts_T, ends_T = self._around(ready, located)
        return TokenizedChat(chat=ready.stretched.chat, input_ids=ids, starts_T=starts_T, ends_T=ends_T)

    def _try_ready(self, chat: RenderedChat) -> _Ready | PolicyEngineError:
        try:
            return self._ready(chat, self.texts.of(chat))
        except PolicyEngineError as error:
            return error

    def _ready(self, chat: RenderedChat, row: RowMedia) -> _Ready:
        before, behind = self._special_texts if row.special else ("", "")
        stretched = stretch(chat, row.placeholders, row.media, row.texts, prefix=before, suffix=behind)
        return _Ready(stretched=stretched, row=row)

    def _literals(self, ready: _Ready) -> Literals:
        """The literals of a chat, counted as `_bare` does."""
        shift = len(self._special_texts[0]) if ready.row.special else 0
        return [(start - shift, end - shift) for start, end in ready.stretched.chat.literals]

    def _bare(self, ready: _Ready) -> str:
        """The text without what the tokenizer adds around it."""
        text = ready.stretched.chat.text
        if not ready.row.special:
            return text
        before, behind = self._special_texts
        return text[len(before) : len(text) - len(behind)]

    def _finish(self, ready: _Ready, located: Any) -> TokenizedChat | PolicyEngineError:
        if isinstance(located, PolicyEngineError):
            return located
        try:
            return self._tokenized(ready, located)
        except PolicyEngineError as error:
            return error

    def _tokenized(self, ready: _Ready, located: Located) -> TokenizedChat:
        chat = ready.stretched.chat
        ids, starts_T, ends_T = self._around(ready, located)
        # The processor's own ids are the truth; ours only know which characters they cover.
        if ready.row.written is not None and ready.row.written.ids != ids:
            raise AttributionError(
                f"{self.media.name} gives other ids than its tokenizer does for the same text",
                help="pass rows of this kind through the processor itself; they cannot be attributed",
            )
        spans = tokens_of(ready.stretched.ranges, starts_T, ends_T, ready.row.media)
        return TokenizedChat(
            chat=chat,
            input_ids=ids,
            starts_T=starts_T,
            ends_T=ends_T,
            columns=self._columns(ready, ids, spans, starts_T),
            media_together=len(ready.row.media) > 1 and self.media.together,
            media=tuple(
                MediaTokens(
                    kind=medium.kind,
                    turn=medium.turn,
                    item=medium.item,
                    source=name_of(medium.source),
                    width=size[0] if isinstance(size, tuple) else None,
                    height=size[1] if isinstance(size, tuple) else None,
                    first=first,
                    count=count,
                )
                for medium, size, (first, count) in zip(ready.row.media, ready.row.sizes, spans)
            ),
        )

    def _around(
        self, ready: _Ready, located: Located
    ) -> tuple[list[int], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """The located tokens, with those that the tokenizer adds in front and behind."""
        ids, _, (starts_T, ends_T) = located
        if not ready.row.special:
            return ids, starts_T, ends_T
        size = len(ready.stretched.chat.text)
        (first, last), (before, behind) = self.around, self._special_texts
        shift = len(before)
        low = _cover(self.media.processor.tokenizer, first, 0)
        high = _cover(self.media.processor.tokenizer, last, size - len(behind))
        return (
            [*first, *ids, *last],
            np.concatenate((low[0], starts_T + shift, high[0])).astype(np.int32),
            np.concatenate((low[1], ends_T + shift, high[1])).astype(np.int32),
        )

    def _columns(
        self, ready: _Ready, ids: list[int], spans: Sequence[tuple[int, int]], starts_T: npt.NDArray[np.int32]
    ) -> dict[str, npt.NDArray[np.int8]]:
        made: dict[str, npt.NDArray[np.int8]] = {}
        for name in self.media.columns:
            if ready.row.written is None:
                assert ready.row.columns is not None
                made[name] = ready.row.columns[name](ids, spans)
            else:
                # A processor may leave the column out of a row without media.
                made[name] = ready.row.written.columns.get(name, np.zeros(len(ids), dtype=np.int8))
        # A token of media outside of every medium: the data spelled it, and the model would take it for a picture.
        types_T = made.get("mm_token_type_ids")
        if types_T is not None:
            own_T = np.zeros(len(ids), dtype=bool)
            for first, count in spans:
                own_T[first : first + count] = True
            stray = np.flatnonzero((types_T != 0) & ~own_T)
            if len(stray):
                at = int(stray[0])
                written = str(self.media.processor.tokenizer.convert_ids_to_tokens(ids[at]))
                raise written_in(ready.stretched.chat, int(starts_T[at]), written)
        return made


def _cover(tokenizer: Any, ids: Sequence[int], at: int) -> tuple[list[int], list[int]]:
    starts, ends = [], []
    for i in ids:
        size = len(str(tokenizer.convert_ids_to_tokens(i)))
        starts.append(at)
        ends.append(at + size)
        at += size
    return starts, ends
