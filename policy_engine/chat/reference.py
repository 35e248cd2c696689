"""transformers' own rendering of a conversation, with which all others are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from policy_engine.chat.transformers_import import transformers
from policy_engine.data.conversation import Conversation


def without_nulls(conversation: Conversation) -> list[dict[str, Any]]:
    """The messages as templates get them: `apply_chat_template` drops keys whose value is None.

    >>> without_nulls(Conversation(messages=({"role": "assistant", "content": None, "tool_calls": []},), sample={}))
    [{'role': 'assistant', 'tool_calls': []}]
    """
    return [{k: v for k, v in message.items() if v is not None} for message in conversation.messages]


def reference_text(
    source: str,
    conversation: Conversation,
    *,
    special_tokens: Mapping[str, Any],
    add_generation_prompt: bool = False,
) -> str:
    """The text of `tokenizer.apply_chat_template(tokenize=False)`, without a tokenizer.

    Raises what transformers raises. Neither its time nor its memory is bounded: render with `ChatTemplate` first.

    >>> conversation = Conversation(messages=({"role": "user", "content": "Hi"},), sample={})
    >>> reference_text("{{ bos_token }}{{ messages[0].content }}", conversation, special_tokens={"bos_token": "<s>"})
    '<s>Hi'
    """
    return _rendered(source, conversation, special_tokens, add_generation_prompt=add_generation_prompt)[0]


def reference_generation(
    source: str, conversation: Conversation, *, special_tokens: Mapping[str, Any]
) -> tuple[str, list[tuple[int, int]]]:
    """transformers' text, and the characters `[start, end)` inside generation blocks.

    Of these `return_assistant_tokens_mask=True` makes its `assistant_masks`. Raises what transformers raises.
    """
    text, spans = _rendered(source, conversation, special_tokens, return_assistant_tokens_mask=True)
    return text, [(int(start), int(end)) for start, end in spans]


def _rendered(
    source: str, conversation: Conversation, special_tokens: Mapping[str, Any], **flags: bool
) -> tuple[str, Sequence[tuple[int, int]]]:
    # First through our own import, so that no advice about torch is printed.
    transformers()
    from transformers.utils.chat_template_utils import render_jinja_template

    render: Any = render_jinja_template  # its own annotations are narrower than what it takes
    texts, spans = render(
        # `apply_chat_template` leaves nulls out before it calls this function, which does not.
        conversations=[without_nulls(conversation)],
        tools=None if conversation.tools is None else list(conversation.tools),
        documents=None if conversation.documents is None else list(conversation.documents),
        chat_template=source,
        **flags,
        # A row's arguments win over special tokens of the same name.
        **{**special_tokens, **conversation.template_kwargs},
    )
    return str(texts[0]), spans[0] if spans else ()


def reference_mask(tokenizer: Any, source: str, conversation: Conversation) -> tuple[list[int], list[int]]:
    """Ids and `assistant_masks` of a transformers tokenizer. Raises what it raises."""
    found = tokenizer.apply_chat_template(
        [dict(message) for message in conversation.messages],
        tools=None if conversation.tools is None else list(conversation.tools),
        chat_template=source,
        return_dict=True,
        return_assistant_tokens_mask=True,
        **conversation.template_kwargs,
    )
    return list(found["input_ids"]), list(found["assistant_masks"])


def reference_environment() -> Any:
    """The Jinja environment in which transformers renders chat templates."""
    transformers()
    from transformers.utils import chat_template_utils

    return chat_template_utils._compile_jinja_template("").environment
