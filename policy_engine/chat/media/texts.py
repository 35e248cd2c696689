"""The text of each medium of a chat: by the processor's own call, or by its size."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from policy_engine.chat.control_tokens import with_marks
from policy_engine.chat.media.by_size import COMPARED
from policy_engine.chat.media.in_messages import Medium, media_of
from policy_engine.chat.media.measured import ONE_IN, Columns, Measured, Size, measured, size_of
from policy_engine.chat.media.open_media import measure_image, name_of, open_image, shown
from policy_engine.chat.media.processor import MediaProcessor, WrittenMedia
from policy_engine.chat.media.sounds import Sound, open_sound, open_video, read_sound
from policy_engine.chat.media.stretch import Placeholder, matched
from policy_engine.chat.segments import RenderedChat
from policy_engine.chat.tokens.fast_backend import is_sampled
from policy_engine.core.errors import AttributionError, MediaError
from policy_engine.core.vocabulary import MediaKind

_NAMED: Final = 4
"""Media that an error of a row names."""
_SANITIZED: Final = {"sanitize_control_tokens": True}


@dataclass(frozen=True, kw_only=True)
class RowMedia:
    """The media of a chat in order of its messages, with placeholders, sizes and texts.

    `special` is true if the tokenizer adds its special tokens to the chat.
    """

    media: Sequence[Medium]
    placeholders: Sequence[Placeholder]
    texts: Sequence[str]
    sizes: Sequence[Size | None]
    special: bool
    written: WrittenMedia | None = None
    """Output of the processor itself; None where media were only measured."""
    columns: Mapping[str, Columns] | None = None
    """The columns of a row whose media were only measured."""


@dataclass(kw_only=True, eq=False)
class MediaTexts:
    """Texts of a processor's media.

    `adds` is true for a tokenizer that has special tokens to add around a text. `measures` becomes false where a row
    shows that the size of a medium does not decide its text.
    """

    media: MediaProcessor
    adds: bool
    measures: bool = True
    _measured: dict[frozenset[MediaKind], Measured | None] = field(default_factory=dict)
    _before: Iterator[int] = field(default_factory=itertools.count)
    """The number of rows before whose pictures were decoded."""

    def measured(self, kinds: Collection[MediaKind]) -> Measured | None:
        """A way to measure the media of a row with these kinds; None where they have to be decoded.

        A row without media is put together as those with pictures are.
        """
        if not (self.measures and self.media.options.measure):
            return None
        asked = frozenset(kinds) or frozenset[MediaKind](["image"])
        # One kind at a time, since it takes a second to learn.
        if asked not in self._measured:
            self._measured[asked] = None if "video" in asked else measured(self.media, asked)
        return self._measured[asked]

    def of(self, chat: RenderedChat) -> RowMedia:
        """The media of a chat, opened or measured.

        Raises MediaError for a medium that cannot be read or that the processor does not take, and AttributionError
        where it is not known what the processor writes for each.
        """
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
            self._check_sanitized(special and self.adds)
        known = self.measured({medium.kind for medium in media})
        if known is not None and known.takes(media) and not known.is_compared(chat.text, media):
            read = [self._read(medium) for medium in media]
            sizes = [size.size if isinstance(size, Sound) else size for size in read]
            texts = known.texts(media, sizes)
            if texts is not None:
                known.given = known.given or bool(media)
                return RowMedia(
                    media=media,
                    placeholders=found,
                    texts=texts,
                    sizes=sizes,
                    special=special,
                    columns=known.columns,
                )
            # A sound of a length that was not compared: its file is not decoded a second time.
            sounds = [sound if isinstance(sound, Sound) else None for sound in read]
            return self._decoded(chat, media, found, special, sounds)
        return self._decoded(chat, media, found, special, [None] * len(media))

    def given(self, chat: RenderedChat, written: Sequence[str]) -> RowMedia:
        """The media of a chat with the texts `written`, in order of the text; nothing is opened.

        Raises MediaError where there are more or fewer of them.
        """
        media = media_of(chat.messages)
        found = matched(chat, self._placeholders(chat), media)
        if len(written) != len(media):
            raise MediaError(
                f"{len(written)} texts are given for {len(media)} media", help="give one for each placeholder"
            )
        return RowMedia(
            media=media,
            placeholders=found,
            texts=_by_medium(found, written),
            sizes=[None] * len(media),
            special=self.media.adds_special(chat.text),
        )

    def _decoded(
        self,
        chat: RenderedChat,
        media: Sequence[Medium],
        found: Sequence[Placeholder],
        special: bool,
        sounds: Sequence[Sound | None],
    ) -> RowMedia:
        """The media by the processor's own call; `sounds` are those that were read."""
        opened = [self._open(medium) if sound is None else sound.samples() for medium, sound in zip(media, sounds)]
        by_kind: dict[MediaKind, list[Any]] = {}
        for medium, data in zip(media, opened):
            by_kind.setdefault(medium.kind, []).append(data)
        written = self._written(chat, media, by_kind)
        if len(written.texts) != len(media):
            raise AttributionError(
                f"{self.media.name} writes {len(written.texts)} media for {len(media)} of the row",
                help="drop the row",
            )
        texts = _by_medium(found, written.texts)
        self._check_sounds(media, opened, texts)
        self._compare(media, opened, texts)
        sizes = [None if m.kind == "video" else size_of(m.kind, o) for m, o in zip(media, opened)]
        return RowMedia(media=media, placeholders=found, texts=texts, sizes=sizes, special=special, written=written)

    def _written(
        self, chat: RenderedChat, media: Sequence[Medium], by_kind: Mapping[MediaKind, Sequence[Any]]
    ) -> WrittenMedia:
        what = _named(media)
        if chat.literals:
            return self.media.write(with_marks(chat.text, chat.literals), by_kind, _SANITIZED, what)
        if not (self.media.options.measure and self.media.is_quick(by_kind)):
            return self.media.write(chat.text, by_kind, what=what)
        quick = self.media.write_quickly(chat.text, by_kind, what)
        before = next(self._before)
        # The first rows and a sample of the others are the processor's own call, whatever samples showed.
        if before >= COMPARED and not is_sampled(chat.text, ONE_IN):
            return quick
        written = self.media.write(chat.text, by_kind, what=what)
        if not written.equals(quick):
            self.media.stop_quick()
            if before > COMPARED:
                raise _unlike(self.media.name, media)
        return written

    def _compare(self, media: Sequence[Medium], opened: Sequence[Any], texts: Sequence[str]) -> None:
        """Compares the texts of decoded media with those of their sizes.

        A difference ends measuring. Raises MediaError if rows were given by their sizes before.
        """
        known = self.measured({medium.kind for medium in media}) if media else None
        if known is None or not known.takes(media):
            return
        if known.agrees(media, [size_of(m.kind, o) for m, o in zip(media, opened)], texts):
            return
        self.measures = False
        # Before that, nothing is lost: the row is the processor's own.
        if known.given:
            raise _unlike(self.media.name, media)

    def _check_sounds(self, media: Sequence[Medium], opened: Sequence[Any], texts: Sequence[str]) -> None:
        for medium, sound, text in zip(media, opened, texts):
            kept = self.media.seconds_kept(sound, text) if medium.kind == "audio" else None
            if kept is not None:
                raise MediaError(
                    f"{medium.place} is a sound of {len(sound) / self.media.rate:.1f} s, of which {self.media.name} "
                    f"reads the first {kept:g} s alone",
                    help="split the sound into several, or drop the row",
                )

    def _read(self, medium: Medium) -> Sound | tuple[int, int]:
        """The sound, or the width and height of the picture."""
        options = self.media.options
        if medium.kind == "audio":
            return read_sound(medium.source, options, medium.place, rate=self.media.rate)
        return measure_image(medium.source, options, medium.place)

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


def _unlike(name: str, media: Sequence[Medium]) -> MediaError:
    return MediaError(
        f"{name} writes another text for {_named(media)} than for others of their size: rows before may have wrong ids",
        help="run again with --media-decode (MediaOptions(measure=False) in Python): every medium is decoded and given "
        "to the processor",
    )


def _named(media: Sequence[Medium]) -> str:
    """The media of a row with the names of their files, for an error of the processor."""
    names = [f"{shown(name)} of {m.place}" if (name := name_of(m.source)) is not None else m.place for m in media]
    rest = "" if len(names) <= _NAMED else f" and {len(names) - _NAMED} more"
    return f"the media of the row ({', '.join(names[:_NAMED])}{rest})"


def _by_medium(found: Sequence[Placeholder], written: Sequence[str]) -> list[str]:
    """Texts of media in order of the messages; a processor gives them in order of the text."""
    order = sorted(range(len(found)), key=lambda at: found[at].start)
    return [text for _, text in sorted(zip(order, written))]
