"""The text of a `tokenizer.json`, cut apart and put together without being parsed.

    {"version":"1.0",…,"model":{"type":"BPE",…,"vocab":{"a":0,"b":1},"merges":[["a","b"]]}}

Parsed by Python, one of 150,000 tokens takes half a second and 150 MB. `tokenizers` writes it without spaces, the model
last, vocabulary and merges last in it; what is not of that form is left as it is.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import numpy as np

_MODEL: Final = b',"model":'
_BEFORE_MODEL: Final = re.compile(rb',[ \n\r\t]*"model"[ \n\r\t]*:')
_HEADER: Final = b"#version"
"""Lines of `merges.txt` that begin so are passed over."""
_SPACES: Final = b" \n\r\t"

_SUFFIX: Final = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_BEFORE: Final = r"[^\r\n\p{L}\p{N}]?"
_SIGN: Final = r"[^\s\p{L}\p{N}]?"
_UPPER: Final = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER: Final = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_WORDS_AND_SIGNS: Final = (
    (_SUFFIX + "|" + _BEFORE + r"\p{L}+", r" ?[^\s\p{L}\p{N}]+[\r\n]*"),  # Qwen 2, Llama 3
    (_SUFFIX + "|" + _BEFORE + r"[\p{L}\p{M}]+", r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"),  # Qwen 3.5
    (  # GPT-4o, Llama 4
        f"{_BEFORE}{_UPPER}*{_LOWER}+{_SUFFIX}?|{_BEFORE}{_UPPER}+{_LOWER}*{_SUFFIX}?",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
    ),
    (f"{_BEFORE}{_UPPER}*{_LOWER}+|{_BEFORE}{_UPPER}+{_LOWER}*", r" ?[^\s\p{L}\p{N}]+[\r\n/]*"),  # Tekken
)
_LINES: Final = r"\s*[\r\n]+"
_WITHOUT_LOOKING: Final[dict[str, tuple[str, str]]] = {
    rf"{words}|{numbers}|{signs}|{_LINES}|\s+(?!\S)|\s+": (
        rf"[^\S\r\n]{numbers}|[^\S \r\n](?:{words.replace(_BEFORE, _SIGN)}|{signs[2:]})",
        f"{words}|{numbers}|{signs}|{_LINES}",
    )
    for words, signs in _WORDS_AND_SIGNS
    for numbers in (r"\p{N}", r"\p{N}{1,3}")
}
r"""Patterns that look ahead, and pairs that cut text at the same places, one after the other.

`\s+(?!\S)|\s+` leaves the last blank to what follows. A match of words or signs begins with that blank anyway, and the
blanks before it are what lies between two matches. Only a blank that can begin none of them, as before a number, would
be one with those before it: the first pattern cuts in front of it.
"""


def plain_definition(definition: bytes, *, normalizes: bool = True, looks_ahead: bool = True) -> bytes:
    """A `tokenizer.json` without post-processor, truncation and padding.

    Its normalizer is left out too unless it `normalizes`. Unless it `looks_ahead`, well-known patterns that do are
    replaced by two that cut text at the same places, and take kitoken two thirds of the time. A post-processor only
    adds special tokens, which are never asked for.

    >>> plain_definition(b'{"post_processor":{"type":"ByteLevel"},"model":{"type":"BPE"}}')
    b'{"post_processor": null, "truncation": null, "padding": null,"model":{"type":"BPE"}}'
    """
    head, model = head_and_model(definition)
    gone = ["post_processor", "truncation", "padding", *(() if normalizes else ("normalizer",))]
    before = head.get("pre_tokenizer")
    if before and not looks_ahead:
        steps = before["pretokenizers"] if before["type"] == "Sequence" else [before]
        made = [step for given in steps for step in _without_looking(given)]
        head["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": made}
    return json.dumps(head | dict.fromkeys(gone))[:-1].encode() + model


def _without_looking(step: dict[str, Any]) -> list[dict[str, Any]]:
    """A step of a pre-tokenizer, or two in its place that do not look ahead."""
    pattern = step["pattern"].get("Regex") if step["type"] == "Split" else None
    if pattern not in _WITHOUT_LOOKING or step["behavior"] != "Isolated" or step["invert"]:
        return [step]
    return [{**step, "pattern": {"Regex": each}} for each in _WITHOUT_LOOKING[pattern]]


def head_and_model(definition: bytes) -> tuple[dict[str, Any], bytes]:
    """A `tokenizer.json` without its model, read; and the model's text, to go behind it.

    >>> head_and_model(b'{"version":"1.0","model":{"type":"BPE"}}')
    ({'version': '1.0'}, b',"model":{"type":"BPE"}}')
    """
    head, found, model = definition.partition(_MODEL)
    try:
        # It is no JSON if the first `,"model":` was inside of something.
        return json.loads(head + b"}"), found + model
    except ValueError:
        whole = json.loads(definition)
        return whole, _MODEL + json.dumps(whole.pop("model", None)).encode() + b"}"


def added_tokens(definition: bytes) -> dict[int, dict[str, Any]] | None:
    """The added tokens of a `tokenizer.json` by id, read without its model.

    None if they are not in front of the model.

    >>> added_tokens(b'{"added_tokens": [{"id": 1, "content": "<s>"}],\\n  "model": {"type": "BPE"}}')
    {1: {'content': '<s>'}}
    """
    head = _BEFORE_MODEL.split(definition, 1)[0]
    # A token of this name may be in the vocabulary, and a file may name anything twice: the last one counts.
    if definition.count(b'"added_tokens"') != 1:
        return None
    try:
        found = json.loads(head + b"}")["added_tokens"]
        by_id = {token.pop("id"): token for token in found}
    except (ValueError, KeyError):
        return None
    return by_id if len(by_id) == len(found) else None


def vocabulary_and_merges(definition: bytes) -> tuple[bytes, bytes] | None:
    """The vocabulary of a `tokenizer.json` as JSON, and its merges one a line.

    None if they do not fit lines.

    >>> vocabulary_and_merges(b'{"model":{"type":"BPE","vocab":{"a":0,"\\\\"":1},"merges":[["a","\\\\""],["a","a"]]}}')
    (b'{"a":0,"\\\\"":1}', b'#version: 0.2\\na "\\na a\\n')
    """
    # Quotes inside of a token are escaped, so that none of these is found in one.
    _, found, rest = definition.partition(b'"vocab":')
    vocabulary, merged, merges = rest.partition(b',"merges":')
    short = None
    if found and merged:
        short = b"" if merges == b"[]}}" else _shortened(merges)
    plain = _masked(vocabulary)
    # A space, escaped line breaks, a token that begins as lines that are passed over; in merges anything escaped.
    if short is None or b"\\" in short or any(text in plain for text in (b" ", rb"\n", rb"\r", b'"' + _HEADER)):
        return None
    # No text is a comma alone: each has a space.
    lines = short[1:-1].replace(b'","', b"\n") + b"\n" if short else b""
    return vocabulary, _HEADER + b": 0.2\n" + lines.replace(b"\x00", b"\\").replace(b"\x01", b'"')


def short_merges(definition: bytes) -> bytes | None:
    """A `tokenizer.json` with its merges in their older form, a text for each.

    None if they have that form, or do not fit it.

    `tokenizers` and kitoken read the two alike, and hold this one in 40 to 100 MB less while they do (150,000 tokens).

    >>> short_merges(b'{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [ ["a", "\\\\""], ["a", "a"] ]}}')
    b'{"model": {"type": "BPE", "vocab": {"a": 0}, "merges":["a \\\\"","a a"]}}'
    """
    # The last one: a token of this name may be in the vocabulary, before a number.
    at = max((found.end() for found in re.finditer(rb'"merges"[ \n\r\t]*:', definition)), default=None)
    short = None if at is None else _shortened(definition[at:])
    # A token that begins as a line of a file that is passed over; what is escaped may be a space.
    if short is None or b'"' + _HEADER in short or rb"\u" in short:
        return None
    return definition[:at] + b"[" + short.replace(b"\x01", rb"\"").replace(b"\x00", rb"\\") + b"]}}"


def tokens_in(vocabulary: bytes) -> int:
    """The number of tokens of a vocabulary in JSON.

    >>> tokens_in(b'{"a":0,"\\\\":1,"\\"":2}')
    3
    """
    return _masked(vocabulary).count(b'"') // 2


def _masked(text: bytes) -> bytes:
    r"""JSON whose every quote is the edge of a text: no JSON has the two control characters.

    >>> _masked(rb'"\\", "\""')
    b'"\x00", "\x01"'
    """
    return text.replace(rb"\\", b"\x00").replace(rb"\"", b"\x01")


def _shortened(merges: bytes) -> bytes | None:
    """The texts of the older form, masked; `merges` is all that follows the list's name.

    None for another form, or a release that writes merges in another way; for tokens with spaces too.

    >>> _shortened(b'[["a","b"],["c","d"]]}}')
    b'"a b","c d"'
    """
    # Indented, as `tokenizers` writes it too, it is twice as long; no text of JSON has a line break.
    for indent in (b"\n" + b" " * 8, b"\n" + b" " * 6):
        merges = merges.replace(indent, b"")
    text = np.frombuffer(_masked(merges), np.uint8).copy()
    is_quote = text == ord('"')
    # True from the quote that opens a text to the character before the one that closes it.
    is_inside = np.logical_xor.accumulate(is_quote)
    between = text[~is_inside & ~is_quote].tobytes().translate(None, _SPACES)
    quotes = np.flatnonzero(is_quote)
    pairs = len(quotes) // 4
    if not pairs or between != b"[[" + b"],[".join([b","] * pairs) + b"]]}}":
        return None
    # ["a","b"],["c","d"]    →    "a b","c d"
    keep = is_inside | is_quote
    keep[quotes[2::4]] = False
    text[quotes[1::4]] = ord(" ")
    edges = quotes[3:-1:4] + 1
    keep[edges], text[edges] = True, ord(",")
    short = text[keep].tobytes()
    return short if short.count(b" ") == pairs else None
