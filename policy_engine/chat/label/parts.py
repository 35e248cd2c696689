"""The part of each character, decided from its origin and the template's profile.

In `<think>⏎Two.⏎</think>⏎⏎Four.<|im_end|>`, `Two.` came from `reasoning_content` and `Four.` from `content`, so they
are `reasoning.text` and `text`; what is between them is `reasoning.close`, and what is around them an opening and a
closing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from policy_engine.chat.label.board import Chart, Labelled, Zone, after_blanks, field_value
from policy_engine.chat.label.closings import label_closing
from policy_engine.chat.label.openings import label_bare, label_early, label_opening
from policy_engine.chat.label.sources import Bit
from policy_engine.chat.label.thinking import is_thinking
from policy_engine.chat.trace.origins import LOST, UNKNOWN
from policy_engine.core.vocabulary import MEDIA_TYPES, MESSAGE_FIELDS, part_kind


def label(chart: Chart) -> list[Labelled]:
    """Every character's piece, in order, gapless."""
    turns: dict[int, list[Bit]] = {}
    # Before turns are collected: it changes owners.
    _settle(chart)
    loose: list[Bit] = []
    before: int | None = None
    for bit in chart.bits:
        if bit.turn is None:
            loose.append(bit)
            continue
        _unowned(chart, loose, before, turns)
        loose, before = [], bit.turn
        turns.setdefault(bit.turn, []).append(bit)
    _unowned(chart, loose, before, turns)
    previous: int | None = None
    for turn, own in turns.items():
        _turn(chart, turn, own, previous)
        previous = turn
    # Turns were labelled one after the other, and a closing may hold the next one's header.
    chart.out.sort(key=lambda piece: piece.start)
    return chart.out


def _settle(chart: Chart) -> None:
    """Give scaffold of one turn in the text of another to that other, in place.

    A template that joins messages closes all of them while it writes the first, and one that writes an answer in
    pieces may write some of its opening while it writes nothing.
    """
    data = [bit for bit in chart.bits if bit.is_data]
    # Of a turn without data, right behind where its scaffold begins: empty data of another may be there.
    ends: dict[int | None, int] = {bit.turn: bit.start + 1 for bit in reversed(chart.bits)}
    # Data that is there wins over empty data, and both over scaffold: the dict keeps the last.
    ends.update({bit.turn: bit.end for bit in data})
    ends.update({bit.turn: bit.end for bit in data if bit.end > bit.start})
    spoken = frozenset(bit.turn for bit in data)
    left: Bit | None = None
    gap: list[Bit] = []
    for bit in chart.bits:
        if not bit.is_data:
            gap.append(bit)
            continue
        if bit.start == bit.end and _is_behind(bit, left, ends):
            bit.turn = left.turn if left is not None else None  # nothing, written behind another turn's data
            continue
        _settle_gap(chart, gap, left, bit, ends, spoken)
        left, gap = bit, []
    _settle_gap(chart, gap, left, None, ends, spoken)


def _settle_gap(
    chart: Chart,
    gap: Sequence[Bit],
    left: Bit | None,
    right: Bit | None,
    ends: Mapping[int | None, int],
    spoken: frozenset[int | None],
) -> None:
    """`_settle` between two neighbours of data; `ends` has the end of each turn's data."""
    opened = False
    bare: int | None = None
    for bit in gap:
        # What is written outside loops closes the turn that was written last, also where that has no data.
        if bare is not None and bit.adopted and (bit.turn is None or bit.turn < bare):
            bit.turn = bare
            continue
        if left is not None and left.turn is not None and bit.turn is not None and bit.turn > left.turn:
            bare = bit.turn if bit.turn not in spoken else None
        if right is not None and right.turn is not None:
            if bit.turn == right.turn:
                opened = True
            # Only behind that turn's own scaffold: what comes before may still close the turn on the left.
            elif opened and (chart.is_model(right.turn) if bit.turn is None else bit.turn < right.turn):
                bit.turn = right.turn  # the header of that turn is before it
                continue
        if left is not None and bit.turn is not None and left.turn is not None and _is_behind(bit, left, ends):
            bit.adopted = bit.adopted or (right is None and chart.role(bit.turn) != chart.role(left.turn))
            bit.turn = left.turn


def _is_behind(bit: Bit, left: Bit | None, ends: Mapping[int | None, int]) -> bool:
    """True if a bit comes after all data of its own turn, and after data of another."""
    if left is None or left.turn is None or bit.turn is None or bit.turn == left.turn:
        return False
    return ends.get(bit.turn, bit.end) <= left.start


def _unowned(chart: Chart, bits: Sequence[Bit], before: int | None, turns: Mapping[int, Sequence[Bit]]) -> None:
    """Label text that no message owns. The end marker of the message before may be in it."""
    scaffold: list[Bit] = []
    for bit in bits:
        # Tools and documents are data of no turn; scaffold around them is told apart by its neighbours.
        if bit.origin is None:
            scaffold.append(bit)
            continue
        before = _preamble(chart, scaffold, before, turns)
        scaffold = []
        source = bit.origin.path[0] if bit.origin is not UNKNOWN else bit.beside
        chart.add(bit, bit.start, bit.end, _preamble_part(source), None)
    _preamble(chart, scaffold, before, turns)


def _preamble_part(source: str | int | None) -> str:
    return f"preamble.{source}" if source in ("tools", "documents") else "preamble"


def _preamble(chart: Chart, bits: Sequence[Bit], before: int | None, turns: Mapping[int, Sequence[Bit]]) -> int | None:
    """Label scaffold of the preamble; returns the turn before it if that is still open."""
    zone = Zone(chart, bits)
    marker = chart.profile.marker
    # A template may write a date or tools between an answer's text and its end marker.
    at = zone.text.find(marker) if marker and before is not None else -1
    is_end = at >= 0 and before is not None and not _is_closed(chart, before, turns[before], marker or "")
    stop = at if is_end else len(zone.text)
    for bit, low, high in zone.slices(0, stop):
        # The very first character of the text.
        if low == 0:
            start = min(chart.markers.leading_bos(chart.text), high)
            chart.add(bit, 0, start, "bos", None)
            low = start
        chart.add(bit, low, high, _preamble_part(bit.beside), None)
    if is_end and before is not None:
        label_closing(chart, zone, stop, len(zone.text), before, "text", None)
        chart.ended_late.add(before)
        return None
    return before


def _is_closed(chart: Chart, turn: int, own: Sequence[Bit], marker: str) -> bool:
    """True if an end marker is not that of a turn of which `own` is written.

    The turn has one, or its data is still to come.
    """
    end = max((bit.end for bit in own if bit.is_data), default=0)
    if not end and any(bit.is_data and bit.turn == turn for bit in chart.bits):
        return True
    return marker in "".join(chart.text[bit.start : bit.end] for bit in own if bit.start >= end)


def _turn(chart: Chart, turn: int, own: Sequence[Bit], previous: int | None) -> None:
    kinds = {id(bit): kind for bit in own if (kind := _kind(chart, bit, turn)) is not None}
    # Data is what the parts hang on: scaffold before the first is the opening, behind the last the closing.
    anchors = [bit for bit in own if id(bit) in kinds]
    if not anchors:
        label_bare(chart, turn, Zone(chart, own), previous)
        return
    first, last = anchors[0], anchors[-1]
    if "call" in kinds.values():
        chart.called.add(turn)
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
    """The kind of data: `reasoning`, `text`, `call`, `media`, `markup`; None for scaffold."""
    origin = bit.origin
    if origin is None or origin is UNKNOWN:
        return _placeholder(chart, bit, turn)
    # Data of another message that this one prints (a name, an id) labels it.
    if not bit.is_data or origin.turn != turn:
        return None
    path = origin.path
    # The message was printed as a whole.
    if not path:
        return "text"
    if path[0] != "content":
        # A field that nothing declares is `markup`, never `text`: `train assistant.text` must not reach it.
        kind = MESSAGE_FIELDS.get(str(path[0]), "label")
        return "markup" if kind == "label" else kind
    part = field_value(chart.messages[turn], path[:2]) if len(path) > 2 else None
    if isinstance(part, Mapping):
        # A part of unknown type: its text is text, anything else in it is media.
        kind = part_kind(part) or ("text" if path[2] in ("text", "content") else "media")
        if kind != "text":
            return kind
        if MESSAGE_FIELDS.get(str(path[2])) != "text":
            return "markup"
    return _content_kind(chart, bit, turn, path)


def _placeholder(chart: Chart, bit: Bit, turn: int) -> str | None:
    """Kind of scaffold that the template writes for a content part other than text: its media."""
    content = chart.messages[turn].get("content")
    if bit.item is None or not isinstance(content, list) or bit.item >= len(content):
        return None
    entry = content[bit.item]
    if not isinstance(entry, Mapping) or part_kind(entry) in ("text", "reasoning", "call"):
        return None
    return "media" if chart.text[bit.start : bit.end].strip() else None


def _content_kind(chart: Chart, bit: Bit, turn: int, path: Sequence[str | int]) -> str:
    # Offsets in the field say what is thinking; text that the template changed has no offsets.
    if not chart.is_model(turn) or bit.offset == LOST or not chart.delimiters:
        return "text"
    whole = field_value(chart.messages[turn], path)
    end = bit.offset + bit.end - bit.start
    return "reasoning" if is_thinking(whole, chart.delimiters, bit.offset, end) else "text"


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
    # Thinking that the template cuts and writes again is one stretch.
    if before == after == "reasoning":
        zone.label(0, size, "reasoning.text")
    # Up to the end of the closing delimiter; what follows opens the call or the text.
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
    """The end of the closing delimiter of thinking, with the blanks after it."""
    marker = chart.profile.marker
    # An end marker closes the thinking where a template writes it as a message of its own (gpt-oss).
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
        # The names that templates of calls use: OpenAI's, Cohere's and Anthropic's.
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
    """`media.image` for `<|image_pad|>` of a content part of type `image`.

    `media` for a type that is not known.
    """
    content = chart.messages[turn].get("content")
    entry = content[bit.item] if isinstance(content, list) and bit.item is not None else None
    kind = MEDIA_TYPES.get(str(entry.get("type"))) if isinstance(entry, Mapping) else None
    return "media" if kind is None else f"media.{kind}"


def _text(chart: Chart, turn: int, bit: Bit, start: int) -> None:
    """Label content; thinking in it is split off if the template knows the delimiters."""
    value = chart.text[start : bit.end]
    # Delimiters in mid content are words about thinking; thinking comes first.
    if chart.is_model(turn) and bit.offset != LOST and _is_first(chart, bit, turn):
        for open_, close in chart.delimiters:
            at = value.find(close)
            if at < 0:
                continue
            lead = len(value) - len(value.lstrip())
            opened = value.startswith(open_, lead)
            # A closing delimiter without an opening one, in the text or in the prompt, is just a word.
            if not opened and not chart.text[:start].rstrip().endswith(open_):
                break
            inner = min(after_blanks(value, lead + len(open_)), at) if opened else 0
            inner_end = inner + len(value[inner:at].rstrip())
            end = after_blanks(value, at + len(close))
            chart.add(bit, start, start + inner, "reasoning.open", turn)
            chart.add(bit, start + inner, start + inner_end, "reasoning.text", turn)
            chart.add(bit, start + inner_end, start + end, "reasoning.close", turn)
            start += end
            break
    chart.add(bit, start, bit.end, "text", turn)


def _is_first(chart: Chart, bit: Bit, turn: int) -> bool:
    whole = field_value(chart.messages[turn], bit.origin.path) if bit.origin else None
    return isinstance(whole, str) and not whole[: bit.offset].strip()
