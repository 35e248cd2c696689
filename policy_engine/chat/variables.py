"""Messages and tools as transformers hands them to a template.

{"role": "assistant", "content": null, "reasoning": "Hm"}   becomes
{"role": "assistant", "reasoning": "Hm", "thinking": "Hm", "reasoning_content": "Hm"}
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from policy_engine.chat.trace.values import wrap_message
from policy_engine.chat.transformers_import import json_schema, reasoning_has_aliases
from policy_engine.core.vocabulary import REASONING_ALIASES


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
