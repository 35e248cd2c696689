"""A tokenizer without its Unicode normalizer, for texts that the normalizer does not change.

Normal form C costs a `tokenizers` pipeline about an eighth of its time, also on text that is in that form. Where a
text's characters say that it is, the same model, pre-tokenizer and added tokens give the same ids without it.

    "Grüße", `ü` as one character                    read without the normalizer
    "Grüße", `u` and a combining mark behind it      read with it, which makes one character of the two
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable
from typing import Any, Final

_ASCII: Final = bytes(range(128))
# Characters that normal form C never changes, and that never change a neighbour: no combining marks, no jamo, no
# singletons. Far from all of those, but most of what people write; the rest takes the tokenizer's own way.
_FAR: Final = (
    ("\x00", "\u02ff"), ("\u0400", "\u0482"), ("\u048a", "\u052f"), ("\u2010", "\u2027"), ("\u3001", "\u3029"),
    ("\u3041", "\u3096"), ("\u309b", "\u30ff"), ("\u4e00", "\u9fff"), ("\uac00", "\ud7a3"), ("\uff01", "\uff5e"),
    ("\U0001f300", "\U0001f64f"),
)  # fmt: skip
_FEW: Final = 200
"""So many characters are compared one by one: the pattern for more takes 5 ms to compile."""


@functools.cache
def _pattern() -> re.Pattern[str]:
    return re.compile(f"[^{''.join(f'{first}-{last}' for first, last in _FAR)}]")


@functools.lru_cache(maxsize=1 << 12)  # text has the same few over and over
def _is_rare(char: str) -> bool:
    return not any(first <= char <= last for first, last in _FAR)


def beyond_ascii(text: str) -> str:
    """The characters of a text that are not ASCII.

    >>> beyond_ascii("Grüße")
    'üß'
    """
    # Among bytes: to go through the characters one by one takes four times as long.
    data = text.encode("utf-8", "surrogatepass").translate(None, _ASCII)
    return data.decode("utf-8", "surrogatepass")


def rare_in(text: str) -> set[str]:
    """The characters of a text that normal form C may change, or change a neighbour of.

    A text without any is in that form.

    >>> rare_in("Grüße"), rare_in("u\\u0308") == {"\\u0308"}
    (set(), True)
    """
    if text.isascii():
        return set()
    others = beyond_ascii(text)
    # Most texts have no rare one; where there are many, few of them differ.
    if len(others) > _FEW and _pattern().search(others) is None:
        return set()
    return set(filter(_is_rare, set(others)))


def is_normal(text: str) -> bool:
    """True if a text is certainly in normal form C; False says nothing.

    >>> is_normal("é"), is_normal("e\\u0301")
    (True, False)
    """
    return not rare_in(text)


def is_kept(text: str) -> bool:
    """True if normal form C of any Unicode version keeps a text; False says nothing.

    Characters that this Python does not know yet may be marks to a tokenizer that is newer. What is known and in normal
    form stays so in all later versions.

    >>> is_kept("abc"), is_kept("e\\u0301")
    (True, False)
    """
    # Ranges first: they take most texts, and are much faster than normalizing.
    rare = rare_in(text)
    return not rare or (not has_unassigned(rare) and unicodedata.is_normalized("NFC", text))


def has_unassigned(chars: Iterable[str]) -> bool:
    """True if this Python's Unicode does not know a character.

    A later Unicode may make it a letter, a digit or a mark.

    >>> has_unassigned("abc"), has_unassigned("\\u0378")
    (False, True)
    """
    return any(unicodedata.category(char) == "Cn" for char in chars)


def without_normalizer(backend: Any) -> Any | None:
    """A `tokenizers.Tokenizer` that gives the ids of `backend` on texts that are `is_normal`.

    It shares the model. None if the normalizer is another than normal form C, or if the two would differ.
    """
    # Other forms change characters that the ranges above allow, such as full-width letters under NFKC.
    if type(backend.normalizer).__name__ != "NFC":
        return None
    added = backend.get_added_tokens_decoder()
    # An added token in another form is found in normalized text only, so the two would differ.
    if not all(is_normal(token.content) for token in added.values()):
        return None
    made = type(backend)(backend.model)
    if backend.pre_tokenizer is not None:
        made.pre_tokenizer = backend.pre_tokenizer
    made.encode_special_tokens = backend.encode_special_tokens
    # In order of ids, so that each gets its own again.
    for _, token in sorted(added.items()):
        (made.add_special_tokens if token.special else made.add_tokens)([token])
    same = {i: repr(token) for i, token in made.get_added_tokens_decoder().items()}
    return made if same == {i: repr(token) for i, token in added.items()} else None
