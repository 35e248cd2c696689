"""Messages and tools as transformers hands them to a template.

{"role": "assistant", "content": null, "reasoning": "Hm"}   becomes
{"role": "assistant", "reasoning": "Hm", "thinking": "Hm", "reasoning_content": "Hm"}
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from policy_engine.chat.media.in_messages import for_template
from policy_engine.chat.segments import Unrendered
from policy_engine.chat.trace.values import wrap, wrap_message
from policy_engine.chat.transformers_import import json_schema, reasoning_has_aliases
from policy_engine.core.suggest import nearest
from policy_engine.core.vocabulary import REASONING_ALIASES
from policy_engine.data.conversation import Conversation

_MOST_NAMES: Final = 1024


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """A template's inputs: messages, and what is given beside them.

    `prompt` asks for a generation prompt.

    >>> Inputs(messages=({"role": "user", "content": "Hi"},), prompt=True).tools is None
    True
    """

    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Any] | None = None
    documents: Sequence[Any] | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    prompt: bool = False

    @classmethod
    def of(cls, conversation: Conversation, *, prompt: bool = False) -> Inputs:
        """The inputs of a conversation as it is, without its flags."""
        return cls(
            messages=conversation.messages,
            tools=conversation.tools,
            documents=conversation.documents,
            kwargs=conversation.template_kwargs,
            prompt=prompt,
        )


@dataclass(frozen=True)
class Arguments:
    """The names of the arguments that a template reads; None where it may read any.

    >>> arguments = Arguments(frozenset({"messages", "enable_thinking"}))
    >>> [lost.field for lost in arguments.unread({"enable_thinkng": False, "enable_thinking": True, "title": ""})]
    ['template argument enable_thinkng']
    """

    names: frozenset[str] | None
    _near: dict[str, bool] = field(default_factory=dict, compare=False, repr=False)

    def read(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        """The arguments that the template reads."""
        if not kwargs:
            return kwargs
        return {name: value for name, value in kwargs.items() if self.names is None or name in self.names}

    def unread(self, kwargs: Mapping[str, Any]) -> tuple[Unrendered, ...]:
        """The arguments that ask for something, and that the template does not read."""
        if self.names is None:
            return ()
        return tuple(
            Unrendered(turn=None, path=(name,), kind="argument")
            for name, value in kwargs.items()
            # `python_tools: []` and `thinking: false` ask for nothing, but for a name that is misspelled. A function
            # replaces one that templates have, such as `strftime_now`.
            if name not in self.names and not callable(value) and (value or (value is not None and self._is_near(name)))
        )

    def _is_near(self, name: str) -> bool:
        found = self._near.get(name)
        if found is None:
            found = nearest(name, self.names or (), cutoff=0.85) is not None
            # Few names occur, and each in every row; data that makes up names must not fill the memory.
            if len(self._near) < _MOST_NAMES:
                self._near[name] = found
        return found


def variables_of(inputs: Inputs, special_tokens: Mapping[str, Any], *, hides_media: bool) -> dict[str, Any]:
    """The variables of a template, with origins at every value of the data."""
    tools, documents = inputs.tools, inputs.documents
    messages = (for_template(message) if hides_media else message for message in inputs.messages)
    return {
        # A row's arguments win over special tokens, and neither over the data: as transformers has it.
        **special_tokens,
        **inputs.kwargs,
        "messages": [wrapped_message(message, turn) for turn, message in enumerate(messages)],
        "tools": None if tools is None else wrap([schema_of(tool) for tool in tools], None, ("tools",)),
        "documents": None if documents is None else wrap(list(documents), None, ("documents",)),
        "add_generation_prompt": inputs.prompt,
    }


def schema_of(tool: Any) -> Any:
    """A tool's schema, made from its signature and docstring if it is a Python function.

    >>> schema_of({"name": "weather"})
    {'name': 'weather'}
    """
    if inspect.isfunction(tool) or inspect.ismethod(tool):
        return json_schema(tool)
    return tool


def wrapped_message(message: Mapping[str, Any], turn: int) -> Any:
    """A message with origins, without nulls, its reasoning under all names that templates read."""
    given, aliases = _given(message)
    return wrap_message(given, turn, aliases)


def plain_message(message: Mapping[str, Any]) -> dict[str, Any]:
    """The same message without origins.

    >>> plain_message({"role": "assistant", "content": None, "reasoning": "Hm"})
    {'thinking': 'Hm', 'role': 'assistant', 'reasoning': 'Hm', 'reasoning_content': 'Hm'}
    """
    return _given(message)[0]


def _given(message: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """A message as templates get it, and the fields that its reasoning's other names repeat."""
    given = {key: value for key, value in message.items() if value is not None}
    aliases: dict[str, str] = {}
    for name in REASONING_ALIASES if reasoning_has_aliases() else ():
        # The first name that is there is copied under the others; names that are there already keep their value.
        if name in given:
            aliases = {"thinking": name if "thinking" not in given else "thinking", "reasoning_content": name}
            # The order of the dict decides: `thinking` of the data wins, `reasoning_content` is written over.
            given = {"thinking": given[name], **given, "reasoning_content": given[name]}
            break
    return given, aliases
