"""The owner of the data in a value: for operations that keep no origins of their own.

    {{ '%d' % n }}           ->  ‹12›
    {{ [u, 'a'] }}           ->  ‹['Hi, Bob', 'a']›
    {{ namespace(x=u) }}     ->  ‹<Namespace {'x': 'Hi, Bob'}>›
    {{ [u, v] }}             ->  ?['Hi, Bob', 'Yes']?

A template can compute with data in more ways than anyone lists. So there is one rule for all that is not listed: the
result belongs to the data that went in. The result of several owners' data is of unknown owner, and no
rule can train it.
"""

from __future__ import annotations

from collections.abc import ItemsView, KeysView, Mapping, ValuesView
from types import BuiltinMethodType, MappingProxyType, MethodType
from typing import Any, Final

from policy_engine.chat.trace.origins import UNKNOWN, Origin, owner_of

_PLAIN: Final = frozenset({str, int, bool, float, complex, type(None), range})
"""Types whose values hold no data that knows its origin."""

_SEEN_THROUGH: Final = (
    str, int, float, complex, type(None), range, bytes, slice, type, Mapping, MappingProxyType,
    list, tuple, set, frozenset, KeysView, ValuesView, ItemsView,
)  # fmt: skip
"""Types of which `owner_in` sees all that is inside."""

_MOST_LOOKED_AT: Final = 1 << 18
"""Values inside one value that are looked at; the owner of what holds more is unknown."""


def owner_in(*values: Any) -> Origin | None:
    """Return the one owner of all data in `values` and inside them.

    UNKNOWN if there are several, None without data.

    >>> owner_in("text of the template", 3) is None
    True
    """
    found: Origin | None = None
    todo = list(values)
    seen = 0
    while todo:
        item = todo.pop()
        kind = type(item)
        # First, because most values are: text and numbers of the template.
        if kind in _PLAIN:
            continue
        seen += 1
        if seen + len(todo) > _MOST_LOOKED_AT:
            # Too much to look through: refused to nobody, trained by nobody.
            return UNKNOWN
        if isinstance(item, str):
            origin = owner_of(getattr(item, "_r", ()))
        else:
            # Data knows its own field; only what the template built is looked into.
            origin = getattr(item, "_o", None) if isinstance(item, int | float | dict | list) else None
            if origin is None:
                if hasattr(item, "__next__"):
                    return UNKNOWN  # it may have been read to its end by now
                todo += parts_inside(item)
                continue
        if origin is None or origin is found:
            continue
        if found is not None and (found.turn != origin.turn or found.path[:1] != origin.path[:1]):
            return UNKNOWN
        found = origin
    return found


def parts_inside(item: Any) -> list[Any]:
    """The values that printing `item` would show, or that calling it would use."""
    if isinstance(item, Mapping | MappingProxyType):
        return [*item.keys(), *item.values()]
    if isinstance(item, list | tuple | set | frozenset | KeysView | ValuesView | ItemsView):
        return list(item)
    if isinstance(item, MethodType | BuiltinMethodType):
        return [item.__self__]
    if isinstance(item, slice):
        return [item.start, item.stop, item.step]
    # Objects of Jinja's that a template fills; this module knows nothing of Jinja.
    contents = getattr(type(item), "pe_contents", None)
    return [] if contents is None else contents(item)


def holds_data(text: str) -> bool:
    """Tell if any character of `text` comes from data."""
    return any(type(origin) is Origin for _, origin, _ in getattr(text, "_r", ()))


def is_opaque(value: Any) -> bool:
    """Tell if `value` can hold data where it is not seen from outside: methods, generators.

    Objects of other packages are the caller's own (`template_kwargs`): no template can make one.
    """
    if isinstance(value, _SEEN_THROUGH):
        return False
    return type(value).__module__ in ("builtins", "itertools", "functools", "types")
