"""The properties: each looks at one case and says what is wrong, or why it does not apply."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import chain, pairwise
from typing import Any, Final

from policy_engine.chat.reference import reference_text
from policy_engine.chat.segments import RenderedChat, Segment
from policy_engine.core.errors import AttributionError, MediaError, TemplateError, TemplateLimitError
from policy_engine.core.source import common_prefix
from policy_engine.core.vocabulary import BODY, EOS
from policy_engine.core.wording import article
from policy_engine.data.conversation import Conversation
from policy_engine.testing.checks.conformance_cases import Case, Skip, alike

MANY: Final = 1024
"""Turns of the long conversation that a template has to render."""
# Twice as much, and room for what a template writes once; a quadratic template has four times as much.
_GROWTH: Final = 2.5


def parity(case: Case) -> str | None:
    """The text is transformers', with and without generation prompt; where one raises, both do."""
    if case.template.is_code:
        raise Skip("code renders, and each row is compared with what it gives by itself")
    problem = _parity(case)
    # A template that prints the time may have been caught at the turn of a minute: both are asked once more.
    return problem and _parity(Case(case.template, case.example))


def _parity(case: Case) -> str | None:
    for prompt, ours in ((False, case.outcome), (True, case.prompted)):
        if is_limit(ours):
            continue  # transformers' rendering has no bounds
        what = "with a generation prompt" if prompt else "without a generation prompt"
        try:
            expected = reference_text(
                case.template.source,
                case.conversation,
                special_tokens=case.template.special_tokens,
                add_generation_prompt=prompt,
            )
        except Exception as error:  # templates raise anything
            if isinstance(ours, RenderedChat):
                return f"{what}, transformers raises ({_first_line(error)}), tracing does not"
            continue
        if not isinstance(ours, RenderedChat):
            return f"{what}, tracing raises ({_first_line(ours)}), transformers does not"
        if ours.text != expected:
            at = next((i for i, (a, b) in enumerate(zip(ours.text, expected)) if a != b), len(expected))
            return f"{what}, texts differ at {at}: {ours.text[at : at + 20]!r} for {expected[at : at + 20]!r}"
    return None


def partition(case: Case) -> str | None:
    """Segments follow each other without gaps, and one that is copied from a field equals it."""
    for chat in (case.chat, case.prompted):
        if not isinstance(chat, RenderedChat):
            continue
        for problem in chain(badly_attributed(chat, case.conversation), _unknown(chat)):
            return problem
    return None


def _unknown(chat: RenderedChat) -> Iterator[str]:
    for segment in chat.segments:
        if segment.unknown:
            yield f"the owner of {chat.segment_text(segment)!r} is not known: the template computes it"


def badly_attributed(chat: RenderedChat, conversation: Conversation) -> Iterator[str]:
    """Segments that leave a gap, or that differ from the field they are copied from."""
    at = 0
    for segment in chat.segments:
        if not segment.start == at < segment.end:
            yield f"a segment at {segment.start} does not follow on {at}"
        at = segment.end
        if segment.turn is not None and not 0 <= segment.turn < len(conversation.messages):
            yield f"text belongs to message {segment.turn}, which is not there"
        if segment.field is not None and segment.field_exact:
            value = _value(conversation, segment.turn, segment.field)
            end = segment.field_start + segment.end - segment.start
            copied = value[segment.field_start : end] if isinstance(value, str) else None
            if copied != chat.segment_text(segment):
                yield f"{chat.segment_text(segment)!r} is said to be {copied!r} of {_path(segment)}"
    if at != len(chat.text):
        yield f"segments end at {at} of {len(chat.text)}"


def _value(conversation: Conversation, turn: int | None, path: tuple[str | int, ...]) -> Any:
    value: Any = conversation.messages[turn] if turn is not None else {
        "tools": conversation.tools, "documents": conversation.documents
    }  # fmt: skip
    for step in path:
        value = value[step]
    return value


def _path(segment: Segment) -> str:
    return f"message {segment.turn}'s {'.'.join(str(step) for step in segment.field or ())}"


def independent(case: Case) -> str | None:
    """The template's own text stays the same when messages have other words of the same shape."""
    found = case.template.reading_of(case.conversation)
    return None if found is None else f"the template {found}"


def ends(case: Case) -> str | None:
    """Each turn of the model that the template closes has one end marker, after all its data."""
    chat = case.chat
    profile = case.template.profile(
        tools=bool(case.conversation.tools),
        documents=bool(case.conversation.documents),
        kwargs=case.conversation.template_kwargs,
    )
    if profile.marker is None and not profile.opener_ends:
        raise Skip("the template writes no end marker after the model's turns")
    checked = False
    for turn in range(len(case.conversation.messages)):
        if not case.is_model(turn):
            continue
        own = [s for s in chat.segments if s.turn == turn]
        data = [s for s in own if s.from_data and s.part in BODY]
        found = [s for s in own if s.part == "eot"]
        if any(_apart(chat, a, b) for a, b in pairwise(found)):
            return f"message {turn} has several end markers: {[chat.segment_text(s) for s in found]}"
        # An empty turn may be left without an end.
        if not data:
            continue
        if found and found[-1].start < data[-1].end:
            return f"the end marker of message {turn} comes before data of it"
        if not found and _closed(chat, data[-1].end, profile.marker):
            return f"the end marker after message {turn} is not known as its end"
        checked = checked or bool(found)
    if not checked:
        raise Skip("no turn of the model is closed")
    return _end_by_what_follows(case)


def _apart(chat: RenderedChat, a: Segment, b: Segment) -> bool:
    """True if a turn has two ends, and no other turn spoke between them.

    A result may come between them, before the answer goes on.
    """
    return a.end != b.start and not any(
        s.from_data and s.turn not in (None, a.turn) for s in chat.segments if a.end <= s.start < b.start
    )


_FOLLOWING: Final[tuple[tuple[dict[str, Any], ...], ...]] = (
    (),
    ({"role": "user", "content": "Go on."},),
    ({"role": "tool", "name": "get_weather", "tool_call_id": "abcdefghi", "content": "sun"},),
    ({"role": "assistant", "content": "And more."},),
    ({"role": "system", "content": "Be brief."},),
)
"""Turns that may follow an answer."""


def _end_by_what_follows(case: Case) -> str | None:
    """A turn's end that is the same text, and no end, where another kind of turn follows."""
    # Only for the shapes: five more renderings of each turn would be slow on generated conversations.
    if case.example.shape is None:
        return None
    turns = (turn for turn in range(len(case.conversation.messages)) if case.is_model(turn))
    return next((problem for turn in turns if (problem := _end_of_turn_by_what_follows(case, turn))), None)


def _end_of_turn_by_what_follows(case: Case, turn: int) -> str | None:
    messages = case.conversation.messages
    tails: list[tuple[str, str, tuple[int, int] | None]] = []
    for following in _FOLLOWING:
        longer = dataclasses.replace(
            case.conversation, messages=(*messages[: turn + 1], *alike(following, case.example))
        )
        try:
            chat = case.template.render(longer)
        except TemplateError:
            continue
        written = [s.end for s in chat.segments if s.turn == turn and s.from_data and s.part in BODY]
        if written:
            after = [s for s in chat.segments if s.turn == turn and s.part == "eot" and s.start >= written[-1]]
            place = (after[0].start - written[-1], after[-1].end - written[-1]) if after else None
            tails.append((following[0]["role"] if following else "", chat.text[written[-1] :], place))
    for _, text, place in tails:
        for role, other, there in tails:
            if place is not None and other.startswith(text[: place[1]]) and place != there:
                where = f"{article(role)} `{role}` turn follows" if role else "nothing follows"
                return (
                    f"the end marker {text[slice(*place)]!r} of message {turn} is not labelled as its end where {where}"
                )
    return None


def _closed(chat: RenderedChat, start: int, marker: str | None) -> bool:
    """True if template text between `start` and the next data has the end marker."""
    if marker is None:
        return False
    end = next((s.start for s in chat.segments if s.start >= start and s.from_data), len(chat.text))
    return marker.strip() in chat.text[start:end]


def complete(case: Case) -> str | None:
    """Every field of a message with something in it reaches the text."""
    told = []
    for gone in case.chat.unrendered:
        if gone.turn is None:
            told.append(f"`{gone.path[0]}`")
            continue
        role = case.conversation.messages[gone.turn].get("role")
        what = "all" if gone.kind == "message" else f"`{gone.field}`"
        told.append(f"{what} of {article(str(role))} `{role}` turn")
    return f"{' and '.join(dict.fromkeys(told))} never reaches the text" if told else None


def prefix_stability(case: Case) -> str | None:
    """The text of the first messages of a conversation opens the text of all of it."""
    text, checked = case.chat.text, False
    for turns in range(1, len(case.conversation.messages)):
        prefix = case.prefix_text(turns)
        # Some templates refuse a conversation that ends with a user's turn, or with a call.
        if prefix is None:
            continue
        checked = True
        if not text.startswith(prefix):
            at = common_prefix(text, prefix)
            rest = prefix[at : at + 24]
            return f"the text of the first {turns} messages has {rest!r} where that of all has {text[at : at + 24]!r}"
    if not checked:
        raise Skip("no shorter conversation renders")
    return None


def header(case: Case) -> str | None:
    """The header of a model's turn is the generation prompt, wherever that opens the turn."""
    checked = False
    for turn, prompt in _prompted_turns(case):
        own = [s for s in case.chat.segments if s.turn == turn]
        if not any(s.part in BODY for s in own) or len(prompt) <= own[0].start:
            continue  # a prompt may also end the turn before, and open no turn
        checked = True
        for s in own:
            text = case.chat.segment_text(s)
            if s.part in BODY | EOS and s.start < len(prompt):
                return f"{text!r} of message {turn} is {s.part}, and the generation prompt supplies it"
            if s.part == "header" and s.end > len(prompt) and s.start < _first_body(own):
                return f"{text!r} of message {turn} is header, and the generation prompt does not supply it"
    if not checked:
        raise Skip(_no_prompt(case))
    return None


def _no_prompt(case: Case) -> str:
    prompts = [(case.prompt_text(turn), case.prefix_text(turn)) for turn in range(1, len(case.conversation.messages))]
    if all(prompt == prefix for prompt, prefix in prompts):
        return "the template has no generation prompt"
    return "no turn of the model opens as the generation prompt says"


def _first_body(own: list[Segment]) -> int:
    return min(s.start for s in own if s.part in BODY)


def _prompted_turns(case: Case) -> Iterator[tuple[int, str]]:
    """Model turns whose generation prompt opens the whole text up to them, and that text."""
    for turn in range(1, len(case.conversation.messages)):
        if case.is_model(turn):
            prompt = case.prompt_text(turn)
            if prompt is not None and case.chat.text.startswith(prompt):
                yield turn, prompt


def boundary_tokens(case: Case) -> str | None:
    """Tokens before the model's first are those of the prompt, tokenized by itself."""
    if case.tokenizer is None:
        raise Skip("no tokenizer was given")
    tokens = None
    for turn, prompt in _prompted_turns(case):
        rest = case.chat.text[len(prompt) :]
        if not rest or rest[0].isspace() or prompt == case.prefix_text(turn):
            continue  # an answer that opens with white space can merge with any header; no prompt, no boundary
        given = dataclasses.replace(case.chat, text=prompt, segments=())
        try:
            tokens = tokens or case.tokenizer.encode(case.chat)
            alone = case.tokenizer.encode(given).input_ids
        except MediaError:
            raise Skip("the conversation has media without data") from None
        except AttributionError:
            raise Skip("the tokenizer's tokens cannot be located in this text") from None
        if tokens.input_ids[: len(alone)] != alone:
            at = next((i for i, (a, b) in enumerate(zip(tokens.input_ids, alone)) if a != b), len(alone) - 1)
            there = case.tokenizer.decode_token(tokens.input_ids[at])
            return (
                f"before message {turn}, training has the token {there!r} where the generation prompt "
                f"{prompt[-16:]!r} has {case.tokenizer.decode_token(alone[at])!r}"
            )
    if tokens is None:
        raise Skip(_no_prompt(case))
    return None


def renders(case: Case) -> str | None:
    """The template renders the conversation."""
    return None if isinstance(case.outcome, RenderedChat) else _first_line(case.outcome)


def is_limit(outcome: RenderedChat | TemplateError) -> bool:
    """True if a rendering ended at a bound of time, output, depth or memory."""
    return isinstance(outcome, TemplateLimitError)


def bounded(case: Case) -> str | None:
    """No rendering reaches the bounds; twice as many turns write about twice as much text."""
    if isinstance(case.outcome, TemplateLimitError):
        return _first_line(case.outcome)
    # Once a template is enough: 1,024 turns take long.
    if case.example.shape != "several exchanges":
        return None
    half, whole = (_repeated_text(case, turns) for turns in (MANY // 2, MANY))
    if isinstance(half, str) and isinstance(whole, str) and len(whole) > _GROWTH * len(half):
        return f"{MANY // 2} turns write {len(half):,} characters, and {MANY} turns {len(whole):,}"
    limits = [outcome for outcome in (half, whole) if isinstance(outcome, TemplateLimitError)]
    return f"{MANY} turns: {_first_line(limits[0])}" if limits else None


def _repeated_text(case: Case, turns: int) -> str | TemplateError:
    messages = case.conversation.messages
    many = (messages * (turns // len(messages) + 1))[:turns]
    try:
        return case.template.render_plain(dataclasses.replace(case.conversation, messages=many))
    except TemplateError as error:
        return error


def _first_line(error: Exception) -> str:
    # Only the template's own words are compared and counted.
    text = error.own_words if isinstance(error, TemplateError) else str(error)
    return next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
