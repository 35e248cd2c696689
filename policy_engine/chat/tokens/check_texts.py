"""Texts for comparing a fast backend with the tokenizer, and texts that it never gets.

Backends differ where they read Unicode otherwise (another version of its tables, another order of steps) and at the
edges of added tokens. A quick check looks at those edges; a full check at every token and every code point too.

    >>> at_risk = Risk(tokens=("<think>",), normalizes=True, whole=True)
    >>> [at_risk.of(text) for text in ("<think>", "<think>\\u0338", "Grüße", "e\\u0301")]
    [False, True, False, True]
"""

from __future__ import annotations

import functools
import random
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from policy_engine.chat.tokens.nfc import has_unassigned, rare_in

_STRESS_TEXTS: Final = 1_500


@dataclass(frozen=True, kw_only=True)
class Risk:
    """Texts for the tokenizer itself: a backend that passed its check may still differ on them.

    `tokens` are added tokens that are looked for in normalized text; `normalizes` is True if there is a normalizer,
    `only_nfc` if it makes normal form C and nothing else: then text that is in that form is no risk.
    `whole` is True after a full check. After a quick one, all characters outside of what most people write are a risk.
    Characters that this Python's Unicode does not know always are.
    """

    tokens: tuple[str, ...]
    normalizes: bool
    whole: bool
    only_nfc: bool = False

    @functools.cached_property
    def _edges(self) -> re.Pattern[str] | None:
        if not self.tokens:
            return None
        # Longest first, so that a token that begins with another one is found whole.
        texts = "|".join(map(re.escape, sorted(self.tokens, key=len, reverse=True)))
        # A mark that follows an added token may merge with its last character, before or after the token is found.
        return re.compile(f"(?:{texts})[^\x00-\x7f]|[^\x00-\x7f](?:{texts})")

    @functools.cached_property
    def _near(self) -> bytes | None:
        """The kind of each byte: `>` ends an added token, `<` begins one, `*` both, `x` not ASCII.

        None where an added token begins or ends with other than ASCII.
        """
        starts, ends = {token[0] for token in self.tokens}, {token[-1] for token in self.tokens}
        if not all(char.isascii() for char in starts | ends):
            return None
        kinds = bytearray(b" " * 128 + b"x" * 128)
        for char in starts | ends:
            kinds[ord(char)] = ord("*" if char in starts & ends else "<" if char in starts else ">")
        return bytes(kinds)

    def _is_near(self, text: str) -> bool:
        """True if a character that is not ASCII may be beside an added token."""
        if self._near is None:
            return True
        kinds = text.encode("utf-8", "surrogatepass").translate(self._near)
        return b">x" in kinds or b"x<" in kinds or b"*x" in kinds or b"x*" in kinds

    def of(self, text: str) -> bool:
        """True if the tokenizer itself has to read this text."""
        # No Unicode table and no normal form has an opinion on ASCII.
        if text.isascii():
            return False
        # A look at the characters takes as long as all the rest, so there is one.
        rare = rare_in(text)
        if rare and (not self.whole or has_unassigned(rare) or self._may_change(text)):
            return True
        # The bytes beside each other first: to look for forty tokens everywhere takes ten times as long.
        return self._edges is not None and self._is_near(text) and self._edges.search(text) is not None

    def _may_change(self, text: str) -> bool:
        """True if the normalizer may change a text of characters that this Python's Unicode knows."""
        return self.normalizes and not (self.only_nfc and unicodedata.is_normalized("NFC", text))


def quick_check(added: Sequence[Any]) -> Iterator[str]:
    """Texts of a check that takes about a second. `added` are the tokenizer's added tokens."""
    yield from stress_corpus(str(token) for token in added)
    for token in added:
        # Every 20th of about 900 marks: a fault here is one of order of steps, which any mark shows.
        for mark in _marks()[::20]:
            yield f"{token}{mark}a"
            yield f"a{mark}{token}"


def full_check(tokens: Iterable[bytes | None]) -> Iterator[str]:
    """Texts of a check of every token and every assigned code point; it takes about ten seconds.

    `tokens` are the bytes of the tokens by id.

    >>> from itertools import islice
    >>> list(islice(full_check([b"\\xff", b"Hi", None, b"there"]), 2))
    ['Hi', 'there']
    """
    for piece in tokens:
        try:
            if piece:
                yield piece.decode()
        except UnicodeDecodeError:
            continue  # a part of a character
    for char in map(chr, range(sys.maxunicode + 1)):
        # Surrogates are no text, and private or unassigned characters are always a risk.
        if unicodedata.category(char) not in ("Cs", "Co", "Cn"):
            # Between letters, after a space, after a line break, before an apostrophe and doubled: where
            # pre-tokenizers split.
            yield f"a{char} {char}b\n{char}1'{char}s{char}{char}"


@functools.cache
def _marks() -> tuple[str, ...]:
    return tuple(char for char in map(chr, range(0x20000)) if unicodedata.combining(char))


def stress_corpus(special: Iterable[str]) -> Iterator[str]:
    """Texts on which tokenizers tend to differ, the same in every run.

    `special` are the tokenizer's added tokens.

    Scripts, spaces, digits, joined marks, and added tokens next to anything.

    >>> texts = list(stress_corpus(["<|im_end|>"]))
    >>> texts == list(stress_corpus(["<|im_end|>"])), "a<|im_end|>b" in texts
    (True, True)
    """
    # Seeded: a verdict that is kept in the cache has to be the same each time it is made.
    rng = random.Random(20_240)
    added = sorted(special)[:40] or ["<|x|>"]
    yield from _FIXED
    for token in added:
        yield from (token, f"{token}{token}", f" {token} ", f"\n{token}\nx", f"a{token}b", token[:-1], token[1:])
    pieces = [*_FIXED, *added]
    for _ in range(_STRESS_TEXTS):
        # Words and added tokens in a row; characters of one script after another; what regexes of pre-tokenizers
        # tell apart.
        kind = rng.random()
        if kind < 0.4:
            yield "".join(rng.choice(pieces) for _ in range(rng.randint(1, 12)))
        elif kind < 0.7:
            yield "".join(chr(_code_point(rng)) for _ in range(rng.randint(1, 60)))
        else:
            yield "".join(rng.choice(_ALPHABET) for _ in range(rng.randint(1, 80)))
    # Long runs of one kind: merges over them are where backends cut for speed.
    yield "x" * 3_000
    yield " " * 3_000
    yield "ab " * 2_000
    yield "\n\n \t" * 800
    yield "漢字かな交じり文" * 300


def _code_point(rng: random.Random) -> int:
    low, high = rng.choice(_RANGES)
    return rng.randint(low, high)


_RANGES: Final = (
    (0x00, 0x7F), (0x80, 0x24F), (0x300, 0x36F), (0x370, 0x5FF), (0x600, 0x6FF), (0x900, 0x97F), (0xE00, 0xE7F),
    (0x1100, 0x11FF), (0x2000, 0x206F), (0x2190, 0x2BFF), (0x3040, 0x30FF), (0x4E00, 0x4FFF), (0xAC00, 0xAFFF),
    (0xE000, 0xE0FF), (0xFE00, 0xFE0F), (0xFF00, 0xFFEF), (0x1F300, 0x1F6FF), (0x10FF00, 0x10FFFF),
)  # fmt: skip
_ALPHABET: Final = "aAbZ09  \t\n\r.,'\"!?-_/\\()[]{}<>|=+*&^%$#@~`;:éñß½²ªº·İıſK"
_FIXED: Final = (
    "Hello, world", " leading", "trailing ", "  two  spaces  ", "\t\ttabs\n\n\nlines\r\n", "don't I'LL we'Re it'S",
    "1234567890", "3.14 1,000,000 0x1F 1e-9", "x=1;y+=2", "def f(x):\n    return x ** 2\n", '{"a": [1, null, "b\\n"]}',
    "https://a.b/c?d=e&f#g", "e\u0301 é", "가각간", "ﬁ ﬂ ½ ①", "👩\u200d👩\u200d👧 🇩🇪 👍🏽", "日本語テキスト。",
    "العربية ١٢٣", "हिन्दी", "ไทย", "\u200b\u200d\ufeff\u00a0\u3000", "\x00\x01\x7f", "<|im_start|>user\n",
    "<|endoftext|>", "<s></s>[INST] [/INST]", "▁under▁ Ġ Ċ", "_" * 40, "a" * 50, "=" * 33, "\u0130stanbul", "ǅ ǆ Ǆ",
    "…—–‘’“”", "",
)  # fmt: skip
