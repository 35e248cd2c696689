"""Filters and tests of a recorded template: on probes they become steps and tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import jinja2

from policy_engine.chat.skeleton.probe import List, Object, Text, has_data
from policy_engine.chat.skeleton.tape import Probe, Tape
from policy_engine.chat.trace.environment import TracingEnvironment

_OF_LISTS: Final = frozenset(
    {
        "batch", "count", "first", "items", "last", "length", "list", "map", "reject", "rejectattr",
        "reverse", "select", "selectattr", "slice",
    }
)  # fmt: skip
"""Filters that give back what is in a list, and look at it by tests of the environment only."""
_OF_TEXT: Final = frozenset(
    {
        "capitalize", "count", "float", "indent", "int", "join", "length", "lower", "replace", "safe", "string",
        "title", "tojson", "trim", "upper",
    }
)  # fmt: skip
"""Filters that make text or a number of what they are given, each time the same."""
_NAMED: Final = frozenset({"indent", "ensure_ascii", "sort_keys", "separators"})
_MOVED: Final = frozenset({"first", "items", "last", "list", "string"})
_NEVER: Final = frozenset({"random", "pprint", "xmlattr", "urlize"})
_TYPE_TESTS: Final = frozenset(
    {
        "boolean", "callable", "defined", "false", "float", "integer", "iterable", "mapping", "none", "number",
        "sequence", "string", "true", "undefined",
    }
)  # fmt: skip
"""Tests that look at the type of a value, or at truth values and null, all of which are part of a shape or a test."""
_VALUE_TESTS: Final = frozenset(
    {
        "!=", "<", "<=", "==", ">", ">=", "divisibleby", "eq", "equalto", "even", "ge", "greaterthan", "gt", "in", "le",
        "lessthan", "lower", "lt", "ne", "odd", "upper",
    }
)  # fmt: skip


def recorded_filter(
    real: TracingEnvironment, tape: Tape, name: str, original: Callable[..., Any], pieces: Callable[[Any], list[Any]]
) -> Callable[..., Any]:
    """A filter of a recording in place of `original`; `pieces` gives what is joined.

    Steps call the same filter of `real`.
    """
    passes = getattr(original, "jinja_pass_arg", None)
    skipped = 0 if passes is None else 1

    def recorded(*args: Any, **kwargs: Any) -> Any:
        if name in _NEVER:
            raise tape.refuse(f"the filter {name}")
        given = args[skipped:]
        if not any(map(has_data, given)) and not any(map(has_data, kwargs.values())):
            return original(*args, **kwargs)
        value = given[0] if given else None
        if name in ("default", "d"):
            return original(*args, **kwargs)  # which asks for truth, or for nothing
        if isinstance(value, Probe):
            if len(given) == 1 and not kwargs and name in _MOVED:
                moved = _moved(real, name, value)
                if moved is not None:
                    return moved
        elif name in _OF_LISTS and not any(isinstance(other, Probe) for other in given[1:]):
            return original(*args, **kwargs)
        first = args[0] if skipped else real
        if name not in _OF_TEXT or kwargs.keys() - _NAMED or not isinstance(first, jinja2.Environment):
            raise tape.refuse(f"the filter {name} on data")
        work = _work(real.filters[name], (real,) if skipped else (), tuple(kwargs))
        cut = name == "trim" and len(given) == 1 and getattr(value, "is_cut", False)
        if name == "join":
            given = (pieces(value), *given[1:])
        return tape.step(f"filter {name} {tuple(kwargs)}", work, *given, *kwargs.values(), is_cut=cut)

    if passes is not None:
        recorded.jinja_pass_arg = passes  # type: ignore[attr-defined]
    return recorded


def _work(function: Callable[..., Any], before: tuple[Any, ...], names: tuple[str, ...]) -> Callable[..., Any]:
    """A function of positional arguments, of which the last ones have `names`."""
    if not names and not before:
        return function

    def work(*values: Any) -> Any:
        count = len(values) - len(names)
        return function(*before, *values[:count], **dict(zip(names, values[count:])))

    return work


def _moved(real: TracingEnvironment, name: str, value: Probe) -> Any:
    """The result of a filter that only moves what is in a probe; None if it does more."""
    if name == "items" and isinstance(value, Object):
        return value.pairs()
    if name == "list" and isinstance(value, List | Object):
        return list(value)
    if name in ("first", "last") and isinstance(value, List):
        try:
            return value.at(0 if name == "first" else -1)
        except IndexError:
            return real.undefined(f"No {name} item, sequence was empty.")
    return value if name == "string" and isinstance(value, Text) else None


def recorded_test(tape: Tape, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    """A test of a recording in place of `original`."""
    passes = getattr(original, "jinja_pass_arg", None)

    def recorded(*args: Any, **kwargs: Any) -> Any:
        direct = any(isinstance(value, Probe) for value in args)
        if not direct and (name in _TYPE_TESTS or not any(map(has_data, args))):
            return original(*args, **kwargs)
        if name in _TYPE_TESTS:
            return original(*map(tape.concrete, args), **kwargs)
        if name not in _VALUE_TESTS or kwargs or passes is not None:
            raise tape.refuse(f"the test {name} on data")
        return tape.test(f"?is {name}", original, *args)

    if passes is not None:
        recorded.jinja_pass_arg = passes  # type: ignore[attr-defined]
    return recorded
