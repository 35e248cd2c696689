"""A tokenizer out of the cache, which stands for a transformers tokenizer.

What it does not know itself it asks the real tokenizer, which is loaded then.

    len(tok), tok.convert_ids_to_tokens([198])     from the cache
    tok("Hi")                                      from the real tokenizer
"""

from __future__ import annotations

import functools
import hashlib
import io
import itertools
import json
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from policy_engine.chat.tokens.byte_lengths import ByteTable
from policy_engine.chat.tokens.cache import CacheEntry, find, keep
from policy_engine.chat.tokens.pipeline import Pipeline
from policy_engine.core.memory import give_back

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

BACKEND, LENGTHS, PIECES = "tokenizer.json", "lengths.npy", "pieces.bin"
VOCABULARY, MERGES, REST = COMPACT = "vocab.json", "merges.txt", "rest.json"
"""A BPE backend in place of its `tokenizer.json`.

Reading a `tokenizer.json` of 150,000 tokens, `tokenizers` holds its merges several times: 0.5 s and 200 MB, where these
files take 0.37 s and 70 MB. `rest.json` has the other components and the options of the model.
"""
_LOADS = "load-tokenizer"
"""The name of the thread that loads."""
IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id")


@dataclass(frozen=True, kw_only=True)
class CachedToken:
    """An added token; the fields are those of `tokenizers.AddedToken`.

    >>> str(CachedToken(content="<s>", single_word=False, lstrip=False, rstrip=False, normalized=False, special=True))
    '<s>'
    """

    content: str
    single_word: bool
    lstrip: bool
    rstrip: bool
    normalized: bool
    special: bool

    def __str__(self) -> str:
        return self.content


class CachedTokenizer:
    """Stands for the transformers tokenizer of a folder.

    `load` gives the real one, for what is asked of it seldom (`decode`, `get_vocab`, an attribute of its class).
    """

    is_fast = True

    def __init__(self, entry: CacheEntry, name: str, load: Callable[[str], Any]) -> None:
        meta = entry.meta["tokenizer"]
        self.entry = entry
        self._load = load
        self.name_or_path = name
        self.texts_compared = 0
        """Texts that a fast backend was compared on without loading the tokenizer; see `few_tokens`."""
        self.all_tokens: Any = None
        """All tokens, once `few_tokens` has read them."""
        self.chat_template: str | dict[str, str] | None = meta["chat_template"]
        self.special_tokens_map: dict[str, Any] = dict(meta["special_tokens"])
        self.split_special_tokens: bool = meta["split_special_tokens"]
        self.chat_control_tokens: list[str] | None = meta["chat_control_tokens"]
        # A copy of each dict, since `pop` would take the id out of the entry's own.
        self.added_tokens_decoder = {token.pop("id"): CachedToken(**token) for token in map(dict, meta["added"])}
        for name_of_id in IDS:
            setattr(self, name_of_id, meta["ids"][name_of_id])

    def __reduce__(self) -> tuple[Any, ...]:
        # By name of the entry: another process reads the files itself, and a row of workers needs no 8 MB each
        # through a pipe.
        return _again, (self.entry.folder.name, self.name_or_path, self._load)

    def __getattr__(self, name: str) -> Any:
        # `copy` and `pickle` look for dunder methods; answering would load the real tokenizer for nothing.
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.real, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Tokenizes as the real tokenizer does."""
        return self.real(*args, **kwargs)

    def __len__(self) -> int:
        return len(self.real)

    def convert_ids_to_tokens(self, ids: int | Sequence[int]) -> Any:
        """The token of an id, or those of several."""
        if isinstance(ids, int):
            return self.backend_tokenizer.id_to_token(ids)
        return [self.backend_tokenizer.id_to_token(int(i)) for i in ids]

    def take(self, real: Any) -> None:
        """Takes the backend of the transformers tokenizer that the entry was made of.

        The tokenizer itself goes: some classes keep 70 MB of merges as Python objects, and hardly anything asks for it.
        """
        self.__dict__["backend_tokenizer"] = real.backend_tokenizer

    @functools.cached_property
    def real(self) -> Any:
        """The transformers tokenizer."""
        return self._load(self.name_or_path)

    @functools.cached_property
    def backend_tokenizer(self) -> Any:
        """The `tokenizers.Tokenizer` of the cache, or of the real tokenizer if the file is damaged."""
        # Checksums are asked once, when the files are first needed.
        names = (BACKEND,) if BACKEND in self.entry.meta["files"] else COMPACT
        is_whole = all(map(self.entry.is_whole, names))
        found = in_own_thread(self._proven) if is_whole else None
        # Not on that thread: whoever loads `real` waits for it, with a lock on `real` in Python 3.10 and 3.11.
        if found is None and is_whole and not self._is_proven:
            self._keep_plainly()
        # Of the real one, truncation and padding may be on, as its file has them.
        return as_called(self.real.backend_tokenizer if found is None else found, self)

    def _proven(self) -> Any | None:
        """The backend of the files; None if they make another one than they were made of.

        Where `COMPACT` is read for the first time, what it makes is compared with the backend's `tokenizer.json`.
        """
        made = load_backend(self.entry.folder, self.added_tokens_decoder.items())
        if self._is_proven:
            return made
        if made is not None and hashlib.sha256(made.to_str().encode()).hexdigest() == self.backend_digest:
            self.entry.set_proven()
            return made
        return None

    @property
    def _is_proven(self) -> bool:
        return BACKEND in self.entry.meta["files"] or self.entry.is_proven

    def _keep_plainly(self) -> None:
        """Puts the backend's `tokenizer.json` in the place of files that make another backend."""
        files = {name: self.entry.read(name) for name in (LENGTHS, PIECES) if name in self.entry.meta["files"]}
        files[BACKEND] = as_called(self.real.backend_tokenizer, self).to_str().encode()
        keep(self.entry.folder.name, self.entry.meta, {n: data for n, data in files.items() if data is not None})

    @property
    def has_loaded(self) -> bool:
        """True if `backend_tokenizer` is loaded, so that calls may have changed its state."""
        return "backend_tokenizer" in vars(self)

    @property
    def backend_digest(self) -> str:
        """Checksum of the backend's state, as `TokenLocator.backend_digest` computes it."""
        return str(self.entry.meta["tokenizer"]["backend_digest"])

    @property
    def prefix_ids(self) -> tuple[int, ...]:
        """Ids that the tokenizer would put in front of a text as special tokens."""
        return tuple(self.entry.meta["tokenizer"]["prefix_ids"])

    @functools.cached_property
    def pipeline(self) -> Pipeline | None:
        """Pipeline of the backend; None if the files in the cache are damaged."""
        found = self.entry.meta["pipeline"]
        table = found["table"]
        if table is not None:
            # Both are read now: the entry may be gone by the time that a piece is asked for.
            data, bytes_of_pieces = self.entry.read(LENGTHS), self.entry.read(PIECES)
            if data is None or bytes_of_pieces is None:
                return None
            lengths = np.load(io.BytesIO(data), allow_pickle=False)
            pieces = _Pieces(lengths, bytes_of_pieces)
            table = ByteTable(**table | {"pieces": pieces, "added": frozenset(table["added"])})
            # Puts in what the cached property would compute from all pieces, which then need not be read.
            table.__dict__["lengths"] = lengths.astype(np.int64)
        return Pipeline(
            normalizer=_Normalizer(self) if found["normalizes"] else None,
            forms=tuple(found["forms"]),
            table=table,
            trims=found["trims"],
            # JSON has no numbers as keys.
            stripping={int(i): text for i, text in found["stripping"].items()},
            drops=found["drops"],
            affixes=tuple(found["affixes"]),
        )


def as_called(backend: Any, tokenizer: Any) -> Any:
    """The backend, in the state that calling its tokenizer without options puts it in."""
    if backend.truncation is not None:
        backend.no_truncation()
    if backend.padding is not None:
        backend.no_padding()
    # No file has it: transformers sets it on each call, from the tokenizer's own attribute.
    split = bool(getattr(tokenizer, "split_special_tokens", False))
    if getattr(backend, "encode_special_tokens", split) != split:
        backend.encode_special_tokens = split
    return backend


def load_backend(folder: Path, added: Iterable[tuple[int, CachedToken]]) -> Any | None:
    """The backend of the files in a folder, in either form.

    None if they cannot be read, or if its added tokens would get other ids; `added` as for `load_compact`.
    """
    from tokenizers import Tokenizer

    try:
        if (folder / BACKEND).exists():
            return Tokenizer.from_file(str(folder / BACKEND))
        return load_compact(folder, added)
    # Also where another process removed the files meanwhile.
    except BaseException as error:
        if not is_refusal(error):
            raise
        return None


def is_refusal(error: BaseException) -> bool:
    """True for what `tokenizers` raises: plain Exception, and the panics of Rust.

    A panic is only a BaseException, of a class that cannot be imported.

    >>> is_refusal(Exception("stack overflow")), is_refusal(KeyboardInterrupt())
    (True, False)
    """
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def load_compact(folder: Path, added: Iterable[tuple[int, CachedToken]]) -> Any | None:
    """The backend of the files `COMPACT` in a folder.

    None if its added tokens would get other ids.

    `added` are its added tokens and their ids.
    """
    from tokenizers import Tokenizer, models

    rest = json.loads((folder / REST).read_bytes())
    made = Tokenizer.from_str(rest["tokenizer"])
    made.model = models.BPE.from_file(str(folder / VOCABULARY), str(folder / MERGES), **rest["options"])
    tokens = added_to(made, added)
    found = made.get_added_tokens_decoder()
    same = {i: _fields_of(token) for i, token in found.items()} == dict(tokens)
    return made if same else None


def added_to(backend: Any, added: Iterable[tuple[int, CachedToken]]) -> list[tuple[int, dict[str, Any]]]:
    """Adds tokens in the order of their ids; returns that order, each with its fields."""
    from tokenizers import AddedToken

    tokens = [(i, _fields_of(token)) for i, token in sorted(added, key=lambda own: own[0])]
    for is_special, some in itertools.groupby(tokens, key=lambda own: own[1]["special"]):
        # In the order of their ids: a token that the model lacks gets the next id.
        add = backend.add_special_tokens if is_special else backend.add_tokens
        add([AddedToken(**own) for _, own in some])
    return tokens


def _fields_of(token: Any) -> dict[str, Any]:
    return {field.name: getattr(token, field.name) for field in fields(CachedToken)}


def in_own_thread(load: Callable[[], Any]) -> Any:
    """`load()` on a thread that is there for loading, whose memory loading leaves in pieces.

    A tokenizer that was loaded where it is called costs 1.2 to 1.9 times as much per call. The pieces that are free are
    given back, and before that those of earlier work: a run of a fast backend loads the tokenizer when a row first
    needs it, which would be its peak of memory.

    >>> in_own_thread(lambda: 3)
    3
    """
    # Loading may load another one: the one thread would wait for itself.
    if threading.current_thread().name.startswith(_LOADS):
        return load()
    give_back()
    loaded = _loader(os.getpid()).submit(load).result()
    give_back()
    return loaded


@functools.lru_cache(maxsize=1)
def _loader(process: int) -> ThreadPoolExecutor:
    """The thread of a process that loads tokenizers."""
    from concurrent.futures import ThreadPoolExecutor

    # It waits for as long as the process lives: the C library gives the memory of a thread that ended, in pieces as it
    # is, to the next one, and that is the tokenizer's own, whose calls then cost 1.4 to 1.9 times as much.
    # By process: a forked one has none of its parent's threads.
    return ThreadPoolExecutor(1, thread_name_prefix=_LOADS)


def cached(key: str, name: str, load: Callable[[str], Any]) -> CachedTokenizer | None:
    """The tokenizer of that entry, or None."""
    entry = find(key)
    try:
        return None if entry is None else CachedTokenizer(entry, name, load)
    except (KeyError, TypeError, ValueError):  # an entry that is damaged
        return None


def _again(key: str, name: str, load: Callable[[str], Any]) -> Any:
    found = cached(key, name, load)
    # The entry may be gone by now: `MOST_ENTRIES` is kept by whoever writes.
    return load(name) if found is None else found


class _Pieces(Sequence["bytes | None"]):
    """The bytes of each token, cut apart when the first one is asked for."""

    def __init__(self, lengths: npt.NDArray[np.int32], data: bytes) -> None:
        self._lengths = lengths
        self._data = data

    @functools.cached_property
    def _all(self) -> list[bytes | None]:
        # -1 marks a token without fixed bytes, of which the file has nothing.
        ends = np.cumsum(np.maximum(self._lengths, 0)).tolist()
        return [None if n < 0 else self._data[end - n : end] for n, end in zip(self._lengths.tolist(), ends)]

    def __len__(self) -> int:
        return len(self._lengths)

    @overload
    def __getitem__(self, at: int) -> bytes | None: ...
    @overload
    def __getitem__(self, at: slice) -> list[bytes | None]: ...
    def __getitem__(self, at: int | slice) -> bytes | list[bytes | None] | None:
        return self._all[at]


class _Normalizer:
    """The backend's normalizer; the backend is loaded when it is first asked."""

    def __init__(self, tok: CachedTokenizer) -> None:
        self._tok = tok

    def normalize_str(self, text: str) -> str:
        """The text as the backend normalizes it."""
        return str(self._tok.backend_tokenizer.normalizer.normalize_str(text))
