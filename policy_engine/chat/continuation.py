"""An answer behind its generation prompt, where the whole render has another context.

A template may drop the thinking before a call as soon as the answer follows (gpt-oss), or take it out even of the last
answer (DeepSeek-R1). What the model was given, and what it wrote, are then put together from what the template writes
of each; every character keeps its owner.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from policy_engine.chat.label.markers import REASONING
from policy_engine.chat.segments import RenderedChat, Segment
from policy_engine.chat.template import ChatTemplate
from policy_engine.data.conversation import Conversation

_HIDING: Final = range(0xF0040, 0xFFF00, 0x40)
"""Private-use code points that replace the characters of a delimiter while a template renders.

They are as many as those characters, so that all offsets hold, and no template looks for them. The marks of
`chat.control_tokens` come before them.
"""


def after_prompt(template: ChatTemplate, until: Conversation, prompt: RenderedChat) -> RenderedChat | None:
    """The conversation, its last message continuing `prompt`.

    That is the rendering of the messages before, with a generation prompt.

    None if the template writes the message in no way that continues it.
    """
    rendered = template.render(until)
    # The usual case: the whole rendering continues its own prompt.
    if rendered.text.startswith(prompt.text):
        return rendered
    if rendered.tokens is not None:
        return None  # the ids of an encoder are those of its own text
    return _put_behind(rendered, prompt) or with_thinking_kept(template, until, prompt.text)


def _put_behind(rendered: RenderedChat, prompt: RenderedChat) -> RenderedChat | None:
    """The last message as `rendered` has it, behind the context of `prompt`."""
    turn = len(rendered.messages) - 1
    # Where the generation prompt begins in one text, and the last message in the other: from there on both open it.
    asked = min((s.start for s in prompt.segments if s.part == "generation_prompt"), default=None)
    opened = min((s.start for s in rendered.segments if s.turn == turn), default=None)
    if asked is None or opened is None or not rendered.text.startswith(prompt.text[asked:], opened):
        return None
    behind = [s for s in rendered.segments if s.start >= opened]
    # Something of another message comes behind: then the two cannot be put together.
    if any(s.turn not in (turn, None) for s in behind):
        return None
    moved = (replace(s, start=s.start + asked - opened, end=s.end + asked - opened) for s in behind)
    # Of the messages before, the text has what the prompt wrote: thinking that the whole rendering dropped is in it.
    before = tuple(u for u in prompt.unrendered if u.turn != turn)
    return replace(
        rendered,
        unrendered=(*before, *(u for u in rendered.unrendered if u.turn == turn)),
        miswritten=(
            *(m for m in prompt.miswritten if m.turn != turn),
            *(m for m in rendered.miswritten if m.turn == turn),
        ),
        text=prompt.text[:asked] + rendered.text[opened:],
        segments=(*(s for s in prompt.segments if s.end <= asked), *moved),
        literals=(
            *((start, end) for start, end in prompt.literals if end <= asked),
            *((start + asked - opened, end + asked - opened) for start, end in rendered.literals if start >= opened),
        ),
    )


def with_thinking_kept(template: ChatTemplate, until: Conversation, prompt: str) -> RenderedChat | None:
    """The conversation, its last message written behind the generation prompt.

    The message is written as it is in the data: thinking, closing delimiter and answer. `prompt` is what the generation
    prompt opens.

    Only for content that is one text with a closing delimiter of thinking in it, which the template writes whole if it
    does not see the delimiter, with its own end marker. Where the prompt has more before the content than the template
    (`<think>\\n`), and the content does not repeat it, it is supplied. None if this does not give a text that continues
    the prompt: what the model would have written is not known then.
    """
    turn = len(until.messages) - 1
    content = until.messages[turn].get("content")
    # The template cuts the content at this delimiter; hidden, it sees an answer like any other.
    close = next((c for _, c in REASONING if c in content), None) if isinstance(content, str) else None
    if close is None or not isinstance(content, str):
        return None
    used = {ord(c) for c in prompt + content}
    # A block of 64 code points that neither text uses, so that showing them again changes nothing else.
    base = next(base for base in _HIDING if used.isdisjoint(range(base, base + 0x40)))
    hidden = {ord(c): base + i for i, c in enumerate(sorted(set(close)))}
    shown = {place: c for c, place in hidden.items()}
    blind = content.replace(close, close.translate(hidden))
    rendered = _rendered(template, until, blind)
    at = _content_start(rendered)
    # What precedes the content has to be what the model was given.
    if at is None or not prompt.startswith(rendered.text[:at]):
        return None
    supplied = prompt[at:]
    if content.startswith(supplied):
        supplied = ""
    if supplied:
        rendered = _rendered(template, until, supplied + blind)
    text = rendered.text.translate(shown)
    # The template changed the content after all, beyond stripping it.
    if not text.startswith(prompt) or supplied + content.strip() not in text[at:]:
        return None
    segments = tuple(_parts(rendered, text, at, len(prompt), len(supplied), close))
    lost = tuple(u for u in rendered.unrendered if u.turn != turn)
    return replace(rendered, text=text, segments=segments, messages=until.messages, unrendered=lost)


def _rendered(template: ChatTemplate, until: Conversation, content: str) -> RenderedChat:
    *before, last = until.messages
    return template.render(replace(until, messages=(*before, {**last, "content": content})))


def _content_start(rendered: RenderedChat) -> int | None:
    turn = len(rendered.messages) - 1
    own = [s.start for s in rendered.segments if s.turn == turn and s.field is not None and s.field[0] == "content"]
    return min(own, default=None)


def _parts(rendered: RenderedChat, text: str, at: int, prompt: int, supplied: int, close: str) -> Iterator[Segment]:
    """The segments, with the content cut at the end of the prompt and around the delimiter."""
    delimiter = text.index(close, at)
    # Blanks before and behind the delimiter belong to it, as where a template writes them.
    stop = prompt + len(text[prompt:delimiter].rstrip())
    end = delimiter + len(close)
    end += len(text[end:]) - len(text[end:].lstrip())
    for segment in rendered.segments:
        if segment.end <= at or segment.field is None or segment.turn != len(rendered.messages) - 1:
            yield segment
            continue
        cuts = [
            (at + supplied, "header"), (prompt, "header"), (stop, "reasoning.text"), (end, "reasoning.close"),
            (segment.end, "text"),
        ]  # fmt: skip
        start = segment.start
        for cut, part in cuts:
            upto = min(cut, segment.end)
            if upto <= start:
                continue
            own = start >= at + supplied
            yield replace(
                segment,
                start=start,
                end=upto,
                part=part,
                field=segment.field if own else None,
                field_start=max(0, segment.field_start - supplied + start - segment.start) if own else 0,
                field_exact=own and segment.field_exact,
            )
            start = upto
