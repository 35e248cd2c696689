"""Conversations as data brings them, brought to one form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """OpenAI-style messages, whatever format they came in.

    Each message has a `role` (str), and `content` (str, list of parts, None or absent), `tool_calls`, `reasoning_content` …
    as in the data, any further keys kept. `sample` is the dataset row they came from (for `sample.` conditions).
    """

    messages: tuple[Mapping[str, Any], ...]
    tools: tuple[Mapping[str, Any], ...] | None = None
    documents: tuple[Mapping[str, Any], ...] | None = None
    sample: Mapping[str, Any] = field(default_factory=dict)
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
