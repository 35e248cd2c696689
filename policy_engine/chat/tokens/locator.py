"""Ids of texts, and the characters of each token, by a way that is exact for the tokenizer.

    text          Hi 世界!
    tokens        Hi     ·      ä¸     ĸ      ç      ķ      Į      !
    ids           1513   220    494    244    163    243    234    0
    characters    0:2    2:3    3:4    3:4    4:5    4:5    4:5    5:6

The bytes of `世` are in two tokens, so both have its place.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from policy_engine.chat.tokens.byte_lengths import ByteTable, Ranges, array_of, tables_of_slow
from policy_engine.chat.tokens.cached import CachedTokenizer, as_called, is_refusal
from policy_engine.chat.tokens.fast_backend import (
    SAMPLED,
    SAMPLED_FIRST,
    BackendMismatch,
    TokenBackend,
    difference,
    is_sampled,
)
from policy_engine.chat.tokens.nfc import is_normal, without_normalizer
from policy_engine.chat.tokens.offsets import check_offsets
from policy_engine.chat.tokens.pipeline import Pipeline, read_pipeline
from policy_engine.chat.tokens.qualify import CheckedBackend, Subject, qualify
from policy_engine.core.errors import AttributionError, TokenizerError
from policy_engine.core.interrupt import interruptible

Located = tuple[list[int], npt.NDArray[np.int32], Ranges]
"""Ids, the same as an array, and the characters `[start, end)` of each."""

# `tokenizers` panics on them: they are found before, and reported with their place.
_SURROGATE = re.compile("[\ud800-\udfff]")
# Texts of one call: what `tokenizers` makes of a text takes many times the memory of the ids that are read out of it.
_AT_ONCE = max(64, 4 * (os.cpu_count() or 1))
_PROBES = ("hello", " Hello,  world\n\n 12345\t<|x|> ", "你好 🙂 e\u0301")
"""Texts that tell a tokenizer whose class changes what its backend does."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenLocator:
    """Tokenizes as calling a transformers tokenizer does, and gives the place of each token.

    No special tokens are added.

    Three ways, the first that is exact for a row: the bytes that its tokens stand for, the backend's offsets, and for a
    tokenizer without a backend the texts of its tokens.

    >>> from policy_engine.chat.loading import load_tokenizer
    >>> tokens = load_tokenizer("builtin").locator
    >>> ids, _, (starts_T, ends_T) = tokens.locate(["Hi there<|im_end|>"])[0]
    >>> len(ids), starts_T.tolist(), ends_T.tolist()
    (3, [0, 2, 8], [2, 8, 18])
    """

    tokenizer: Any
    name: str
    fast: TokenBackend | None = None

    @functools.cached_property
    def backend(self) -> Any:
        """The `tokenizers.Tokenizer`, if calling the tokenizer is calling it.

        None for a slow or overridden one.
        """
        if isinstance(self.tokenizer, CachedTokenizer):
            return self.tokenizer.backend_tokenizer  # it was probed before it was kept
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None or not getattr(self.tokenizer, "is_fast", False):
            return None
        for text in _PROBES:
            try:
                called = list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
            except Exception:  # tokenizers raises plain Exception where a vocabulary lacks a character
                continue
            # A class that overrides `_tokenize` or prepares the text gives other ids than its backend: then it is
            # not used.
            if backend.encode(text, add_special_tokens=False).ids != called:
                return None
        return backend

    @property
    def has_backend(self) -> bool:
        """True if `backend` is not None; one in the cache is not loaded for the answer."""
        return isinstance(self.tokenizer, CachedTokenizer) or self.backend is not None

    @functools.cached_property
    def pipeline(self) -> Pipeline | None:
        """Pipeline of the backend; None without a backend."""
        # None where the cache's files are damaged: then the backend is read like any other.
        known = self.tokenizer.pipeline if isinstance(self.tokenizer, CachedTokenizer) else None
        if known is not None:
            return known
        return None if self.backend is None else read_pipeline(self.backend)

    @functools.cached_property
    def backend_digest(self) -> str:
        """Checksum of all that decides the backend's ids (hex)."""
        if isinstance(self.tokenizer, CachedTokenizer):
            return self.tokenizer.backend_digest
        return hashlib.sha256(self.definition()).hexdigest()

    def definition(self) -> bytes:
        """The backend's `tokenizer.json`, in the state that it is called in."""
        self._as_called()
        return bytes(self.backend.to_str().encode())

    @functools.cached_property
    def prefix_ids(self) -> tuple[int, ...]:
        """Ids that the tokenizer would put in front of a text as special tokens (never done here)."""
        if isinstance(self.tokenizer, CachedTokenizer):
            return self.tokenizer.prefix_ids
        # One letter that every vocabulary has; where its ids begin, the special ids in front end.
        plain = self.call(["a"])[0][0]
        ids = list(self.tokenizer("a")["input_ids"])
        at = next((i for i in range(len(ids)) if ids[i : i + len(plain)] == plain), 0)
        return tuple(ids[:at])

    @functools.cached_property
    def suffix_ids(self) -> tuple[int, ...]:
        """Ids that the tokenizer would put behind a text as special tokens."""
        plain = self.call(["a"])[0][0]
        ids = list(self.tokenizer("a")["input_ids"])
        return tuple(ids[len(self.prefix_ids) + len(plain) :])

    @functools.cached_property
    def _added(self) -> int:
        return len(self.tokenizer.added_tokens_decoder)

    @functools.cached_property
    def untrimmed(self) -> Any:
        """The backend with offsets that keep whitespace."""
        # Without special tokens, a post-processor only trims them.
        assert self.pipeline is not None
        if not self.pipeline.trims:
            return self.backend
        state = json.loads(self.backend.to_str())
        # Copied through JSON, since a backend cannot be changed for one call.
        state.update(post_processor=None, truncation=None, padding=None)
        return type(self.backend).from_str(json.dumps(state))

    def locate(self, texts: Sequence[str]) -> list[Located | AttributionError]:
        """Ids and ranges of each text, or the reason why it has no ids."""
        # Not `len(tokenizer)`: that builds the whole vocabulary, which takes up to 70 ms.
        added = self._added
        # `add_tokens` on the user's tokenizer after we read its tables would give ids that the tables lack.
        if len(self.tokenizer.added_tokens_decoder) != added:
            raise TokenizerError(
                f"{self.name} gained tokens after it was given to policy-engine",
                help="make a new ChatTokenizer (Masker) after adding tokens",
            )
        results: list[Any] = [_unreadable(text) for text in texts]
        todo = [i for i, result in enumerate(results) if result is None]
        readable = [texts[i] for i in todo]
        for i, result in zip(todo, self._fast(readable) if self.has_backend else self._slow(readable)):
            results[i] = result
        return results

    def _fast(self, texts: list[str]) -> list[Any]:
        """By the bytes of the tokens where they prove themselves, else by offsets."""
        assert self.pipeline is not None
        table = self.pipeline.table
        self._as_called()
        results: list[Any] = [None] * len(texts)
        if table is not None and texts:
            results, normal = self._ids(texts)
            read = [i for i, ids in enumerate(results) if not isinstance(ids, AttributionError)]
            known = [results[i] for i in read]
            arrays = [array_of(ids) for ids in known]
            places = table.locate_many([texts[i] for i in read], known, arrays, normal=[normal[i] for i in read])
            for i, ids, ids_T, ranges in zip(read, known, arrays, places):
                results[i] = None if ranges is None else (ids, ids_T, ranges)
        # Rows that the bytes do not prove: few, and of any tokenizer with a lossy normalizer.
        rest = [i for i, result in enumerate(results) if result is None]
        if rest:
            # The copy was made once, and the user may have switched this on the tokenizer since.
            self.untrimmed.encode_special_tokens = self.backend.encode_special_tokens
            for i, e in zip(rest, _encodings(self.untrimmed.encode_batch, [texts[i] for i in rest])):
                if isinstance(e, AttributionError):
                    results[i] = e
                    continue
                try:
                    ids = e.ids
                    ranges = check_offsets(texts[i], ids, e.tokens, e.offsets, self.pipeline)
                    results[i] = (ids, array_of(ids), ranges)
                except AttributionError as error:
                    results[i] = error
        return results

    def _ids(self, texts: list[str]) -> tuple[list[Any], list[bool]]:
        """The ids of each text, or why it has no ids; True for texts known to be in normal form C."""
        if self.fast is None:
            return self._own_ids(texts)
        risk = self.fast.risk if isinstance(self.fast, CheckedBackend) else None
        # An unchecked backend is one that the user named: it gets all texts, and is sampled densely.
        own = [i for i, text in enumerate(texts) if risk is not None and risk.of(text)]
        skipped = set(own)
        rest = [i for i in range(len(texts)) if i not in skipped]
        try:
            found = interruptible(self.fast.encode_batch, [texts[i] for i in rest])
        except Exception:  # what it cannot read is left to the tokenizer
            return self._own_ids(texts)
        twice = [at for at, i in enumerate(rest) if self._is_read_twice(texts[i], dense=risk is None or not risk.whole)]
        compared, given = [texts[rest[at]] for at in twice], [found[at] for at in twice]
        wrong = self._wrong(compared, given) if twice else None
        # Nothing of this batch is written: the caller may run it again with the tokenizer itself.
        if wrong is not None:
            raise BackendMismatch(
                f"{self.fast.name} differs from the tokenizer: {wrong}",
                help="run with --backend reference; the run does so by itself where it can read its input again",
            )
        results: list[Any] = [None] * len(texts)
        # Where the normalizer makes that form only, texts in another one are a risk.
        normal = [risk is not None and risk.only_nfc] * len(texts)
        # Both groups back in the order given.
        for i, ids in zip(rest, found):
            results[i] = ids
        for i, ids, is_so in zip(own, *self._own_ids([texts[i] for i in own])) if own else ():
            results[i], normal[i] = ids, is_so
        return results, normal

    def _is_read_twice(self, text: str, *, dense: bool) -> bool:
        if not dense:
            return is_sampled(text)
        self._seen[0] += 1
        one_in = next((n for most, n in SAMPLED_FIRST if self._seen[0] <= most), SAMPLED)
        return is_sampled(text, one_in)

    @functools.cached_property
    def _seen(self) -> list[int]:
        """The number of texts that the fast backend was given in this process."""
        # A list, since the dataclass is frozen and a number could not be counted up.
        return [0]

    @functools.cached_property
    def _unnormalizing(self) -> Any | None:
        return without_normalizer(self.backend)

    def _own_ids(self, texts: list[str]) -> tuple[list[Any], list[bool]]:
        """`_ids` in one call of the tokenizer, or in two: some texts go past its normalizer.

        The normalizer leaves those texts alone.
        """
        light = self._unnormalizing
        if light is None:
            return _ids_of(self.backend, texts), [False] * len(texts)
        normal = [is_normal(text) for text in texts]
        light.encode_special_tokens = self.backend.encode_special_tokens
        past = iter(_ids_of(light, [text for text, is_so in zip(texts, normal) if is_so]))
        through = iter(_ids_of(self.backend, [text for text, is_so in zip(texts, normal) if not is_so]))
        return [next(past if is_so else through) for is_so in normal], normal

    def _wrong(self, texts: list[str], found: list[Any]) -> str | None:
        from policy_engine.chat.tokens.few_tokens import gives_same  # many runs ask for no text again

        return None if gives_same(self.tokenizer, texts, found) else self._difference(texts, found)

    def _difference(self, texts: list[str], found: list[Any]) -> str | None:
        expected = _ids_of(self.backend, texts) if texts else []
        # A text that the tokenizer itself refuses has no ids to be compared with.
        known = [i for i, ids in enumerate(expected) if not isinstance(ids, AttributionError)]
        return difference([texts[i] for i in known], [expected[i] for i in known], [found[i] for i in known])

    def qualify_fast(
        self, texts: Sequence[str], names: Sequence[str] = ("kitoken", "gigatoken"), *, full: bool = False
    ) -> CheckedBackend | str:
        """The first backend of `names` that gives the tokenizer's ids, or reasons; see `qualify`."""
        if not self.has_backend or self.pipeline is None or self.pipeline.table is None:
            return f"the tokens of {self.name} stand for no fixed bytes, so their places need its own offsets"
        # Backends read special tokens in the text as such, which this tokenizer does not.
        if getattr(self.tokenizer, "split_special_tokens", False):
            return f"{self.name} splits special tokens"
        reasons = []
        for name in names:
            found = qualify(self.subject, name, texts, full=full)
            if not isinstance(found, str):
                return found
            reasons.append(found)
        return "; ".join(reasons)

    @functools.cached_property
    def subject(self) -> Subject:
        """This tokenizer, for backends to be compared with."""
        assert self.pipeline is not None
        assert self.pipeline.table is not None
        return Subject(
            name=self.name,
            digest=self.backend_digest,
            definition=self.definition,
            compare=self._compare,
            added=list(self.tokenizer.added_tokens_decoder.values()),
            pieces=self.pipeline.table.pieces,
            normalizes=self.pipeline.normalizer is not None,
            only_nfc=self.pipeline.table.nfc_proves,
        )

    def _compare(self, backend: TokenBackend, texts: list[str]) -> str | None:
        self._as_called()
        readable = [text for text in texts if _unreadable(text) is None]
        return self._difference(readable, backend.encode_batch(readable))

    def _as_called(self) -> None:
        """Puts the backend in the state that calling the tokenizer without options puts it in."""
        # One in the cache is loaded when it is asked for ids, in that state.
        if not isinstance(self.tokenizer, CachedTokenizer) or self.tokenizer.has_loaded:
            as_called(self.backend, self.tokenizer)

    def _slow(self, texts: list[str]) -> list[Any]:
        """Ids by calling the tokenizer; places from its tokens' texts, if they spell the text."""
        return [self._rebuilt(text, ids, offsets) for text, ids, offsets in zip(texts, *self.call(texts))]

    def call(self, texts: list[str]) -> tuple[list[list[int]], list[Any]]:
        """Ids, and offsets where the tokenizer has them, as calling the tokenizer gives them."""
        if not texts:
            return [], []
        fast = bool(getattr(self.tokenizer, "is_fast", False))
        # A slow tokenizer raises if it is asked for offsets.
        asked = {"add_special_tokens": False, "return_offsets_mapping": fast}
        out = interruptible(lambda given: self.tokenizer(given, **asked), texts)
        return [list(ids) for ids in out["input_ids"]], out["offset_mapping"] if fast else [None] * len(texts)

    def _rebuilt(self, text: str, ids: list[int], offsets: Any) -> Located | AttributionError:
        ids_T = array_of(ids)
        # Which alphabet its tokens are written in is not declared; a wrong guess spells no text.
        for table in self.slow_tables:
            ranges = table.locate(text, ids)
            if ranges is not None:
                return ids, ids_T, ranges
        if offsets is None:
            return AttributionError(
                f"{self.name} is a slow tokenizer without offsets, and its tokens do not spell the text one for one",
                help="load its fast version (use_fast=True, or its tokenizer.json)",
            )
        try:
            tokens = [str(token) for token in self.tokenizer.convert_ids_to_tokens(ids)]
            # The class may have changed the text before it was tokenized, so each token has to spell its characters.
            ranges = check_offsets(text, ids, tokens, offsets, Pipeline(drops=True, affixes=("##", "")))
            return ids, ids_T, ranges
        except AttributionError as error:
            return error

    @functools.cached_property
    def slow_tables(self) -> tuple[ByteTable, ...]:
        """Ways to read the tokens of a tokenizer without a backend; a row proves which one holds."""
        tokens = self.tokenizer.convert_ids_to_tokens(list(range(len(self.tokenizer))))
        added = {i: str(token) for i, token in self.tokenizer.added_tokens_decoder.items() if i < len(tokens)}
        return tables_of_slow(tokens, added, getattr(self.tokenizer, "unk_token_id", None))


def _ids_of(backend: Any, texts: list[str]) -> list[Any]:
    # The fast one, of tokenizers 0.20, leaves out the offsets, which the bytes make unnecessary.
    encode = getattr(backend, "encode_batch_fast", backend.encode_batch)
    parts = (texts[at : at + _AT_ONCE] for at in range(0, len(texts), _AT_ONCE))
    return [e if isinstance(e, AttributionError) else e.ids for part in parts for e in _encodings(encode, part)]


def _encodings(encode: Any, texts: list[str]) -> list[Any]:
    """`encode(texts)`; if that fails, text by text, so that a bad text fails alone."""
    try:
        return list(interruptible(lambda given: encode(given, add_special_tokens=False), texts))
    except BaseException as error:
        if not is_refusal(error):
            raise
        if len(texts) != 1:
            return [_encodings(encode, [text])[0] for text in texts]
        return [
            AttributionError(
                f"the tokenizer cannot read this text: {error}",
                help="use a tokenizer with an unknown token or byte fallback",
            )
        ]


def _unreadable(text: str) -> AttributionError | None:
    if text.isascii():
        return None
    try:
        text.encode()  # a tenth of the time that a look at each character takes
        return None
    except UnicodeEncodeError:
        found = _SURROGATE.search(text)
    assert found is not None
    return AttributionError(
        f"the text has half of a surrogate pair (U+{ord(found[0]):04X}) at character {found.start()}, "
        "which is not Unicode text",
        help="repair the data: it was cut inside a character, or decoded with the wrong encoding",
    )
