"""The same conversation in other words, for templates that read a text and write it again.

A template can compare letters and print its own: `{% if c == 'a' %}a{% endif %}`. No trace leads from the one to the
other. So a conversation is rendered once more with other words of the same shape, and text that the template wrote by
itself has to be the same:

    Call <tool> 3 times, Bob!     what a user says
    Vlff <tool> 7 uqhja, Ztz!     the same in other words: letters for letters, digits for digits
"""

from __future__ import annotations

import hashlib
import random
import re
import string
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from policy_engine.chat.trace.origins import Origin, Scaffold, Unclaimed
from policy_engine.chat.trace.text import runs_of
from policy_engine.core.source import common_prefix
from policy_engine.core.vocabulary import LABEL_FIELDS
from policy_engine.data.conversation import Conversation

_SHORTEST_WORD: Final = 4
"""Letters of a word that a template may look for. Shorter ones would spell out any text."""
_MOST_WORDS: Final = 1000
"""A template that looks for more words than this reads the text: then none of its words is kept."""
_CONTROL: Final = r"<[^<>\s]{1,64}>|\[/?[A-Z_]{2,32}\]|\\(?:u[0-9a-fA-F]{4}|.)"
"""Markers as templates put them together, and what JSON escapes."""
_SHOWN: Final = 16
"""Characters of a text that are shown in an error."""
_SMALLEST_NUMBER: Final = 10
"""Numbers below it are flags and counters, which templates act on."""


class Rewording:
    """An exchange of letters and digits, the same for each occurrence: equal stays equal.

    `constants` are the strings of a template, `markers` the tokenizer's: where a text has one of them it stays as it
    is, since templates act on it. `key` decides which letter becomes which; a template cannot know it.

    >>> words = Rewording(["high"], ["<tool>"], "a key")
    >>> words.text("Call <tool> 3 times") == words.text("Call <tool> 3 times"), words.text("high")
    (True, 'high')
    >>> "<tool>" in words.text("Call <tool> 3 times"), "Call" in words.text("Call <tool> 3 times")
    (True, False)
    """

    def __init__(self, constants: Iterable[str], markers: Iterable[str], key: str) -> None:
        self._constants = frozenset(constants)
        # Longest first, so that a marker is kept whole.
        kept = sorted({*filter(None, markers), *_looked_for(self._constants)}, key=len, reverse=True)
        # Without regard to case, since templates lower a text before they look into it.
        self._kept = re.compile("|".join([*map(re.escape, kept), _CONTROL]), re.IGNORECASE | re.DOTALL)
        # From the row and the template: the same verdict in every run, and no template can prepare for it.
        chance = random.Random(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest())
        letters = _exchange(string.ascii_lowercase, chance)
        upper = {ord(chr(old).upper()): new.upper() for old, new in letters.items()}
        self._table = _Table({**letters, **upper, **_exchange(string.digits, chance)})

    def text(self, value: str) -> str:
        """`value` in other words."""
        # A value that is a constant of the template is an option of it: `high`, `json`.
        if len(value) > 1 and value.strip() in self._constants:
            return value
        out: list[str] = []
        at = 0
        for match in self._kept.finditer(value):
            out += [value[at : match.start()].translate(self._table), match[0]]
            at = match.end()
        return "".join([*out, value[at:].translate(self._table)])

    def value(self, value: Any) -> Any:
        """JSON data in other words; keys, names, ids and types stay, since templates look them up."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {key: item if key in LABEL_FIELDS else self.value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= _SMALLEST_NUMBER:
            # A number of as many digits, since templates print them.
            return value - 1 if len(str(value - 1)) == len(str(value)) else value + 1
        if isinstance(value, float) and abs(value) >= _SMALLEST_NUMBER:
            return value + 1.0
        return value

    def messages(self, messages: Sequence[Mapping[str, Any]], only: int | None = None) -> list[Mapping[str, Any]]:
        """All messages in other words, or the one at `only`."""
        return [self.value(message) if only in (None, turn) else message for turn, message in enumerate(messages)]


class _Table(dict[int, str]):
    """The exchange of letters; other alphabets' letters change places with a neighbour."""

    def __missing__(self, char: int) -> str:
        # Neighbours in Unicode are often the two cases of a letter, and of one script for sure.
        other = chr(char ^ 1) if char > 127 else chr(char)
        same = unicodedata.category(other) == unicodedata.category(chr(char)) and unicodedata.category(other)[0] == "L"
        self[char] = other if same else chr(char)
        return self[char]


def _exchange(chars: str, chance: random.Random) -> dict[int, str]:
    """Each of `chars` with another one for it.

    >>> made = _exchange("abc", random.Random(1))
    >>> sorted(made.values()), any(chr(old) == new for old, new in made.items())
    (['a', 'b', 'c'], False)
    """
    order = list(chars)
    chance.shuffle(order)
    # A ring: no letter stays as it is, and no two become one.
    return {ord(old): new for old, new in zip(order, order[1:] + order[:1], strict=True)}


def _looked_for(constants: Iterable[str]) -> list[str]:
    found = []
    for constant in constants:
        letters = sum(map(str.isalnum, constant))
        # Three letters count with something beside them: `</b>`, `no_`.
        if letters >= _SHORTEST_WORD or letters == _SHORTEST_WORD - 1 < len(constant):
            found.append(constant)
    return found if len(found) <= _MOST_WORDS else []


OwnText = Sequence[tuple[str, int | None]]
"""Text that a template wrote by itself, in pieces with the line that wrote each, if known."""


def own_text(pieces: Sequence[tuple[str, Scaffold]], lines: Sequence[int] = ()) -> OwnText:
    """The text that a template wrote by itself.

    `lines` are those that wrote the pieces, for pieces that no constant knows.
    """
    found: list[tuple[str, int | None]] = []
    for number, (piece, _) in enumerate(pieces):
        at = 0
        for length, origin, _ in runs_of(piece):
            if length and type(origin) is not Origin:
                line = origin.line if isinstance(origin, Unclaimed | Scaffold) else None
                line = lines[number] if line is None and number < len(lines) else line
                found.append((str.__str__(piece)[at : at + length], line))
            at += length
    return found


def reading(
    words: Rewording,
    conversation: Conversation,
    own: OwnText,
    render: Callable[[Sequence[Mapping[str, Any]], Sequence[Any] | None], OwnText | str],
) -> str | None:
    """A clause about text that a template writes because of a message's words, or None.

    `own` is what it wrote by itself for the conversation, `render` gives the same for other messages and documents, or
    why the template raises.
    """

    def differs(only: int | None, documents: Sequence[Any] | None) -> str | None:
        other = render(words.messages(conversation.messages, only), documents)
        if isinstance(other, str):
            return f"raises where the words are others: {other}"
        return _difference(own, other)

    # All messages at once first: usually nothing differs, and one rendering is enough.
    found = differs(None, None if conversation.documents is None else words.value(conversation.documents))
    if found is None:
        return None
    with_lines = render(conversation.messages, conversation.documents)
    own = own if isinstance(with_lines, str) else with_lines
    # Then one by one, to name the message that the template reads.
    for turn in range(len(conversation.messages)):
        alone = differs(turn, conversation.documents)
        if alone is not None:
            return f"reads message {turn}: it {alone}"
    return f"reads messages or documents: it {found}"


def _difference(one: OwnText, other: OwnText) -> str | None:
    a, b = "".join([text for text, _ in one]), "".join([text for text, _ in other])
    if a == b:
        return None
    at = common_prefix(a, b)
    line = _line_at(one, at) if at < len(a) else _line_at(other, at)
    where = "" if line is None else f" in line {line}"
    return f"writes {a[at : at + _SHOWN]!r} by itself{where}, and {b[at : at + _SHOWN]!r} where the words are others"


def _line_at(texts: OwnText, at: int) -> int | None:
    for text, line in texts:
        if at < len(text):
            return line
        at -= len(text)
    return None
