"""Media of messages where no processor looks for them: they would be lost without a word.

    {"role": "user", "content": "What is it?", "images": ["cat.png"]}
    {"role": "user", "content": [{"type": "tool_result", "content": [{"type": "image", "path": "cat.png"}]}]}

A processor takes media from the content parts of messages only, each by its type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from policy_engine.core.vocabulary import MEDIA_TYPES, MESSAGE_FIELDS, MediaKind

_FIELDS: Final = frozenset(name for name, kind in MESSAGE_FIELDS.items() if kind == "media")
_LISTS: Final[dict[str, MediaKind]] = {"images": "image", "videos": "video", "audios": "audio"}


def misplaced(messages: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
    """The first medium that no processor would take, and what to write; None if all are right.

    >>> misplaced([{"role": "user", "content": "Hi", "images": ["cat.png"]}])[0]
    'messages[0] has `images` beside its content, which no processor reads'
    """
    for turn, message in enumerate(messages):
        # Asked for every row of a run; they rarely have such a field.
        for name in sorted(_FIELDS.intersection(message)):
            if _is_given(message[name]):
                return f"messages[{turn}] has `{name}` beside its content, which no processor reads", _write(name)
        content = message.get("content")
        for item, part in enumerate(content if isinstance(content, list | tuple) else ()):
            if isinstance(part, Mapping) and (found := _in_part(part)) is not None:
                return f"messages[{turn}].content[{item}] {found[0]}", found[1]
    return None


def _in_part(part: Mapping[str, Any]) -> tuple[str, str] | None:
    kind = part.get("type")
    if str(kind) in _LISTS:
        return f"is of type `{kind}`, which no processor reads", _write(str(kind))
    # Nearly every part is a text, or a medium with its data.
    for name in sorted(_FIELDS.intersection(part)):
        if not _is_given(part[name]):
            continue
        if name in _LISTS:
            return f"has its media under `{name}`, which no processor reads", _write(name)
        if str(kind) not in MEDIA_TYPES:
            what = "its type is missing" if kind is None else f"its type is `{kind}`"
            return f"has `{name}`, and {what}", f'write its type, as in {{"type": "{MEDIA_TYPES[name]}", …}}'
    if kind == "text" or str(kind) in MEDIA_TYPES:
        return None
    # Anthropic's and OpenAI's results of tools: `{"type": "tool_result", "content": [{"type": "image", …}]}`.
    for name, value in part.items():
        if isinstance(value, list | tuple):
            for at, inner in enumerate(value):
                if isinstance(inner, Mapping) and str(inner.get("type")) in MEDIA_TYPES:
                    what = f"holds a part of type `{inner['type']}` under `{name}[{at}]`, which no processor reads"
                    return what, "write it as a content part of the message itself"
    return None


def _write(name: str) -> str:
    kind = _LISTS.get(name) or MEDIA_TYPES[name]
    return f'write each as a content part of its own: {{"type": "{kind}", "path": …}}'


def _is_given(value: Any) -> bool:
    # By type first: an array compared with a text is an array.
    return value is not None and not (isinstance(value, str | list | tuple | dict) and not value)
