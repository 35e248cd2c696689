"""A rendered chat as long as its processor makes it: media replace their placeholders.

`replacements` of `<|image_pad|>` in `…start|><|image_pad|><|vi…` lengthen the `media.image` segment that holds it; what
comes behind moves. A placeholder in data is refused: it would take an image that is another message's.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from policy_engine.chat.media.in_messages import Medium
from policy_engine.chat.segments import RenderedChat, Segment
from policy_engine.core.errors import AttributionError, MediaError
from policy_engine.core.vocabulary import MEDIA, MediaKind
from policy_engine.core.wording import counted, field_path


@dataclass(frozen=True, kw_only=True)
class Placeholder:
    """Characters `[start, end)` of a rendered text that stand for one medium."""

    start: int
    end: int
    kind: MediaKind


@dataclass(frozen=True, kw_only=True)
class Stretched:
    """A chat with its media written out.

    With it come the characters `[start, end)` of each medium's replacement.
    """

    chat: RenderedChat
    ranges: tuple[tuple[int, int], ...]


def matched(chat: RenderedChat, found: Sequence[Placeholder], media: Sequence[Medium]) -> list[Placeholder]:
    """The placeholder of each medium.

    Raises MediaError for a placeholder in data, for as many of a kind as there are not media, and where the template
    writes media in another order than the conversation has them.
    """
    starts = [segment.start for segment in chat.segments]
    of: list[Placeholder | None] = [None] * len(media)
    waiting: dict[str, list[int]] = {}
    for at, medium in enumerate(media):
        waiting.setdefault(medium.kind, []).append(at)
    counts = {kind: sum(p.kind == kind for p in found) for kind in ("image", "video", "audio")}
    for placeholder in found:
        # A placeholder may go over several segments; each of them is looked at.
        at = bisect_right(starts, placeholder.start) - 1
        while at < len(starts) and starts[at] < placeholder.end:
            segment = chat.segments[at]
            if (segment.from_data or segment.unknown) and segment.part not in MEDIA:
                raise written_in(chat, placeholder.start, chat.text[placeholder.start : placeholder.end])
            at += 1
    for kind, count in counts.items():
        if count != len(waiting.get(kind, ())):
            raise MediaError(
                f"the template writes {counted(count, f'{kind} placeholder')} for "
                f"{counted(len(waiting.get(kind, ())), kind)} of the conversation",
                help="use a template that writes one placeholder for each, in the roles that the data has them in",
            )
    # The n-th placeholder of a kind is the n-th medium of that kind, as processors have it.
    taken: dict[str, int] = {}
    for placeholder in found:
        at = waiting[placeholder.kind][taken.get(placeholder.kind, 0)]
        taken[placeholder.kind] = taken.get(placeholder.kind, 0) + 1
        segment = chat.segments[bisect_right(starts, placeholder.start) - 1]
        medium = media[at]
        if segment.part in MEDIA and (segment.turn, segment.item) != (medium.turn, medium.item):
            raise MediaError(
                f"the template writes the {medium.kind}s of the conversation in another order: {medium.place} is next, "
                f"and it writes messages[{segment.turn}].content[{segment.item}]",
                help="use a template that keeps their order: a processor would take one for another",
            )
        of[at] = placeholder
    return [placeholder for placeholder in of if placeholder is not None]


def stretch(
    chat: RenderedChat,
    placeholders: Sequence[Placeholder],
    media: Sequence[Medium],
    texts: Sequence[str],
    *,
    prefix: str = "",
    suffix: str = "",
) -> Stretched:
    """The chat with `texts` in place of the placeholders; all three are by medium.

    `prefix` and `suffix` are what the tokenizer adds around the text (`<s>`), as segments of their own.

    >>> segments = (Segment(start=0, end=3, part="media.image", turn=0), Segment(start=3, end=5, part="text", turn=0))
    >>> chat = RenderedChat(text="<i>Hi", segments=segments, messages=({"role": "user"},), sample={})
    >>> medium = Medium(kind="image", turn=0, item=0, source=None)
    >>> made = stretch(chat, [Placeholder(start=0, end=3, kind="image")], [medium], ["<i><i>"])
    >>> made.chat.text, [(s.start, s.end) for s in made.chat.segments], made.ranges
    ('<i><i>Hi', [(0, 6), (6, 8)], ((0, 6),))
    """
    if not (media or prefix or suffix):
        return Stretched(chat=chat, ranges=())
    # In order of the text, which may mix kinds in another order than the messages.
    order = sorted(range(len(media)), key=lambda at: placeholders[at].start)
    pieces: list[str] = [prefix]
    segments: list[Segment] = []
    ranges: list[tuple[int, int]] = [(0, 0)] * len(media)
    if prefix:
        segments.append(Segment(start=0, end=len(prefix), part="bos", turn=None))
    size, read = len(prefix), 0
    cuts: list[tuple[int, int, int]] = []  # old end, new start, new end of each replacement
    for at in order:
        placeholder = placeholders[at]
        kept = chat.text[read : placeholder.start]
        pieces += (kept, texts[at])
        size += len(kept)
        ranges[at] = (size, size + len(texts[at]))
        cuts.append((placeholder.end, size, size + len(texts[at])))
        size += len(texts[at])
        read = placeholder.end
    pieces += (chat.text[read:], suffix)
    segments += _moved(chat, [placeholders[at] for at in order], [media[at] for at in order], cuts, len(prefix))
    text = "".join(pieces)
    if suffix:
        # A further end marker of the last turn: `</s>` behind an answer.
        last = next((s.turn for s in reversed(chat.segments) if s.turn is not None), None)
        part = "eod" if last is not None else "preamble"
        segments.append(Segment(start=len(text) - len(suffix), end=len(text), part=part, turn=last))
    now = _places([placeholders[at].end for at in order], cuts, len(prefix))
    literals = tuple([(now(start), now(end)) for start, end in chat.literals])
    return Stretched(chat=replace(chat, text=text, segments=tuple(segments), literals=literals), ranges=tuple(ranges))


def _places(ends: Sequence[int], cuts: Sequence[tuple[int, int, int]], shift: int) -> Callable[[int], int]:
    """The new place of a character, by the old ends of replacements and where these are now."""

    def now(char: int) -> int:
        done = bisect_right(ends, char)
        # Behind a replacement, counted from its end.
        return char + shift if not done else cuts[done - 1][2] + char - ends[done - 1]

    return now


def _moved(
    chat: RenderedChat,
    placeholders: Sequence[Placeholder],
    media: Sequence[Medium],
    cuts: Sequence[tuple[int, int, int]],
    shift: int,
) -> Iterator[Segment]:
    """The segments at their new places.

    A placeholder in scaffold of another part becomes a segment of its own.
    """
    now = _places([placeholder.end for placeholder in placeholders], cuts, shift)
    at = 0
    for segment in chat.segments:
        start = segment.start
        while at < len(placeholders) and placeholders[at].start < segment.end:
            placeholder, medium = placeholders[at], media[at]
            if placeholder.end > segment.end:
                raise AttributionError(
                    f"the placeholder of {medium.place} is written in two pieces",
                    help="use a template that writes it as one",
                )
            # `<|image_pad|>` that the template writes for an `image` part is labelled already; this one is in other
            # scaffold.
            if segment.part not in MEDIA:
                if start < placeholder.start:
                    yield replace(segment, start=now(start), end=now(placeholder.start))
                yield Segment(
                    start=cuts[at][1],
                    end=cuts[at][2],
                    part=f"media.{medium.kind}",
                    turn=medium.turn,
                    item=medium.item,
                    line=segment.line,
                )
                start = placeholder.end
            at += 1
        if start < segment.end:
            yield replace(segment, start=now(start), end=now(segment.end))


def written_in(chat: RenderedChat, char: int, written: str) -> MediaError:
    """The error for a medium's token at a character that no medium wrote.

    It names the message and the field.
    """
    segment = next(s for s in chat.segments if s.start <= char < s.end)
    where = "the row" if segment.turn is None else f"messages[{segment.turn}] (`{chat.role(segment)}`)"
    what = f"`{field_path(segment.field)}`" if segment.field else f"the `{segment.part}`"
    return MediaError(
        f"{what} of {where} writes `{written}`, which the processor would take for a medium",
        help="write it in another way, or drop the row; media are content parts of their own type",
    )


def tokens_of(ranges: Sequence[tuple[int, int]], starts_T: Any, ends_T: Any, media: Sequence[Medium]) -> list[Any]:
    """The tokens `(first, count)` inside each range of characters.

    Raises MediaError for a range without characters, and AttributionError for one without a token.

    >>> import numpy as np
    >>> medium = Medium(kind="image", turn=0, item=0, source=None)
    >>> tokens_of([(2, 8)], np.array([0, 2, 5, 8]), np.array([2, 5, 8, 9]), [medium])
    [(1, 2)]
    """
    found = []
    for (start, end), medium in zip(ranges, media):
        if start == end:
            raise MediaError(
                f"the processor writes no token for {medium.place}: it is too short or too small",
                help="drop the row, or take a longer one",
            )
        # Tokens of no width at either edge are the neighbours'.
        first = max(int(starts_T.searchsorted(start)), int(ends_T.searchsorted(start, side="right")))
        stop = min(int(ends_T.searchsorted(end, side="right")), int(starts_T.searchsorted(end)))
        # What is written may open with a line break, which merges with one before it: that token straddles.
        if stop <= first:
            raise AttributionError(
                f"{medium.place} has no token of its own",
                help="add the processor's placeholders to the tokenizer as special tokens",
            )
        found.append((first, stop - first))
    return found
