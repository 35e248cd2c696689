"""A tokenizer's own offsets, checked and repaired.

Every character is in a token, or it is known why not.

Offsets are characters of the text before normalization. What is known to be wrong or loose in them:

* an added token with `lstrip` or `rstrip` covers whitespace that its id does not stand for;
* a normal form that composes or reorders marks gives one mark's place to another, or drops it;
* whitespace that several tokens' worth of spaces became covers only the last of them;
* a token of some text is given no width, at position 0 or in place (then the text it stands for is not known).

    " <mask>"    one added token with `lstrip`, offsets 0:7    ->  1:7, and the space is a gap that is explained
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from policy_engine.chat.tokens.byte_lengths import SPACE_MARK, Ranges
from policy_engine.chat.tokens.pipeline import Pipeline
from policy_engine.core.errors import AttributionError

# The space of SentencePiece and of byte-level BPE, and the space itself.
_MARKS = SPACE_MARK + "Ġ "
_JOINS = re.compile("[\u1160-\u11ff\uff9e\uff9f]")
"""Characters that join the one before them and are no marks: vowels and finals of Hangul, half-width voicing marks."""


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A text, its tokens and the characters `[start, end)` of each, corrected in place."""

    text: str
    tokens: Sequence[str]
    starts_T: npt.NDArray[np.int32]
    ends_T: npt.NDArray[np.int32]
    pipeline: Pipeline


def check_offsets(
    text: str, ids: Sequence[int], tokens: Sequence[str], offsets: Sequence[tuple[int, int]], pipeline: Pipeline
) -> Ranges:
    """The characters of each token, from its offsets.

    Raises AttributionError where the offsets do not account for the text.

    >>> ranges = check_offsets("Hi you", [1, 2], ["Hi", "Ġyou"], [(0, 2), (3, 6)], Pipeline())
    >>> [places.tolist() for places in ranges]
    [[0, 3], [2, 6]]
    """
    row = _Row(
        text=text,
        tokens=tokens,
        starts_T=np.fromiter((s for s, _ in offsets), np.int32, len(offsets)),
        ends_T=np.fromiter((e for _, e in offsets), np.int32, len(offsets)),
        pipeline=pipeline,
    )
    # In this order: narrowing makes room that the order check needs, and gaps are judged when all ranges are final.
    _narrow_stripping(row, ids)
    _check_order(row)
    _widen_clusters(row)
    if pipeline.drops:
        _check_spelling(row)
    _close_gaps(row)
    return row.starts_T, row.ends_T


def _narrow_stripping(row: _Row, ids: Sequence[int]) -> None:
    """An added token that takes the whitespace beside it stands for its own text only."""
    text, starts_T, ends_T = row.text, row.starts_T, row.ends_T
    for i, token_id in enumerate(ids):
        content = row.pipeline.stripping.get(token_id)
        if content is None:
            continue
        at = text.find(content, starts_T[i], ends_T[i])
        # Only if there is nothing but whitespace around it; else these are not the token's offsets at all.
        if at >= 0 and not text[starts_T[i] : at].strip() and not text[at + len(content) : ends_T[i]].strip():
            starts_T[i], ends_T[i] = at, at + len(content)


def _check_order(row: _Row) -> None:
    text, tokens, starts_T, ends_T = row.text, row.tokens, row.starts_T, row.ends_T
    if not len(starts_T):
        return
    wrong = (starts_T < 0) | (ends_T > len(text)) | (ends_T < starts_T)
    # Starts and ends both rise, though neighbours may share characters.
    wrong[1:] |= (starts_T[1:] < starts_T[:-1]) | (ends_T[1:] < ends_T[:-1])
    # A token of nothing but a space mark may be an inserted prefix space; any other token stands for some text.
    wrong |= (starts_T == ends_T) & np.fromiter((bool(t.strip(_MARKS)) for t in tokens), np.bool_, len(tokens))
    if wrong.any():
        i = int(np.argmax(wrong))
        raise _refused(
            f"its offsets for token {i} (`{tokens[i]}`) are {starts_T[i]} to {ends_T[i]}, which is not in order"
        )


def _widen_clusters(row: _Row) -> None:
    """Gives a token all of a character and its marks where a normal form changes them together."""
    text, starts_T, ends_T, forms = row.text, row.starts_T, row.ends_T, row.pipeline.forms
    if not forms or text.isascii() or all(unicodedata.is_normalized(form, text) for form in forms):
        return
    for start, end in _clusters(text):
        if all(unicodedata.is_normalized(form, text[start:end]) for form in forms):
            continue
        # All tokens that hold some of the cluster: from the first that ends behind its start to the last that
        # starts before its end.
        first = int(np.searchsorted(ends_T, start, side="right"))
        last = int(np.searchsorted(starts_T, end, side="left"))
        np.minimum(starts_T[first:last], start, out=starts_T[first:last])
        np.maximum(ends_T[first:last], end, out=ends_T[first:last])


def _clusters(text: str) -> Iterator[tuple[int, int]]:
    """Runs of a character and the marks after it, where there are marks.

    >>> list(_clusters("ae\\u0301b"))
    [(1, 3)]
    """
    start = 0
    for i in range(1, len(text) + 1):
        if i < len(text) and _joins(text[i]):
            continue
        if i - start > 1:
            yield start, i
        start = i


def _joins(char: str) -> bool:
    return unicodedata.category(char)[0] == "M" or _JOINS.match(char) is not None


def _close_gaps(row: _Row) -> None:
    """Accounts for characters in no token, or refuses the row."""
    text, tokens, starts_T, ends_T = row.text, row.tokens, row.starts_T, row.ends_T
    # Gap i is in front of token i; the last one is behind all tokens.
    reached = np.concatenate([[0], ends_T])
    following = np.concatenate([starts_T, [len(text)]])
    for i in np.flatnonzero(following > reached).tolist():
        start, end = int(reached[i]), int(following[i])
        gap = text[start:end]
        if not gap.strip():
            # Several spaces that became one mark: the token has them all. Otherwise the pipeline dropped them.
            if i < len(tokens) and tokens[i][:1] in _MARKS and ends_T[i] > end and text[end].isspace():
                starts_T[i] = start
        # A normalizer may drop control characters; anything else that is lost has no owner, so the row is refused.
        elif not row.pipeline.removes(gap):
            raise _refused(f"no token covers characters {start} to {end} (`{gap[:20]}`), and its normalizer keeps them")


def _check_spelling(row: _Row) -> None:
    """Refuses offsets that a dropped character moved.

    Where they are right, each token spells its characters.
    """
    for i, token in enumerate(row.tokens):
        piece = row.text[row.starts_T[i] : row.ends_T[i]]
        if not row.pipeline.spells(token, piece):
            raise _refused(
                f"its offsets give token {i} (`{token}`) to `{piece}`: its vocabulary lacks a character before"
            )


def _refused(reason: str) -> AttributionError:
    return AttributionError(
        f"cannot tell which characters each token covers: {reason}",
        help="use a tokenizer whose vocabulary covers this text, or leave the row out",
    )
