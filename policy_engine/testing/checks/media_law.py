"""The property of a template with its processor: media have their ids and places."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from policy_engine.chat.media.processor import MediaProcessor, noise
from policy_engine.core.errors import PolicyEngineError
from policy_engine.core.vocabulary import MEDIA
from policy_engine.data.conversation import Conversation
from policy_engine.testing.checks.conformance_cases import Case, Skip

_SIZES = ((64, 48), (33, 90))


def media(case: Case) -> str | None:
    """Ids are the processor's own where users send media, and its placeholders are media."""
    processor = None if case.tokenizer is None else case.tokenizer.media
    if case.tokenizer is None or processor is None:
        raise Skip("no processor was given")
    if case.example.shape is None:
        raise Skip("only the conversations of each shape are tried with media")
    messages = [_with_media(message, processor, at) for at, message in enumerate(case.conversation.messages)]
    try:
        expected = _own_ids(processor, messages, case)
    except Exception as error:  # templates and processors raise anything
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise Skip(f"the processor raises for it: {reason}") from None
    conversation = Conversation(messages=tuple(messages), tools=case.conversation.tools)
    try:
        found = case.tokenizer.encode(case.template.render(conversation))
    except PolicyEngineError as error:
        return f"it is refused with media: {error.message}"
    if found.input_ids != expected:
        at = next((i for i, (a, b) in enumerate(zip(found.input_ids, expected)) if a != b), len(expected))
        return f"with media, ids differ from the processor's at token {at}"
    starts = [segment.start for segment in found.chat.segments]
    places_T = np.searchsorted(starts, found.starts_T, side="right") - 1
    for at, (token, place) in enumerate(zip(found.input_ids, places_T.tolist())):
        if token in processor.ids and found.chat.segments[place].part not in MEDIA:
            return f"token {at} stands for a medium, and is {found.chat.segments[place].part}"
    return None


def _own_ids(processor: MediaProcessor, messages: list[Mapping[str, Any]], case: Case) -> list[int]:
    tools = case.conversation.tools
    made = processor.processor.apply_chat_template(
        # Some processors write into the messages they are given.
        copy.deepcopy(messages),
        tools=None if tools is None else [dict(tool) for tool in tools],
        chat_template=case.template.source,
        tokenize=True,
        return_dict=True,
    )
    return [int(i) for i in np.asarray(made["input_ids"]).reshape(-1)]


def _with_media(message: Mapping[str, Any], processor: MediaProcessor, at: int) -> Mapping[str, Any]:
    """A message whose content is a list of parts, with a medium in front if a user wrote it."""
    content = message.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else list(content or ())
    # Media of the shape itself have no data; real ones take their place.
    parts = [part for part in parts if part.get("type") == "text"]
    if message.get("role") != "user":
        return {**message, "content": parts} if isinstance(content, list) else message
    if "image" in processor.tokens:
        own: list[dict[str, Any]] = [{"type": "image", "image": noise(*_SIZES[at % len(_SIZES)], seed=at)}]
    elif "audio" in processor.tokens:
        own = [{"type": "audio", "audio": np.zeros(processor.rate // 2, dtype=np.float32)}]
    else:
        raise Skip("the processor takes videos only")
    return {**message, "content": [*own, *parts]}
