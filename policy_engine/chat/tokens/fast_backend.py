"""Other tokenizers that give the same ids faster, trusted only as far as they were checked.

A backend is used after it gave the reference's ids on a stress corpus and on the first rows of the data, and one text
in a thousand is checked again as it runs. That finds a backend that differs on a kind of text that is common; it does
not prove that every id of every row is the reference's.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, Protocol

from policy_engine.core.errors import TokenizerError

CHECKED_ROWS: Final = 2_000
"""First rows of the data that a backend has to agree on."""
SAMPLED: Final = 1_000
"""One text in so many is checked as it runs."""
_STRESS_TEXTS: Final = 1_500


class TokenBackend(Protocol):
    """Texts to ids, adding no special tokens, special tokens in the text read as such. Pickles."""

    name: str

    def encode_batch(self, texts: Sequence[str]) -> list[Any]:
        """The ids of each text, as lists or int32 arrays."""


class BackendMismatch(TokenizerError):
    """A fast backend gave other ids than the tokenizer itself; what it has written is not to be trusted."""

    code = "PE409"


class KitokenBackend:
    """The `kitoken` package, from the tokenizer's own definition."""

    name = "kitoken"

    def __init__(self, definition: str) -> None:
        import kitoken

        self._definition = definition
        self._encoder = kitoken.Kitoken.from_tokenizers(definition.encode())

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._definition,)

    def encode_batch(self, texts: Sequence[str]) -> list[Any]:
        """See TokenBackend."""
        found: list[Any] = self._encoder.encode_all(list(texts), True)
        return found


def is_sampled(text: str) -> bool:
    """Whether a text is one of those that are checked as they run: the same ones in every run, on any machine."""
    return zlib.crc32(text.encode("utf-8", "surrogatepass")) % SAMPLED == 0


def load_kitoken(reference: Any) -> KitokenBackend | str:
    """The backend for a `tokenizers.Tokenizer`, or why there is none."""
    try:
        import kitoken  # noqa: F401
    except ImportError:
        return "the package kitoken is not installed: pip install 'chat-policy-engine[fast]'"
    state = json.loads(reference.to_str())
    # A post-processor only adds special tokens, which are never asked for.
    state.update(post_processor=None, truncation=None, padding=None)
    try:
        return KitokenBackend(json.dumps(state))
    except Exception as error:  # what a package of another language raises
        return f"kitoken cannot read this tokenizer: {error}"


def difference(texts: Sequence[str], expected: Sequence[Any], found: Sequence[Any]) -> str | None:
    """The first text whose ids differ, with both ids, in words; None if there is none."""
    for text, theirs, ours in zip(texts, expected, found):
        theirs, ours = list(theirs), list(ours)
        if theirs == ours:
            continue
        at = next((i for i, (a, b) in enumerate(zip(theirs, ours)) if a != b), min(len(theirs), len(ours)))
        excerpt = _excerpt(text, len(text) * at // max(len(theirs), 1))
        return f"token {at} of a text, near {excerpt}, is {_id(theirs, at)}, and {_id(ours, at)} from the fast backend"
    return None


def _id(ids: Sequence[int], at: int) -> str:
    return str(ids[at]) if at < len(ids) else "none"


def _excerpt(text: str, about: int, most: int = 40) -> str:
    """The characters around a place, as many as fit once what a terminal may not draw is escaped."""
    around, shown = 0, ""
    while around < most and len(wider := ascii(text[max(0, about - around) : about + around + 1])) <= most:
        around, shown = around + 1, wider
    return f"{'…' if about >= around else ''}{shown}{'…' if about + around < len(text) else ''}"


def stress_corpus(special: Iterable[str]) -> Iterator[str]:
    """Texts on which tokenizers tend to differ, always the same: scripts, spaces, digits, joined marks, special tokens
    next to anything. `special` are the tokenizer's added tokens."""
    rng = random.Random(20_240)
    added = sorted(special)[:40] or ["<|x|>"]
    yield from _FIXED
    for token in added:
        yield from (token, f"{token}{token}", f" {token} ", f"\n{token}\nx", f"a{token}b", token[:-1], token[1:])
    pieces = [*_FIXED, *added]
    for _ in range(_STRESS_TEXTS):
        kind = rng.random()
        if kind < 0.4:
            yield "".join(rng.choice(pieces) for _ in range(rng.randint(1, 12)))
        elif kind < 0.7:
            yield "".join(chr(_code_point(rng)) for _ in range(rng.randint(1, 60)))
        else:
            yield "".join(rng.choice(_ALPHABET) for _ in range(rng.randint(1, 80)))
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
