"""The words of chat data and policies: parts, message fields, settings, and reserved words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Literal

IGNORE_INDEX: Final = -100
"""Label of a token that carries no loss (PyTorch's `cross_entropy` default)."""

Reason = Literal["rule", "default", "straddle", "structural", "truncated", "drift"]
RelationKind = Literal["after", "right after", "before"]
"""Relations between turns; a policy also writes `of`, which is about one turn."""

# The order is that in which messages list parts. A part that is added here is reserved as a name: `PART_NAMES`.
PART_DOCS: Final[dict[str, str]] = {
    "bos": "begin-of-sequence that the template or the tokenizer writes",
    "preamble": "text no message wrote: default system prompt, dates",
    "preamble.tools": "tool schemas",
    "preamble.documents": "documents given beside the messages",
    "header": "opens a message, up to where its author starts writing",
    "reasoning.open": "delimiter that opens the thinking",
    "reasoning.text": "the thinking",
    "reasoning.close": "delimiter that closes the thinking",
    "empty_reasoning": "a delimiter pair with nothing between, put there by the template",
    "text": "the message's content",
    "tool_call": "framing of a tool call",
    "tool_call.name": "name of the called tool",
    "tool_call.arguments": "arguments of the call",
    "media": "placeholders of media, with the tokens around them",
    "media.image": "an image: its placeholder, and what a processor makes of it",
    "media.audio": "a sound",
    "media.video": "a video",
    "markup": "other scaffold the author of the turn writes inside the body",
    "eot": "marker that ends this turn",
    "eod": "a further end-of-document marker",
    "separator": "whitespace and scaffold between turns",
    "generation_prompt": "a trailing opener with nothing after it; never trainable",
}
"""Every part that a segment can have, with its meaning.

A selector `X` covers `X` and every `X.…`.
"""

PARTS: Final[tuple[str, ...]] = tuple(PART_DOCS)

BODY: Final = frozenset(
    {"reasoning.open", "reasoning.text", "reasoning.close", "text", "tool_call", "tool_call.name",
     "tool_call.arguments", "markup"}
)  # fmt: skip
MEDIA: Final = frozenset({"media", "media.image", "media.audio", "media.video"})
"""In no group but `turn`: a placeholder is trained only where a policy names it."""
# Header, ends and separators belong to the message as a whole, never to one of its content parts.
FROM_PARTS: Final = BODY | MEDIA
"""Parts that can belong to a content part of their message (`part.` in conditions)."""
MediaKind = Literal["image", "audio", "video"]
MEDIA_TYPES: Final[dict[str, MediaKind]] = {
    "image": "image", "image_url": "image", "input_image": "image",
    "audio": "audio", "audio_url": "audio", "input_audio": "audio",
    "video": "video", "video_url": "video", "input_video": "video",
}  # fmt: skip
"""Types of content parts that hold a medium, with its kind."""
EOS: Final = frozenset({"eot", "eod"})
UNOWNED: Final = frozenset({"bos", "preamble", "preamble.tools", "preamble.documents", "generation_prompt"})
"""Parts that belong to no message."""
TURN: Final = frozenset(PARTS) - UNOWNED
UNTRAINABLE: Final = frozenset({"generation_prompt"})
ENDINGS: Final = frozenset({"eot", "eod", "separator"})
"""Parts on which `after ROLE` means `of ROLE`."""


def parts_of(selector: str) -> frozenset[str] | None:
    """The parts that the name of a part or group covers; None if no part has that name.

    >>> sorted(parts_of("eos"))
    ['eod', 'eot']
    >>> sorted(parts_of("reasoning"))
    ['reasoning.close', 'reasoning.open', 'reasoning.text']
    """
    # The groups are no prefixes of names: `eos` covers `eot` and `eod`, which the loop below could not find.
    groups = {"body": BODY, "eos": EOS, "turn": TURN}
    if selector in groups:
        return groups[selector]
    # With the dot, so that `tool_call` does not cover a part that only begins alike.
    found = frozenset(p for p in PARTS if p == selector or p.startswith(selector + "."))
    return found or None


def role_in_policy(name: str) -> str:
    """A role as a policy names it, in quotes where the bare name is no word or another word.

    >>> role_in_policy("assistant"), role_in_policy("text"), role_in_policy("usér")
    ('assistant', '"text"', '"usér"')
    """
    is_word = name.isidentifier() and name.isascii()
    return name if is_word and name not in KEYWORDS and parts_of(name) is None else json.dumps(name, ensure_ascii=False)


GROUPS: Final = ("body", "eos", "turn")
KEYWORDS: Final = (
    "train", "mask", "scale", "by", "never", "always", "use", "let", "on", "everything", "in", "spans", "sampled",
    "first", "last", "trained", "of", "right", "after", "before", "where", "unless", "weight", "and", "or", "not",
    "has", "contains", "matches", "true", "false", "null", "language",
)  # fmt: skip
STATEMENTS: Final = ("train", "mask", "scale", "never", "always", "use", "let", "on", "language")
"""Words that a statement begins with."""
CONTINUATIONS: Final = ("of", "after", "right", "before", "where", "unless", "weight", "by")
"""Words that go on with a statement, so that a newline before one of them does not end it (and before `and`, `or`)."""
PART_NAMES: Final = tuple(dict.fromkeys(name for p in PARTS for name in (p.split(".")[0],)))
"""First names of parts.

With the groups and keywords these are reserved; a role of such a name is quoted.
"""

FieldKind = Literal["label", "reasoning", "call", "text", "media"]

MESSAGE_FIELDS: Final[dict[str, FieldKind]] = {
    "content": "text", "text": "text", "refusal": "text", "tool_responses": "text", "tool_results": "text",
    "reasoning_content": "reasoning", "reasoning": "reasoning", "thinking": "reasoning", "tool_plan": "reasoning",
    "thought": "reasoning", "reasoning_text": "reasoning", "reasoning_details": "reasoning",
    "thinking_blocks": "reasoning",
    "tool_calls": "call", "function_call": "call", "tool_call": "call", "function_calls": "call",
    "image": "media", "images": "media", "image_url": "media", "audio": "media", "audios": "media",
    "audio_url": "media", "input_audio": "media", "video": "media", "videos": "media", "video_url": "media",
    "role": "label", "name": "label", "id": "label", "type": "label", "index": "label", "tool_call_id": "label",
    "tool_use_id": "label", "call_id": "label", "train": "label", "training": "label", "trainable": "label",
    "train_detail": "label", "training_detail": "label", "train_on_turn": "label", "loss": "label",
    "loss_weight": "label", "weight": "label", "mask": "label", "masked": "label", "metadata": "label",
    "cache_control": "label", "signature": "label", "detail": "label", "status": "label", "finish_reason": "label",
    "stop_reason": "label", "prefix": "label", "wo_eos": "label", "task": "label",
}  # fmt: skip
"""The fields of messages that are known, with what each holds.

`text` is the message itself, `reasoning` its thinking, `call` its tool calls, `media` images, sound and video. A
`label` names a message or says how to train on it: where no template prints it, nothing is lost. A field that is not
listed is reported as lost there. Where a message's own turn prints one of the two, it is `markup`, which `train ROLE`
trains; `mask ROLE.markup` takes it out.
"""

CALL_FIELDS: Final = frozenset(name for name, kind in MESSAGE_FIELDS.items() if kind == "call")
# Derived, so that a field is declared in one place only.
LABEL_FIELDS: Final = frozenset(name for name, kind in MESSAGE_FIELDS.items() if kind == "label")

REASONING_ALIASES: Final = ("reasoning_content", "thinking", "reasoning")
"""Names of a message's reasoning in transformers' templates, in the order of its look-up."""

PART_TYPES: Final[dict[str, FieldKind]] = {
    "text": "text", "input_text": "text", "output_text": "text", "refusal": "text", "tool_result": "text",
    "tool_response": "text", "tool_outputs": "text",
    "thinking": "reasoning", "reasoning": "reasoning", "thought": "reasoning", "thoughts": "reasoning",
    "tool_use": "call", "tool_call": "call", "tool_calls": "call", "function_call": "call", "function": "call",
    "image": "media", "image_url": "media", "input_image": "media", "audio": "media", "audio_url": "media",
    "input_audio": "media", "video": "media", "video_url": "media", "input_video": "media", "file": "media",
    "input_file": "media", "document": "media",
}  # fmt: skip
"""The `type`s of content parts that are known, with what each holds."""


def part_kind(part: Mapping[str, Any]) -> FieldKind | None:
    """The kind of a content part, by its `type` or its first known field; None if unknown.

    `{"type": "image_url", …}` is `media`, `{"text": "Hi"}` is `text`, `{"type": "redacted"}` is None.

    >>> part_kind({"type": "text", "text": "Hi"}), part_kind({"type": "image"})
    ('text', 'media')
    """
    named = part.get("type")
    # A written type decides alone: `{"type": "redacted", "text": …}` is not text because it has a `text`.
    if isinstance(named, str):
        return PART_TYPES.get(named)
    kinds = (PART_TYPES.get(key) for key in part)
    return next((kind for kind in kinds if kind is not None), None)


# `ipython` and `function` are how Llama 3.1 and old OpenAI data call `tool`; `critic` is the author of critiques.
KNOWN_ROLES: Final = ("system", "developer", "user", "assistant", "tool", "ipython", "function", "critic")
"""Roles that need no declaration.

Any other role draws a warning unless a dataset file declares it.
"""

OTHER_WORDS: Final[dict[str, str]] = {
    "content": "did you mean `text`, the part that has a message's content?",
    "thinking": "did you mean the part `reasoning`?",
    "thought": "did you mean the part `reasoning`?",
    "thoughts": "did you mean the part `reasoning`?",
    "gpt": "ShareGPT's `gpt` is read as `assistant`: write `assistant`",
    "chatgpt": "ShareGPT's `chatgpt` is read as `assistant`: write `assistant`",
    "human": "ShareGPT's `human` is read as `user`: write `user`",
    "function_call": "ShareGPT's `function_call` is read as a call of the assistant: write `assistant.tool_call`",
    "observation": "ShareGPT's `observation` is read as `tool`: write `tool`",
    **dict.fromkeys(
        (
            "response",
            "responses",
            "completion",
            "completions",
            "output",
            "answer",
            "answers",
            "reply",
            "model",
            "bot",
            "ai",
        ),
        "did you mean `assistant`?",
    ),
    **dict.fromkeys(("prompt", "prompts", "question", "input", "instruction"), "did you mean `user`?"),
    **dict.fromkeys(("tool_calls", "tool_use", "calls"), "did you mean the part `tool_call`?"),
    "reasoning_content": "did you mean the part `reasoning`?",
    "arguments": "did you mean the part `tool_call.arguments`?",
    "all": "did you mean `everything`?",
}
"""Words of data formats and of other languages that are written for a role or part, with what to write instead."""

OTHER_PARTS: Final[dict[str, str]] = {
    "content": "text", "thinking": "reasoning", "thought": "reasoning", "thoughts": "reasoning", "think": "reasoning",
    "reasoning_content": "reasoning", "tool_calls": "tool_call", "tool_use": "tool_call", "function_call": "tool_call",
    "calls": "tool_call", "arguments": "tool_call.arguments", "name": "tool_call.name", "image": "media.image",
    "images": "media.image", "audio": "media.audio", "video": "media.video", "end": "eos", "eom": "eot",
}  # fmt: skip
"""Words of data formats that are written for a part of a turn, with the part that is meant."""

OTHER_FUNCTIONS: Final[dict[str, str]] = {
    **dict.fromkeys(("len", "length", "size", "count"), "`turn.chars` is the number of characters of a turn's text"),
    **dict.fromkeys(("lower", "upper", "casefold"), "`FIELD matches /word/i` ignores case"),
    **dict.fromkeys(("startswith", "endswith", "match", "search"), "`FIELD matches /^word/` looks for a pattern"),
    **dict.fromkeys(("exists", "defined", "isset"), "`has FIELD` asks if a field is there"),
}  # fmt: skip
"""Functions of other languages, and what to write here."""

SETTINGS: Final[dict[str, tuple[str, ...]]] = {
    "straddle": ("mask", "train", "error"),
    "empty": ("drop", "keep", "error"),
    "unrendered": ("error", "warn", "ignore"),
    "media": ("error", "ignore"),
    "drift": ("error", "mask", "drop"),
}
"""Settings of `on NAME VALUE`, and the values of each.

Unset, `straddle` is `mask` and `empty` is `drop`; unset `unrendered` is an error where a trained turn lost its text or
its tool calls, and a warning elsewhere. `media` is for rows with images, sounds or videos where ids come from a
tokenizer, which writes one placeholder for each and no more; unset it is `error`. `drift` is for rows whose given ids
spell something else than their messages; unset it is `error`.
"""

NEIGHBOURS: Final = ("previous", "next", "result", "answer")
"""Scopes of other messages than the one that a text belongs to: the message before and after it, the tool messages
that answer its calls, and for a tool message the one whose call it answers."""
MESSAGE_SCOPES: Final = ("message", *NEIGHBOURS)
"""Scopes whose fields are those of a message."""

SCOPES: Final[dict[str, tuple[str, ...] | None]] = {
    "message": None,
    **dict.fromkeys(NEIGHBOURS),
    "part": None,
    "call": None,
    "sample": None,
    "turn": ("index", "from_end", "round", "chars"),
    "segment": ("text", "empty"),
}
"""Scopes of a condition's field, with the fields each has; None where the data decides."""
