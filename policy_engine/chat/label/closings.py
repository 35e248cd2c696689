"""How a turn closes: scaffold of its body, the end marker, further ends, what separates it from the next."""

from __future__ import annotations

from policy_engine.chat.label.board import Chart, Zone, after_blanks
from policy_engine.chat.label.markers import ends_document, is_closing_tag
from policy_engine.chat.label.sources import Bit

_INNER = {"call": "tool_call", "reasoning": "reasoning.close"}
"""Part of scaffold between the last data of a turn, by kind, and its end marker; `markup` for the others."""


def label_closing(chart: Chart, zone: Zone, begin: int, end: int, turn: int, last_kind: str, last: Bit | None) -> None:
    """Label `[begin, end)` of a zone as the end of `turn`. `last_kind` is the kind of its last data."""
    end = _without_suffix(chart, zone, begin, end, turn)
    text = zone.text[begin:end]
    if not text:
        return
    inner = _INNER.get(last_kind, "markup")
    call = last.call if last is not None else None
    found = _end_marker(chart, text, last_kind)
    if found is None:
        # Blanks around turns without an end marker separate; anything else is the author's scaffold.
        stop = begin + len(text.rstrip())
        zone.label(begin, stop, inner, turn, call)
        zone.label(stop, end, "separator", turn)
        return
    chart.ended.add(turn)
    low, high = begin + found[0], begin + found[1]
    zone.label(begin, low, inner, turn, call)
    zone.label(low, high, "eot", turn)
    at = high
    for start, stop in chart.markers.spans(zone.text[high:end]):
        zone.label(at, high + start, "separator", turn)
        zone.label(high + start, high + stop, "eod", turn)
        at = high + stop
    zone.label(at, end, "separator", turn)


def _end_marker(chart: Chart, text: str, last_kind: str) -> tuple[int, int] | None:
    marker = chart.profile.marker
    if marker is not None:
        # Each of several calls may be closed with the marker; the turn ends at the last.
        at = text.rfind(marker) if last_kind == "call" else text.find(marker)
        if at >= 0:
            return at, at + len(marker)
    spans = chart.markers.spans(text)
    if not spans:
        return None
    low, high = spans[-1]
    if is_closing_tag(text[low:high]) and (last_kind in ("call", "reasoning") or text[low] == "<"):
        return None
    return low, high


def _without_suffix(chart: Chart, zone: Zone, begin: int, end: int, turn: int) -> int:
    """Label text that the template appends after the conversation, whoever spoke last; returns where it begins.

    Only text written outside loops counts: a judge's instructions, an opener that ignores `add_generation_prompt`. What
    ends turns in mid conversation, and what ends the document, still belongs to the last turn.
    """
    outside = 0
    for bit in zone.bits:
        if outside >= begin and bit.adopted and bit.end > chart.last_data:
            break
        outside += bit.end - bit.start
    if outside >= end:
        return end
    text = zone.text[:end]
    start = outside
    marker = chart.profile.marker
    at = text.find(marker, begin) if marker else -1
    if marker and at >= 0:
        start = max(start, at + len(marker))
    elif not chart.is_model(turn) and not chart.markers.spans(text[start:]):
        return end
    spans = [(start + low, start + high) for low, high in chart.markers.spans(text[start:])]
    if at < 0 and len(spans) == 1 and not (text[start : spans[0][0]] + text[spans[0][1] :]).strip():
        return end
    for low, high in spans:
        if text[start:low].strip() or not ends_document(text[low:high], chart.markers.eos):
            break
        start = high
    start = after_blanks(text, start)
    if start < end:
        openers = (chart.profile.opening(None).strip(), chart.profile.prompt(None).strip())
        is_prompt = any(opener and opener in text[start:] for opener in openers)
        zone.disown(start, end, "generation_prompt" if is_prompt else "preamble")
    return start
