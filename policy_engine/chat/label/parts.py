"""Which part of a turn each character is, decided from provenance and the template's profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from policy_engine.chat.label.board import Chart, Labelled, Zone, after_blanks, field_value
from policy_engine.chat.label.closings import label_closing
from policy_engine.chat.label.openings import label_bare, label_early, label_opening
from policy_engine.chat.label.sources import Bit
from policy_engine.chat.trace.origins import LOST, UNKNOWN
from policy_engine.core.vocabulary import MEDIA_TYPES, MESSAGE_FIELDS, part_kind


def label(chart: Chart) -> list[Labelled]:
    """Every character's piece, in order, gapless."""
    turns: dict[int, list[Bit]] = {}
    _unmerge(chart)
    for bit in chart.bits:
        if bit.turn is None:
            _unowned(chart, bit)
        else:
            turns.setdefault(bit.turn, []).append(bit)
    previous: int | None = None
    for turn, own in turns.items():
        _turn(chart, turn, own, previous)
        previous = turn
    chart.out.sort(key=lambda piece: piece.start)
    return chart.out


def _unmerge(chart: Chart) -> None:
    """Where a template joins consecutive messages of one role into one, what follows the data of one is that one's."""
    last: Bit | None = None
    for bit in chart.bits:
        if bit.is_data:
            last = bit
        elif last is not None and _is_joined(chart, last, bit):
            bit.turn = last.turn


def _is_joined(chart: Chart, last: Bit, bit: Bit) -> bool:
    """Whether scaffold written for one message stands behind the data of a later one of its role."""
    if last.turn is None or bit.turn is None or last.turn <= bit.turn or last.written_in != bit.turn:
        return False
    return chart.role(last.turn) == chart.role(bit.turn)


def _unowned(chart: Chart, bit: Bit) -> None:
    source = bit.origin.path[0] if bit.origin is not None and bit.origin is not UNKNOWN else bit.beside
    begin = bit.start
    if begin == 0 and bit.origin is None:
        begin = min(chart.markers.leading_bos(chart.text), bit.end)
        chart.add(bit, 0, begin, "bos", None)
    part = f"preamble.{source}" if source in ("tools", "documents") else "preamble"
    chart.add(bit, begin, bit.end, part, None)


def _turn(chart: Chart, turn: int, own: Sequence[Bit], previous: int | None) -> None:
    kinds = {id(bit): kind for bit in own if (kind := _kind(chart, bit, turn)) is not None}
    anchors = [bit for bit in own if id(bit) in kinds]
    if not anchors:
        label_bare(chart, turn, Zone(chart, own), previous)
        return
    first, last = anchors[0], anchors[-1]
    opening = [bit for bit in own if id(bit) not in kinds and bit.end <= first.start]
    closing = [bit for bit in own if id(bit) not in kinds and bit.start >= last.end]
    outside = {id(bit) for bit in (*opening, *closing)}
    body = label_opening(chart, turn, Zone(chart, opening), kinds[id(first)], previous, first)
    _between(chart, [bit for bit in own if id(bit) not in outside], kinds)
    for bit in anchors:
        _data(chart, turn, bit, kinds[id(bit)], body)
    zone = Zone(chart, closing)
    label_closing(chart, zone, 0, label_early(chart, turn, zone, 0), turn, kinds[id(last)], last)


def _kind(chart: Chart, bit: Bit, turn: int) -> str | None:
    """The kind of data in the body: `reasoning`, `text`, `call`, `media`, `markup`; None for scaffold and labels."""
    origin = bit.origin
    if origin is None or origin is UNKNOWN:
        return _placeholder(chart, bit, turn)
    # A name or id of another message, printed to label this one, is scaffold.
    if not bit.is_data or origin.turn != turn:
        return None
    path = origin.path
    if not path:
        return "text"
    if path[0] != "content":
        kind = MESSAGE_FIELDS.get(str(path[0]), "label")
        return "markup" if kind == "label" else kind
    part = field_value(chart.messages[turn], path[:2]) if len(path) > 2 else None
    if isinstance(part, Mapping):
        kind = part_kind(part) or ("text" if path[2] in ("text", "content") else "media")
        if kind != "text":
            return kind
        if MESSAGE_FIELDS.get(str(path[2])) != "text":
            return "markup"
    return _content_kind(chart, bit, turn, path)


def _placeholder(chart: Chart, bit: Bit, turn: int) -> str | None:
    """Scaffold that the template writes for a content part that is not text stands for that part."""
    content = chart.messages[turn].get("content")
    if bit.item is None or not isinstance(content, list) or bit.item >= len(content):
        return None
    entry = content[bit.item]
    if not isinstance(entry, Mapping) or part_kind(entry) in ("text", "reasoning", "call"):
        return None
    return "media" if chart.text[bit.start : bit.end].strip() else None


def _content_kind(chart: Chart, bit: Bit, turn: int, path: Sequence[str | int]) -> str:
    if not chart.is_model(turn) or bit.offset == LOST or not chart.delimiters:
        return "text"
    whole = field_value(chart.messages[turn], path)
    if isinstance(whole, str):
        for _, close in chart.delimiters:
            at = whole.find(close)
            if at >= 0:
                # Where the template cuts the content at the delimiter and drops it, what stood before is the thinking.
                size = bit.end - bit.start
                cut = 0 < size <= at - bit.offset and whole[bit.offset : at].strip()
                return "reasoning" if cut else "text"
    return "text"


def _between(chart: Chart, inner: Sequence[Bit], kinds: Mapping[int, str]) -> None:
    group: list[Bit] = []
    left: Bit | None = None
    for bit in inner:
        if id(bit) in kinds:
            _gap(chart, group, left, bit, kinds)
            group, left = [], bit
        else:
            group.append(bit)
    _gap(chart, group, left, None, kinds)


def _gap(chart: Chart, group: Sequence[Bit], left: Bit | None, right: Bit | None, kinds: Mapping[int, str]) -> None:
    """Label scaffold between two stretches of data of a turn."""
    if not group:
        return
    zone = Zone(chart, group)
    before = kinds[id(left)] if left is not None else "text"
    after = kinds[id(right)] if right is not None else before
    size = len(zone.text)
    near = right if right is not None else left
    call = near.call if near is not None else None
    if before == after == "reasoning":
        zone.label(0, size, "reasoning.text")
    elif before == "reasoning":
        end = _reasoning_end(chart, zone.text) if after == "call" or _has_end(chart, zone.text) else size
        zone.label(0, end, "reasoning.close")
        zone.label(end, size, "tool_call" if after == "call" else "markup", call=call)
    elif after == "reasoning":
        zone.label(0, size, "reasoning.open")
    else:
        zone.label(0, size, "tool_call" if "call" in (before, after) else "markup", call=call)


def _has_end(chart: Chart, text: str) -> bool:
    return chart.profile.marker is not None and chart.profile.marker in text


def _reasoning_end(chart: Chart, text: str) -> int:
    """Where the closing delimiter of thinking ends, with the blanks after it."""
    marker = chart.profile.marker
    if marker is not None and marker in text:
        return text.index(marker) + len(marker)
    for _, close in chart.pairs:
        if close in text:
            return after_blanks(text, text.index(close) + len(close))
    spans = chart.markers.spans(text)
    return after_blanks(text, spans[0][1]) if spans else len(text)


def _data(chart: Chart, turn: int, bit: Bit, kind: str, body: int) -> None:
    """Label data; what lies before `body` was prefilled by the generation prompt."""
    start = max(bit.start, min(body, bit.end))
    chart.add(bit, bit.start, start, "header", turn)
    if kind == "call":
        path = bit.origin.path if bit.origin else ()
        part = "tool_call"
        if "arguments" in path or "parameters" in path or "input" in path:
            part = "tool_call.arguments"
        elif path and path[-1] == "name":
            part = "tool_call.name"
        chart.add(bit, start, bit.end, part, turn)
    elif kind == "text":
        _text(chart, turn, bit, start)
    else:
        part = "reasoning.text" if kind == "reasoning" else _media_part(chart, bit, turn) if kind == "media" else kind
        chart.add(bit, start, bit.end, part, turn)


def _media_part(chart: Chart, bit: Bit, turn: int) -> str:
    """`media.image` for `<|image_pad|>` of a content part of type `image`; `media` for a type that is not known."""
    content = chart.messages[turn].get("content")
    entry = content[bit.item] if isinstance(content, list) and bit.item is not None else None
    kind = MEDIA_TYPES.get(str(entry.get("type"))) if isinstance(entry, Mapping) else None
    return "media" if kind is None else f"media.{kind}"


def _text(chart: Chart, turn: int, bit: Bit, start: int) -> None:
    """Content as it stands; thinking in it is split off where the template itself knows the delimiters."""
    value = chart.text[start : bit.end]
    if chart.is_model(turn) and bit.offset != LOST and _is_first(chart, bit, turn):
        for open_, close in chart.delimiters:
            at = value.find(close)
            if at < 0:
                continue
            lead = len(value) - len(value.lstrip())
            opened = value.startswith(open_, lead)
            if not opened and not chart.text[:start].rstrip().endswith(open_):
                break
            begin = min(after_blanks(value, lead + len(open_)), at) if opened else 0
            stop = begin + len(value[begin:at].rstrip())
            end = after_blanks(value, at + len(close))
            chart.add(bit, start, start + begin, "reasoning.open", turn)
            chart.add(bit, start + begin, start + stop, "reasoning.text", turn)
            chart.add(bit, start + stop, start + end, "reasoning.close", turn)
            start += end
            break
    chart.add(bit, start, bit.end, "text", turn)


def _is_first(chart: Chart, bit: Bit, turn: int) -> bool:
    whole = field_value(chart.messages[turn], bit.origin.path) if bit.origin else None
    return isinstance(whole, str) and not whole[: bit.offset].strip()
