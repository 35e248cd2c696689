"""Other tokenizers that give the same ids faster, trusted only as far as they were checked.

A backend has to give the tokenizer's ids on the texts of a check (`check_texts`); the verdict is kept in the cache.
Texts that stay a risk are read by the tokenizer itself, and some of the others are read twice as a run goes on. That
finds a backend that differs on a kind of text that is common; it does not prove every id of every row.

    "Hi 世界!"    tokenizer 1513 220 494 244 …    backend 1513 220 494 244 …    taken
    "Hi 世界!"    tokenizer 1513 220 494 244 …    backend 1513 220 494 …        not taken, and the text is named
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np

from policy_engine.chat.tokens.definition import plain_definition, short_merges
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


class GigatokenBackend:
    """The package `gigatoken`: it loads as slowly as the tokenizer and encodes fastest."""

    name = "gigatoken"
    looks_ahead = True  # it knows these patterns by their text

    def __init__(self, form: bytes) -> None:
        from gigatoken import gigatoken_rs

        self.form = form
        self._encoder = gigatoken_rs.load_hf_json(form)
        give_back()

    @classmethod
    def of(cls, definition: bytes) -> GigatokenBackend:
        """From a `tokenizer.json`. Raises what the package raises if it cannot read it."""
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
