"""Other tokenizers that give the same ids faster, trusted only as far as they were checked.

A backend has to give the tokenizer's ids on the texts of a check (`check_texts`); the verdict is kept in the cache.
Texts that stay a risk are read by the tokenizer itself, and some of the others are read twice as a run goes on. That
finds a backend that differs on a kind of text that is common; it does not prove every id of every row.

    "Hi 世界!"    tokenizer 1513 220 494 244 …    backend 1513 220 494 244 …    taken
    "Hi 世界!"    tokenizer 1513 220 494 244 …    backend 1513 220 494 …        not taken, and the text is named
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import zlib
from binascii import b2a_base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from policy_engine.chat.tokens.byte_lengths import byte_level_pieces
from policy_engine.chat.tokens.cache import cache_folder
from policy_engine.chat.tokens.definition import (
    head_and_model,
    plain_definition,
    short_merges,
    vocabulary_and_merges,
)
from policy_engine.core.errors import TokenizerError
from policy_engine.core.memory import give_back
from policy_engine.core.source import common_prefix
from policy_engine.core.versions import version_of
from policy_engine.core.wording import install

SAMPLED: Final = 1_000
"""One text in so many is read twice as a run goes on."""
# A backend that differs on a common kind of text shows it early, when little was written.
SAMPLED_FIRST: Final = ((64, 1), (10_000, 100))
"""Denser samples after a quick check: the first 64 texts, then one in 100 up to 10,000."""


class TokenBackend(Protocol):
    """Texts to ids, adding no special tokens, special tokens in the text read as such. Pickles."""

    @property
    def name(self) -> str:
        """The name of its package."""

    def encode_batch(self, texts: Sequence[str]) -> list[Any]:
        """The ids of each text, as lists or int32 arrays."""


class BackendMismatch(TokenizerError):
    """Other ids from a fast backend than from the tokenizer: its output is not to be trusted."""

    code = "PE409"
    again = "by the tokenizer itself"
    """The way in which a run makes again what it wrote before."""


class KitokenBackend:
    """The package `kitoken`; `form` is its own form of a tokenizer, which loads fast."""

    name = "kitoken"
    looks_ahead = False
    """True if patterns that look ahead are as fast as others."""

    def __init__(self, form: bytes) -> None:
        import kitoken

        self.form = form
        self._encoder = kitoken.Kitoken(form)

    @classmethod
    def of(cls, definition: bytes) -> KitokenBackend:
        """From a `tokenizer.json`. Raises what the package raises if it cannot read it."""
        import kitoken

        # Converting takes most of the time, so the converted form is what is kept and sent to workers.
        text = short_merges(definition) or definition
        give_back()
        form = kitoken.Kitoken.from_tokenizers(text).to_bytes()
        give_back()
        return cls(form)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.form,)

    def encode_batch(self, texts: Sequence[str]) -> list[Any]:
        """See TokenBackend."""
        # True: special tokens in the text are read as such, as the tokenizer does.
        found: list[Any] = self._encoder.encode_all(list(texts), True)
        return found


_RANKS: Final = b"ranks\n"
_SCHEMES: Final = {
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+": "qwen2",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+": "o200k",
}
"""gigatoken's names of patterns whose vocabularies have ranks: Qwen 2 to 3; GPT-4o and Llama 4."""
_NOTHING: Final = -1


def ranks_form(definition: bytes) -> bytes | None:
    """A `tokenizer.json` as ranks; None if they would say less: see `are_ranks`.

    They say all that gigatoken reads of such a file, which is not every option of its model. gigatoken makes the same
    tokenizer of them in less than half the time. Behind a mark and a line of JSON (the pattern's name, the added
    tokens) there is a line for each token: its bytes in base 64, and its id.
    """
    head, model = head_and_model(definition)
    scheme, added = _scheme(head.get("pre_tokenizer")), head.get("added_tokens") or []
    texts = None if scheme is None or head.get("normalizer") else vocabulary_and_merges(model)
    # Ranks have neither a normalizer nor tokens that take blanks along.
    if texts is None or any(token["lstrip"] or token["rstrip"] for token in added):
        return None
    vocabulary: dict[str, int] = json.loads(texts[0])
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    pieces = byte_level_pieces(tokens)
    ids = {token["content"]: token["id"] for token in added}
    is_apart = len(ids) == len(added) and all(i >= len(tokens) for i in ids.values())
    if not is_apart or None in pieces or not are_ranks(vocabulary, texts[1].decode().splitlines()[1:]):
        return None
    lines = [b"%s %d\n" % (b2a_base64(piece or b"", newline=False), i) for i, piece in enumerate(pieces)]
    return b"".join([_RANKS, json.dumps([scheme, ids]).encode(), b"\n", *lines])


def _scheme(step: dict[str, Any] | None) -> str | None:
    """gigatoken's name of what a pre-tokenizer does; None where more is done than names say."""
    steps = [] if step is None else step["pretokenizers"] if step["type"] == "Sequence" else [step]
    kinds = [one["type"] for one in steps]
    if any(one.get("add_prefix_space") for one in steps):
        return None
    if kinds == ["ByteLevel"]:
        return "gpt2" if steps[0].get("use_regex", True) else None
    return _SCHEMES.get(steps[0]["pattern"].get("Regex", "")) if kinds == ["Split", "ByteLevel"] else None


def are_ranks(vocabulary: Mapping[str, int], merges: Iterable[str]) -> bool:
    """True if the merges follow from the vocabulary.

    That is 256 bytes, and then tokens that are each merged of two before it. Merges are taken in the order of the
    tokens that they make. When a token's turn comes, the ones before it have been merged as they are in the token's own
    text. So of all merges that make it, one is ever used, that of its own text, and the others may be left out. Each
    token's text gives the token, so that `ignore_merges` changes nothing.

    >>> are_ranks({"a": 0, "aa": 1}, ["a a"])
    False
    """
    size = len(vocabulary)
    if sorted(vocabulary.values()) != [*range(size)] or any((len(t) == 1) != (i < 256) for t, i in vocabulary.items()):
        return False
    left, right = [_NOTHING] * size, [_NOTHING] * size
    made: dict[int, int] = {}
    last = 255
    for line in merges:
        one, _, other = line.partition(" ")
        a, b, whole = vocabulary.get(one, size), vocabulary.get(other, size), vocabulary.get(one + other, size)
        # Made out of order, or of what is no token: gigatoken takes merges in another order then, or leaves them out.
        if a == size or b == size or whole == size or not last <= whole <= last + 1:
            return False
        if last < whole > a and whole > b and _is_left_apart(a, b, whole, made, left, right):
            left[whole], right[whole], made[a * size + b] = a, b, whole
            last = whole
    return size >= 256 and last == size - 1


def _is_left_apart(a: int, b: int, whole: int, made: dict[int, int], left: list[int], right: list[int]) -> bool:
    """True if merges before `whole` leave `a` and `b` as they are, one after the other.

    `left` and `right` are what tokens are merged of, and `made` the token by those two.
    """
    size, before, find = len(left), whole, made.get
    while True:
        # The pair across the border would be merged before one of the two goes into a larger token.
        if find(a * size + b, before) < before:
            return False
        # Back in time: the larger of the two was merged last. Of equal ones, the one to the left is merged first.
        inner_a, inner_b = right[a], left[b]
        if inner_b == _NOTHING or (a > b and inner_a != _NOTHING):
            if inner_a == _NOTHING:
                return True
            before, a = a, inner_a
        else:
            before, b = b + 1, inner_b


class GigatokenBackend:
    """The package `gigatoken`, which encodes fastest; `form` is ranks, or a `tokenizer.json`."""

    name = "gigatoken"
    looks_ahead = True  # it knows these patterns by their text

    def __init__(self, form: bytes) -> None:
        from gigatoken import gigatoken_rs

        self.form = form
        if not form.startswith(_RANKS):
            self._encoder = gigatoken_rs.load_hf_json(form)
        else:
            first, _, lines = form[len(_RANKS) :].partition(b"\n")
            scheme, added = json.loads(first)
            with tempfile.TemporaryDirectory(prefix="policy-engine-") as folder:
                path = Path(folder) / "ranks.tiktoken"  # it reads them from a file only
                path.write_bytes(lines)
                self._encoder = gigatoken_rs.BPETokenizer.from_tiktoken(path, scheme, added)
        give_back()

    @classmethod
    def of(cls, definition: bytes) -> GigatokenBackend:
        """From a `tokenizer.json`. Raises what the package raises if it cannot read it."""
        # To make ranks takes longer than they save, once: they are for the cache, and for the runs after this one.
        ranks = None if cache_folder() is None else ranks_form(definition)
        give_back()
        if ranks is not None:
            with contextlib.suppress(OSError):  # no room for its file
                return cls(ranks)
        return cls(definition)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.form,)

    def encode_batch(self, texts: Sequence[str]) -> list[Any]:
        """See TokenBackend."""
        # Text by text: `encode_batch` imports awkward for its result, and reads by a copy of the encoder (0.4 s of CPU
        # time and 55 MB in each process, for 3 µs less a row).
        encode = self._encoder.encode
        return [encode(text).view(np.int32) for text in texts]


PACKAGES: Final[Mapping[str, type[KitokenBackend] | type[GigatokenBackend]]] = {
    "kitoken": KitokenBackend,
    "gigatoken": GigatokenBackend,
}
"""Backends by the name of the package; all come with the extra `fast`."""


def is_sampled(text: str, one_in: int = SAMPLED) -> bool:
    """True for texts that are read twice: the same ones in every run, on any machine.

    >>> sum(is_sampled(str(n), one_in=10) for n in range(1000)) > 50
    True
    """
    # A checksum and no random number: a run that is resumed, or repeated to look for a fault, samples the same
    # texts.
    return zlib.crc32(text.encode("utf-8", "surrogatepass")) % one_in == 0


def load_backend(name: str, definition: Callable[[], bytes], *, normalizes: bool = True) -> TokenBackend | str:
    """The backend for a tokenizer, or the reason why it cannot be loaded.

    `definition` gives the text of its `tokenizer.json`; without `normalizes` its normalizer is left out.

    >>> load_backend("no-such-package", bytes).partition(":")[0]
    'the package no-such-package is not installed'
    """
    if version_of(name) is None:
        return f"the package {name} is not installed: {install('fast')}"
    try:
        backend = PACKAGES[name]
        return backend.of(plain_definition(definition(), normalizes=normalizes, looks_ahead=backend.looks_ahead))
    except BaseException as error:  # what a package of another language raises; a panic of Rust is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        return f"{name} cannot read this tokenizer: {error}"


def difference(texts: Sequence[str], expected: Sequence[Any], found: Sequence[Any]) -> str | None:
    """The first text whose ids differ, with both ids, in words; None if all ids are equal.

    >>> from types import SimpleNamespace as Ids
    >>> difference(["a b"], [[1, 2]], [[1, 3]])
    "token 1 of a text, near 'a b', is 2, and 3 from the fast backend"
    """
    for text, theirs, ours in zip(texts, expected, found):
        theirs, ours = list(theirs), list(ours)
        if theirs == ours:
            continue
        at = common_prefix(theirs, ours)
        # Tokens before it are about as long as those after it, so the share of tokens is nearly the share of
        # characters.
        excerpt = _excerpt(text, len(text) * at // max(len(theirs), 1))
        return f"token {at} of a text, near {excerpt}, is {_id(theirs, at)}, and {_id(ours, at)} from the fast backend"
    return None


def _id(ids: Sequence[int], at: int) -> str:
    return str(ids[at]) if at < len(ids) else "none"


def _excerpt(text: str, about: int, most: int = 40) -> str:
    """The characters around a place, cut to a length that holds after escaping.

    >>> _excerpt("the quick brown fox jumps over the lazy dog", 20, most=12)
    "…'fox jumps'…"
    """
    around, shown = 0, ""
    while around < most and len(wider := ascii(text[max(0, about - around) : about + around + 1])) <= most:
        around, shown = around + 1, wider
    return f"{'…' if about >= around else ''}{shown}{'…' if about + around < len(text) else ''}"
