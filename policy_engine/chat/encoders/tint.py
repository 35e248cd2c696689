"""Data in private-use characters, one for each of its own, to see where each is written.

    {"role": "user", "content": "Hi"}       becomes  {"role": "user", "content": "\\U000F0000\\U000F0001"}
    <|user|>Hi                              from     <|user|>\\U000F0000\\U000F0001

An encoder that strips or parses what it is given writes other text for tinted data. So there are several ways to tint
(`WAYS`), and `align` says which of them is to be believed for a row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from policy_engine.chat.trace.origins import Origin, origin_at
from policy_engine.core.errors import AttributionError
from policy_engine.core.vocabulary import CALL_FIELDS, LABEL_FIELDS

_PLANES: Final = (range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE))
"""The private-use planes 15 and 16; the private-use area of plane 0 is left to data."""
MOST: Final = sum(map(len, _PLANES))
"""Characters that one tinting can tell apart."""

# One character of a JSON string as it is written: an escape counts as one.
_UNIT: Final = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.|[^\\]", re.DOTALL
)
_LITERAL: Final = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_IDS: Final = ("id", "tool_call_id")
"""Labels that some encoders write: Kimi's calls have their id where others have the tool's name."""


Splits = Literal["no", "words", "blanks"]
SPLITS: Final[tuple[Splits, ...]] = get_args(Splits)


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way to tint.

    `parses`: content that is JSON stays JSON, with its strings tinted. `strips` takes the whitespace at the ends of
    messages of these roles off (None: of all), `at_ends` says which whitespace. `ids`: the ids of calls are tinted,
    one id alike wherever it is. `splits`: delimiters of thinking inside an answer stay, with the blanks around them if
    that is `blanks`.

    >>> message = {"role": "user", "content": " Hi"}
    >>> [len(Tinting(way=way, first=0).messages([message])[0]["content"].strip()) for way in (Way(), Way(strips=None))]
    [3, 2]
    """

    parses: bool = False
    strips: tuple[str, ...] | None = ()
    at_ends: str = "both"
    ids: bool = False
    splits: Splits = "no"


WAYS: Final = tuple(
    Way(parses=parses, strips=strips, at_ends=at_ends, splits=splits)
    # Last of all, since an encoder that does not look for thinking shows more without.
    for splits in SPLITS
    # The least change first: a way that strips more explains more encoders, and loses more of the data's blanks.
    for strips, at_ends in (((), "both"), (("assistant",), "spaces behind"), (("assistant",), "both"), (None, "both"))
    for parses in (False, True)
)
"""In the order in which they are tried. Ids are tinted where one may be all that is written of a tool's name."""


def splitters_of(delimiters: Iterable[tuple[str, str]]) -> Mapping[Splits, re.Pattern[str]]:
    """Delimiters of thinking at which an encoder may split an answer.

    `blanks` has them with the blanks around.

    >>> found = splitters_of([("<think>", "</think>")])
    >>> found["words"].split("<think>a</think> b"), found["blanks"].split("<think>a</think> b")
    (['', '<think>', 'a', '</think>', ' b'], ['', '<think>', 'a', '</think> ', 'b'])
    >>> splitters_of([])
    {}
    """
    words = "|".join([re.escape(word) for pair in delimiters for word in pair])
    return {"words": re.compile(f"({words})"), "blanks": re.compile(rf"(\s*(?:{words})\s*)")} if words else {}


@dataclass(frozen=True, slots=True)
class Tint:
    """A tinted character: its field, its place and text there, and the character that it means."""

    origin: Origin
    offset: int
    raw: str
    char: str


@dataclass(kw_only=True)
class Tinting:
    """Conversation data with the characters from `first` on tinted, as many as there are tints.

    >>> tinting = Tinting(way=Way(), first=0)
    >>> ascii(tinting.messages([{"role": "user", "content": "Hi"}])[0]["content"])
    "'\\\\U000f0000\\\\U000f0001'"
    >>> [tint.char for tint in tinting.tints.values()]
    ['H', 'i']
    """

    way: Way
    first: int
    splitters: re.Pattern[str] | None = None
    """The delimiters that stay in answers."""
    labels: frozenset[str] = LABEL_FIELDS
    """Fields of messages that stay as they are."""
    tints: dict[str, Tint] = field(default_factory=dict)
    seen: int = 0
    """Characters that could be tinted, all windows together."""
    parsed: dict[tuple[int, tuple[str | int, ...]], str] = field(default_factory=dict)
    """The fields, by message and path, that were tinted as JSON, with their text."""
    ids: dict[str, str] = field(default_factory=dict)
    """Tinted ids of calls by what they are in the data."""
    ids_first: dict[str, Origin] = field(default_factory=dict)
    """The field whose tints an id has, by what it is in the data."""

    @property
    def is_last(self) -> bool:
        """True if no character is left for another window."""
        return self.seen <= self.first + MOST

    def messages(self, messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The messages, tinted. Roles, ids and other labels stay as they are."""
        return [self._message(message, turn) for turn, message in enumerate(messages)]

    def _message(self, message: Mapping[str, Any], turn: int) -> dict[str, Any]:
        strips = self.way.strips is None or message.get("role") in self.way.strips
        # Only what a model writes: in anybody else's text, the encoder's own would not be known.
        splits = self.splitters is not None and message.get("role") == "assistant"
        return {
            name: self._label(name, value, turn, (name,))
            if name in self.labels
            else self._value(value, turn, (name,), strips=strips, splits=splits and name == "content")
            for name, value in message.items()
        }

    def _label(self, name: str, value: Any, turn: int, path: tuple[str | int, ...]) -> Any:
        """A label as it is; the id of a call tinted, if the way asks it.

        It is tinted alike in the call and in its result, which encoders match.
        """
        if not self.way.ids or name not in _IDS or not isinstance(value, str):
            return value
        if value not in self.ids:
            self.ids_first[value] = origin_at(turn, path)
            self.ids[value] = self._text(value, turn, path, strips=False)
        return self.ids[value]

    def _split(
        self, value: str, splitters: re.Pattern[str], turn: int, path: tuple[str | int, ...], *, strips: bool
    ) -> str:
        """Text tinted but for delimiters of thinking."""
        start, end = self._kept(value, strips=strips)
        made = []
        at = start
        for number, piece in enumerate(splitters.split(value[start:end])):
            made.append(piece if number % 2 else self._text_at(piece, turn, path, at))
            at += len(piece)
        return "".join(made)

    def _value(
        self, value: Any, turn: int, path: tuple[str | int, ...], *, strips: bool = False, splits: bool = False
    ) -> Any:
        if isinstance(value, str):
            if splits and self.splitters is not None and self.splitters.search(value):
                return self._split(value, self.splitters, turn, path, strips=strips)
            # Arguments are parsed by every encoder, so they stay JSON in every way.
            if path[0] in CALL_FIELDS and path[-1] != "name":
                return self._json(value, turn, path, always=True)
            return (
                self._json(value, turn, path, strips=strips)
                if self.way.parses
                else self._text(value, turn, path, strips=strips)
            )
        if isinstance(value, Mapping):
            return {
                key: self._label(key, item, turn, (*path, key))
                # The name of a tool is text that the model writes, though `name` labels a message elsewhere.
                if key in LABEL_FIELDS and not (key == "name" and path[0] in CALL_FIELDS)
                else self._value(item, turn, (*path, key), splits=splits)
                for key, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self._value(item, turn, (*path, at), splits=splits) for at, item in enumerate(value)]
        return value

    def _text(self, value: str, turn: int, path: tuple[str | int, ...], *, strips: bool) -> str:
        start, end = self._kept(value, strips=strips)
        return self._text_at(value[start:end], turn, path, start)

    def _text_at(self, value: str, turn: int, path: tuple[str | int, ...], start: int) -> str:
        origin = origin_at(turn, path)
        return "".join([self._tint(Tint(origin, start + at, char, char)) for at, char in enumerate(value)])

    def _kept(self, value: str, *, strips: bool) -> tuple[int, int]:
        """The characters `[start, end)` of a text that are not stripped off."""
        start, end = 0, len(value)
        if strips and self.way.at_ends == "spaces behind":
            end = len(value.rstrip(" "))
        elif strips:
            start, end = len(value) - len(value.lstrip()), len(value.rstrip())
        return start, max(start, end)

    def _json(
        self, value: str, turn: int, path: tuple[str | int, ...], *, always: bool = False, strips: bool = False
    ) -> str:
        """JSON text with its strings tinted; text that is not JSON is tinted as a whole."""
        try:
            parsed = json.loads(value)
        except (ValueError, RecursionError):
            return self._text(value, turn, path, strips=strips)
        # A text in quotes is a text that happens to be JSON: "yes".
        if isinstance(parsed, str) and not always:
            return self._text(value, turn, path, strips=strips)
        self.parsed[turn, path] = value
        # Strings only: a tinted number would be no JSON, so numbers and braces are found by `align.with_json`.
        found = list(_LITERAL.finditer(value))
        # Tints in the order of the strings, so that an encoder that sorts keys sorts the tinted ones alike.
        made = {match.start(): "".join(self._units(match, turn, path)) for match in sorted(found, key=lambda m: m[1])}
        return _LITERAL.sub(lambda match: f'"{made[match.start()]}"', value)

    def _units(self, match: re.Match[str], turn: int, path: tuple[str | int, ...]) -> Iterator[str]:
        origin = origin_at(turn, path)
        for unit in _UNIT.finditer(match[1]):
            raw = unit[0]
            char = raw if len(raw) == 1 else str(json.loads(f'"{raw}"')) if _is_whole(raw) else None
            # Half of a surrogate pair means nothing by itself.
            yield raw if char is None else self._tint(Tint(origin, match.start(1) + unit.start(), raw, char))

    def _tint(self, tint: Tint) -> str:
        at = self.seen - self.first
        self.seen += 1
        # Outside of this window the character stays as it is.
        if not 0 <= at < MOST:
            return tint.raw
        plane = _PLANES[0]
        made = chr(plane[at]) if at < len(plane) else chr(_PLANES[1][at - len(plane)])
        self.tints[made] = tint
        return made


def _is_whole(raw: str) -> bool:
    # Two halves of a surrogate pair are one character.
    return raw[1] != "u" or len(raw) > len("\\uffff") or not 0xD800 <= int(raw[2:], 16) < 0xE000


def check_untinted(messages: Sequence[Mapping[str, Any]], tools: Any) -> None:
    """Raises AttributionError if the data itself has characters that tints are taken from.

    >>> check_untinted([{"role": "user", "content": "Hi"}], None)
    >>> try:
    ...     check_untinted([{"role": "user", "content": "\\U000f0000"}], None)
    ... except AttributionError as error:
    ...     print(error.help)
    replace them, or drop the row
    """
    # As text at once, which is faster than a walk; `default` since tools may be functions.
    data = json.dumps([messages, tools], ensure_ascii=False, default=str)
    if not data.isascii() and max(data) >= chr(_PLANES[0][0]):
        raise AttributionError(
            "the row has private-use characters (from U+F0000 on), which tell authors apart where code renders",
            help="replace them, or drop the row",
        )
