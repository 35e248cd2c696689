"""Text that knows where it came from: strings that carry origins through a template.

    {{ u.replace('Bob', 'Ann') }}              ->  ‹Hi, Ann›
    {{ (u + v).partition('bY')[2] }}           ->  «es»
    {{ ', '.join([v, u.upper()]) }}            ->  «Yes», ‹HI, BOB›

A traced string is a `str` whose characters are covered by runs (see `origins`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, SupportsIndex

from policy_engine.chat.trace.bounds import measure
from policy_engine.chat.trace.meter import BIG, charge
from policy_engine.chat.trace.origins import (
    LOST,
    MAX_PIECES,
    UNKNOWN,
    Origin,
    OutputTooLarge,
    Run,
    check_size,
    cut,
    cut_all,
    few,
    key_at,
    owner_of,
    printed_at,
)
from policy_engine.chat.trace.owners import holds_data, is_opaque, owner_in


def traced(text: str, runs: tuple[Run, ...]) -> Traced:
    """A traced string of `text` with `runs`, whose lengths add up to its length."""
    made = str.__new__(Traced, text)
    made._r = runs
    return made


def runs_of(value: str) -> tuple[Run, ...]:
    """The runs of any string; plain strings are template text nobody has claimed."""
    if type(value) is Traced:
        return value._r
    # Markup with runs, or a subclass that Jinja made; asked second, since nearly every string is of the two kinds
    # above.
    carried = getattr(value, "_r", None)
    if carried is not None:
        return carried  # type: ignore[no-any-return]
    return ((len(value), None, 0),) if value else ()


def lost(text: str, *inputs: Any) -> str:
    """Mark `text`, computed from `inputs`, with their owner; plain if they hold no data."""
    owner = owner_in(*inputs)
    return text if owner is None else traced(text, ((len(text), owner, LOST),))


def text_of(value: Any) -> str:
    """`str(value)`, as a template prints it; text computed from data keeps the owner.

    >>> text_of([1, "a"])
    "[1, 'a']"
    """
    kind = type(value)
    if kind is Traced or kind is str:
        return value  # type: ignore[no-any-return]
    if kind is int or kind is bool or value is None or isinstance(value, str | int | float):
        return str(value)  # numbers of the data know their field
    # Measured before it is printed: lists that hold each other twice print to gigabytes.
    check_size(measure(value).chars)
    text = str(value)
    if type(text) is Traced:
        return text
    owner = owner_in(value)
    if owner is None and is_opaque(value):
        # A method or a generator prints an address, and what it holds is not seen.
        owner = UNKNOWN
    if owner is None:
        return text
    if owner is not UNKNOWN:
        owner = printed_at(owner.turn, owner.path, whole=not owner.is_key)
    return traced(str.__str__(text), ((len(text), owner, LOST),))


def _length(item: Any) -> int:
    return len(item) if isinstance(item, str) else 0


def concat(pieces: Sequence[str]) -> str:
    """`"".join(pieces)` that keeps runs. Plain if every piece is."""
    text = "".join(pieces)
    if len(text) > BIG:
        check_size(len(text))
    # Checked after joining, in one pass: most renderings have a traced piece among the first.
    for piece in pieces:
        if type(piece) is not str:
            return traced(text, few(tuple(run for p in pieces for run in runs_of(p))))
    return text


def stand_in(text: Traced, new: str) -> str:
    """Give `new`, which a template writes in place of words of `text`, the owner of `text`."""
    # What replaces it is data itself, and belongs to its own field.
    if type(new) is not str and owner_of(runs_of(new)) is not None:
        return new
    owner = owner_of(text._r)
    if owner is None:
        return new
    # Nobody's key: of the owner, and not of the field, so that what is left of the field keeps its places.
    own = owner if owner is UNKNOWN else key_at(owner.turn, owner.path)
    return traced(str.__str__(new), ((len(new), own, LOST),))


class Traced(str):
    """A string with runs, which its methods keep."""

    __slots__ = ("_r",)
    _r: tuple[Run, ...]

    def __new__(cls, text: object = "", *args: Any) -> Traced:
        made = str.__new__(cls, text, *args)
        made._r = runs_of(text) if isinstance(text, str) else runs_of(str.__str__(made))
        return made

    # Copies and pickles are plain: an origin means nothing outside the rendering it belongs to.
    def __reduce__(self) -> tuple[Any, ...]:
        return (str, (str.__str__(self),))

    # Strings do not change, so a copy may be the same object; Jinja's own code never asks for one.
    def __deepcopy__(self, memo: Any) -> Traced:
        return self

    def __str__(self) -> str:
        return self

    def __add__(self, other: str) -> str:
        # What a plain string leaves to its right operand (Undefined, Markup) must be left here too; what it refuses
        # (numbers, objects, lists) is refused by `str.__add__` below, in its own words.
        if hasattr(other, "__html__") or (hasattr(other, "__radd__") and not isinstance(other, str | int | float)):
            return NotImplemented
        text = str.__add__(self, other)
        if len(text) > BIG:
            check_size(len(text))
        return traced(text, few(self._r + runs_of(other)))

    def __radd__(self, other: str) -> str:
        if not isinstance(other, str):
            return NotImplemented
        text = str.__add__(other, self)
        if len(text) > BIG:
            check_size(len(text))
        return traced(text, few(runs_of(other) + self._r))

    def __mul__(self, count: SupportsIndex) -> str:
        # A negative count gives the empty text, as with plain strings.
        number = max(count.__index__(), 0)
        if len(self) * number > BIG:
            check_size(len(self) * number)
        if len(self._r) * number > MAX_PIECES:
            raise OutputTooLarge
        return traced(str.__mul__(self, number), few(self._r * number))

    __rmul__ = __mul__

    def __mod__(self, values: Any) -> str:
        return _percent(self, values)

    def __rmod__(self, other: Any) -> str:
        return _percent(other, self) if isinstance(other, str) else NotImplemented

    def __getitem__(self, key: Any) -> str:
        text = str.__getitem__(self, key)
        if isinstance(key, slice):
            if len(text) > BIG:
                check_size(len(text))
            start, end, step = key.indices(len(self))
            # Reversed or skipping, the characters are still this data's, and no longer neighbours in its field.
            if step != 1:
                return lost(text, self)
            return traced(text, cut(self._r, start, max(start, end)))
        start = key.__index__()
        start = start + len(self) if start < 0 else start
        return traced(text, cut(self._r, start, start + 1))

    def __iter__(self) -> Iterator[str]:
        for at, char in enumerate(str.__iter__(self)):
            # A loop over a text of megabytes makes an object for each character: charged for as it goes on.
            if not at % BIG:
                charge(256 * min(BIG, len(self)))
            yield traced(char, cut(self._r, at, at + 1))

    def _sub(self, start: int, end: int) -> str:
        if start == 0 and end == len(self) > 0:
            return self  # most texts have nothing to strip
        if end - start > BIG:
            check_size(end - start)
        made = str.__new__(Traced, str.__getitem__(self, slice(start, end)))
        made._r = cut(self._r, start, end)
        return made

    def strip(self, chars: str | None = None) -> str:
        left = str.lstrip(self, chars)
        start = len(self) - len(left)
        return self._sub(start, start + len(str.rstrip(left, chars)))

    def lstrip(self, chars: str | None = None) -> str:
        return self._sub(len(self) - len(str.lstrip(self, chars)), len(self))

    def rstrip(self, chars: str | None = None) -> str:
        return self._sub(0, len(str.rstrip(self, chars)))

    def removeprefix(self, prefix: str) -> str:
        return self._sub(len(prefix), len(self)) if prefix and str.startswith(self, prefix) else self

    def removesuffix(self, suffix: str) -> str:
        return self._sub(0, len(self) - len(suffix)) if suffix and str.endswith(self, suffix) else self

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return self._located(str.split(self, sep, maxsplit), forward=True)

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return self._located(str.rsplit(self, sep, maxsplit), forward=False, sep=sep)

    def splitlines(self, keepends: bool = False) -> list[str]:
        whole = str.splitlines(self, True)
        bare = str.splitlines(self, keepends)
        found, at = [], 0
        # Split twice: the lines with their ends say where the next one begins.
        for line, kept in zip(whole, bare, strict=True):
            found.append(self._sub(at, at + len(kept)))
            at += len(line)
        return found

    def _located(self, pieces: list[str], *, forward: bool, sep: str | None = None) -> list[str]:
        if len(pieces) > BIG:
            if len(pieces) > MAX_PIECES:
                raise OutputTooLarge
            charge(256 * len(pieces))
        # Pieces of a split follow on each other with only separators between them, so each is found from where the last
        # one ended; from the right for rsplit, whose leftmost piece may itself contain separators.
        bounds: list[tuple[int, int]] = []
        if forward:
            at = 0
            for piece in pieces:
                at = str.index(self, piece, at)
                bounds.append((at, at + len(piece)))
                at += len(piece)
            # An empty last piece is found anywhere; it is behind the last separator.
            if pieces and pieces[-1] == "" and len(self):
                bounds[-1] = (len(self), len(self))
        else:
            at = len(self)
            for number, piece in enumerate(reversed(pieces)):
                if sep is not None and number:
                    at -= len(sep)
                elif number or sep is None:
                    at = str.rindex(self, piece, 0, at) + len(piece)
                bounds.append((at - len(piece), at))
                at -= len(piece)
            bounds.reverse()
        return [
            traced(str.__getitem__(self, slice(start, end)), runs)
            for (start, end), runs in zip(bounds, cut_all(self._r, bounds))
        ]

    def partition(self, sep: str) -> tuple[str, str, str]:
        at = str.find(self, sep)
        if at < 0:
            return self, "", ""
        return self._sub(0, at), self._sub(at, at + len(sep)), self._sub(at + len(sep), len(self))

    def rpartition(self, sep: str) -> tuple[str, str, str]:
        at = str.rfind(self, sep)
        if at < 0:
            return "", "", self
        return self._sub(0, at), self._sub(at, at + len(sep)), self._sub(at + len(sep), len(self))

    def replace(self, old: str, new: str, count: SupportsIndex = -1) -> str:
        if str.find(self, old) < 0:
            return self
        times = str.count(self, old)
        if len(self) + times * len(new) > BIG:
            check_size(len(self) + times * len(new))
        # A million pieces would be refused, and text of the template's own needs none of them.
        if times > MAX_PIECES and all(type(o) is not Origin for _, o, _ in (*self._r, *runs_of(new))):
            return str.replace(self, old, new, count)  # only text of the template's own, which makes no data of it
        # What Python gives is compared with what the pieces give: if they ever differ, offsets are lost and not
        # wrong.
        expected = str.replace(self, old, new, count)
        if not old:
            return lost(expected, self, new)
        pieces = self.split(old, count)
        parts: list[str] = [pieces[0]]
        # Text written in place of data stands for that data, so it keeps the owner.
        instead = stand_in(self, new)
        if not any(pieces) and type(new) is str:
            instead = lost(new, self)  # in place of the whole text, which is not lost for that
        for piece in pieces[1:]:
            parts += [instead, piece]
        made = concat(parts)
        return made if str.__eq__(made, expected) else lost(expected, self, new)

    def join(self, pieces: Iterable[str]) -> str:
        items = list(pieces)
        size = sum(map(_length, items)) + len(self) * len(items)
        if size > BIG:
            check_size(size)
        # Python's own join first: it refuses what is no string, in its own words.
        text = str.join(self, items)
        runs: list[Run] = []
        for number, item in enumerate(items):
            if number:
                runs += self._r
            runs += runs_of(item)
        return traced(text, few(tuple(runs)))

    def _same_length(self, text: str) -> str:
        """Give `text`, this one in another form character for character, the same owners.

        {{ u.swapcase() ~ v.lower() }}    ->  ‹hI, bOB›«yes»
        """
        if str.__eq__(text, self):
            return self
        # `ß` in upper case is two letters, so offsets would be off from there on.
        if len(text) != len(self):
            return lost(text, self)
        return traced(text, tuple((n, o, LOST if type(o) is Origin else s) for n, o, s in self._r))

    def upper(self) -> str:
        return self._same_length(str.upper(self))

    def lower(self) -> str:
        return self._same_length(str.lower(self))

    def title(self) -> str:
        return self._same_length(str.title(self))

    def capitalize(self) -> str:
        return self._same_length(str.capitalize(self))

    def swapcase(self) -> str:
        return self._same_length(str.swapcase(self))

    def casefold(self) -> str:
        return self._same_length(str.casefold(self))

    def _padded(self, text: str, fill: str = " ") -> str:
        if type(fill) is not str and holds_data(fill):
            return lost(text, self, fill)
        # The first place: a text of fill characters alone is the same wherever it is taken to be.
        at = str.find(text, self)
        left, right = text[:at], text[at + len(self) :]
        return traced(text, runs_of(left) + self._r + runs_of(right)) if at >= 0 else lost(text, self)

    def center(self, width: SupportsIndex, fill: str = " ") -> str:
        return self._padded(str.center(self, width, fill), fill)

    def ljust(self, width: SupportsIndex, fill: str = " ") -> str:
        return self._padded(str.ljust(self, width, fill), fill)

    def rjust(self, width: SupportsIndex, fill: str = " ") -> str:
        return self._padded(str.rjust(self, width, fill), fill)

    def zfill(self, width: SupportsIndex) -> str:
        text = str.zfill(self, width)
        return self if len(text) == len(self) else self._padded(text, "0")

    def expandtabs(self, tabsize: SupportsIndex = 8) -> str:
        text = str.expandtabs(self, tabsize)
        return self if str.__eq__(text, self) else lost(text, self)

    def translate(self, table: Any) -> str:
        # A table with data in it writes that data, wherever this text is from.
        text = str.translate(self, table)
        return self._same_length(text) if owner_in(table) is None else lost(text, self, table)

    def format(self, *args: Any, **kwargs: Any) -> str:
        # The sandbox routes `format` through its own formatter (`environment`); reached directly, owners are kept.
        return lost(str.format(self, *args, **kwargs), self, *args, *kwargs.values())


def _percent(pattern: str, values: Any) -> str:
    """`pattern % values`; exact where the pattern has only `%s`, else the owner is kept."""
    text = str.__mod__(pattern, values)
    given = values if isinstance(values, tuple) else (values,)
    # Only where every field is a bare `%s`, one for each value, is the place of each value known.
    pieces = str.split(pattern, "%s")
    if not isinstance(values, Mapping) and len(pieces) == len(given) + 1 and not any("%" in p for p in pieces):
        parts: list[str] = []
        source = pattern.split("%s")
        for piece, value in zip(source, given, strict=False):
            parts += [piece, text_of(value)]
        parts.append(source[-1])
        made = concat(parts)
        if str.__eq__(made, text):
            return made
    return lost(text, pattern, values)
