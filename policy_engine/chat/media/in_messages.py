"""The media of a conversation: which content parts hold them, and where each one's data is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from policy_engine.chat.media.misplaced import misplaced
from policy_engine.core.errors import MediaError
from policy_engine.core.vocabulary import MEDIA_TYPES, MediaKind

KEYS: Final[dict[MediaKind, tuple[str, ...]]] = {
    "image": ("image", "image_url", "url", "path", "bytes", "base64", "input_image"),
    "video": ("video", "video_url", "url", "path", "bytes", "input_video"),
    "audio": ("audio", "audio_url", "url", "path", "bytes", "base64", "input_audio"),
}
"""Keys of a content part under which the data of a medium can be, in the order they are looked for."""

_INNER: Final = ("bytes", "array", "base64", "data", "url", "path")
"""Keys of an object with the data of a medium."""
_WRITE: Final = (
    'write where it is, as in {{"type": "{kind}", "path": …}}, or list the files of the row in a column `{kind}s`'
)


@dataclass(frozen=True, kw_only=True)
class Medium:
    """A medium of a conversation.

    `turn` and `item` are the message and the content part it belongs to (from 0). `source` is what the data has for
    it: a path, a URL, bytes, an object such as `PIL.Image.Image`, or a mapping of `bytes` and `path`.
    """

    kind: MediaKind
    turn: int
    item: int
    source: Any = field(repr=False)

    @property
    def place(self) -> str:
        """Its place in the messages, for errors.

        >>> Medium(kind="image", turn=0, item=1, source="cat.png").place
        'messages[0].content[1]'
        """
        return f"messages[{self.turn}].content[{self.item}]"


def media_of(messages: Sequence[Mapping[str, Any]]) -> list[Medium]:
    """The media of messages, in order.

    Raises MediaError for a content part of a media type that has no data, or several, and for media that are no
    content parts of a message.

    >>> media_of([{"role": "user", "content": [{"type": "image", "path": "cat.png"}, {"type": "text", "text": "?"}]}])
    [Medium(kind='image', turn=0, item=0)]
    """
    wrong = misplaced(messages)
    if wrong is not None:
        raise MediaError(wrong[0], help=wrong[1])
    return [
        Medium(kind=kind, turn=turn, item=item, source=_source(part, kind, f"messages[{turn}].content[{item}]"))
        for turn, item, kind, part in _parts(messages)
    ]


def has_media(messages: Sequence[Mapping[str, Any]]) -> bool:
    """True if a content part of the messages is a medium, by its type or, without one, its keys.

    >>> has_media([{"role": "user", "content": [{"type": "image", "path": "a.png"}]}])
    True
    """
    for message in messages:
        content = message.get("content")
        # Asked for every row of a run, so it looks at plain lists only.
        if type(content) is list and any(map(_is_medium, content)):
            return True
    return False


def for_template(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """A message as a processor gives it to a template, without the data of media.

    Parts of type `image_url` become `image`, as transformers makes them, and `input_audio` becomes `audio`.

    A template is a program that came with a model: it sees that a part has an `image`, and neither the object nor its
    methods.

    >>> for_template({"role": "user", "content": [{"type": "image", "path": "a.png"}]})
    {'role': 'user', 'content': [{'type': 'image', 'path': 'medium'}]}
    """
    content = message.get("content")
    if not isinstance(content, list | tuple) or not any(isinstance(p, Mapping) and _kind(p) for p in content):
        return message
    return {**message, "content": [_for_template(part) if isinstance(part, Mapping) else part for part in content]}


def _for_template(part: Mapping[str, Any]) -> Mapping[str, Any]:
    kind = _kind(part)
    if kind is None:
        return part
    # Templates test for `image`, and OpenAI's types are other words for it: `image_url`, `input_audio`.
    if part.get("type") != kind:
        return {"type": kind, "url": "medium"}
    # A text of fixed length, not None: templates test whether a key is there.
    return {key: "medium" if key in KEYS[kind] else value for key, value in part.items()}


def _parts(messages: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, int, MediaKind, Mapping[str, Any]]]:
    for turn, message in enumerate(messages):
        content = message.get("content")
        if isinstance(content, list | tuple):
            for item, part in enumerate(content):
                if isinstance(part, Mapping) and (kind := _kind(part)) is not None:
                    yield turn, item, kind, part


def _kind(part: Mapping[str, Any]) -> MediaKind | None:
    return MEDIA_TYPES.get(str(part.get("type")))


def _is_medium(part: Any) -> bool:
    if not isinstance(part, Mapping):
        return False
    if part.get("type") is not None:
        return _kind(part) is not None
    # Qwen's data has `{"image": …}` without a type, and its templates write a placeholder for it.
    return any(part.get(key) is not None for key in MEDIA_TYPES)


def _source(part: Mapping[str, Any], kind: MediaKind, place: str) -> Any:
    found = [key for key in KEYS[kind] if _is_given(part.get(key))]
    # Arrow's Image feature has both, and a path beside bytes only names them.
    if "bytes" in found and "path" in found and len(found) == 2:
        return {"bytes": part["bytes"], "path": part["path"]}
    # Two keys may hold two pictures; guessing would train on the wrong one.
    if len(found) > 1:
        keys = ", ".join(f"`{key}`" for key in found)
        raise MediaError(f"{place} has its {kind} under several keys: {keys}", help="keep one of them")
    if not found:
        raise MediaError(
            f"{place} is of type `{part.get('type')}` and has no data",
            help=_WRITE.format(kind=kind),
        )
    value = part[found[0]]
    if found[0] == "base64":
        return {"base64": value}
    return _inner(value, kind, place) if isinstance(value, Mapping) else value


def _inner(value: Mapping[str, Any], kind: MediaKind, place: str) -> Any:
    """The data inside of an object: OpenAI's `{"url": …, "detail": …}`, Arrow's `{"bytes": …}`."""
    found = [key for key in _INNER if _is_given(value.get(key))]
    # A path beside bytes only names them.
    if found == ["bytes", "path"] or found in (["array"], ["array", "path"]):
        return value
    if len(found) > 1:
        keys = ", ".join(f"`{key}`" for key in found)
        raise MediaError(f"{place} has its {kind} under several keys: {keys}", help="keep one of them")
    if not found:
        raise MediaError(f"{place} has no data: {_named(value)}", help=_WRITE.format(kind=kind))
    (key,) = found
    # OpenAI's `input_audio` has its base64 under `data`.
    return {"base64": value[key]} if key in ("base64", "data") else value[key] if key == "url" else {key: value[key]}


def _is_given(value: Any) -> bool:
    # By type first: an array compared with a text is an array.
    return value is not None and not (isinstance(value, str) and not value)


def _named(value: Mapping[str, Any]) -> str:
    return f"{', '.join(f'`{key}`' for key in list(value)[:6])} hold nothing" if value else "it is an empty object"
