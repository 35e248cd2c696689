"""A ChatTokenizer of a name, a path, or an object of transformers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policy_engine.chat.encoders.find_encoder import encoder_at, trusted_encoder
from policy_engine.chat.encoders.trust import is_trusted
from policy_engine.chat.stops import stop_tokens
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.chat.tokens.load import is_processor, load_cached, load_transformers

if TYPE_CHECKING:
    from policy_engine.chat.media.open_media import MediaOptions


def load_tokenizer(
    name_or_path: str | Path,
    *,
    template: str | Path | None = None,
    cache: bool = False,
    trust_encoder: bool = False,
) -> ChatTokenizer:
    """Loads a tokenizer: `builtin`, a folder, a `tokenizer.json`, or a name on the hub.

    A folder or name of a processor that takes images, sounds or videos (with `processor_config.json` or
    `preprocessor_config.json`) is loaded as that. A file of Mistral's own (`tekken.json`, `tokenizer.model.v3`), or a
    folder with no other tokenizer, renders by mistral-common, and `harmony` by openai-harmony.

    `template` is a template file (or text), or the name of one of the tokenizer's templates; without it, the
    tokenizer's own is used. With `cache`, a folder or file is read out of the cache on disk (`chat.tokens.cache`), and
    its `tokenizer` is a substitute for the one of transformers. `trust_encoder` runs the Python file of a model's
    folder that renders its chats (`encoding/encoding_….py`): code of strangers, in a process of its own.

    Raises TokenizerError if it cannot be loaded; a hub that cannot be reached is an error within seconds, unless the
    tokenizer is in the local cache of the hub's files.

    >>> load_tokenizer("builtin").name
    'builtin'
    """
    found = None
    if template is None:
        # A template that is given is meant: then nothing else renders.
        found = trusted_encoder(name_or_path) if trust_encoder or is_trusted() else encoder_at(name_or_path)
    if found is not None:
        return dataclasses.replace(ChatTokenizer.from_encoder(found), name=str(name_or_path))
    loaded = load_cached(name_or_path) if cache else load_transformers(name_or_path)
    processed = is_processor(loaded)
    made = (ChatTokenizer.from_processor if processed else ChatTokenizer.from_transformers)(loaded, template)
    return dataclasses.replace(made, name=str(name_or_path), stops=stop_tokens(name_or_path, made.tokenizer))


def chat_tokenizer_of(
    tokenizer: Any, template: str | Path | None, roles: frozenset[str] | None, media: MediaOptions | None
) -> ChatTokenizer:
    """A ChatTokenizer of a tokenizer, a processor, or what `load_tokenizer` takes.

    `roles` None leaves a ChatTokenizer's own, and `media` None its places of media. Raises TokenizerError as
    `load_tokenizer` does.
    """
    if isinstance(tokenizer, ChatTokenizer):
        made = tokenizer if template is None else tokenizer.with_template(template)
    elif isinstance(tokenizer, (str, Path)):
        made = load_tokenizer(tokenizer, template=template)
    elif is_processor(tokenizer):
        made = ChatTokenizer.from_processor(tokenizer, template)
    else:
        made = ChatTokenizer.from_transformers(tokenizer, template=template)
    # Last, since both make new objects of what was found.
    made = made if media is None else made.with_media(media)
    return made if roles is None or roles == made.model_roles else made.with_model_roles(roles)
