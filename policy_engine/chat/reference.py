"""transformers' own rendering of a conversation, with which all others are compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policy_engine.chat.transformers_import import transformers
from policy_engine.data.conversation import Conversation


def reference_text(
    source: str,
    conversation: Conversation,
    *,
    special_tokens: Mapping[str, Any],
    add_generation_prompt: bool = False,
) -> str:
    """The text of `tokenizer.apply_chat_template(tokenize=False)`, without a tokenizer.

    Raises what transformers raises. Neither its time nor its memory is bounded: render with `ChatTemplate` first.
    """
    transformers()
    from transformers.utils.chat_template_utils import render_jinja_template

    # `apply_chat_template` drops keys whose value is None before it renders.
    messages = [{k: v for k, v in message.items() if v is not None} for message in conversation.messages]
    render: Any = render_jinja_template  # its own annotations are narrower than what it takes
    rendered, _ = render(
        conversations=[messages],
        tools=None if conversation.tools is None else list(conversation.tools),
        documents=None if conversation.documents is None else list(conversation.documents),
        chat_template=source,
        add_generation_prompt=add_generation_prompt,
        **{**special_tokens, **conversation.template_kwargs},
    )
    return str(rendered[0])
