"""A processor of any class, built of the parts that fit it, and a template that writes its placeholders.

Parts come from the class's own folder, or else from families whose parts other classes share. The first set with which
the class's own call takes a sample of the kind is used. Vocabularies are those of the tests, with all tokens that the
class's source names.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import re
import sys
from collections.abc import Iterator
from typing import Any

from policy_engine.chat.media.classes import kinds_of
from tests.support.pictures import _any_part, _tokenizer, picture, plain, tone

_TOKEN = re.compile(r'"((?:<[^<>"\s{}]{1,40}>)|(?:\[[A-Z_]{2,20}\]))"')
_FAMILIES = ("qwen2_vl", "got_ocr2", "llava_next", "pixtral", "idefics3", "siglip", "gemma3")
_SUFFIXES = {
    "image": ("ImageProcessorPil", "ImageProcessor", "ImageProcessorFast"),
    "video": ("VideoProcessor",),
    "audio": ("FeatureExtractor", "AudioProcessor"),
}
_FILES = {
    "image": ("image_processing_pil_{}", "image_processing_{}"),
    "video": ("video_processing_{}",),
    "audio": ("feature_extraction_{}", "audio_processing_{}"),
}
_MOST = 8
"""Sets of parts that are tried for a class."""


class NotBuilt(Exception):
    """No set of parts with which the class's own call takes a sample; the message is the last error."""


def any_processor(cls: type, kind: str) -> Any:
    """A processor of the class with which its own `apply_chat_template` takes a chat with a medium of the kind.

    Raises NotBuilt with the first error if there is none.
    """
    errors = []
    for parts in itertools.islice(_sets_of_parts(cls, kind), _MOST):
        for wrapped in (False, True):
            try:
                made = _built(cls, parts)
                _give_template(made, cls, wrapped=wrapped)
                made.apply_chat_template(_sample(kind), tokenize=True, return_dict=True)
            except Exception as error:  # each class has its own checks
                errors.append(f"{type(error).__name__}: {error}")
            else:
                return made
    raise NotBuilt(" ".join((errors or ["there are no parts for it"])[0].split())[:160])


def _sample(kind: str) -> list[dict[str, Any]]:
    value: Any = {"image": picture(), "audio": tone(), "video": [picture(seed=seed) for seed in range(4)]}[kind]
    parts = [{"type": kind, kind: value}, {"type": "text", "text": "What?"}]
    return [{"role": "user", "content": parts}, {"role": "assistant", "content": [{"type": "text", "text": "So."}]}]


def _sets_of_parts(cls: type, kind: str) -> Iterator[dict[str, Any]]:
    """Parts by name of the class's argument: all its own first, then others for the kind."""
    names = inspect.signature(cls.__init__).parameters
    wanted = {
        name: part
        for name, part in (
            ("image_processor", "image"),
            ("video_processor", "video"),
            ("feature_extractor", "audio"),
            ("audio_processor", "audio"),
        )
        if name in names
    }
    choices = {name: list(_candidates(cls, part)) for name, part in wanted.items()}
    first = {name: found[0] for name, found in choices.items() if found}
    yield first
    for name, found in choices.items():
        if wanted[name] == kind:
            for other in found[1:]:
                yield {**first, name: other}


def _candidates(cls: type, kind: str) -> Iterator[Any]:
    folder = cls.__module__.rpartition(".")[0]
    own = [folder.rpartition(".")[2]]
    if kind == "image":
        families = [*own, *_FAMILIES]
    elif kind == "video":
        families = [*own, "qwen2_vl", "llava_onevision", "internvl", "smolvlm"]
    else:
        families = [*own, "whisper", "parakeet", "vibevoice_acoustic_tokenizer", "encodec", "dac", "seamless_m4t"]
    for family in families:
        for file in _FILES[kind]:
            for found in _classes_in(f"transformers.models.{family}.{file.format(family)}", _SUFFIXES[kind]):
                try:
                    yield found(feature_size=128, chunk_length=2) if family == "whisper" else found()
                except Exception:  # such as one whose library is missing
                    continue


def _classes_in(module: str, suffixes: tuple[str, ...]) -> Iterator[type]:
    try:
        names = vars(importlib.import_module(module))
    except Exception:  # no such file, or a library that it needs
        return
    for suffix in suffixes:
        for name, value in names.items():
            if name.endswith(suffix) and isinstance(value, type) and value.__module__ == module:
                yield value


def _built(cls: type, parts: dict[str, Any]) -> Any:
    source = inspect.getsource(sys.modules[cls.__module__])
    marks = {*_TOKEN.findall(source), "<image>", "<video>", "<audio>", "[INST]", "[/INST]"} - {"<s>", "</s>", "<pad>"}
    tok = _tokenizer("qwen", None, *sorted(marks - {"<unk>"}))
    tok.bos_token = "<|im_start|>"
    for name in re.findall(r"tokenizer\.(\w+_token)(?:_id)?\b", source):
        if not hasattr(tok, name):
            token = f"<{name}>"
            tok.add_tokens([token], special_tokens=True)
            setattr(tok, name, token)
            setattr(tok, f"{name}_id", tok.convert_tokens_to_ids(token))
    given: dict[str, Any] = {**parts, "tokenizer": tok}
    for name, parameter in inspect.signature(cls.__init__).parameters.items():
        if name in given or name in ("self", "args", "kwargs", "chat_template") or name in parts:
            continue
        needed = parameter.default in (None, inspect.Parameter.empty)
        if name == "patch_size":
            given[name] = 14
        elif name in ("num_image_tokens", "image_seq_length", "image_seq_len") and needed:
            given[name] = 16
        elif name == "num_additional_image_tokens" and needed:
            given[name] = 1
        elif name == "vision_feature_select_strategy" and needed:
            given[name] = "default"
        elif parameter.default is inspect.Parameter.empty and parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            given[name] = 1
    for part in parts.values():
        if not hasattr(part, "image_seq_length"):
            part.image_seq_length = 4  # PaliGemma reads it there
    with _any_part():
        return cls(**given)


def _give_template(made: Any, cls: type, *, wrapped: bool) -> None:
    """Gives it a template with its placeholders, `wrapped` in its tokens for the start and the end of a medium."""
    arms = ""
    for kind in kinds_of(cls):
        token = getattr(made, f"{kind}_token", None)
        if token is not None:
            ends = ("start", "end") if wrapped else ()
            start, end = (getattr(made, f"{kind}_{end}_token", "") or "" for end in ends) if ends else ("", "")
            arms += f"{{% elif c.type == '{kind}' %}}{start}{token}{end}"
    template = plain("").replace("{% if c.type == 'image' %}", "{% if c.type == 'none' %}" + arms)
    made.chat_template = template
    made.tokenizer.chat_template = template
