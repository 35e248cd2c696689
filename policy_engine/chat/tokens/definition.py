"""The text of a `tokenizer.json`, cut apart and put together without being parsed.

    {"version":"1.0",…,"model":{"type":"BPE",…,"vocab":{"a":0,"b":1},"merges":[["a","b"]]}}

Parsed by Python, one of 150,000 tokens takes half a second and 150 MB. `tokenizers` writes it without spaces, the model
last, vocabulary and merges last in it; what is not of that form is left as it is.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

_MODEL: Final = b',"model":'
_HEADER: Final = b"#version"
"""Lines of `merges.txt` that begin so are passed over."""
_SPACES: Final = b" \n\r\t"


def plain_definition(definition: bytes, *, normalizes: bool = True) -> bytes:
    """A `tokenizer.json` without post-processor, truncation and padding.

    Its normalizer is left out too unless it `normalizes`. A post-processor only adds special tokens, which are never
    asked for.

    >>> plain_definition(b'{"post_processor":{"type":"ByteLevel"},"model":{"type":"BPE"}}')
    b'{"post_processor": null, "truncation": null, "padding": null,"model":{"type":"BPE"}}'
    """
    head, model = head_and_model(definition)
    gone = ["post_processor", "truncation", "padding", *(() if normalizes else ("normalizer",))]
    return json.dumps(head | dict.fromkeys(gone))[:-1].encode() + model


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


def vocabulary_and_merges(definition: bytes) -> tuple[bytes, bytes] | None:
    """The vocabulary of a `tokenizer.json` as JSON, and its merges one a line.

    None if they do not fit lines.

    >>> vocabulary_and_merges(b'{"model":{"type":"BPE","vocab":{"a":0,"\\\\"":1},"merges":[["a","\\\\""],["a","a"]]}}')
    (b'{"a":0,"\\\\"":1}', b'#version: 0.2\\na "\\na a\\n')
    """
    # Quotes inside of a token are escaped, so that none of these is found in one.
    _, found, rest = definition.partition(b'"vocab":')
    vocabulary, merged, merges = rest.partition(b',"merges":')
    lines = _lines(merges) if found and merged else None
    plain = _masked(vocabulary)
    # A space, escaped line breaks, a token that begins as lines that are passed over; in merges anything escaped.
    if lines is None or any(text in plain for text in (b" ", rb"\n", rb"\r", b'"' + _HEADER)):
        return None
    text = b"\n".join([_HEADER + b": 0.2", *lines, b""])
    return None if b"\\" in text else (vocabulary, text.replace(b"\x00", b"\\").replace(b"\x01", b'"'))


def short_merges(definition: bytes) -> bytes | None:
    """A `tokenizer.json` with its merges in their older form, a text for each.

    None if they have that form, or do not fit it.

    `tokenizers` and kitoken read the two alike, and hold this one in 40 to 100 MB less while they do (150,000 tokens).

    >>> short_merges(b'{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [ ["a", "\\\\""], ["a", "a"] ]}}')
    b'{"model": {"type": "BPE", "vocab": {"a": 0}, "merges":["a \\\\"","a a"]}}'
    """
    # The last one: a token of this name may be in the vocabulary, before a number.
    at = max((found.end() for found in re.finditer(rb'"merges"[ \n\r\t]*:', definition)), default=None)
    lines = None if at is None else _lines(definition[at:])
    if not lines:
        return None
    text = b'"' + b'","'.join(lines) + b'"'
    # A token that begins as a line of a file that is passed over; what is escaped may be a space.
    if b'"' + _HEADER in text or rb"\u" in text:
        return None
    return definition[:at] + b"[" + text.replace(b"\x01", rb"\"").replace(b"\x00", rb"\\") + b"]}}"


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


def _lines(merges: bytes) -> list[bytes] | None:
    """Pairs of a list as `a b`, masked; `merges` is all that follows the list's name.

    None for another form, or a release that writes merges in another way; for tokens with spaces too.

    >>> _lines(b'[["a","b"],["c","d"]]}}')
    [b'a b', b'c d']
    """
    # ["a","b"],["c","d"]    →    [[  a  ,  b  ],[  c  ,  d  ]]}}
    parts = _masked(merges).split(b'"')
    between = [{part.translate(None, _SPACES) for part in set(some)} for some in (parts[2::4], parts[4:-1:4])]
    edges = [part.translate(None, _SPACES) for part in (parts[0], parts[-1])]
    if edges == [b"[]}}"] * 2:
        return []
    if edges != [b"[[", b"]]}}"] or between[0] != {b","} or between[1] - {b"],["} or len(parts) % 4 != 1:
        return None
    lines = [*map(b" ".join, zip(parts[1::4], parts[3::4]))]
    return lines if sum(line.count(b" ") for line in lines) == len(lines) else None
