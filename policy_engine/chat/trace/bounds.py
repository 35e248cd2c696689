"""Bounds on single operations of a template: what a width, a repetition or a replacement writes is told before.

Templates are untrusted code, and one call of a string method can ask for gigabytes.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from types import GeneratorType
from typing import Any

from policy_engine.chat.trace.meter import BIG, charge, metered
from policy_engine.chat.trace.origins import MAX_CHARS, OutputTooLarge, check_size

MAX_ITEMS = 1 << 22
"""Longest list a template may build."""
_MOST_PRINTED = 1 << 18
"""Most values in a list or an object that a template may print, sort or make JSON of."""
_MAX_BITS = 1 << 16
_MANY = 1 << 12
"""Length from which a list is charged for."""
_WORDS_OF_LIPSUM = 1000
_CHEAP = frozenset({"trim", "length", "count", "default", "d", "first", "last"})
"""Filters that make nothing as long as what they are given."""

_PERCENT = re.compile(r"%(?:\([^)]*\))?[-#0 +]*(\d*)(?:\.(\d*))?")
_FIELD = re.compile(r"\{[^{}:]*:([^}]*)")
_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What printing a value takes: at least `chars` characters, of `nodes` values, the deepest `depth` deep."""

    chars: int
    nodes: int
    depth: int


def measure(value: Any) -> Measure:
    """Of a list or object; what stands in it twice counts twice. Raises OutputTooLarge past `_MOST_PRINTED` values."""
    chars = nodes = deepest = 0
    todo = [(value, 1)]
    while todo:
        item, depth = todo.pop()
        nodes += 1
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
        if nodes + len(todo) > _MOST_PRINTED or chars > MAX_CHARS:
            raise OutputTooLarge
    return Measure(chars=chars, nodes=nodes, depth=deepest)


def _width(value: Any) -> int:
    """The length of a value's text, roughly."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping | list | tuple):
        return measure(value).chars
    return 32


def add(left: Any, right: Any) -> Any:
    """`left + right`, of bounded size."""
    made = left + right
    if isinstance(made, str):
        if len(made) > BIG:
            check_size(len(made))
    elif isinstance(made, list | tuple) and len(made) > _MANY:
        if len(made) > MAX_ITEMS:
            raise OutputTooLarge
        charge(8 * len(made))
    return made


def check_product(left: Any, right: Any) -> None:
    """Before `left * right`."""
    for value, count in ((left, right), (right, left)):
        if isinstance(count, int):
            if isinstance(value, str):
                check_size(len(value) * count)
            elif isinstance(value, list | tuple):
                if len(value) * count > MAX_ITEMS:
                    raise OutputTooLarge
                charge(8 * len(value) * max(count, 0))
            elif isinstance(value, int) and value.bit_length() + count.bit_length() > _MAX_BITS:
                raise OutputTooLarge


def check_power(left: Any, right: Any) -> None:
    """Before `left ** right`."""
    if isinstance(right, int) and isinstance(left, int) and left.bit_length() * abs(right) > _MAX_BITS:
        raise OutputTooLarge


def check_percent(pattern: str, values: Any) -> None:
    """Before `pattern % values`: the sum of its widths and precisions, and of the longest value at every place."""
    fields = list(_PERCENT.finditer(pattern))
    numbers = [_number(n) for m in fields for n in m.groups() if n]
    given = values.values() if isinstance(values, Mapping) else values if isinstance(values, tuple) else (values,)
    check_size(
        sum(numbers) + len(fields) * max(map(_width, given), default=0) + (_integers(given) if "*" in pattern else 0)
    )


def check_format(pattern: str, values: Iterable[Any]) -> None:
    """Before `pattern.format(*values)`: the same for fields; a width may itself be a field."""
    given = list(values)
    specs = [m[1] for m in _FIELD.finditer(pattern)]
    numbers = sum(_number(n) for spec in specs for n in _DIGITS.findall(spec))
    check_size(
        numbers
        + pattern.count("{") * max(map(_width, given), default=0)
        + (_integers(given) * len(specs) if any("{" in spec for spec in specs) else 0)
    )


def _number(digits: str) -> int:
    return int(digits) if len(digits) < 10 else MAX_CHARS + 1


def _integers(values: Iterable[Any]) -> int:
    return sum(abs(value) for value in values if isinstance(value, int))


def check_call(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Before a template calls a function or a method."""
    owner = getattr(function, "__self__", None)
    if isinstance(owner, str):
        name = function.__name__
        if name in ("center", "ljust", "rjust", "zfill"):
            check_size(_integers(args[:1]))
        elif name == "expandtabs":
            check_size(owner.count("\t") * max([8, _integers((*args, *kwargs.values()))]))
        elif name == "replace" and len(args) > 1 and isinstance(args[0], str) and isinstance(args[1], str):
            check_size(len(owner) + owner.count(args[0]) * len(args[1]))
        elif name == "translate" and args and isinstance(args[0], Mapping):
            check_size(len(owner) * max((len(v) for v in args[0].values() if isinstance(v, str)), default=1))
        elif name == "join" and args and isinstance(args[0], list | tuple):
            check_size(sum(len(owner) + len(item) for item in args[0] if isinstance(item, str)))
        elif name in ("format", "format_map"):
            check_format(owner, (*args, *kwargs.values()))
    elif getattr(function, "__name__", "") == "generate_lorem_ipsum":
        # Words are drawn one by one: how many there are is time, too.
        most = _integers(args[:1]) or _integers((kwargs.get("n", 5),))
        if most * (_integers((kwargs.get("max", 100),)) + 1) > 100 * _WORDS_OF_LIPSUM:
            raise OutputTooLarge


def bound_filters(filters: MutableMapping[str, Callable[..., Any]]) -> None:
    """Put a check before each filter that writes more than it is given, and charge for what each makes."""
    checks: dict[str, Callable[..., None]] = {
        "center": lambda value, width=80: check_size(int(width)),
        "indent": _before_indent,
        "batch": lambda value, linecount, fill_with=None: _check_count(linecount),
        "slice": lambda value, slices, fill_with=None: _check_count(slices),
        "format": lambda value, *args, **kwargs: check_percent(str(value), kwargs or args),
        "list": lambda value: _check_count(len(value) if isinstance(value, str) else 0),
        "join": lambda value, d="", attribute=None: _check_count(len(value) if isinstance(value, str) else 0),
        "round": lambda value, precision=0, method="common": check_power(10, precision),
        "tojson": _before_tojson,
        "wordwrap": lambda value, width=79, break_long_words=True, wrapstring=None, break_on_hyphens=True: check_size(
            0 if wrapstring is None else (len(value) + 1) * (len(wrapstring) + 1)
        ),
        "urlize": lambda value, limit=None, nofollow=False, target=None, rel=None, extra_schemes=None: check_size(
            (len(value) // 2 + 1) * (_width(target) + _width(rel))
        ),
        # These compare what they are given, each with many others.
        **dict.fromkeys(("sort", "unique", "groupby", "dictsort", "min", "max"), _before_comparing),
        **dict.fromkeys(("pprint", "xmlattr"), _before_printing),
    }
    for name in set(filters) - _CHEAP:
        filters[name] = _checked(filters[name], checks.get(name))


def _before_indent(value: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> None:
    each = len(width) if isinstance(width, str) else int(width)
    check_size(each * (str(value).count("\n") + 2))


def _before_tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> None:
    if type(value) in (list, dict, tuple) or indent is not None or separators is not None:
        found = measure(value)
        each = (0 if indent is None else _width(indent) if isinstance(indent, str) else int(indent)) * found.depth
        check_size(found.chars + found.nodes * (each + sum(map(len, separators or ()))))


def _before_comparing(value: Any, *args: Any, **kwargs: Any) -> None:
    if isinstance(value, list | tuple | Mapping):
        measure(value)
    elif isinstance(value, str):
        _check_count(len(value))


def _before_printing(value: Any, *args: Any, **kwargs: Any) -> None:
    check_size(_width(value))


def _check_count(count: Any) -> None:
    if int(count) > MAX_ITEMS:
        raise OutputTooLarge


def _checked(function: Callable[..., Any], check: Callable[..., Any] | None) -> Callable[..., Any]:
    passes = getattr(function, "jinja_pass_arg", None)

    def checked(*args: Any, **kwargs: Any) -> Any:
        if check is not None:
            # Arguments of a wrong type the filter refuses in its own words.
            with contextlib.suppress(TypeError, ValueError):
                check(*(args if passes is None else args[1:]), **kwargs)
        return charged(function(*args, **kwargs))

    if passes is not None:
        checked.jinja_pass_arg = passes  # type: ignore[attr-defined]
    return checked


def charged(made: Any) -> Any:
    """`made`, charged for if it is large; items of a generator are when they are made."""
    kind = type(made)
    if kind is GeneratorType:
        return metered(made)
    if isinstance(made, str):
        if len(made) > BIG:
            check_size(len(made))
    elif kind is list and len(made) > _MANY:
        charge(8 * len(made))
    return made
