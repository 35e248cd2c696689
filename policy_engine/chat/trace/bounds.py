"""Bounds on single operations of a template, checked before they run.

Templates are untrusted code. One operation of a few characters can ask for gigabytes, or for hours inside the
interpreter, where no clock and no Ctrl-C reaches it.

    {{ u * 10**9 }}                 ->  refused
    {{ ([1] * 10**9)|length }}      ->  refused
    {{ '%1000000000d' % n }}        ->  refused
    {{ '%5d' % n }}                 ->  ‹   12›
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from policy_engine.chat.trace.meter import BIG, charge
from policy_engine.chat.trace.origins import MAX_CHARS, OutputTooLarge, check_size
from policy_engine.chat.trace.owners import parts_inside

MAX_ITEMS: Final = 1 << 22
"""Longest list a template may build."""
MAX_WORK: Final = 1 << 28
"""Most steps of one comparison or search: under a second."""
MAX_BITS: Final = 1 << 16
"""Longest whole number, in bits. Arithmetic on longer ones takes time that grows with the square."""
_MOST_PRINTED: Final = 1 << 18
"""Most values in a list or an object that a template may print, sort, compare or make JSON of."""
_MANY: Final = 1 << 12
"""Length from which a list is charged for."""

# Width and precision of `%(name)-5.2d`; flags and names have no size.
_PERCENT = re.compile(r"%(?:\([^)]*\))?[-#0 +]*(\d*)(?:\.(\d*))?")
_FIELD = re.compile(r"\{[^{}:]*:([^}]*)")
_DIGITS = re.compile(r"\d+")


class TooMuchWork(Exception):
    """A template compares or searches more than a template may."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """Size of a printed value: at least `chars` characters, `nodes` values, `depth` deep."""

    chars: int
    nodes: int
    depth: int


def measure(value: Any) -> Measure:
    """Measure a list or object. Raises OutputTooLarge past `_MOST_PRINTED` values.

    What is in it twice counts twice, as it does in print.

    >>> measure(["ab", ["c"]])
    Measure(chars=11, nodes=4, depth=3)
    """
    chars = nodes = deepest = 0
    todo = [(value, 1)]
    while todo:
        item, depth = todo.pop()
        nodes += 1
        # Quotes, a comma, a blank: a lower bound that also counts empty values.
        chars += 2
        deepest = max(deepest, depth)
        if isinstance(item, str):
            chars += len(item)
        elif isinstance(item, Mapping):
            todo += [(part, depth + 1) for pair in item.items() for part in pair]
        elif isinstance(item, list | tuple):
            if len(item) > _MOST_PRINTED:
                raise OutputTooLarge
            todo += [(part, depth + 1) for part in item]
        # What prints itself by printing others: sets, views of objects, namespaces of Jinja.
        elif not isinstance(item, int | float):
            todo += [(part, depth + 1) for part in parts_inside(item)]
        if nodes + len(todo) > _MOST_PRINTED or chars > MAX_CHARS:
            raise OutputTooLarge
    return Measure(chars=chars, nodes=nodes, depth=deepest)


def width(value: Any) -> int:
    """The length of a value's text, roughly."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, int | float) or value is None:
        # More than any number of the data prints; huge ones are refused by `check_number`.
        return 32
    return max(32, measure(value).chars)


def check_sum(made: Any) -> Any:
    """Return `made`, the sum of two values, if a template may have so much.

    A sum is at most twice as long as what it is made of, so it can be looked at afterwards.
    """
    if isinstance(made, str):
        if len(made) > BIG:
            check_size(len(made))
    elif isinstance(made, list | tuple) and len(made) > _MANY:
        if len(made) > MAX_ITEMS:
            raise OutputTooLarge
        charge(8 * len(made))
    elif isinstance(made, int):
        check_number(made)
    return made


def check_product(left: Any, right: Any) -> None:
    """Before `left * right`."""
    for value, count in ((left, right), (right, left)):
        # `'x' * n` and `n * 'x'` are the same.
        if isinstance(count, int):
            if isinstance(value, str):
                check_size(len(value) * count)
            elif isinstance(value, list | tuple):
                if len(value) * count > MAX_ITEMS:
                    raise OutputTooLarge
                charge(8 * len(value) * max(count, 0))
            elif isinstance(value, int) and value.bit_length() + count.bit_length() > MAX_BITS:
                raise OutputTooLarge


def check_power(left: Any, right: Any) -> None:
    """Before `left ** right`."""
    if isinstance(right, int) and isinstance(left, int) and left.bit_length() * abs(right) > MAX_BITS:
        raise OutputTooLarge


def check_number(value: int) -> None:
    """A whole number was made; raises OutputTooLarge if it is longer than any a template needs."""
    if value.bit_length() > MAX_BITS:
        raise OutputTooLarge


def check_percent(pattern: str, values: Any) -> None:
    """Check `pattern % values`: all widths and precisions, and the longest value at every place.

    For example, `%9d and %s` of a text of 80 characters counts as 9 + 2 * 80.
    """
    fields = list(_PERCENT.finditer(pattern))
    numbers = [_number(n) for m in fields for n in m.groups() if n]
    given = values.values() if isinstance(values, Mapping) else values if isinstance(values, tuple) else (values,)
    check_size(
        sum(numbers) + len(fields) * max(map(width, given), default=0) + (integers(given) if "*" in pattern else 0)
    )


def check_format(pattern: str, values: Iterable[Any]) -> None:
    """Before `pattern.format(*values)`: the same for fields; a width may itself be a field."""
    given = list(values)
    specs = [m[1] for m in _FIELD.finditer(pattern)]
    numbers = sum(_number(n) for spec in specs for n in _DIGITS.findall(spec))
    check_size(
        numbers
        + pattern.count("{") * max(map(width, given), default=0)
        + (integers(given) * len(specs) if any("{" in spec for spec in specs) else 0)
    )


def _number(digits: str) -> int:
    # Longer ones are past every bound, and reading them would take time itself.
    return int(digits) if len(digits) < 10 else MAX_CHARS + 1


def integers(values: Iterable[Any]) -> int:
    """The sum of the whole numbers in `values`, signs apart: no width among them is larger."""
    return sum(abs(value) for value in values if isinstance(value, int))


def check_comparison(left: Any, right: Any) -> None:
    """Check `left == right`, `<` and their like, which walk the smaller of two values once.

    Lists that hold each other twice, sixty levels deep, are small to make and endless to compare.
    """
    if isinstance(left, str | int | float) or isinstance(right, str | int | float):
        return
    try:
        measure(left)
    # A comparison ends with the smaller of the two, so one that is small is enough.
    except OutputTooLarge:
        try:
            measure(right)
        except OutputTooLarge:
            raise TooMuchWork from None


def check_member(item: Any, container: Any) -> None:
    """Before `item in container`, which compares with each member, or hashes `item`."""
    check_key(item)
    if isinstance(container, str | Mapping) or not hasattr(container, "__len__"):
        return
    if isinstance(item, str):
        # Texts of other lengths are told apart without reading them.
        if len(item) * len(container) > MAX_WORK:
            same = sum(1 for member in container if isinstance(member, str) and len(member) == len(item))
            check_work(same * len(item))
    elif not isinstance(item, int | float) and item is not None:
        found = _small(item)
        check_work(len(container) * (found.nodes + found.chars))


def check_key(key: Any) -> None:
    """Check a value that is about to be hashed.

    A tuple keeps no hash: one that holds another twice hashes it twice, for example `(a, a)` where a is `(b, b)`.
    """
    if isinstance(key, tuple):
        _small(key)


def _small(value: Any) -> Measure:
    try:
        return measure(value)
    except OutputTooLarge:
        raise TooMuchWork from None


def check_work(steps: int) -> None:
    """Before a search or comparison of so many steps. Raises TooMuchWork."""
    if steps > MAX_WORK:
        raise TooMuchWork
