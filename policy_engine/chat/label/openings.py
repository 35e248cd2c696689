"""The opening of a turn: its header, text of the turn before, and empty thinking.

Qwen3 opens a last answer with `<|im_start|>assistant⏎<think>⏎⏎</think>⏎⏎`. The generation prompt supplies
`<|im_start|>assistant⏎`, which is the header; the rest is `empty_reasoning`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from policy_engine.chat.label.board import Chart, Zone, after_blanks
from policy_engine.chat.label.closings import label_closing
from policy_engine.chat.label.sources import Bit
from policy_engine.core.source import common_prefix
from policy_engine.core.vocabulary import KNOWN_ROLES

_WORD = re.compile(r"\w+")


def label_opening(chart: Chart, turn: int, zone: Zone, first_kind: str, previous: int | None, first: Bit) -> int:
    """Label a turn's scaffold before its data; returns the end of the header in the text.

    That may be inside the data, where the generation prompt prefills what the data repeats.
    """
    text = zone.text
    start = _before_turn(chart, turn, zone, previous)
    # Nobody generates a user's turn: all of its opening is header.
    if not chart.is_model(turn):
        zone.label(start, len(text), "header")
        return first.start
    if _is_quoted(chart, turn, text[start:]):
        chart.quoted.add(turn)
        zone.label(start, len(text), "header")
        return first.start
    # The place in the text of the opening's first character that is this turn's own.
    place = first.start - len(text) + start
    length = start + header_length(chart, turn, place, text[start:], first, _labels(zone, start))
    # The prompt may go on into the data; that part is labelled with the data.
    header = max(start, min(length, len(text)))
    zone.label(start, header, "header")
    if header < len(text):
        at = _empty_reasoning(chart, zone, header)
        # Behind the header the model writes: what opens its thinking or its call is its own.
        part = {"reasoning": "reasoning.open", "call": "tool_call"}.get(first_kind, "markup")
        zone.label(at, len(text), part, call=first.call)
    return first.start + max(0, length - len(text))


def label_early(chart: Chart, turn: int, zone: Zone, start: int) -> int:
    """Label the next turn's opening in a turn's closing; returns its start, or the zone's end.

    Some templates write the opening of a model's turn at the end of the turn before.
    """
    early, following = chart.profile.early, turn + 1
    # A template that learned nothing of the kind may do it in this row all the same.
    if not early and any(bit.adopted for bit in zone.bits):
        early = chart.profile.opening(chart.role(turn)).strip()  # written outside loops, beside nothing of its turn
    end = len(zone.text)
    if not early or following == len(chart.messages) or chart.is_model(turn) or not chart.is_model(following):
        return end
    at = zone.text.find(early, start)
    if at < 0:
        return end
    text, prompt = zone.text[at:], _own_prompt(chart, turn)
    header = at + chart.markers.back_to_boundary(text, common_prefix(text, prompt))
    # Its own opening has the rest of the prompt, if that goes on there.
    chart.opened[following] = prompt[header - at :] if header == end else ""
    zone.label(at, header, "header", following)
    stop = _empty_reasoning(chart, zone, header, following)
    if any(bit.turn == following for bit in chart.bits):
        zone.label(stop, end, "markup", following)
    else:
        label_closing(chart, zone, stop, end, following, "text", None)  # nothing of that turn was written
    return at


def _own_prompt(chart: Chart, previous: int) -> str:
    """The generation prompt after a turn, from where it opens the next one."""
    # A template that writes the opener unasked has no prompt to learn; what opens an answer after a user opens it too.
    prompt = chart.prompt(previous + 1) or chart.profile.prompt("user")
    return prompt[max(0, prompt.find(chart.profile.early)) :]


def label_bare(chart: Chart, turn: int, zone: Zone, previous: int | None) -> None:
    """Label a turn without data: its opening is what turns of its kind open with."""
    if not zone.bits:
        return
    start = _before_turn(chart, turn, zone, previous)
    text = zone.text
    if chart.is_model(turn):
        place = zone.bits[0].start + start
        header = start + header_length(chart, turn, place, text[start:], None, _labels(zone, start))
    else:
        marker = chart.profile.marker
        # All of it is header but for its end, since no data says where its body would be.
        at = text.rfind(marker) if marker else -1
        header = at if at > start else len(text)
    zone.label(start, header, "header")
    if chart.is_model(turn):
        header = _empty_reasoning(chart, zone, header)
    label_closing(chart, zone, header, label_early(chart, turn, zone, header), turn, "text", None)


def _before_turn(chart: Chart, turn: int, zone: Zone, previous: int | None) -> int:
    """Label text of others in the opening: `bos`, a preamble, and the end of the turn before."""
    start = 0
    # Only the first turn's scaffold can hold the begin-of-sequence token.
    if zone.bits and zone.bits[0].start == 0:
        start = min(chart.markers.leading_bos(chart.text), len(zone.text))
        zone.disown(0, start, "bos")
    if previous is None:
        # A default system prompt that the template writes while it writes the first turn is no one's.
        usual = chart.profile.opening(None) if chart.is_model(turn) else chart.profile.user_opening
        at = zone.text.rfind(usual, start) if usual.strip() and chart.role(turn) != "system" else -1
        if at > start:
            zone.disown(start, at, "preamble")
            start = at
    if previous is None:
        return start
    if not chart.is_model(previous):
        late = chart.profile.late_user
        if not late or previous in chart.ended or not zone.text.startswith(late, start):
            return start
        stop = start + len(late)
        # Blanks behind it separate, unless the prompt supplies them.
        if not (chart.is_model(turn) and chart.prompt(turn)[:1].isspace()):
            stop = after_blanks(zone.text, stop)
        label_closing(chart, zone, start, stop, previous, "text", None)
        return stop
    # After a call first: its text is the more special one, and the plain one may begin alike.
    for late, kind in ((chart.profile.late_call, "call"), (chart.profile.late, "text")):
        if late and zone.text.startswith(late, start) and (kind == "text" or previous in chart.called):
            label_closing(chart, zone, start, start + len(late), previous, kind, None)
            return start + len(late)
    # GLM has no end marker: its model stops at what opens the next turn, so that is the answer's `eot`.
    stops = chart.profile.opener_ends | chart.markers.stops
    if stops and previous not in chart.ended and not chart.is_model(turn):
        spans = chart.markers.spans(zone.text[start:])
        low, high = (start + spans[0][0], start + spans[0][1]) if spans else (0, 0)
        if zone.text[low:high] in stops and not zone.text[start:low].strip():
            zone.label(start, low, "separator", previous)
            zone.label(low, high, "eot", previous)
            chart.ended.add(previous)
            return high
    return start


def header_length(
    chart: Chart, turn: int, start: int, opening: str, first: Bit | None, labels: Sequence[tuple[int, int]] = ()
) -> int:
    """The number of characters from `start` on that the generation prompt supplies.

    `opening` is the scaffold from there to the first data, `labels` the places of names in it. Where the prompt
    supplies nothing of that, the header is what every such turn of the template opens with.
    """
    # The message before, whether or not the template writes anything for it: the prompt depends on it.
    before = chart.role(turn - 1) if turn else None
    if turn in chart.opened:
        return chart.markers.back_to_boundary(opening, common_prefix(opening, chart.opened[turn]))
    prompt = chart.prompt(turn)
    if prompt.strip():
        # The prompt as it is, or with the message's name in the place of the role: whichever supplies more.
        best = max(_aligned(chart.text, start, prompt, opening), _named(prompt, opening, labels))
        if best > len(opening):
            # Into the data only where all of the prompt is there, and only over a delimiter that it prefills.
            if best >= len(prompt) and first is not None and _prefilled(chart, first, start + best):
                return best
            best = len(opening)
        # Never through a marker: `<|im_start|>` and `<|im_sep|>` share a beginning, and are not the same token.
        best = chart.markers.back_to_boundary(opening, best)
        if opening[:best].strip():
            # A judge's prompt opens a turn of its own (`judge`): the answer that it judges opens with its role.
            if best < len(prompt) and opening.startswith(chart.role(turn), best):
                shared = common_prefix(opening, chart.profile.opening(before))
                best = max(best, chart.markers.back_to_boundary(opening, shared))
            return best
    # No prompt was learned, or it supplies blanks alone.
    usual = chart.profile.opening(before)
    if not usual.strip():
        return len(prompt) if prompt and opening.startswith(prompt) else 0
    # A space that no prompt supplies is the answer's: tokenizers join it with the first word.
    length = chart.markers.back_to_boundary(opening, common_prefix(opening, usual))
    return len(opening[:length].rstrip(" "))


def _is_quoted(chart: Chart, turn: int, opening: str) -> bool:
    """True if a model's turn opens as another role, since the template quotes it in a turn.

    A judge's template writes `<|start_of_role|>user<|end_of_role|>Is this answer harmful? …` in front of the answer.
    """
    prompt = chart.prompt(turn)
    at = chart.markers.back_to_boundary(opening, common_prefix(opening, prompt))
    return (
        bool(opening[:at].strip())
        # An earlier turn without text of its own is in this opening too: then the model's own opening follows it.
        and prompt.strip() not in opening
        and prompt.startswith(chart.role(turn), at)
        and any(
            (role := _WORD.match(opening, at)) is not None and role[0] == other
            for other in KNOWN_ROLES
            if other not in chart.models
        )
    )


def _aligned(text: str, start: int, prompt: str, opening: str) -> int:
    best = common_prefix(text[start : start + len(prompt)], prompt)
    if best == len(prompt):
        return best
    if (at := opening.rfind(prompt)) >= 0:
        return at + len(prompt)
    # The prompt may begin with text that closed the turn before, …
    for back in range(1, min(len(prompt), start) + 1):
        if text.startswith(prompt[:back], start - back):
            best = max(best, common_prefix(text[start : start + len(prompt)], prompt[back:]))
    # … or either may have blanks in front that the other lacks.
    stripped, lead = prompt.lstrip(), len(opening) - len(opening.lstrip())
    shifted = common_prefix(text[start + lead : start + lead + len(stripped)], stripped)
    return max(best, lead + shifted) if shifted and lead else best


def _labels(zone: Zone, start: int) -> list[tuple[int, int]]:
    """Ranges of fields that name the turn (`name`), counted from `start`."""
    found, at = [], -start
    for bit in zone.bits:
        size = bit.end - bit.start
        if bit.origin is not None and at >= 0:
            found.append((at, at + size))
        at += size
    return found


def _named(prompt: str, opening: str, labels: Sequence[tuple[int, int]]) -> int:
    """Length of the prompt in an opening with a name where the prompt has the role; else 0.

    `<|im_assistant|>bob<|im_middle|>` opens as `<|im_assistant|>assistant<|im_middle|>` does.

    >>> _named("<|a|>assistant<|m|>", "<|a|>bob<|m|>", [(5, 8)])
    13
    """
    for low, high in labels:
        role = _WORD.match(prompt, low)
        if role is not None and opening[:low] == prompt[:low]:
            return high + common_prefix(opening[high:], prompt[role.end() :])
    return 0


def _prefilled(chart: Chart, first: Bit, end: int) -> bool:
    written = chart.text[first.start : end].strip()
    return first.end >= end and any(written == open_ for open_, _ in chart.delimiters)


def _empty_reasoning(chart: Chart, zone: Zone, start: int, turn: int | None = None) -> int:
    """Label an empty pair of thinking delimiters; returns its end, or `start` without one."""
    rest = zone.text[start:]
    # The template's own pair comes first, so that its delimiter is not mistaken for a part of another.
    for open_, close in chart.pairs:
        at = rest.find(close)
        if at < 0:
            continue
        opened = rest.rfind(open_, 0, at)
        # Without an opening delimiter, the prompt wrote it, or the template closes thinking that never opened.
        between = rest[opened + len(open_) : at] if opened >= 0 else rest[:at]
        if not between.strip():
            low = start + max(opened, 0)
            stop = after_blanks(zone.text, start + at + len(close))
            zone.label(start, low, "markup", turn)
            zone.label(low, stop, "empty_reasoning", turn)
            return stop
    return start
