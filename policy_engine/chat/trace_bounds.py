"""Bounds on single operations of a template: what a width, a repetition or a replacement writes is told before.

Templates are untrusted code, and one call of a string method can ask for gigabytes.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any

from policy_engine.chat.trace_runs import MAX_CHARS, OutputTooLarge

MAX_ITEMS = 1 << 22
"""Longest list a template may build."""
_MAX_BITS = 1 << 16
_WORDS_OF_LIPSUM = 1000

_PERCENT = re.compile(r"%(?:\([^)]*\))?[-#0 +]*(\d*)(?:\.(\d*))?")
_FIELD = re.compile(r"\{[^{}:]*:([^}]*)")
_DIGITS = re.compile(r"\d+")


def check_size(size: int) -> None:
    """Raises OutputTooLarge if so many characters may not be written."""
    if size > MAX_CHARS:
        raise OutputTooLarge


def add(left: Any, right: Any) -> Any:
    """`left + right`, of bounded size."""
    made = left + right
    if isinstance(made, str):
        check_size(len(made))
    elif isinstance(made, list | tuple) and len(made) > MAX_ITEMS:
        raise OutputTooLarge
    return made


def check_product(left: Any, right: Any) -> None:
    """Before `left * right`."""
    for value, count in ((left, right), (right, left)):
        if isinstance(count, int):
            if isinstance(value, str):
                check_size(len(value) * count)
            elif (isinstance(value, list | tuple) and len(value) * count > MAX_ITEMS) or (
                isinstance(value, int) and value.bit_length() + count.bit_length() > _MAX_BITS
            ):
                raise OutputTooLarge


def check_power(left: Any, right: Any) -> None:
    """Before `left ** right`."""
    if isinstance(right, int) and isinstance(left, int) and left.bit_length() * abs(right) > _MAX_BITS:
        raise OutputTooLarge


def check_percent(pattern: str, values: Any) -> None:
    """Before `pattern % values`: the sum of its widths and precisions."""
    numbers = [_number(n) for m in _PERCENT.finditer(pattern) for n in m.groups() if n]
    given = values.values() if isinstance(values, Mapping) else values if isinstance(values, tuple) else (values,)
    check_size(sum(numbers) + (_integers(given) if "*" in pattern else 0))


def check_format(pattern: str, values: Iterable[Any]) -> None:
    """Before `pattern.format(*values)`: the same for fields; a width may itself be a field."""
    specs = [m[1] for m in _FIELD.finditer(pattern)]
    numbers = sum(_number(n) for spec in specs for n in _DIGITS.findall(spec))
    check_size(numbers + (_integers(values) * len(specs) if any("{" in spec for spec in specs) else 0))


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
    """Put a check before each filter that writes more than it is given."""
    checks: dict[str, Callable[..., None]] = {
        "center": lambda value, width=80: check_size(int(width)),
        "indent": _before_indent,
        "batch": lambda value, linecount, fill_with=None: _check_count(linecount),
        "slice": lambda value, slices, fill_with=None: _check_count(slices),
        "format": lambda value, *args, **kwargs: check_percent(str(value), kwargs or args),
        "round": lambda value, precision=0, method="common": check_power(10, precision),
        "tojson": lambda value, ensure_ascii=False, indent=None, separators=None, sort_keys=False: check_size(
            0 if indent is None else 1000 * (len(indent) if isinstance(indent, str) else int(indent))
        ),
    }
    for name, check in checks.items():
        filters[name] = _checked(filters[name], check)


def _before_indent(value: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> None:
    each = len(width) if isinstance(width, str) else int(width)
    check_size(each * (str(value).count("\n") + 2))


def _check_count(count: Any) -> None:
    if int(count) > MAX_ITEMS:
        raise OutputTooLarge


def _checked(function: Callable[..., Any], check: Callable[..., None]) -> Callable[..., Any]:
    passes = getattr(function, "jinja_pass_arg", None)

    def checked(*args: Any, **kwargs: Any) -> Any:
        # Arguments of a wrong type the filter refuses in its own words.
        with contextlib.suppress(TypeError, ValueError):
            check(*(args if passes is None else args[1:]), **kwargs)
        return function(*args, **kwargs)

    if passes is not None:
        checked.jinja_pass_arg = passes  # type: ignore[attr-defined]
    return checked
