"""Marks on what operations compute from data: the rule for all that are not listed.

An operation either *keeps* origins itself (methods of traced text), only *moves* values (`first`, `items`, a macro), or
computes. What it computes belongs to the data that went in, whatever the operation is:

    {{ u.find('B') }}                   ->  ‹4›
    {{ 'abcdefghijklmn'[n] }}           ->  ‹m›
    {{ 'a'.translate({97: u}) }}        ->  ‹Hi, Bob›
    {{ '%s and %s' % ([u], [v]) }}      ->  ‹['Hi, Bob']› and «['Yes']»
"""

from __future__ import annotations

from types import BuiltinMethodType, FunctionType, GeneratorType, MethodType
from typing import Any, Final

import jinja2
import jinja2.runtime
import jinja2.utils
from jinja2.exceptions import SecurityError
from markupsafe import Markup

from policy_engine.chat.trace.bounds import measure
from policy_engine.chat.trace.markup import marked_up
from policy_engine.chat.trace.origins import LOST, Origin
from policy_engine.chat.trace.owners import holds_data, owner_in
from policy_engine.chat.trace.text import Traced, runs_of, traced
from policy_engine.chat.trace.values import TracedDict, TracedFloat, TracedInt, TracedList, TracedMessage

_KNOWS: Final = frozenset({TracedInt, TracedFloat, TracedDict, TracedList, TracedMessage, bool, type(None)})
"""Types of results that say themselves whose they are, and truth values: what follows from those is control flow."""

KEEPING_METHODS: Final = frozenset(
    {
        "capitalize", "casefold", "join", "lower", "lstrip", "partition", "removeprefix", "removesuffix", "replace",
        "rpartition", "rsplit", "rstrip", "split", "splitlines", "strip", "swapcase", "title", "upper",
    }
)  # fmt: skip
"""Methods of traced text that keep the origins of its characters."""

_MOVING_METHODS: Final = frozenset({"items", "keys", "values", "copy", "get"})
"""Methods that a template calls to have values given back as they are."""
_CALLED_WITHIN: Final = (
    jinja2.runtime.Macro, jinja2.runtime.LoopContext, jinja2.runtime.BlockReference, jinja2.utils.Cycler,
    jinja2.utils.Joiner,
)  # fmt: skip
"""Callables of Jinja that give back text of the template, or what they are given, with its origins."""


def computed(made: Any, *inputs: Any) -> Any:
    """`made`, marked with the owner of the data in `inputs` unless it knows its owner.

    Raises SecurityError for a result that cannot carry a mark.
    """
    kind = type(made)
    if kind in _KNOWS or isinstance(made, jinja2.Undefined):
        return made
    # It knows its owner already, character by character.
    if isinstance(made, str) and holds_data(made):
        return made
    owner = owner_in(*inputs)
    return made if owner is None else _marked(made, owner)


def computed_by_jinja(made: Any, *inputs: Any) -> Any:
    """Mark as `computed` does, for functions of Jinja's own.

    They join text that they took apart, so part of it may have lost its origin; then all of it is of one owner:

        {{ u|wordwrap(4, true, v) }}    ->  ?Hi,YesBob?
    """
    if isinstance(made, str) and holds_data(made) and any(o is None and n for n, o, _ in runs_of(made)):
        owner = owner_in(*inputs)
        assert owner is not None  # data came out, so data went in
        return _remarked(made, owner)
    return computed(made, *inputs)


def _remarked(made: str, owner: Origin) -> str:
    text = str.__str__(made)
    runs = ((len(text), owner, LOST),)
    return marked_up(text, runs) if isinstance(made, Markup) else traced(text, runs)


def _marked(made: Any, owner: Origin) -> Any:
    if isinstance(made, str):
        return made if holds_data(made) else _remarked(made, owner)
    kind = type(made)
    if kind in _KNOWS or isinstance(made, jinja2.Undefined):
        return made
    # After bool, which `_KNOWS` has: a truth value says nothing in a text.
    if isinstance(made, int):
        number = TracedInt(made)
        number._o = owner
        return number
    if isinstance(made, float):
        real = TracedFloat(made)
        real._o = owner
        return real
    if isinstance(made, list | tuple):
        measure(made)
        items = [_marked(item, owner) for item in made]
        return items if isinstance(made, list) else tuple(items)
    if kind is dict:
        measure(made)
        return {_marked(key, owner): _marked(value, owner) for key, value in made.items()}
    # A range prints its bounds, but templates use its items: as a list they can be marked.
    if kind is range:
        return [_marked(number, owner) for number in made]
    # Marked as it is read: reading it now would use it up.
    if isinstance(made, GeneratorType):
        return (_marked(item, owner) for item in made)
    raise SecurityError(
        f"a template may not make a {kind.__name__} of data: its text would not know where it comes from"
    )


def called(function: Any, made: Any, args: tuple[Any, ...]) -> Any:
    """`made`, what a template got by calling `function`, marked as `computed` does."""
    kind = type(made)
    if kind is bool or made is None:
        return made
    if isinstance(function, MethodType | BuiltinMethodType):
        own = function.__self__
        # Its items are the arguments themselves.
        if function.__name__ == "fromkeys":
            return made
        if type(own) is Traced:
            if function.__name__ in KEEPING_METHODS:
                # Text of the template's own that is cut where data says is chosen by that data.
                if not args or type(args[0]) is str or holds_data(own):
                    return made
                return computed(made, *args)
        elif isinstance(own, dict):
            if function.__name__ in _MOVING_METHODS:
                # A value that a key of the data chose says what that key was.
                return computed(made, args[0]) if function.__name__ == "get" and args else made
        elif isinstance(own, _CALLED_WITHIN) or (isinstance(own, list) and function.__name__ == "copy"):
            return made
        return computed(made, own, *args)
    # Macros mark what they write, and `namespace(…)` or `cycler(…)` hold values as they are.
    if isinstance(function, (*_CALLED_WITHIN, type)):
        return made
    if not isinstance(function, FunctionType) and type(made) is dict:
        return made  # `dict(…)`
    return computed(made, *args)


def listed(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return `values` with iterators as lists.

    Once an operation has read an iterator, nobody can say what was in it.
    """
    for value in values:
        if hasattr(value, "__next__"):
            return tuple([list(value) if hasattr(value, "__next__") else value for value in values])
    return values
