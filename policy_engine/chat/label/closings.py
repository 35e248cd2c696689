"""The end of a turn: scaffold of its body, the end marker, further ends, and the separator.

Behind the data of a call, Qwen3 writes `}⏎</tool_call><|im_end|>⏎`: that is `tool_call`, `eot` and `separator`.
"""

from __future__ import annotations

from itertools import pairwise

from policy_engine.chat.label.board import Chart, Zone, after_blanks
from policy_engine.chat.label.markers import ends_document, is_closing_tag
from policy_engine.chat.label.sources import Bit

_INNER = {"call": "tool_call", "reasoning": "reasoning.close"}
"""Part of scaffold between the last data of a turn, by kind, and its end marker; `markup` for the others."""


def label_closing(chart: Chart, zone: Zone, start: int, end: int, turn: int, last_kind: str, last: Bit | None) -> None:
    """Label `[start, end)` of a zone as the end of `turn`.

    `last` is the turn's last data, `last_kind` its kind.
    """
    if turn in chart.quoted:
        zone.disown(start, end, "preamble")  # the rest of the turn that quotes this one
        return
    # From the end of the text inwards: what the template appends to any conversation, then what opens a system
    # turn.
    end = _without_system_opener(chart, zone, start, _without_suffix(chart, zone, start, end, turn), turn)
    text = zone.text[start:end]
    if not text:
        return
    inner = _INNER.get(last_kind, "markup")
    call = last.call if last is not None else None
    # Its end marker was found behind a preamble already; here there is only scaffold.
    found = None if turn in chart.ended_late else _end_marker(chart, text, last_kind, chart.is_model(turn))
    if found is None:
        # Blanks around turns without an end marker separate; anything else is the author's scaffold.
        text_end = start + len(text.rstrip())
        zone.label(start, text_end, inner, turn, call)
        zone.label(text_end, end, "separator", turn)
        return
    chart.ended.add(turn)
    low, high = start + found[0], start + found[1]
    zone.label(start, low, inner, turn, call)
    zone.label(low, high, "eot", turn)
    # Behind the end marker: each further marker ends the document, unless it opens the next turn.
    at = high
    spans = chart.markers.spans(zone.text[high:end])
    for (opens, closes), (following, _) in pairwise([*spans, (end - high, end - high)]):
        if zone.text[at : high + opens].strip():
            break  # words that open a turn of nobody's
        zone.label(at, high + opens, "separator", turn)
        opener = zone.text[high + opens : high + closes]
        if opener in chart.profile.openers and _is_opening(chart, turn + 1, opener, zone.text[high + opens : end]):
            # The opening of the next turn, written here, or the beginning of it.
            zone.label(high + opens, end, "header", turn + 1)
            prompt, written = chart.prompt(turn + 1), zone.text[high + opens : end].strip()
            if written in prompt or not prompt.strip():
                chart.opened[turn + 1] = prompt.partition(written)[2]
            return
        if zone.text[high + closes : high + following].strip() and not ends_document(opener, chart.markers.eos):
            break  # a marker in front of words opens them
        zone.label(high + opens, high + closes, "eod", turn)
        at = high + closes
    rest = min(after_blanks(zone.text, at), end)
    zone.label(at, rest, "separator", turn)
    zone.disown(rest, end, "preamble")


def _is_opening(chart: Chart, turn: int, marker: str, text: str) -> bool:
    """True if `text`, written before the turn, opens it.

    It begins with `marker`, one that turns open with. A marker that ends turns, too, opens this one where it has no
    other opening, or where the text is that opening.
    """
    if turn >= len(chart.messages):
        return False
    profile = chart.profile
    if marker != profile.marker and not ends_document(marker, chart.markers.eos):
        return True
    opening = profile.opening(chart.role(turn - 1)) if chart.is_model(turn) else profile.user_opening
    return opening.strip() in ("", text.strip())


def _end_marker(chart: Chart, text: str, last_kind: str, is_model: bool) -> tuple[int, int] | None:
    marker = chart.profile.marker
    after_call = chart.profile.late_call.strip()
    # Gemma 4 stops at `<|tool_response>` behind a call.
    if is_model and last_kind == "call" and after_call:
        # The turn after it may write it; other markers close the call.
        at = text.rfind(after_call)
        return (at, at + len(after_call)) if at >= 0 else None
    if marker is not None:
        # Each of several calls may be closed with the marker; the turn ends at the last.
        at = text.rfind(marker) if last_kind == "call" else text.find(marker)
        if at >= 0:
            return at, at + len(marker)
    # A user's turn may end right before what opens the answer, which is not its end; no answer ends with what opens it.
    openers = chart.profile.prompt(None) if is_model else chart.profile.openers
    spans = [span for span in chart.markers.spans(text) if text[slice(*span)] not in openers]
    if not spans:
        return None
    # Without a known marker: the last marker of the closing, unless it closes a block or is in front of words.
    found = _before_words(chart, text)
    low, high = found or spans[-1]
    if (low, high) not in spans or (found is None and chart.markers.pattern.sub("", text[high:]).strip()):
        return None
    if text[low:high] in chart.profile.closers and not is_model:
        return low, high
    if is_closing_tag(text[low:high]) and (last_kind in ("call", "reasoning") or text[low] == "<"):
        return None
    return low, high


def _before_words(chart: Chart, text: str) -> tuple[int, int] | None:
    """The end in front of a marker that opens words of nobody's.

    `<|system_end|>` in `<|system_end|><|developer_start|>Deliberation: disabled`.
    """
    spans = chart.markers.spans(text)
    if len(spans) < 2 or text[: spans[0][0]].strip():
        return None
    for end, opener, following in zip(spans, spans[1:], [*spans[2:], (len(text), 0)], strict=False):
        if text[end[1] : opener[0]].strip():
            return None
        if text[opener[1] : following[0]].strip():
            return end
    return None


def _without_system_opener(chart: Chart, zone: Zone, start: int, end: int, turn: int) -> int:
    """Label the opener of a system turn at the end of an answer; returns where it begins.

    No model stops at it: it is the header of the turn that it opens.
    """
    following, opener = turn + 1, chart.profile.system
    # Where the opener is the end marker itself, the answer does end with it.
    if not opener or opener == chart.profile.marker or following == len(chart.messages) or not chart.is_model(turn):
        return end
    if chart.is_model(following) or chart.role(following) not in ("system", "developer"):
        return end
    at = zone.text.rfind(opener, start, end)
    if at < 0 or zone.text[at + len(opener) : end].strip():
        return end
    zone.label(at, end, "header", following)
    return at


def _without_suffix(chart: Chart, zone: Zone, start: int, end: int, turn: int) -> int:
    """Label text that the template appends whoever spoke last; returns where it begins.

    Only text written outside loops counts: a judge's instructions, an opener that ignores `add_generation_prompt`. What
    ends turns in mid conversation, and what ends the document, still belongs to the last turn.
    """
    is_last = bool(zone.bits) and zone.bits[-1].end == len(chart.text)
    prompt = chart.profile.appended if is_last else ""
    # With its blanks if they are there; a template may trim them at the end of the text.
    for opener in (prompt, prompt.strip()) if prompt.strip() else ():
        at = zone.text.rfind(opener, start, end)
        if at >= 0 and not zone.text[at + len(opener) : end].strip():
            zone.disown(at, end, "generation_prompt")
            return at
    outside = 0
    if chart.profile.suffix and is_last and zone.text.endswith(chart.profile.suffix):
        outside = start
    else:
        # The text outside of loops begins behind the last scaffold that was written for a turn.
        for bit in zone.bits:
            if outside >= start and bit.adopted and bit.end > chart.last_data:
                break
            outside += bit.end - bit.start
    if outside >= end:
        return end
    text = zone.text[:end]
    rest = outside
    marker = chart.profile.marker
    at = text.find(marker, start) if marker else -1
    if marker and at >= 0 and _opens_another(chart, text[outside:at]):
        at = -1  # the end of a turn that the template appends, not of this one
    elif marker and at >= 0:
        rest = max(rest, at + len(marker))
    # No end marker, and no marker at all: blanks or words that end a user's turn.
    elif not chart.is_model(turn) and not chart.markers.spans(text[rest:]):
        return end
    spans = [(rest + low, rest + high) for low, high in chart.markers.spans(text[rest:])]
    # One marker alone, without words: that is the end of the turn, written outside of the loop.
    if at < 0 and len(spans) == 1 and not (text[rest : spans[0][0]] + text[spans[0][1] :]).strip():
        return end
    for low, high in spans:
        # `<|endoftext|>` behind the last turn is its `eod`; words or an opener are not.
        if text[rest:low].strip() or not ends_document(text[low:high], chart.markers.eos):
            break
        rest = high
    rest = after_blanks(text, rest)
    if rest < end:
        openers = (chart.profile.opening(None).strip(), chart.profile.prompt(None).strip())
        is_prompt = any(opener and opener in text[rest:] for opener in openers)
        zone.disown(rest, end, "generation_prompt" if is_prompt else "preamble")
    return rest


def _opens_another(chart: Chart, text: str) -> bool:
    """True if text outside of loops, up to an end marker, is a turn that the template appends."""
    spans = chart.markers.spans(text)
    return bool(spans) and not text[: spans[0][0]].strip() and bool(text[spans[-1][1] :].strip())
