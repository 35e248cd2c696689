"""Tokens of rendered chats with media: the processor's ids, and the medium of each token."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from policy_engine.chat.control_tokens import with_marks
from policy_engine.chat.media.in_messages import Medium, media_of
from policy_engine.chat.media.measured import Measured, measured
from policy_engine.chat.media.open_media import measure_image, name_of, open_image, shown
from policy_engine.chat.media.processor import MediaProcessor, WrittenMedia
from policy_engine.chat.media.sounds import open_sound, open_video
from policy_engine.chat.media.stretch import Placeholder, Stretched, matched, stretch, tokens_of, written_in
from policy_engine.chat.segments import MediaTokens, RenderedChat, TokenizedChat
from policy_engine.chat.tokens.byte_lengths import ByteTable, array_of
from policy_engine.chat.tokens.locator import TokenLocator
from policy_engine.core.errors import AttributionError, MediaError, PolicyEngineError, TokenizerError
from policy_engine.core.vocabulary import MediaKind

Located = tuple[list[int], "npt.NDArray[np.int32]", tuple["npt.NDArray[np.int32]", "npt.NDArray[np.int32]"]]
"""Ids as a list and as an array, and the characters each covers: what `TokenLocator.locate` gives."""
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_NAMED: Final = 4
"""Media that an error of a row names."""
_SANITIZED: Final = {"sanitize_control_tokens": True}
Literals = Sequence[tuple[int, int]]
Locate = Callable[[Sequence[str], Sequence[Literals]], Sequence[Any]]
"""Ids of texts, each with its characters that are plain text though a control token has their spelling."""


@dataclass(frozen=True, kw_only=True)
class _Ready:
    """A chat whose media are written out, before it is tokenized."""

    stretched: Stretched
    media: list[Medium]
    sizes: list[tuple[int, int] | None]
    special: bool
    written: WrittenMedia | None
    """Output of the processor itself; None where pictures were only measured."""


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
    def _measured(self) -> Measured | None:
        return measured(self.media)

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
    def _texts(self) -> tuple[str, str]:
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
        if ready.written is None or self.table is None:
            return None
        ids = ready.written.ids
        if ready.special:
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
        media = media_of(chat.messages)
        found = matched(chat, self._placeholders(chat), media)
        if len(written) != len(media):
            raise MediaError(
                f"{len(written)} texts are given for {len(media)} media", help="give one for each placeholder"
            )
        special = self.media.adds_special(chat.text)
        before, behind = self._texts if special else ("", "")
        texts = _by_medium(found, written)
        ready = _Ready(
            stretched=stretch(chat, found, media, texts, prefix=before, suffix=behind),
            media=media,
            sizes=[None] * len(media),
            special=special,
            written=None,
        )
        located = locate([self._bare(ready)], [self._literals(ready)])[0]
        if isinstance(located, PolicyEngineError):
            raise located
        ids, starts_T, ends_T = self._around(ready, located)
        return TokenizedChat(chat=ready.stretched.chat, input_ids=ids, starts_T=starts_T, ends_T=ends_T)

    def _try_ready(self, chat: RenderedChat) -> _Ready | PolicyEngineError:
        try:
            return self._ready(chat)
        except PolicyEngineError as error:
            return error

    def _ready(self, chat: RenderedChat) -> _Ready:
        # A sample of one turn has the messages of the whole conversation.
        last = max((s.turn for s in chat.segments if s.turn is not None), default=-1)
        media = [medium for medium in media_of(chat.messages) if medium.turn <= last]
        for medium in media:
            if medium.kind not in self.media.tokens:
                raise MediaError(
                    f"{medium.place} is a medium of kind `{medium.kind}`, which {self.media.name} does not take",
                    help="use a processor that takes it, or drop the row",
                )
        # Before anything is opened: a placeholder in data is refused without reading a file.
        found = matched(chat, self._placeholders(chat), media)
        special = self.media.adds_special(chat.text)
        if chat.literals:
            self._check_sanitized(special and any(self.around))
        written: WrittenMedia | None = None
        sizes: list[tuple[int, int] | None] = [None] * len(media)
        # Videos and sounds are always decoded: their length in tokens depends on what is in the file.
        known = self._measured if all(medium.kind == "image" for medium in media) else None
        if known is not None and not (media and known.to_compare > 0):
            sizes = [measure_image(m.source, self.media.options, m.place) for m in media]
            texts = known.texts([size for size in sizes if size is not None])
        else:
            opened = [self._open(medium) for medium in media]
            sizes = [getattr(o, "size", None) if m.kind == "image" else None for o, m in zip(opened, media)]
            by_kind: dict[MediaKind, list[Any]] = {}
            for medium, data in zip(media, opened):
                by_kind.setdefault(medium.kind, []).append(data)
            if chat.literals:
                written = self.media.write(with_marks(chat.text, chat.literals), by_kind, _SANITIZED, _named(media))
            else:
                written = self.media.write_unscaled(chat.text, by_kind, _named(media))
            if len(written.texts) != len(media):
                raise AttributionError(
                    f"{self.media.name} writes {len(written.texts)} media for {len(media)} of the row",
                    help="drop the row",
                )
            texts = _by_medium(found, written.texts)
            self._check_sounds(media, opened, texts)
            if known is not None and not known.agrees([size for size in sizes if size is not None], texts):
                # Nothing was given out by sizes yet, and nothing will be.
                self.__dict__["_measured"] = None
        before, behind = self._texts if special else ("", "")
        stretched = stretch(chat, found, media, texts, prefix=before, suffix=behind)
        return _Ready(stretched=stretched, media=media, sizes=sizes, special=special, written=written)

    def _check_sounds(self, media: Sequence[Medium], opened: Sequence[Any], texts: Sequence[str]) -> None:
        for medium, sound, text in zip(media, opened, texts):
            kept = self.media.seconds_kept(sound, text) if medium.kind == "audio" else None
            if kept is not None:
                raise MediaError(
                    f"{medium.place} is a sound of {len(sound) / self.media.rate:.1f} s, of which {self.media.name} "
                    f"reads the first {kept:g} s alone",
                    help="split the sound into several, or drop the row",
                )

    def _open(self, medium: Medium) -> Any:
        options = self.media.options
        if medium.kind == "image":
            return open_image(medium.source, options, medium.place)
        if medium.kind == "audio":
            return open_sound(medium.source, options, medium.place, rate=self.media.rate)
        return open_video(medium.source, options, medium.place)

    @functools.cached_property
    def _sanitizes(self) -> bool:
        """True if the processor takes a placeholder between marks for text.

        Some classes count them all.
        """
        token = next(iter(self.media.tokens.values()), "")
        quoted = with_marks(f"a{token}", [(1, 1 + len(token))])
        try:
            return self.media.ids.isdisjoint(self.media.write(quoted, {}, _SANITIZED).ids)
        except MediaError:
            return False

    def _check_sanitized(self, special: bool) -> None:
        """Raises MediaError where transformers itself gives no ids under `sanitize_control_tokens`."""
        reason = None
        if special:
            reason = "its template writes no special tokens, so that the tokenizer adds them"
        elif not self._sanitizes:
            reason = "it takes a placeholder that the data quotes for a medium"
        if reason is not None:
            raise MediaError(
                f"{self.media.name} takes no `sanitize_control_tokens` in transformers: {reason}",
                help="leave it out, or drop rows that have control tokens in their data",
            )

    def _placeholders(self, chat: RenderedChat) -> list[Placeholder]:
        """The placeholders of a chat, but for those in data that is plain text."""
        found = self.media.find(chat.text)
        return [p for p in found if not any(start <= p.start < end for start, end in chat.literals)]

    def _literals(self, ready: _Ready) -> Literals:
        """The literals of a chat, counted as `_bare` does."""
        shift = len(self._texts[0]) if ready.special else 0
        return [(start - shift, end - shift) for start, end in ready.stretched.chat.literals]

    def _bare(self, ready: _Ready) -> str:
        """The text without what the tokenizer adds around it."""
        text = ready.stretched.chat.text
        if not ready.special:
            return text
        before, behind = self._texts
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
        if ready.written is not None and ready.written.ids != ids:
            raise AttributionError(
                f"{self.media.name} gives other ids than its tokenizer does for the same text",
                help="pass rows of this kind through the processor itself; they cannot be attributed",
            )
        spans = tokens_of(ready.stretched.ranges, starts_T, ends_T, ready.media)
        return TokenizedChat(
            chat=chat,
            input_ids=ids,
            starts_T=starts_T,
            ends_T=ends_T,
            columns=self._columns(ready, ids, spans, starts_T),
            media_together=len(ready.media) > 1 and self.media.together,
            media=tuple(
                MediaTokens(
                    kind=medium.kind,
                    turn=medium.turn,
                    item=medium.item,
                    source=name_of(medium.source),
                    width=None if size is None else size[0],
                    height=None if size is None else size[1],
                    first=first,
                    count=count,
                )
                for medium, size, (first, count) in zip(ready.media, ready.sizes, spans)
            ),
        )

    def _around(
        self, ready: _Ready, located: Located
    ) -> tuple[list[int], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """The located tokens, with those that the tokenizer adds in front and behind."""
        ids, _, (starts_T, ends_T) = located
        if not ready.special:
            return ids, starts_T, ends_T
        size = len(ready.stretched.chat.text)
        (first, last), (before, behind) = self.around, self._texts
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
            if ready.written is None:
                assert self._measured is not None
                made[name] = self._measured.columns[name](ids, spans)
            else:
                # A processor may leave the column out of a row without media.
                made[name] = ready.written.columns.get(name, np.zeros(len(ids), dtype=np.int8))
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


def _named(media: Sequence[Medium]) -> str:
    """The media of a row with the names of their files, for an error of the processor."""
    names = [f"{shown(name)} of {m.place}" if (name := name_of(m.source)) is not None else m.place for m in media]
    rest = "" if len(names) <= _NAMED else f" and {len(names) - _NAMED} more"
    return f"the media of the row ({', '.join(names[:_NAMED])}{rest})"


def _by_medium(found: Sequence[Placeholder], written: Sequence[str]) -> list[str]:
    """Texts of media in order of the messages; a processor gives them in order of the text."""
    order = sorted(range(len(found)), key=lambda at: found[at].start)
    return [text for _, text in sorted(zip(order, written))]


def _cover(tokenizer: Any, ids: Sequence[int], at: int) -> tuple[list[int], list[int]]:
    starts, ends = [], []
    for i in ids:
        size = len(str(tokenizer.convert_ids_to_tokens(i)))
        starts.append(at)
        ends.append(at + size)
        at += size
    return starts, ends
