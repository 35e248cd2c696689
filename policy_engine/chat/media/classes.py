"""Processor classes that write media as text, then tokenize once; why others are refused."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from typing import Any, Final

from policy_engine.chat.transformers_import import transformers
from policy_engine.core.vocabulary import MediaKind

OLDEST: Final = "5.18"
"""The first transformers whose processors write media as text, in `get_text_with_replacements`."""
# Classes that only declare the methods: a method of theirs is not an override.
_MIXINS: Final = ("ProcessorMixin", "OmniModalProcessorMixin")
# In the order in which transformers takes them as arguments: images, videos, audio.
KINDS: Final[tuple[MediaKind, ...]] = ("image", "video", "audio")


def kinds_of(cls: type) -> tuple[MediaKind, ...]:
    """The kinds of media that a class writes replacements for.

    >>> from transformers import Qwen2VLProcessor
    >>> kinds_of(Qwen2VLProcessor)
    ('image', 'video')
    """
    found: list[MediaKind] = [kind for kind in KINDS if _overrides(cls, f"replace_{kind}_token")]
    # Qwen2.5-Omni's way: the sound of a video is written with the video.
    if "audio" not in found and _overrides(cls, "replace_video_with_audio_token"):
        found.append("audio")
    return tuple(found)


def why_refused(cls: type) -> str | None:
    """Why a processor class cannot be used, in one clause; None if it can.

    >>> from transformers import CLIPProcessor, Qwen2VLProcessor
    >>> why_refused(Qwen2VLProcessor)
    >>> why_refused(CLIPProcessor)
    'it puts no placeholders of media into text'
    """
    # Classes say nowhere how they write media, so the source of their methods is read.
    if not hasattr(cls, "get_text_with_replacements"):
        return f"transformers {transformers().__version__} writes media after tokenizing; take {OLDEST} or later"
    call = list(_bodies(cls, "__call__"))
    if not kinds_of(cls):
        own = any("_token" in body and "replace(" in body for body in call)
        return "it expands placeholders on its own" if own else "it puts no placeholders of media into text"
    # It has the method, and its call does not use it: ids would come from code that nothing here sees.
    if not any("get_text_with_replacements" in body for body in call):
        return "it expands placeholders on its own"
    if _overrides(cls, "apply_chat_template") and not any(
        "super().apply_chat_template" in body for body in _bodies(cls, "apply_chat_template")
    ):
        return "it renders chats on its own, without a chat template"
    return None


def names_replacements(cls: type) -> bool:
    """True if the call of a class gives what it writes in place of placeholders.

    That of NemotronH Omni does not.
    """
    return any("return_text_replacement_offsets" in body for body in _bodies(cls, "__call__"))


def all_classes() -> list[type]:
    """Every processor class that the installed transformers has, by name."""
    package = transformers()
    mixin = package.ProcessorMixin
    found: dict[str, type] = {}
    for name in sorted(dir(package)):
        # By name first: `getattr` of a lazy module imports the class's whole model.
        if name.endswith(("Processor", "ProcessorWithLM")):
            value = getattr(package, name, None)
            if isinstance(value, type) and issubclass(value, mixin) and value.__name__ not in _MIXINS:
                found.setdefault(value.__name__, value)
    return list(found.values())


def _overrides(cls: type, name: str) -> bool:
    return any(name in base.__dict__ for base in cls.__mro__ if base.__name__ not in _MIXINS)


def _bodies(cls: type, name: str) -> Iterator[str]:
    """The sources of a method, then of those it calls by `super()`."""
    for base in cls.__mro__:
        method: Any = base.__dict__.get(name)
        if method is None:
            continue
        # Unwrapped, since decorators of transformers would show their own source.
        body = textwrap.dedent(inspect.getsource(inspect.unwrap(method)))
        yield body
        if f"super().{name}" not in body:
            return
