"""Which part of a turn each character is, decided from provenance and the template's profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from policy_engine.chat.bits import Bit
from policy_engine.chat.markers import REASONING, Markers, ends_document, is_closing_tag
from policy_engine.chat.profile import TemplateProfile, common_prefix
from policy_engine.chat.trace_text import LOST, UNKNOWN

REASONING_FIELDS = frozenset({"reasoning_content", "reasoning", "thinking", "tool_plan", "thought", "reasoning_text"})


class Piece:
    """Part of a bit: characters `[start, end)`, with the part they are and the turn that owns them."""

    __slots__ = ("bit", "call", "end", "item", "part", "start", "turn")

    def __init__(self, bit: Bit, start: int, end: int, part: str, turn: int | None, call: int | None) -> None:
        self.bit = bit
        self.start = start
        self.end = end
        self.part = part
        self.turn = turn
        self.call = bit.call if bit.call is not None else call
        self.item = bit.item


class Zone:
    """Consecutive scaffold of one turn, seen as one text."""

    def __init__(self, text: str, bits: Sequence[Bit]) -> None:
        self.bits = [b for b in bits if b.end > b.start]
        self.text = "".join(text[b.start : b.end] for b in self.bits)

    def label(
        self, out: list[Piece], begin: int, end: int, part: str, turn: int | None = None, call: int | None = None
    ) -> None:
        """Label characters `[begin, end)` of the zone; `turn` is the bits' own unless given."""
        at = 0
        for bit in self.bits:
            size = bit.end - bit.start
            low, high = max(begin, at), min(end, at + size)
            if low < high:
                owner = bit.turn if turn is None else turn
                out.append(Piece(bit, bit.start + low - at, bit.start + high - at, part, owner, call))
            at += size


class Labeller:
    """Labels one rendering. `source` is the template, `models` the roles a model writes."""

    def __init__(
        self,
        text: str,
        bits: Sequence[Bit],
        messages: Sequence[Mapping[str, Any]],
        profile: TemplateProfile,
        markers: Markers,
        delimiters: Sequence[tuple[str, str]],
        models: frozenset[str],
    ) -> None:
        self.text = text
        self.bits = bits
        self.messages = messages
        self.profile = profile
        self.markers = markers
        self.delimiters = delimiters
        self.models = models
        self.out: list[Piece] = []
        self._ended: set[int] = set()
        self._last_data = max((bit.end for bit in bits if bit.is_data), default=0)

    def run(self) -> list[Piece]:
        """Every character's piece, in order, gapless."""
        turns: dict[int, list[Bit]] = {}
        order: list[int] = []
        for bit in self.bits:
            if bit.turn is None:
                self._unowned(bit)
                continue
            if bit.turn not in turns:
                turns[bit.turn] = []
                order.append(bit.turn)
            turns[bit.turn].append(bit)
        for place, turn in enumerate(order):
            previous = order[place - 1] if place else None
            self._turn(turn, turns[turn], previous)
        self.out.sort(key=lambda piece: piece.start)
        return self.out

    def _unowned(self, bit: Bit) -> None:
        if bit.end == bit.start:
            return
        path = bit.origin.path[0] if bit.origin is not None and bit.origin is not UNKNOWN else bit.beside
        part = f"preamble.{path}" if path in ("tools", "documents") else "preamble"
        begin = bit.start
        if begin == 0 and bit.origin is None:
            size = min(self.markers.leading_bos(self.text), bit.end)
            if size:
                self.out.append(Piece(bit, 0, size, "bos", None, None))
                begin = size
        if begin < bit.end:
            self.out.append(Piece(bit, begin, bit.end, part, None, None))

    def _turn(self, turn: int, own: list[Bit], previous: int | None) -> None:
        is_model = str(self.messages[turn].get("role")) in self.models
        kinds = {id(bit): kind for bit in own if (kind := self._kind(bit, turn)) is not None}
        anchors = [b for b in own if id(b) in kinds]
        if not anchors:
            # A turn all of whose data is missing or was dropped: the opening is what it opens with elsewhere.
            self._bare(turn, Zone(self.text, own), is_model, previous)
            return
        first, last = anchors[0], anchors[-1]
        opening = [b for b in own if id(b) not in kinds and b.end <= first.start]
        closing = [b for b in own if id(b) not in kinds and b.start >= last.end]
        done = {id(b) for b in opening} | {id(b) for b in closing}
        body_start = self._open(turn, Zone(self.text, opening), kinds[id(first)], is_model, previous, first)
        self._between(turn, [b for b in own if id(b) not in done], kinds)
        for bit in anchors:
            self._data(turn, bit, kinds[id(bit)], body_start)
        self._close(turn, Zone(self.text, closing), kinds[id(last)], is_model, last)

    def _kind(self, bit: Bit, turn: int) -> str | None:
        """What an anchor of the body is: `reasoning`, `text`, `call`, `media`; None for scaffold and labels."""
        if bit.origin is None or bit.origin is UNKNOWN:
            content = self.messages[turn].get("content")
            if bit.item is not None and isinstance(content, list) and bit.item < len(content):
                entry = content[bit.item]
                if isinstance(entry, Mapping) and entry.get("type", "text") != "text" and bit.end > bit.start:
                    # Scaffold that the template writes for a part that is not text stands for that part.
                    marker = self.text[bit.start : bit.end].strip()
                    return "media" if marker else None
            return None
        path = bit.origin.path
        if not bit.is_data:
            return None
        if bit.origin.turn != turn:
            return None  # a name or id of another message, printed to label this one
        if path[0] == "tool_calls":
            return "call"
        if path[0] in REASONING_FIELDS or (len(path) > 2 and path[2] in REASONING_FIELDS):
            return "reasoning"
        if path[0] == "content":
            if len(path) > 2 and path[2] not in ("text", "content"):
                return "media"
            return self._content_kind(bit, turn)
        return "text"

    def _content_kind(self, bit: Bit, turn: int) -> str:
        if str(self.messages[turn].get("role")) not in self.models or bit.offset == LOST or not self.delimiters:
            return "text"
        whole = _field(self.messages[turn], bit.origin.path)  # type: ignore[union-attr]
        if not isinstance(whole, str):
            return "text"
        for _, close in self.delimiters:
            at = whole.find(close)
            if at < 0:
                continue
            size = bit.end - bit.start
            # The template cut the content at the delimiter and dropped it: what stood before it is the thinking.
            if bit.offset + size <= at and size and whole[bit.offset : at].strip():
                return "reasoning"
            return "text"
        return "text"

    # Opening

    def _open(
        self, turn: int, zone: Zone, first_kind: str, is_model: bool, previous: int | None, first: Bit
    ) -> int:
        """Label the opening; returns where in the text the header ends, which may lie inside the data."""
        text = zone.text
        begin = self._leading_bos(zone)
        begin = self._late(turn, zone, begin, previous)
        if not is_model:
            zone.label(self.out, begin, len(text), "header")
            return first.start
        start = first.start - len(text) + begin
        header = begin + self._header_length(start, text[begin:], previous, first, turn)
        inside = max(0, header - len(text))
        header = min(header, len(text))
        zone.label(self.out, begin, header, "header")
        rest = text[header:]
        if rest:
            self._after_header(zone, header, rest, text[:header], first_kind, first)
        return first.start + inside

    def _after_header(self, zone: Zone, begin: int, rest: str, header: str, first_kind: str, first: Bit) -> None:
        stop = begin
        for open_, close in (*self.delimiters, *REASONING):
            at = rest.find(close)
            if at < 0:
                continue
            lead = rest[:at]
            opened = lead.rfind(open_)
            # Without an opening delimiter, the prompt wrote it, or the template closes thinking that never opened.
            between = lead[opened + len(open_) :] if opened >= 0 else lead
            if not between.strip():
                low = begin + max(opened, 0)
                stop = begin + at + len(close)
                while stop < begin + len(rest) and rest[stop - begin].isspace():
                    stop += 1
                zone.label(self.out, begin, low, "markup")
                zone.label(self.out, low, stop, "empty_reasoning")
                break
        part = {"reasoning": "reasoning.open", "call": "tool_call", "media": "markup"}.get(first_kind, "markup")
        zone.label(self.out, stop, begin + len(rest), part, call=first.call)

    def _leading_bos(self, zone: Zone) -> int:
        if zone.bits and zone.bits[0].start == 0:
            size = self.markers.leading_bos(self.text)
            if 0 < size <= len(zone.text):
                at = 0
                for bit in zone.bits:
                    if at < size:
                        end = min(bit.end - bit.start, size - at)
                        self.out.append(Piece(bit, bit.start, bit.start + end, "bos", None, None))
                    at += bit.end - bit.start
                return size
        return 0

    def _late(self, turn: int, zone: Zone, begin: int, previous: int | None) -> int:
        """Cut off what belongs to the turn before: a closing written late, or an opener that is its end marker."""
        if previous is None:
            return begin
        before, role = str(self.messages[previous].get("role")), str(self.messages[turn].get("role"))
        if before not in self.models:
            return begin
        key = (next(iter(self.models)) if before not in self.profile.openings else before, role)
        late = self.profile.late.get((before, role)) or self.profile.late.get(key, "")
        if late and zone.text.startswith(late, begin):
            self._closing(zone, begin, begin + len(late), previous, "text", None)
            return begin + len(late)
        if self.profile.opener_ends and previous not in self._ended and role not in self.models:
            spans = self.markers.spans(zone.text[begin:])
            if spans and not zone.text[begin : begin + spans[0][0]].strip():
                low, high = begin + spans[0][0], begin + spans[0][1]
                zone.label(self.out, begin, low, "separator", previous)
                zone.label(self.out, low, high, "eot", previous)
                self._ended.add(previous)
                return high
        return begin

    def _header_length(self, start: int, opening: str, previous: int | None, first: Bit, turn: int) -> int:
        """How many characters from `start` on the generation prompt supplies."""
        before = None if previous is None else str(self.messages[previous].get("role"))
        prompt = self.profile.prompt(before)
        if prompt.strip():
            best = common_prefix(self.text[start : start + len(prompt)], prompt)
            if best < len(prompt):
                # The prompt may begin with text that closed the turn before, or with blanks the history lacks.
                for back in range(1, min(len(prompt), start) + 1):
                    if self.text.startswith(prompt[:back], start - back):
                        best = max(best, common_prefix(self.text[start : start + len(prompt)], prompt[back:]))
                stripped = prompt.lstrip()
                lead = len(opening) - len(opening.lstrip())
                shifted = common_prefix(self.text[start + lead : start + lead + len(stripped)], stripped)
                if shifted and lead + shifted > best and lead:
                    best = lead + shifted
            if best > len(opening) and best < len(prompt):
                best = len(opening)
            if best > len(opening):
                # Into the data only as far as the prompt itself goes: a `<think>` that the prompt prefills.
                return best if self._prefills(first, start + best) else len(opening)
            best = self.markers.back_to_boundary(opening, best)
            if opening[:best].strip():
                return best
        usual = self.profile.opening(before)
        if not usual.strip():
            return 0
        return self.markers.back_to_boundary(opening, common_prefix(opening, usual))

    def _prefills(self, first: Bit, end: int) -> bool:
        written = self.text[first.start : end].strip()
        return first.end >= end and any(written == open_ for open_, _ in self.delimiters)

    def _bare(self, turn: int, zone: Zone, is_model: bool, previous: int | None) -> None:
        if not zone.bits:
            return
        begin = self._leading_bos(zone)
        begin = self._late(turn, zone, begin, previous)
        text = zone.text
        if is_model:
            fake = Bit(zone.bits[-1].end, zone.bits[-1].end, None, LOST, _NO_CLAIM, None)
            header = begin + self._header_length(zone.bits[0].start + begin, text[begin:], previous, fake, turn)
        else:
            marker = self.profile.marker
            at = text.rfind(marker) if marker else -1
            header = at if at > begin else len(text)
        zone.label(self.out, begin, header, "header")
        rest = text[header:]
        for open_, close in (*self.delimiters, *REASONING):
            at = rest.find(close)
            if is_model and at >= 0 and not rest[:at].replace(open_, "").strip():
                stop = header + at + len(close)
                while stop < len(text) and text[stop].isspace():
                    stop += 1
                zone.label(self.out, header, stop, "empty_reasoning")
                header = stop
                break
        self._closing(zone, header, len(text), turn, "text", None)

    # Between the data

    def _between(self, turn: int, inner: list[Bit], kinds: dict[int, str]) -> None:
        group: list[Bit] = []
        left: Bit | None = None
        for bit in inner:
            if id(bit) in kinds:
                self._gap(group, left, bit, kinds)
                group, left = [], bit
            else:
                group.append(bit)
        if group:
            self._gap(group, left, None, kinds)

    def _gap(self, group: list[Bit], left: Bit | None, right: Bit | None, kinds: dict[int, str]) -> None:
        if not group:
            return
        zone = Zone(self.text, group)
        before = kinds[id(left)] if left is not None else "text"
        after = kinds[id(right)] if right is not None else before
        size = len(zone.text)
        call = right.call if right is not None else left.call if left is not None else None
        if before == "reasoning" and after == "reasoning":
            zone.label(self.out, 0, size, "reasoning.text")
        elif before == "reasoning":
            end = self._reasoning_end(zone.text) if after == "call" or self._has_end(zone.text) else size
            zone.label(self.out, 0, end, "reasoning.close")
            zone.label(self.out, end, size, "tool_call" if after == "call" else "markup", call=call)
        elif after == "reasoning":
            zone.label(self.out, 0, size, "reasoning.open")
        elif "call" in (before, after):
            zone.label(self.out, 0, size, "tool_call", call=call)
        else:
            zone.label(self.out, 0, size, "markup")

    def _has_end(self, text: str) -> bool:
        return self.profile.marker is not None and self.profile.marker in text

    def _reasoning_end(self, text: str) -> int:
        """Where the closing delimiter of thinking ends, with the blanks after it."""
        end = 0
        if self._has_end(text):
            end = text.index(str(self.profile.marker)) + len(str(self.profile.marker))
        else:
            for _, close in (*self.delimiters, *REASONING):
                if close in text:
                    end = text.index(close) + len(close)
                    break
            else:
                spans = self.markers.spans(text)
                end = spans[0][1] if spans else len(text)
            while end < len(text) and text[end].isspace():
                end += 1
        return end

    # Data

    def _data(self, turn: int, bit: Bit, kind: str, body_start: int) -> None:
        start = bit.start
        if start < body_start and bit.end > start:
            stop = min(body_start, bit.end)
            self.out.append(Piece(bit, start, stop, "header", turn, None))
            start = stop
        if start == bit.end:
            return
        if kind == "call":
            path = bit.origin.path if bit.origin else ()
            part = "tool_call"
            if "arguments" in path or "parameters" in path:
                part = "tool_call.arguments"
            elif path and path[-1] == "name":
                part = "tool_call.name"
            self.out.append(Piece(bit, start, bit.end, part, turn, None))
        elif kind == "reasoning":
            self.out.append(Piece(bit, start, bit.end, "reasoning.text", turn, None))
        elif kind == "media":
            self.out.append(Piece(bit, start, bit.end, "media", turn, None))
        else:
            self._text(turn, bit, start)

    def _text(self, turn: int, bit: Bit, start: int) -> None:
        """Content as it stands; thinking in it is split off where the template itself knows the delimiters."""
        value = self.text[start : bit.end]
        if str(self.messages[turn].get("role")) in self.models and bit.offset != LOST and self._is_first(bit, turn):
            for open_, close in self.delimiters:
                at = value.find(close)
                if at < 0:
                    continue
                lead = len(value) - len(value.lstrip())
                opened = value.startswith(open_, lead)
                if not opened and not self.text[:start].rstrip().endswith(open_):
                    break
                text_at = lead + len(open_) if opened else 0
                while text_at < at and value[text_at].isspace() and opened:
                    text_at += 1
                stop = at
                while stop > text_at and value[stop - 1].isspace():
                    stop -= 1
                end = at + len(close)
                while end < len(value) and value[end].isspace():
                    end += 1
                for low, high, part in (
                    (0, text_at, "reasoning.open"),
                    (text_at, stop, "reasoning.text"),
                    (stop, end, "reasoning.close"),
                ):
                    if low < high:
                        self.out.append(Piece(bit, start + low, start + high, part, turn, None))
                start += end
                break
        if start < bit.end:
            self.out.append(Piece(bit, start, bit.end, "text", turn, None))

    def _is_first(self, bit: Bit, turn: int) -> bool:
        whole = _field(self.messages[turn], bit.origin.path) if bit.origin else None
        return isinstance(whole, str) and not whole[: bit.offset].strip()

    # Closing

    def _close(self, turn: int, zone: Zone, last_kind: str, is_model: bool, last: Bit) -> None:
        self._closing(zone, 0, len(zone.text), turn, last_kind, last)

    def _closing(self, zone: Zone, begin: int, end: int, turn: int, last_kind: str, last: Bit | None) -> None:
        """Label `[begin, end)` of a zone as the end of `turn`: body scaffold, end marker, further ends, separator."""
        text = zone.text[begin:end]
        if not text:
            return
        suffix = self._suffix(zone, begin, text, turn)
        if suffix < len(text):
            opener = (self.profile.opening(None) or self.profile.prompt(None)).strip()
            is_prompt = bool(opener) and opener in text[suffix:]
            self._unowned_suffix(zone, begin + suffix, end, "generation_prompt" if is_prompt else "preamble")
            end, text = begin + suffix, text[:suffix]
            if not text:
                return
        eot = self._end_marker(text, last_kind)
        inner = {"call": "tool_call", "reasoning": "reasoning.close", "media": "markup"}.get(last_kind, "markup")
        call = last.call if last is not None else None
        if eot is None:
            # Blanks around turns without an end marker separate; anything else is the author's scaffold.
            stop = len(text.rstrip())
            zone.label(self.out, begin, begin + stop, inner, turn, call)
            zone.label(self.out, begin + stop, end, "separator", turn)
            return
        self._ended.add(turn)
        low, high = eot
        zone.label(self.out, begin, begin + low, inner, turn, call)
        zone.label(self.out, begin + low, begin + high, "eot", turn)
        at = high
        for start, stop in self.markers.spans(text[high:]):
            zone.label(self.out, begin + at, begin + high + start, "separator", turn)
            zone.label(self.out, begin + high + start, begin + high + stop, "eod", turn)
            at = high + stop
        zone.label(self.out, begin + at, end, "separator", turn)

    def _suffix(self, zone: Zone, begin: int, text: str, turn: int) -> int:
        """Where text begins that the template appends after the conversation, whoever spoke last.

        Only text written outside loops counts: a judge's instructions, an opener that ignores `add_generation_prompt`. What
        ends turns in mid conversation, and what ends the document, still belongs to the last turn.
        """
        at = 0
        for bit in zone.bits:
            size = bit.end - bit.start
            if at >= begin and bit.adopted and bit.end > self._last_data:
                break
            at += size
        else:
            return len(text)
        outside = at - begin
        stop = outside
        marker = self.profile.marker
        found = text.find(marker) if marker else -1
        if found >= 0 and marker:
            stop = max(stop, found + len(marker))
        elif str(self.messages[turn].get("role")) not in self.models and not self.markers.spans(text[stop:]):
            return len(text)
        spans = [s for s in self.markers.spans(text) if s[0] >= stop]
        if found < 0 and len(spans) == 1 and not text[spans[0][1] :].strip() and not text[stop : spans[0][0]].strip():
            return len(text)
        for low, high in spans:
            if text[stop:low].strip() or not ends_document(text[low:high], self.markers.eos):
                break
            stop = high
        while stop < len(text) and text[stop].isspace():
            stop += 1
        return stop

    def _unowned_suffix(self, zone: Zone, begin: int, end: int, part: str) -> None:
        start = len(self.out)
        zone.label(self.out, begin, end, part)
        for piece in self.out[start:]:
            piece.turn = piece.call = piece.item = None

    def _end_marker(self, text: str, last_kind: str) -> tuple[int, int] | None:
        marker = self.profile.marker
        if marker is not None:
            at = text.rfind(marker) if last_kind == "call" else text.find(marker)
            if at >= 0:
                return at, at + len(marker)
        spans = self.markers.spans(text)
        if not spans:
            return None
        low, high = spans[-1]
        if is_closing_tag(text[low:high]) and (last_kind in ("call", "reasoning") or text[low] == "<"):
            return None
        return low, high


class _Claim:
    turn = call = item = None
    branch = 0


_NO_CLAIM: Any = _Claim()


def _field(message: Mapping[str, Any], path: Sequence[str | int]) -> Any:
    value: Any = message
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return value
