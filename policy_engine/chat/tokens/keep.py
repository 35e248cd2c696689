"""Puts a loaded tokenizer into the cache.

    "vocab":{"a":0,"b":1},"merges":[["a","b"]]    ->    {"a":0,"b":1}    and, one a line,    a b

The next start reads these files in place of the tokenizer's own, if a tokenizer made of them is the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from typing import Any, Final

import numpy as np

from policy_engine.chat.tokens.cache import keep
from policy_engine.chat.tokens.cached import (
    BACKEND,
    IDS,
    LENGTHS,
    MERGES,
    PIECES,
    REST,
    VOCABULARY,
    CachedToken,
)
from policy_engine.chat.tokens.definition import tokens_in, vocabulary_and_merges
from policy_engine.chat.tokens.locator import TokenLocator
from policy_engine.chat.tokens.pipeline import read_pipeline
from policy_engine.core.memory import give_back

_OPTIONS: Final = (
    "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges",
)  # fmt: skip
_TABLE: Final = ("space", "sum_proves", "ascii_proves", "nfc_proves")
"""Fields of a `ByteTable` that are kept as they are."""
_COMPONENTS: Final = ("normalizer", "pre_tokenizer", "post_processor", "decoder")


def keep_tokenizer(key: str, tok: Any, name: str) -> None:
    """Puts a transformers tokenizer into the cache, if its backend alone decides its ids.

    `name` is the tokenizer as the user named it, for `policy-engine cache` to list.
    """
    # The locator probes the tokenizer; what it finds is what a `CachedTokenizer` answers with.
    locator = TokenLocator(tokenizer=tok, name="")
    special = dict(tok.special_tokens_map)
    template = getattr(tok, "chat_template", None)
    listed = getattr(tok, "chat_control_tokens", None)
    control = None if listed is None else list(listed)
    # A slow or overridden tokenizer has code that no file holds, and a template or token that is no JSON cannot be
    # kept.
    if locator.backend is None or not all(map(_plain, (special, template, control))):
        return
    # As transformers made it, not the folder's own file: its class may have changed the pipeline. Its text goes before
    # the bytes of all tokens are read, since both at once would be the peak of a first run's memory.
    definition = locator.definition()
    files = kept_files(locator.backend, definition)
    if files is None:
        return
    # As `TokenLocator.backend_digest`, which would write the definition once more.
    digest = hashlib.sha256(definition).hexdigest()
    del definition
    give_back()
    pipeline = read_pipeline(locator.backend, files.get(VOCABULARY))
    added = [
        {"id": int(i), **{f.name: getattr(token, f.name) for f in dataclasses.fields(CachedToken)}}
        for i, token in tok.added_tokens_decoder.items()
    ]
    meta = {
        "of": name,
        "kind": "tokenizer",
        "tokenizer": {
            "class": type(tok).__name__,
            "chat_template": template,
            "special_tokens": special,
            "split_special_tokens": bool(getattr(tok, "split_special_tokens", False)),
            "chat_control_tokens": control,
            "added": added,
            "ids": {name: getattr(tok, name, None) for name in IDS},
            "prefix_ids": list(locator.prefix_ids),
            "backend_digest": digest,
        },
        "pipeline": {
            "normalizes": pipeline.normalizer is not None,
            "forms": pipeline.forms,
            "trims": pipeline.trims,
            "stripping": pipeline.stripping,
            "drops": pipeline.drops,
            "affixes": pipeline.affixes,
            "table": None
            if pipeline.table is None
            else {
                "added": sorted(pipeline.table.added),
                **{name: getattr(pipeline.table, name) for name in _TABLE},
            },
        },
    }
    if pipeline.table is not None:
        lengths = io.BytesIO()
        np.save(lengths, pipeline.table.lengths.astype(np.int32), allow_pickle=False)
        files[LENGTHS] = lengths.getvalue()
        files[PIECES] = b"".join(piece or b"" for piece in pipeline.table.pieces)
    # Through JSON once, so that what cannot be kept fails here, and tuples are lists as they will be when read.
    keep(key, json.loads(json.dumps(meta)), files)
    del files
    give_back()


def kept_files(backend: Any, definition: bytes) -> dict[str, bytes] | None:
    """The files to keep of a backend and its `tokenizer.json`; None if no files have all of it.

    The form `COMPACT` is proven by the run that first reads it (`CachedTokenizer`): it takes as long as reading does.
    """
    files = compact_form(backend, definition)
    if files is not None:
        return files
    ids = backend.get_vocab(with_added_tokens=False).values()
    # Of two tokens with one id a `tokenizer.json` has one.
    return {BACKEND: definition} if len(set(ids)) == len(ids) else None


def compact_form(backend: Any, definition: bytes) -> dict[str, bytes] | None:
    """The files that `load_compact` reads, of a backend and its `tokenizer.json`.

    None for another model than BPE, and for one that they would not give back.
    """
    from tokenizers import Tokenizer, models

    model = backend.model
    if type(model).__name__ != "BPE" or model.dropout is not None:
        return None
    files = vocabulary_and_merges(definition)
    # Of two tokens with one id the text has one, and `tokenizers` panics where a merge needs the other.
    if files is None or tokens_in(files[0]) != backend.get_vocab_size(with_added_tokens=False):
        return None
    bare = Tokenizer(models.BPE())
    for name in _COMPONENTS:
        component = getattr(backend, name)
        if component is not None:
            setattr(bare, name, component)
    # `BPE.from_file` takes no None for those that are not set.
    options = {name: value for name in _OPTIONS if (value := getattr(model, name)) is not None}
    rest = json.dumps({"options": options, "tokenizer": bare.to_str()})
    return {VOCABULARY: files[0], MERGES: files[1], REST: rest.encode()}


def _plain(value: Any) -> bool:
    """True for what JSON gives back as it was.

    >>> _plain({"bos_token": "<s>"}), _plain({"size": 1})
    (True, False)
    """
    if isinstance(value, dict):
        return all(type(name) is str and _plain(item) for name, item in value.items())
    if isinstance(value, list):
        return all(map(_plain, value))
    # `type`, not `isinstance`: a subclass of str has more to it than JSON would give back.
    return value is None or type(value) is str
